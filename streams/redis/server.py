"""The connections of a process to one Redis server: append and calls over them, their supervision, and the server's facts."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import ClassVar, Final

from streams.channel import Kind
from streams.envelope import Durability
from streams.errors import ConfigurationRefused, LogUnavailable
from streams.histogram import Histogram
from streams.loops import Loop, Loops
from streams.redis.append import Appender, ReadBack
from streams.redis.calls import Calls
from streams.redis.durability import DurabilityPolicy, ServerFacts
from streams.redis.keys import CONFIG, Keys, Limits
from streams.redis.locate import Locator
from streams.redis.server_check import FixedLog, check_facts, check_mode, fix_keys, read_clock, read_facts, read_memory
from streams.redis.tail import Labels, Tail
from streams.redis.wire import Wire, open_wire
from streams.redis.wire_set import WireSet
from streams.sealing.seals import Seals

FACTS_EVERY_S: Final = 1.0
"""Interval between two reads of the server's configuration and clock: acknowledgements are correct within 2 s of a change. A
read costs Redis about 0.1 ms.
"""
SENTINEL_EVERY_S: Final = 2.0
"""Interval at which the Sentinels are asked for the server's address: one that was cut off from them keeps its connections."""

new_epoch: Final[Callable[[], str]] = partial(secrets.token_hex, 8)
"""Makes a random identity: the epoch of a channel that starts over, or the label prefix of a process's batches."""

_log = logging.getLogger(__name__)


class ServerCounts:
    """The counts of several servers, for counters that never decrease after a server is gone."""

    def __init__(self) -> None:
        self.connects = self.appended = self.batches = 0
        self.stored_in, self.appends, self.calls = Histogram(), Histogram(), Histogram()

    def add(self, server: Server) -> None:
        """Add the counts of a server that counts nothing more."""
        self.connects += server.connect_count
        self.appended += server.appender.appended_count
        self.batches += server.appender.batch_count
        self.stored_in.add(server.appender.stored_in)
        self.appends.add(server.appender.round_trips)
        self.calls.add(server.calls.round_trips)


class Server:
    """Append and calls on one Redis server.

    Reconnects by itself; while the server is unreachable appends and calls are refused at once.

    Args:
        where: names the server in log lines.
        locate: finds the URL of the server.
        keys: builds the names of all keys.
        policy: the durability of acknowledgements.
        reader: reads back what is appended.
        life_of: the identity of a partition's data.
        limits: the sizes of what is kept.
        loops: runs the background loops.
        on_elsewhere: called when the server does not hold a partition's keys, or is unreachable.
        on_back: called with the server after each connect.

    Attributes:
        calls: calls over one pipelined connection, so that a thousand resumes share round trips.
        connect_count: number of connects so far, including the first.
    """

    WIRES: ClassVar[tuple[str, ...]] = ("append", "query")

    def __init__(
        self,
        where: str,
        locate: Callable[[], Awaitable[str]],
        keys: Keys,
        policy: DurabilityPolicy,
        reader: ReadBack,
        life_of: Callable[[int], str],
        limits: Limits,
        loops: Loops,
        on_elsewhere: Callable[[], None] = lambda: None,
        on_back: Callable[[Server], None] = lambda _: None,
    ) -> None:
        self.where = where
        self.appender = Appender(keys, policy, new_epoch, reader, life_of, limits, on_elsewhere)
        self.calls = Calls(self.query_wire, on_elsewhere=on_elsewhere)
        self._on_back = on_back
        self._keys = keys
        self._policy = policy
        self._facts: ServerFacts | None = None
        self._begun_with = policy.levels
        self._clock_ahead_ms = 0.0
        self._query: Wire | None = None
        self._wires = WireSet(self.WIRES, where, locate, self._attach, self._detach, on_elsewhere)
        self._loops = loops
        self._own_loops: list[Loop] = []
        self.connect_count = 0

    @classmethod
    async def open_at(
        cls,
        url: str,
        keys: Keys,
        durability: Mapping[Kind, Durability],
        reader: ReadBack,
        life_of: Callable[[int], str],
        limits: Limits,
        loops: Loops,
        on_elsewhere: Callable[[], None],
        on_back: Callable[[Server], None],
    ) -> Server:
        """Connect to one primary of a Cluster, and check it.

        Raises:
            LogUnavailable: it could not be reached.
            ConfigurationRefused: its configuration is unsafe.
        """
        facts = await _checked_facts(url)
        policy = DurabilityPolicy(durability, facts)

        async def here() -> str:
            return url

        server = cls(without_password(url), here, keys, policy, reader, life_of, limits, loops, on_elsewhere, on_back)
        await server.start()
        return server

    async def start(self) -> None:
        """Connect, and supervise the connections until `close`.

        Raises:
            LogUnavailable, ConfigurationRefused: see `open_at`.
        """
        await self._wires.connect()
        self._own_loops += [
            self._loops.keep("log", self._wires.supervise),
            self._loops.every("log_facts", self._look, FACTS_EVERY_S, retry_max_s=FACTS_EVERY_S),
        ]

    @property
    def is_available(self) -> bool:
        """True while the connections are open. Only `ping` detects a Redis that hangs."""
        return self._query is not None

    @property
    def durability(self) -> Mapping[Kind, Durability]:
        """The durability levels currently named in acknowledgements, by kind of channel."""
        return self._policy.levels

    @property
    def changed_durability(self) -> Mapping[Kind, Durability]:
        """The levels that differ from those at the start."""
        return {kind: level for kind, level in self.durability.items() if level is not self._begun_with[kind]}

    @property
    def lowered_durability(self) -> frozenset[Kind]:
        """The kinds of channel whose level is lower than at the start."""
        return self._policy.lowered(self._begun_with)

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes in use, and the limit (0: none), at most a second old."""
        return (0, 0) if self._facts is None else (self._facts.used_bytes, self._facts.max_bytes)

    async def read_memory(self) -> None:
        """Read the memory in use now, for `memory`.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        used_bytes, max_bytes = await read_memory(self.calls)
        if self._facts is not None:
            self._facts = replace(self._facts, used_bytes=used_bytes, max_bytes=max_bytes)

    def now_ms(self) -> int:
        """Redis's clock, in milliseconds since 1970, at most a second old; every process reads the same one."""
        return int(monotonic() * 1000 + self._clock_ahead_ms)

    async def ping(self, timeout_s: float) -> None:
        """Make one round trip.

        Raises:
            LogUnavailable: Redis is unreachable, or does not answer within `timeout_s`.
        """
        await self.calls.call("PING", timeout_s=timeout_s)

    async def close(self) -> None:
        """Close every connection. Unconfirmed appends fail."""
        await self._loops.stop(*self._own_loops)
        self._own_loops.clear()
        self._wires.close()

    async def query_wire(self) -> Wire:
        """The wire for calls.

        Raises:
            LogUnavailable: the server is unreachable.
        """
        if self._query is None:
            raise LogUnavailable("Redis is unreachable")
        return self._query

    async def _attach(self, wires: Sequence[Wire]) -> None:
        append, query = wires[0], wires[1]
        await self._recheck(query)
        self._query = query
        await self._attach_tail(wires[2:])
        self.appender.attach(append)
        self.connect_count += 1
        self._on_back(self)

    def _detach(self) -> None:
        self._query = None
        self.appender.attach(None)

    async def _attach_tail(self, wires: Sequence[Wire]) -> None:
        """Use the wires beyond the first two; a primary of a Cluster has none, because each partition has its own."""

    async def _recheck(self, wire: Wire) -> None:
        """Check the server again: after a failover, acknowledgements must not name a level that only the former server provided."""

        async def this() -> Wire:
            return wire

        calls = Calls(this)
        await self._read_clock(calls)
        self._take(await read_facts(calls))
        await self._check_log(calls)

    async def _check_log(self, calls: Calls) -> None:
        """Check the configuration of the log, if this server holds it."""

    async def _look(self) -> None:
        """Read the settings that may change while the server runs: acknowledgements name the current level, or none are sent.

        Raises:
            ConfigurationRefused: the configuration is unsafe; appends are refused until it is fixed.
        """
        if self._query is None:
            return  # the next connection reads them
        await self._read_clock(self.calls)
        facts = await read_facts(self.calls)
        if not self.is_available:  # lost meanwhile
            return
        try:
            self._take(facts)
        except ConfigurationRefused as refused:
            self.appender.refuse(str(refused))
            raise

    def _take(self, facts: ServerFacts) -> None:
        if self._facts is not None and not self._facts.is_append_only and facts.is_append_only and facts.is_rewriting:
            # AOF was only just switched on: until the first rewrite has finished, the file does not count.
            facts = replace(facts, is_append_only=False, is_fsync_always=False)
        self._facts = facts
        check_facts(facts)
        before = self._policy.levels
        self._policy.rebase(facts)
        self.appender.refuse(None)
        if self._policy.levels != before:
            told = ", ".join(f"{kind}: {level}" for kind, level in self._policy.levels.items())
            _log.warning("Redis was reconfigured; acks now name %s", told)

    async def _read_clock(self, calls: Calls) -> None:
        asked_at = monotonic()
        redis_ms = await read_clock(calls)
        self._clock_ahead_ms = redis_ms - (asked_at + monotonic()) * 500


class LoneServer(Server):
    """The only server of a hub: it also has the tail and the configuration of the log.

    Attributes:
        life_of: the identity of a partition's data: that of all data on the server.
    """

    WIRES: ClassVar[tuple[str, ...]] = ("append", "query", "bell", "tail")

    def __init__(
        self,
        locator: Locator,
        fixed: FixedLog,
        policy: DurabilityPolicy,
        limits: Limits,
        loops: Loops,
        seals: Seals | None = None,
    ) -> None:
        self._lives = dict.fromkeys(range(fixed.keys.partitions), fixed.life)
        self.life_of = self._lives.__getitem__
        self.tail = Tail(fixed.keys, range(fixed.keys.partitions), CONFIG, Labels(new_epoch()), limits, seals)
        super().__init__(
            without_password(locator.url),
            locator.url_of,
            fixed.keys,
            policy,
            self.tail,
            self.life_of,
            limits,
            loops,
        )

    @classmethod
    async def open(
        cls,
        locator: Locator,
        partitions: int,
        durability: Mapping[Kind, Durability],
        limits: Limits,
        loops: Loops,
        seals: Seals | None = None,
    ) -> tuple[LoneServer, Keys]:
        """Connect, check the server, and fix the partitions; if a log exists, its stored configuration determines the keys.

        Raises:
            LogUnavailable: Redis could not be reached.
            ConfigurationRefused: the server's configuration is unsafe, or the log has another number of partitions.
        """
        calls = Calls(partial(locator.open, "hub-check"))
        try:
            facts = await read_facts(calls)
            check_mode(facts, is_cluster=False)
            check_facts(facts)
            fixed = await fix_keys(calls, partitions)
        finally:
            calls.close()
        server = cls(locator, fixed, DurabilityPolicy(durability, facts), limits, loops, seals)
        await server.start()
        if locator.sentinels:
            server._own_loops.append(loops.every("sentinel", partial(server._follow, locator), SENTINEL_EVERY_S))
        return server, fixed.keys

    async def _follow(self, locator: Locator) -> None:
        """Reconnect if the Sentinels name another primary: the old one may not know that it was replaced."""
        if self.is_available and await locator.url_of() != self._wires.url:
            self._wires.renew()

    async def _attach_tail(self, wires: Sequence[Wire]) -> None:
        bell, read = wires
        await self.tail.attach(bell, read)

    def _detach(self) -> None:
        self.tail.detach()
        super()._detach()

    async def _check_log(self, calls: Calls) -> None:
        fixed = await fix_keys(calls, self._keys.partitions)
        if fixed.keys.tags != self._keys.tags:
            raise ConfigurationRefused("the log was replaced by one with other hash tags; restart this process")
        self._lives.update(dict.fromkeys(self._lives, fixed.life))


async def _checked_facts(url: str) -> ServerFacts:
    calls = Calls(partial(open_wire, url, "hub-check"))
    try:
        facts = await read_facts(calls)
    finally:
        calls.close()
    check_facts(facts)
    return facts


def without_password(url: str) -> str:
    """The address of a server, for log lines and errors."""
    return url.partition("://")[2].rpartition("@")[2].partition("?")[0].removesuffix("/0")
