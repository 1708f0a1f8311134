"""The connections of a process to one Redis server: their supervision, and append, tail and calls over them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Final

import hiredis

from streams.channel import Kind
from streams.envelope import Durability
from streams.errors import ConfigurationRefused, LogUnavailable
from streams.loops import Loop, Loops
from streams.redis.append import Appender
from streams.redis.calls import Calls, in_our_words
from streams.redis.durability import DurabilityPolicy, ServerFacts
from streams.redis.keys import Keys, Limits
from streams.redis.server_check import FixedLog, check_facts, fix_keys, read_clock, read_facts, read_memory
from streams.redis.tail import Tail
from streams.redis.wire import Wire, open_wire

RECONNECT_MIN_S: Final = 0.05
RECONNECT_MAX_S: Final = 1.0
CHECK_INTERVAL_S: Final = 0.5
FACTS_EVERY_S: Final = 1.0
"""Interval between two reads of the server's configuration and clock: acknowledgements are correct within 2 s of a change. A
read costs Redis about 0.1 ms.
"""
HUNG_AFTER_CHECKS: Final = {"append": 10, "query": 10, "bell": 6, "tail": 4}
"""By wire: the number of consecutive checks with a reply due and no byte received, after which the socket counts as half-open.
A blocked read of a bell is silent for `BLOCK_MS`.
"""

new_epoch: Final[Callable[[], str]] = partial(secrets.token_hex, 8)
"""Makes a random identity: the epoch of a channel that starts over, or the label prefix of a process's batches."""

_log = logging.getLogger(__name__)


class Server:
    """Append, tail and calls on one Redis.

    Reconnects by itself; while Redis is unreachable appends and calls are refused at once.

    Attributes:
        calls: calls over one pipelined connection, so that a thousand resumes share round trips.
        connect_count: number of connects so far, including the first.
        life: the identity of the data on the server.
    """

    def __init__(self, url: str, fixed: FixedLog, policy: DurabilityPolicy, limits: Limits, loops: Loops) -> None:
        keys = fixed.keys
        self.url = url
        self.life = fixed.life
        self.tail = Tail(keys, new_epoch(), limits)
        self.appender = Appender(keys, policy, new_epoch, self.tail, limits)
        self.calls = Calls(self._query_wire)
        self._keys = keys
        self._policy = policy
        self._facts: ServerFacts | None = None
        self._begun_with = policy.levels
        self._clock_ahead_ms = 0.0
        self._query: Wire | None = None
        self._wires: list[Wire] = []
        self._loops = loops
        self._own_loops: list[Loop] = []
        self.connect_count = 0
        self._lost = asyncio.Event()

    @classmethod
    async def open(
        cls, url: str, partitions: int, durability: Mapping[Kind, Durability], limits: Limits, loops: Loops
    ) -> tuple[Server, Keys]:
        """Connect, check the server, and fix the partitions; if a log exists, its stored configuration determines the keys.

        Raises:
            LogUnavailable: Redis could not be reached.
            ConfigurationRefused: the server's configuration is unsafe, or the log has another number of partitions.
        """
        calls = Calls.at(url, "hub-check")
        try:
            facts = await read_facts(calls)
            check_facts(facts)
            fixed = await fix_keys(calls, partitions)
        finally:
            calls.close()
        server = cls(url, fixed, DurabilityPolicy(durability, facts), limits, loops)
        await server._connect()
        server._own_loops += [
            loops.keep("log", server._supervise),
            loops.every("log_facts", server._look, FACTS_EVERY_S, retry_max_s=FACTS_EVERY_S),
        ]
        return server, fixed.keys

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
        self._disconnect()

    async def _query_wire(self) -> Wire:
        if self._query is None:
            raise LogUnavailable("Redis is unreachable")
        return self._query

    async def _connect(self) -> None:
        self._lost.clear()
        wires: list[Wire] = []
        try:
            wires.extend([await open_wire(self.url, f"hub-{name}") for name in HUNG_AFTER_CHECKS])
            await self._recheck(wires[1])
            self._wires = wires
            append, self._query, bell, read = wires
            await self.tail.attach(bell, read)
        except BaseException as error:
            self._query = None
            for wire in wires:
                wire.abort()
            if isinstance(error, hiredis.ReplyError):  # LOADING after a restart, READONLY after a failover
                raise in_our_words(error) from error
            raise
        for wire in wires:
            wire.on_lost = self._lost.set
        self.appender.attach(append, self.life)
        self.connect_count += 1
        if not all(wire.is_open for wire in wires):
            self._lost.set()

    async def _recheck(self, wire: Wire) -> None:
        """Check the server again: after a failover, acknowledgements must not name a level that only the former server provided."""

        async def this() -> Wire:
            return wire

        calls = Calls(this)
        await self._read_clock(calls)
        self._take(await read_facts(calls))
        fixed = await fix_keys(calls, self._keys.partitions)
        if fixed.keys.tags != self._keys.tags:
            raise ConfigurationRefused("the log was replaced by one with other hash tags; restart this process")
        self.life = fixed.life

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

    def _disconnect(self) -> None:
        self._query = None
        self.tail.detach()
        for wire in self._wires:
            wire.on_lost = _ignore  # closed on purpose: must not be taken for the loss of its successor
            wire.abort()
        self.appender.attach(None, self.life)

    async def _supervise(self) -> None:
        while True:
            await self._loss()
            _log.warning("lost Redis at %s; reconnecting", _without_password(self.url))
            self._disconnect()
            await self._reconnect()
            _log.info("Redis is back")

    async def _loss(self) -> None:
        """Wait until a connection is lost, and abort any connection that hangs."""
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._lost.wait()
            for wire, limit in zip(self._wires, HUNG_AFTER_CHECKS.values(), strict=True):
                if wire.check() >= limit:
                    wire.abort()

    async def _reconnect(self) -> None:
        delay_s = RECONNECT_MIN_S
        while True:
            try:
                await self._connect()
            except (LogUnavailable, OSError) as error:
                _log.debug("Redis is still unreachable: %s", error)
            except Exception:
                _log.exception("Redis is back, but cannot be used as configured; trying again")
            else:
                return
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # jitter, so that nodes do not come back in step
            delay_s = min(delay_s * 2, RECONNECT_MAX_S)


def _ignore() -> None:
    """Do nothing."""


def _without_password(url: str) -> str:
    return url.rpartition("@")[2]
