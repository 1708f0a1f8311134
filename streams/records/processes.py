"""Reads the nodes and workers that hold a lease now, for operators."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import NamedTuple

from streams.redis.calls import text_pairs
from streams.redis.keys import AGENTS, NODES, WORKERS
from streams.redis.log import Log

SHOWN_MAX = 1_000
"""Maximum number of nodes, and of workers, that are read."""


class RunningNode(NamedTuple):
    """A node, and the end of its lease in milliseconds since 1970."""

    node: str
    lease_ends_ms: int


class RunningWorker(NamedTuple):
    """A worker, the end of its lease in milliseconds since 1970, the number of its partitions, and its agents."""

    worker: str
    lease_ends_ms: int
    partitions: int
    agents: tuple[str, ...]


class Processes:
    """The running processes. Every method raises LogUnavailable while Redis is unreachable."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def nodes(self) -> list[RunningNode]:
        """The nodes with a lease, by name."""
        return [RunningNode(*one) for one in await self._leased(NODES)]

    async def workers(self) -> list[RunningWorker]:
        """The workers with a lease, by name."""
        partitions, agents = await self._partitions(), await self._agents()
        return [
            RunningWorker(name, ends_ms, partitions[name], tuple(sorted(agents[name])))
            for name, ends_ms in await self._leased(WORKERS)
        ]

    async def _leased(self, key: str | bytes) -> list[tuple[str, int]]:
        command = ("ZRANGEBYSCORE", key, self._log.now_ms(), "+inf", "WITHSCORES", "LIMIT", 0, SHOWN_MAX)
        pairs = text_pairs(await self._log.calls_at(key).call(*command))
        return sorted((name, int(float(ends_ms))) for name, ends_ms in pairs.items())

    async def _partitions(self) -> Counter[str]:
        """The number of partitions that each worker leases."""
        found: Counter[str] = Counter()
        now_ms = self._log.now_ms()
        for partitions, calls in self._log.by_server():
            leases = [("HMGET", self._log.keys.lease(number), "holder", "until") for number in partitions]
            for holder, until in await calls.pipeline(leases):
                if holder is not None and int(until or 0) > now_ms:
                    found[holder.decode()] += 1
        return found

    async def _agents(self) -> defaultdict[str, list[str]]:
        """The agents that each worker announces."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        now_ms = self._log.now_ms()
        for field, notice in text_pairs(await self._log.calls_at(AGENTS).call("HGETALL", AGENTS)).items():
            agent, _, worker = field.partition(" ")
            if json.loads(notice)[0] > now_ms:
                found[worker].append(agent)
        return found
