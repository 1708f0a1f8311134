"""The log as one process uses it: append, tail and replay, each on the server that holds the channel's partition."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from redis.asyncio import Redis

from streams.archive.cold import ColdReader
from streams.channel import Channel, Kind
from streams.cursor import Look
from streams.envelope import Appended, Draft, Durability, Entry
from streams.errors import ConfigurationRefused
from streams.histogram import Histogram, joined
from streams.loops import Loops
from streams.redis.append import Done, Result
from streams.redis.calls import Calls
from streams.redis.client import open_client
from streams.redis.cluster import ClusterServers
from streams.redis.durability import RANK
from streams.redis.keys import CONFIG, DEFAULT_LIMITS, Keys, Limits, Servers, slot_of
from streams.redis.locate import Locator
from streams.redis.looks import Looks
from streams.redis.partition_calls import PartitionCalls
from streams.redis.replay import PAGE_BYTES, PAGE_EVENTS, Replay
from streams.redis.server import LoneServer, Server, ServerCounts, new_epoch
from streams.redis.tail import Tail
from streams.sealing.sealed import SealRule
from streams.sealing.seals import Seals
from streams.tracing import traceparent_of

PARTITIONS: Final = 8
"""Default number of partitions of a new log."""
NEARLY_FULL: Final = 0.8
"""Part of Redis's memory limit above which tenants are held to a small share each, and readiness and `hub doctor` tell of it."""
_log = logging.getLogger(__name__)


def memory_trouble(used_bytes: int, max_bytes: int) -> str | None:
    """A sentence if so much of this limit is near it; None if it is not, or there is none (0)."""
    if not max_bytes or used_bytes <= max_bytes * NEARLY_FULL:
        return None
    return f"Redis uses {used_bytes / max_bytes:.0%} of its maxmemory: docs/operating/runbooks/redis-memory.md"


class Log:
    """Append, replay and tail. Reconnects by itself; while Redis is unreachable appends are refused at once.

    Attributes:
        keys: builds the names of all keys.
        servers: the server of each partition.
        loops: runs the background loops, the log's own among them.
        replay: reads stored events.
        stored: reads them as they are stored, sealed payloads included, for those who compare bytes.
        seals: seals and opens payloads; None if there is no store of keys.
    """

    def __init__(
        self,
        locator: Locator,
        keys: Keys,
        servers: Servers[Server],
        tails: Sequence[Tail],
        calls: Sequence[Calls],
        life_of: Callable[[int], str],
        limits: Limits,
        loops: Loops,
        cluster: ClusterServers | None = None,
        cold: ColdReader | None = None,
        seals: Seals | None = None,
    ) -> None:
        self.loops = loops
        self.seals = seals
        self.keys = keys
        self.servers = servers
        self._locator = locator
        self._tails = tails
        self._calls = calls
        self._cluster = cluster
        self._past = ServerCounts() if cluster is None else cluster.past
        self._redis: Redis | None = None
        looks = Looks(keys, self.calls_in, life_of, new_epoch, limits)
        self.replay = Replay(keys, self.calls_in, looks, cold, seals)
        self.stored = Replay(keys, self.calls_in, looks, cold)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        partitions: int = PARTITIONS,
        durability: Mapping[Kind, Durability] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        cold: ColdReader | None = None,
        seals: Seals | None = None,
    ) -> Log:
        """Connect, check the server or servers, and create or read the log's partitions.

        `cold` reads what was archived; `seals` seals and opens payloads, and is closed with the log.

        Raises:
            LogUnavailable: Redis could not be reached.
            ConfigurationRefused: a server's configuration is unsafe, the log has another number of partitions, or its
                payloads are sealed by keys of another store.
        """
        loops, locator, wanted = Loops(), Locator(url), durability or {}
        if locator.is_cluster:
            cluster = await ClusterServers.open(locator, partitions, wanted, limits, loops, seals)
            tails = [one.tail for one in cluster.tails]
            own = (cluster.keys, cluster.servers, tails, cluster.calls, cluster.life_of)
            log = cls(locator, *own, limits, loops, cluster, cold, seals)
        else:
            server, keys = await LoneServer.open(locator, partitions, wanted, limits, loops, seals)
            tails, calls = [server.tail] * keys.partitions, [server.calls] * keys.partitions
            ranges: list[tuple[int, Server]] = [(0, server)]
            servers = Servers(keys, ranges)
            log = cls(locator, keys, servers, tails, calls, server.life_of, limits, loops, None, cold, seals)
        try:
            await log._check_key_store()
        except BaseException:
            await log.close()
            raise
        return log

    async def _check_key_store(self) -> None:
        """Refuse a store of keys that is not the one by which the log's payloads are sealed, and to go without it."""
        calls = self.calls_at(CONFIG)
        if self.seals is None:
            if await calls.call("HGET", CONFIG, "subject_keys") is not None:
                told = "payloads of this log are sealed: set HUB_SUBJECT_KEYS to the store of their keys"
                raise ConfigurationRefused(told)
            return
        identity = await self.seals.start(self.loops)
        await calls.call("HSETNX", CONFIG, "subject_keys", identity)
        if (await calls.call("HGET", CONFIG, "subject_keys")).decode() != identity:
            told = (
                "HUB_SUBJECT_KEYS is not the store of keys that this log was sealed by; all processes need the same one"
            )
            raise ConfigurationRefused(told)
        await self._tell_unsealed(calls, self.seals.rule)

    async def _tell_unsealed(self, calls: Calls, rule: SealRule) -> None:
        """Warn of channels that this process stores in plain text, although the last one with HUB_SEALED seals them."""
        last = await calls.call("HGET", CONFIG, "sealed") or b""
        if missing := rule.missing(last.decode()):
            _log.warning("stored in plain text here, but sealed by others (HUB_SEALED): %s", ", ".join(missing))
        if str(rule) not in {"", last.decode()}:
            await calls.call("HSET", CONFIG, "sealed", str(rule))

    @property
    def url(self) -> str:
        """REDIS_URL."""
        return self._locator.url

    @property
    def is_cluster(self) -> bool:
        """True if the partitions are spread over the servers of a Cluster."""
        return self._cluster is not None

    @property
    def redis(self) -> Redis:
        """A redis-py client; it connects on first use. In a Cluster it is a `RedisCluster`, which has the same commands."""
        if self._redis is None:
            self._redis = open_client(self._locator.place)
        return self._redis

    @property
    def is_available(self) -> bool:
        """True while the connections to at least one server are open. Only `ping` detects a Redis that hangs."""
        return any(server.is_available for server in self.servers)

    def reaches(self, channel: Channel) -> bool:
        """True while the connections to the channel's server are open."""
        return self._reaches(self.keys.of(channel).partition)

    @property
    def away_count(self) -> int:
        """Number of partitions whose server is unreachable."""
        return sum(not self._reaches(number) for number in range(self.keys.partitions))

    def _reaches(self, partition: int) -> bool:
        if self._cluster is not None:
            return self._cluster.reaches(partition)
        return self.servers.by_partition[partition].is_available

    @property
    def _all_servers(self) -> Iterable[Server]:
        return self.servers if self._cluster is None else self._cluster.known

    @property
    def connect_count(self) -> int:
        """Number of connects so far.

        Writes before the latest one may have been lost together with the server that received them.
        """
        return self._past.connects + sum(server.connect_count for server in self._all_servers)

    @property
    def durability(self) -> Mapping[Kind, Durability]:
        """The durability levels currently named in acknowledgements, by kind of channel: the lowest of all servers."""
        levels = [server.durability for server in self.servers]
        return {kind: min((level[kind] for level in levels), key=RANK.__getitem__) for kind in Kind}

    @property
    def changed_durability(self) -> Mapping[Kind, Durability]:
        """The levels that differ from those at the start, because a server's configuration has changed."""
        found: dict[Kind, Durability] = {}
        for server in self.servers:
            found |= server.changed_durability
        return found

    @property
    def lowered_durability(self) -> frozenset[Kind]:
        """The kinds of channel whose level is lower than at the start."""
        return frozenset[Kind]().union(*(server.lowered_durability for server in self.servers))

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes in use on the fullest server, and its limit (0: none); at most a second old."""
        return max((server.memory for server in self.servers), key=lambda used: used[0] / (used[1] or float("inf")))

    @property
    def memory_trouble(self) -> str | None:
        """A sentence if Redis is near its limit; None if it is not, or has none."""
        used_bytes, max_bytes = self.memory
        return memory_trouble(used_bytes, max_bytes)

    async def read_memory(self) -> None:
        """Read the memory in use now, for `memory`.

        Raises:
            LogUnavailable: a server is unreachable.
        """
        await asyncio.gather(*(server.read_memory() for server in self.servers))

    def now_ms(self) -> int:
        """Redis's clock, in milliseconds since 1970, which processes use to compare their records."""
        return next(iter(self.servers)).now_ms()

    @property
    def appended_count(self) -> int:
        """Number of drafts answered so far."""
        return self._past.appended + sum(server.appender.appended_count for server in self._all_servers)

    @property
    def batch_count(self) -> int:
        """Number of script calls that appended drafts."""
        return self._past.batches + sum(server.appender.batch_count for server in self._all_servers)

    @property
    def stored_in(self) -> Histogram:
        """The time from submitting a draft to its answer."""
        return joined([self._past.stored_in, *(server.appender.stored_in for server in self._all_servers)])

    @property
    def round_trips(self) -> Mapping[str, Histogram]:
        """The time of Redis's replies: to the append script, and to all other calls."""
        calls = dict.fromkeys((*self._calls, *(server.calls for server in self._all_servers)))
        return {
            "append": joined([self._past.appends, *(server.appender.round_trips for server in self._all_servers)]),
            "call": joined([self._past.calls, *(one.round_trips for one in calls)]),
        }

    @property
    def read_count(self) -> int:
        """Number of reads of channels for new events."""
        return sum(tail.read_count for tail in dict.fromkeys(self._tails))

    @property
    def found_count(self) -> int:
        """Number of those of them that found some."""
        return sum(tail.found_count for tail in dict.fromkeys(self._tails))

    async def ping(self, timeout_s: float = 1.0) -> list[str]:
        """Make one round trip to each server. Returns a sentence for each server that does not answer, if others do.

        Raises:
            LogUnavailable: no server answers within `timeout_s`.
        """
        servers = list(self.servers)
        ends = await asyncio.gather(*(server.ping(timeout_s) for server in servers), return_exceptions=True)
        failed = [(server, end) for server, end in zip(servers, ends, strict=True) if end is not None]
        if len(failed) == len(servers):
            raise failed[0][1]
        return [f"the Redis at {server.where} does not answer: {end}" for server, end in failed]

    def submit(self, draft: Draft, done: Done) -> None:
        """Append `draft` with the next batch; `done` receives the `Appended`, or the error that prevented it from being stored."""
        if self.seals is None or not self.seals.concerns(draft):
            self._server(draft.channel).appender.submit(draft, done)
        else:
            self.seals.submit(draft, done, self._submit)

    def _submit(self, draft: Draft, done: Done) -> None:
        self._server(draft.channel).appender.submit(draft, done)

    async def append(self, draft: Draft) -> Appended:
        """Append `draft` and wait for the result.

        Raises:
            IdempotencyConflict: its command ID was used with another body.
            GuardRefused: a guard did not hold; nothing was stored.
            LogUnavailable: not confirmed; the same command ID may safely be sent again.
        """
        waiter: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.submit(draft, lambda result: None if waiter.done() else waiter.set_result(result))
        result = await waiter
        if isinstance(result, Exception):
            raise result
        return result

    async def look(self, channel: Channel, after: str | None = None) -> Look:
        """See `Replay.look`."""
        return await self.replay.look(channel, after)

    async def page(
        self,
        channel: Channel,
        after: str = "0",
        limit: int = PAGE_EVENTS,
        upto: str = "+",
        *,
        limit_bytes: int = PAGE_BYTES,
    ) -> list[Entry]:
        """See `Replay.page`."""
        return await self.replay.page(channel, after, limit, upto, limit_bytes=limit_bytes)

    async def entry(self, channel: Channel, event_id: str) -> Entry | None:
        """Read the event with this ID; None if the stream does not contain it."""
        found = await self.replay.page_from(channel, event_id, 1)
        return found[0] if found and found[0].id == event_id.encode() else None

    async def traceparent_of(self, channel: Channel, event_id: str) -> str | None:
        """Read the trace that the event with this ID belongs to; None if it belongs to none, or the stream does not contain it."""
        entry = await self.entry(channel, event_id)
        return None if entry is None else traceparent_of(entry.meta)

    def tail_of(self, channel: Channel) -> Tail:
        """The tail that watches the channel's partition; the same for the life of the process."""
        return self._tails[self.keys.of(channel).partition]

    def calls_in(self, partition: int) -> Calls:
        """The calls to the server of a partition."""
        return self._calls[partition]

    def by_server(self) -> Iterator[tuple[Sequence[int], Calls]]:
        """For each server, its partitions and its calls, so that one write per server reaches all partitions."""
        for server in self.servers:
            yield [at for at in range(self.keys.partitions) if self.servers.by_partition[at] is server], server.calls

    def calls_of(self, channel: Channel) -> Calls:
        """The calls to the server of a channel."""
        return self._calls[self.keys.of(channel).partition]

    def calls_at(self, key: str | bytes) -> Calls:
        """The calls to the server of a key that belongs to no partition."""
        return self.servers.keeping(key).calls if self._cluster is None else self._cluster.calls_at(key)

    def own_calls(self, name: str, key: str | bytes = CONFIG) -> Calls:
        """Calls over a separate connection to the server of `key`, for reads that block. The caller closes it."""
        return Calls(partial(self._locator.open, f"hub-{name}", slot_of(key)))

    def own_partition_calls(self, name: str) -> PartitionCalls:
        """Calls over separate connections to the servers of all partitions. The caller closes them."""
        return PartitionCalls.at(self._locator, self.keys, f"hub-{name}")

    async def close(self) -> None:
        """Close every connection. Unconfirmed appends fail."""
        if self.seals is not None:
            await self.seals.close()
        if self._cluster is not None:
            await self._cluster.close()
        else:
            for server in self.servers:
                await server.close()
        if self._redis is not None:
            await self._redis.aclose()

    def _server(self, channel: Channel) -> Server:
        return self.servers.by_partition[self.keys.of(channel).partition]
