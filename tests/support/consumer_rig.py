"""Runs a worker's handlers in the test's event loop, on a real Redis: they can be started, crashed and replaced."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Self

from consumers.faults import NO_FAULTS, Faults
from consumers.groups.delivery import Delivery
from consumers.groups.handler import DONE, Effects, EventHandler, Outcome, RetryPolicy, Source, StartFrom
from consumers.groups.partitions import Partitions
from consumers.groups.reader import GroupReader
from consumers.metrics import WorkerMetrics
from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft
from streams.loops import Loop
from streams.records.leases import Leases
from streams.redis.groups import Groups
from streams.redis.log import Log

QUICK = RetryPolicy(attempts_max=3, first_s=0.01, factor=1.0, longest_s=0.01)


POLL_S = 0.01
"""Seconds between checks of a condition that no event announces."""


class Killed(BaseException):
    """Simulates the death of the worker at this point."""


class KillAt:
    """Fault points that simulate death the nth time the worker reaches `point`."""

    def __init__(self, point: str, nth: int = 1) -> None:
        self.point, self.left = point, nth
        self.happened = asyncio.Event()

    def hit(self, point: str) -> None:
        if point == self.point and not self.happened.is_set():
            self.left -= 1
            if self.left == 0:
                self.happened.set()
                raise Killed(point)


class Recorder:
    """A handler that calls a function and records the events it handled. Each has a unique name, and so a group of its own."""

    def __init__(
        self,
        react: Callable[[Source, Effects], object] | None = None,
        *,
        types: tuple[str, ...] = ("chat.message",),
        start_from: StartFrom = StartFrom.NOW,
        name: str | None = None,
        tenant: str | None = None,
    ) -> None:
        self.name = name or f"h{uuid.uuid4().hex[:8]}"
        self.types = frozenset(types)
        self.start_from = start_from
        self.seen: list[tuple[str, str]] = []
        self.moved = asyncio.Condition()
        self._react = react
        self._tenant = tenant

    async def handle(self, source: Source, effects: Effects) -> Outcome:
        if self._tenant not in {None, source.channel.tenant}:
            return DONE
        outcome: object = DONE
        if self._react is not None:
            outcome = self._react(source, effects)
            if asyncio.iscoroutine(outcome):
                outcome = await outcome
        self.seen.append((source.channel.wire, str(source.payload.get("text"))))
        async with self.moved:
            self.moved.notify_all()
        return outcome if outcome is not None else DONE  # type: ignore[return-value]  # tests return outcomes

    async def until(self, condition: Callable[[], bool], within_s: float = 100) -> None:
        async with asyncio.timeout(within_s), self.moved:
            await self.moved.wait_for(condition)


class Rig:
    """One worker's group readers and leases."""

    def __init__(self, log: Log, *handlers: EventHandler, faults: Faults = NO_FAULTS, life_ms: int = 600) -> None:
        self.log = log
        self.worker = f"w{uuid.uuid4().hex[:8]}"
        self.metrics = WorkerMetrics()
        self._faults = faults
        self.reads = [log.own_calls("rig-read") for _ in handlers]
        self.groups = Groups(log)
        self.readers = [
            GroupReader(self.delivery(handler), self.groups, calls, self.worker, 100)
            for handler, calls in zip(handlers, self.reads, strict=True)
        ]
        leases = Leases(log, self.worker)
        self.partitions = Partitions(leases, log.keys.partitions, self.readers, life_ms)
        self._loops: list[Loop] = []

    def delivery(self, handler: EventHandler) -> Delivery:
        """The delivery of one handler in this worker."""
        return Delivery(self.log, self.groups, handler, QUICK, self._faults, self.metrics)

    async def __aenter__(self) -> Self:
        loops = self.log.loops
        self._loops = [
            loops.every("partitions", self.partitions.turn, self.partitions.every_s, first_after_s=0),
            *(loops.keep(f"group_{reader.name}", reader.run) for reader in self.readers),
        ]
        async with asyncio.timeout(30):
            await self.partitions.settled.wait()
        for partition in range(
            self.log.keys.partitions
        ):  # a worker that died a moment ago may hold its share of them still
            for reader in self.readers:
                await self.groups.ensure(partition, reader.name)
        return self

    async def crash(self) -> None:
        """Stop as in a crash: nothing is released, acknowledged or signed out."""
        await self.log.loops.stop(*self._loops)
        self._loops = []
        for calls in self.reads:
            calls.close()

    async def __aexit__(self, *_: object) -> None:
        if self._loops:
            await self.partitions.close()
            await self.crash()


async def say(log: Log, channel: Channel, text: str, user: str = "alice") -> str:
    """Append a chat.message with a work entry; returns its ID."""
    data = f'{{"text":"{text}"}}'.encode()
    draft = Draft(channel, "chat.message", data, Actor("user", user), is_wanted=True)
    return (await log.append(draft)).id


def conversation(tenant: str, name: str) -> Channel:
    """A conversation channel."""
    return parse_channel(tenant, f"conversation:{name}")
