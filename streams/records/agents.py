"""The directory of the agents that running workers serve, for `agent.list` and for error 4007."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from streams.redis.calls import text_pairs
from streams.redis.keys import AGENTS
from streams.redis.log import Log

NOTICE_MS: Final = 15_000
"""Lifetime of an announcement; workers renew it three times in that period."""
CLOCK_ERROR_MS: Final = 2_000
"""Upper bound of the difference between two processes' readings of Redis's clock."""
CACHE_S: Final = 1.0
"""Age up to which the cached directory is used without asking Redis again."""


class AgentNotice(NamedTuple):
    """An agent as its workers announce it."""

    name: str
    description: str
    is_interactive: bool

    def to_json(self) -> dict[str, object]:
        """The agent's entry in the answer to `agent.list`."""
        return {
            "name": self.name,
            "description": self.description,
            "available": True,
            "interactive": self.is_interactive,
        }


class AgentDirectory:
    """The announced agents: written by workers, read by nodes."""

    def __init__(self, log: Log) -> None:
        self._calls = log.calls_at(AGENTS)
        self._now_ms = log.now_ms
        self._cached: dict[str, AgentNotice] = {}
        self._cached_until_s = 0.0

    async def announce(self, worker: str, notices: Iterable[AgentNotice]) -> None:
        """Announce, for the next 15 s, that this worker serves these agents."""
        until_ms = self._now_ms() + NOTICE_MS
        for notice in notices:
            told = json.dumps([until_ms, notice.description, notice.is_interactive])
            await self._calls.call("HSET", AGENTS, f"{notice.name} {worker}", told)

    async def withdraw(self, worker: str, names: Iterable[str]) -> None:
        """Withdraw this worker's announcement of these agents."""
        for name in names:
            await self._calls.call("HDEL", AGENTS, f"{name} {worker}")

    async def agents(self) -> Mapping[str, AgentNotice]:
        """The agents that at least one worker serves, at most a second out of date.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        if time.monotonic() >= self._cached_until_s:
            self._cached = await self._read(text_pairs(await self._calls.call("HGETALL", AGENTS)))
            self._cached_until_s = time.monotonic() + CACHE_S
        return self._cached

    async def is_available(self, name: str) -> bool:
        """True if at least one worker serves the agent now."""
        return name in await self.agents()

    async def cards(self) -> Sequence[AgentNotice]:
        """The announced agents, sorted by name."""
        found = await self.agents()
        return [found[name] for name in sorted(found)]

    async def _read(self, notices: Mapping[str, str]) -> dict[str, AgentNotice]:
        found: dict[str, AgentNotice] = {}
        for field, notice in notices.items():
            until_ms, description, is_interactive = json.loads(notice)
            name = field.partition(" ")[0]
            now_ms = self._now_ms()
            if (
                until_ms > now_ms + NOTICE_MS + CLOCK_ERROR_MS
            ):  # too far ahead: the clock was set back since; a running worker has announced itself again by now
                cut = json.dumps([now_ms + NOTICE_MS, description, is_interactive])
                await self._calls.call("HSET", AGENTS, field, cut)
            if until_ms > now_ms:
                found[name] = AgentNotice(name, description, is_interactive)
            else:
                await self._calls.call("HDEL", AGENTS, field)
        return found
