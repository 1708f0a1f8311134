"""The log of one process: its wires to Redis, kept alive, and append, replay and tail over them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Mapping
from typing import Final

import hiredis
from redis.asyncio import Redis

from streams.channel import Channel, Kind
from streams.cursor import Look
from streams.envelope import Appended, Draft, Durability, Entry
from streams.errors import LogUnavailable
from streams.redis.append import Appender, Done
from streams.redis.append_call import Result
from streams.redis.durability import DurabilityPolicy, ServerFacts
from streams.redis.keys import Keys
from streams.redis.limits import DEFAULT_LIMITS, Limits
from streams.redis.replay import PAGE_EVENTS, Replay
from streams.redis.server_check import check_facts, fix_partitions, read_facts
from streams.redis.tail import Tail
from streams.redis.wire import Wire, open_wire

RECONNECT_MIN_S: Final = 0.05
RECONNECT_MAX_S: Final = 1.0
COMMAND_TIMEOUT_S: Final = 5.0
CHECK_INTERVAL_S: Final = 0.5
HUNG_AFTER_CHECKS: Final = {"append": 10, "query": 10, "bell": 6, "tail": 4}
"""Checks in a row without a byte on a wire that waits for an answer: the socket is half-open. A bell is silent for `BLOCK_MS`."""

_log = logging.getLogger(__name__)


class Log:
    """Append, replay and tail on one Redis. Reconnects by itself; while Redis is away appends are refused at once.

    Attributes:
        redis: redis-py client for what is not on the hot path (groups, leases, small keys).
    """

    def __init__(
        self, url: str, facts: ServerFacts, keys: Keys, policy: DurabilityPolicy, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.url = url
        self.facts = facts
        self.keys = keys
        self.policy = policy
        self.tail = Tail(keys, _new_epoch(), limits)
        self.appender = Appender(keys, policy, _new_epoch, self.tail, limits)
        self.replay = Replay(keys, lambda: self._query, _new_epoch, limits)
        self.redis = _client(url)
        self._query: Wire | None = None
        self._wires: list[Wire] = []
        self._supervisor: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    @classmethod
    async def open(
        cls, url: str, *, partitions: int = 8, durability: Mapping[Kind, Durability] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Log:  # fmt: skip
        """Connect, check the server, fix the partitions.

        Raises:
            LogUnavailable: Redis could not be reached.
            ConfigurationRefused: it must not be used as it is set up.
        """
        wire = await open_wire(url, "hub-check")
        try:
            facts = await read_facts(wire)
            check_facts(facts)
            await fix_partitions(wire, partitions)
        finally:
            wire.abort()
        log = cls(url, facts, Keys(partitions), DurabilityPolicy(durability or {}, facts), limits)
        await log._connect()
        log._supervisor = asyncio.create_task(log._supervise(), name="log-supervisor")
        return log

    @property
    def is_available(self) -> bool:
        """Whether the wires stand. `ping` also notices a Redis that hangs."""
        return self._query is not None

    async def ping(self, timeout_s: float = 1.0) -> None:
        """One round trip.

        Raises:
            LogUnavailable: Redis is away, or hangs for longer than `timeout_s`.
        """
        if self._query is None:
            raise LogUnavailable("Redis is away")
        await self._query.call("PING", timeout_s=timeout_s)

    def submit(self, draft: Draft, done: Done) -> None:
        """Append `draft` with the next batch; `done` gets the `Appended` or the reason it was not stored."""
        self.appender.submit(draft, done)

    async def append(self, draft: Draft) -> Appended:
        """Append `draft` and wait for the answer.

        Raises:
            IdempotencyConflict: its command id was used with another body.
            GuardRefused: a guard did not hold; nothing was stored.
            LogUnavailable: not confirmed; the same command id may safely be sent again.
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
        """The event with this id; None when the stream does not hold it."""
        ms, _, number = event_id.partition("-")
        before = f"{ms}-{int(number) - 1}" if int(number) else f"{int(ms) - 1}-18446744073709551615"
        found = await self.page(channel, before, limit=1, upto=event_id)
        return found[0] if found else None

    async def close(self) -> None:
        """Let go of every connection. Appends not yet confirmed are failed."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        self._disconnect()
        await self.redis.aclose()

    async def _connect(self) -> None:
        self._lost.clear()
        wires: list[Wire] = []
        try:
            wires.extend([await open_wire(self.url, f"hub-{name}") for name in HUNG_AFTER_CHECKS])
            await self._recheck(wires[1])
            await fix_partitions(wires[1], self.keys.partitions)
            self._wires = wires
            append, self._query, bell, read = wires
            await self.tail.attach(bell, read)
        except BaseException as error:
            self._query = None
            for wire in wires:
                wire.abort()
            if isinstance(error, hiredis.ReplyError):  # LOADING after a restart, READONLY after a failover
                raise LogUnavailable(f"Redis is not ready: {error}") from error
            raise
        for wire in wires:
            wire.on_lost = self._lost.set
        self.appender.attach(append)
        if not all(wire.is_open for wire in wires):
            self._lost.set()

    async def _recheck(self, wire: Wire) -> None:
        """A failover may have brought another server: acks must not promise what only the former one gave."""
        facts = await read_facts(wire)
        check_facts(facts)
        self.policy.rebase(facts)
        self.facts = facts

    def _disconnect(self) -> None:
        self._query = None
        self.tail.detach()
        for wire in self._wires:
            wire.on_lost = _ignore  # we know; it must not be taken for the loss of its successor
            wire.abort()
        self.appender.attach(None)

    async def _supervise(self) -> None:
        while True:
            await self._loss()
            _log.warning("lost Redis at %s; reconnecting", _without_password(self.url))
            self._disconnect()
            await self._reconnect()
            _log.info("Redis is back")

    async def _loss(self) -> None:
        """Wait until a wire is lost, and give up those that hang."""
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
                _log.debug("Redis is still away: %s", error)
            except Exception:
                _log.exception("Redis cannot be used as it came back; trying again")
            else:
                return
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # jitter: nodes must not come back in step
            delay_s = min(delay_s * 2, RECONNECT_MAX_S)


def _client(url: str) -> Redis:
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}  # redis-py refuses it on a unix socket
    client: Redis = Redis.from_url(
        url, socket_timeout=COMMAND_TIMEOUT_S, socket_connect_timeout=2.0, health_check_interval=15, **keepalive,
    )  # fmt: skip
    return client


def _ignore() -> None:
    """Nothing is to be done."""


def _new_epoch() -> str:
    return secrets.token_hex(8)


def _without_password(url: str) -> str:
    return url.rpartition("@")[2]
