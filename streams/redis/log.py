"""The log as one process uses it: append, tail and replay, each on the server that holds the channel's partition."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from redis.asyncio import Redis

from streams.channel import Channel, Kind
from streams.cursor import Look
from streams.envelope import Appended, Draft, Durability, Entry
from streams.histogram import Histogram
from streams.loops import Loops
from streams.redis.append import Done, Result
from streams.redis.calls import CALL_TIMEOUT_S, Calls
from streams.redis.keys import DEFAULT_LIMITS, Keys, Limits, Servers
from streams.redis.replay import PAGE_EVENTS, Replay
from streams.redis.server import Server, new_epoch
from streams.redis.tail import Tail

PARTITIONS: Final = 8
"""Default number of partitions of a new log."""


class Log:
    """Append, replay and tail. Reconnects by itself; while Redis is unreachable appends are refused at once.

    Attributes:
        keys: builds the names of all keys.
        servers: the server of each partition.
        loops: runs the background loops, the log's own among them.
        replay: reads stored events.
    """

    def __init__(
        self,
        url: str,
        keys: Keys,
        servers: Servers[Server],
        limits: Limits = DEFAULT_LIMITS,
        loops: Loops | None = None,
    ) -> None:
        self.loops = loops or Loops()
        self.url = url
        self.keys = keys
        self.servers = servers
        self._redis: Redis | None = None
        self.replay = Replay(keys, servers, new_epoch, limits)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        partitions: int = PARTITIONS,
        durability: Mapping[Kind, Durability] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Log:
        """Connect, check the server, and create or read the log's partitions.

        Raises:
            LogUnavailable: Redis could not be reached.
            ConfigurationRefused: the server's configuration is unsafe, or the log has another number of partitions.
        """
        loops = Loops()
        server, keys = await Server.open(url, partitions, durability or {}, limits, loops)
        return cls(url, keys, Servers(keys, [(0, server)]), limits, loops)

    @property
    def redis(self) -> Redis:
        """A redis-py client, which the job queue requires; it connects on first use."""
        if self._redis is None:
            self._redis = _client(self.url)
        return self._redis

    @property
    def is_available(self) -> bool:
        """True while the connections are open. Only `ping` detects a Redis that hangs."""
        return all(server.is_available for server in self.servers)

    @property
    def connect_count(self) -> int:
        """Number of connects so far.

        Writes before the latest one may have been lost together with the server that received them.
        """
        return sum(server.connect_count for server in self.servers)

    @property
    def durability(self) -> Mapping[Kind, Durability]:
        """The durability levels currently named in acknowledgements, by kind of channel."""
        return next(iter(self.servers)).durability

    @property
    def changed_durability(self) -> Mapping[Kind, Durability]:
        """The levels that differ from those at the start, because the server's configuration has changed."""
        return next(iter(self.servers)).changed_durability

    @property
    def lowered_durability(self) -> frozenset[Kind]:
        """The kinds of channel whose level is lower than at the start."""
        return next(iter(self.servers)).lowered_durability

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes in use on the fullest server, and its limit (0: none); at most a second old."""
        return max((server.memory for server in self.servers), key=lambda used: used[0] / (used[1] or float("inf")))

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
        return sum(server.appender.appended_count for server in self.servers)

    @property
    def batch_count(self) -> int:
        """Number of script calls that appended drafts."""
        return sum(server.appender.batch_count for server in self.servers)

    @property
    def stored_in(self) -> Histogram:
        """The time from submitting a draft to its answer."""
        return next(iter(self.servers)).appender.stored_in

    @property
    def round_trips(self) -> Mapping[str, Histogram]:
        """The time of Redis's replies: to the append script, and to all other calls."""
        server = next(iter(self.servers))
        return {"append": server.appender.round_trips, "call": server.calls.round_trips}

    @property
    def read_count(self) -> int:
        """Number of reads of channels with new events."""
        return sum(server.tail.read_count for server in self.servers)

    async def ping(self, timeout_s: float = 1.0) -> None:
        """Make one round trip to each server.

        Raises:
            LogUnavailable: a server is unreachable, or does not answer within `timeout_s`.
        """
        await asyncio.gather(*(server.ping(timeout_s) for server in self.servers))

    def submit(self, draft: Draft, done: Done) -> None:
        """Append `draft` with the next batch; `done` receives the `Appended`, or the error that prevented it from being stored."""
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

    async def page(self, channel: Channel, after: str = "0", limit: int = PAGE_EVENTS, upto: str = "+") -> list[Entry]:
        """See `Replay.page`."""
        return await self.replay.page(channel, after, limit, upto)

    async def entry(self, channel: Channel, event_id: str) -> Entry | None:
        """Read the event with this ID; None if the stream does not contain it."""
        found = await self.replay.page_from(channel, event_id, 1)
        return found[0] if found and found[0].id == event_id.encode() else None

    def tail_of(self, channel: Channel) -> Tail:
        """The tail that watches the channel's partition."""
        return self._server(channel).tail

    def calls_in(self, partition: int) -> Calls:
        """The calls to the server of a partition."""
        return self.servers.by_partition[partition].calls

    def by_server(self) -> Iterator[tuple[Sequence[int], Calls]]:
        """For each server, its partitions and its calls, so that one write per server reaches all partitions."""
        for server in self.servers:
            yield [at for at in range(self.keys.partitions) if self.servers.by_partition[at] is server], server.calls

    def calls_of(self, channel: Channel) -> Calls:
        """The calls to the server of a channel."""
        return self._server(channel).calls

    def calls_at(self, key: str | bytes) -> Calls:
        """The calls to the server of a key that belongs to no partition."""
        return self.servers.keeping(key).calls

    def own_calls(self, name: str) -> Calls:
        """Calls over a separate connection, for reads that block. The caller closes it."""
        return Calls.at(self.url, f"hub-{name}")

    async def close(self) -> None:
        """Close every connection. Unconfirmed appends fail."""
        for server in self.servers:
            await server.close()
        if self._redis is not None:
            await self._redis.aclose()

    def _server(self, channel: Channel) -> Server:
        return self.servers.by_partition[self.keys.of(channel).partition]


def _client(url: str) -> Redis:
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}  # redis-py refuses it on a unix socket
    client: Redis = Redis.from_url(
        url, socket_timeout=CALL_TIMEOUT_S, socket_connect_timeout=2.0, health_check_interval=15, **keepalive
    )
    return client
