"""The runs that a worker holds, with the polling of their stop requests. `lease_renewal` renews their leases."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

from consumers.runs.parts import WorkerParts
from streams.channel import Channel
from streams.errors import LogUnavailable

POLL_S: Final = 1.0
"""Interval, in seconds, between polls of the runs' flags; a lost hint delays a cancel by as much."""
_log = logging.getLogger(__name__)


class Stop(Enum):
    """The reasons why a segment stops before its agent is done; a later one in this order overrides an earlier one."""

    CANCEL = 1
    CANCEL_NOW = 2
    HAND_OVER = 3
    FENCED = 4


class Control:
    """Stops one segment from outside. The segment checks it after every item and can wait for a change."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self._changed = asyncio.Event()
        self.cancelled = asyncio.Event()
        """Set when the run is asked to stop; an agent may watch it and finish by itself."""
        self.steers = 0
        """Number of steering texts sent to the run so far."""

    def request(self, stop: Stop) -> None:
        """Ask the segment to stop for this reason."""
        if self.stop is None or stop.value > self.stop.value:
            self.stop = stop
            self._changed.set()
        if stop in {Stop.CANCEL, Stop.CANCEL_NOW}:
            self.cancelled.set()

    async def changed(self) -> Stop:
        """Wait for a request with a higher priority than the last one; returns its reason."""
        await self._changed.wait()
        self._changed.clear()
        if self.stop is None:
            raise AssertionError("set only by request")
        return self.stop


class HeldRun(NamedTuple):
    """A run whose segment this worker is executing. `holder` is the worker's token for it."""

    channel: Channel
    run_id: str
    agent: str
    holder: str
    control: Control

    def log_fields(self) -> Mapping[str, object]:
        """Returns the fields of a log line about the run."""
        place = {"tenant": self.channel.tenant, "channel": self.channel.wire}
        return {**place, "run": self.run_id, "agent": self.agent}


class HeldRuns:
    """The runs whose segments this worker is executing."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._held: dict[tuple[str, str], HeldRun] = {}
        self._taking: dict[tuple[str, str], HeldRun] = {}
        self._hinted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, held: HeldRun) -> None:
        """Renew the lease of this run, and watch its flags, from now on."""
        self._held[held.channel.path, held.run_id] = held
        self._parts.metrics.runs_active = len(self._held)
        self._idle.clear()

    @contextlib.contextmanager
    def taking(self, held: HeldRun) -> Iterator[None]:
        """Renew the lease while it is being acquired: Redis may have granted it before a blocked event loop receives the reply."""
        key = (held.channel.path, held.run_id)
        self._taking[key] = held
        try:
            yield
        finally:
            if self._taking.get(key) is held:
                del self._taking[key]

    def remove(self, held: HeldRun) -> None:
        """Stop watching a run whose segment has ended."""
        if self._held.get((held.channel.path, held.run_id)) is held:
            del self._held[held.channel.path, held.run_id]
        self._parts.metrics.runs_active = len(self._held)
        if not self._held:
            self._idle.set()

    async def hear(self) -> None:
        """Listens for hints that a run's flags have changed; each hint starts the next poll at once.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        await self._parts.store.hear_hints(self._hint)

    async def drain(self, within_s: float) -> None:
        """Wait up to `within_s` seconds for the segments to end, then hand over the remaining ones."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        for held in list(self._held.values()):
            held.control.request(Stop.HAND_OVER)
        await self._idle.wait()

    def _hint(self, path: str, run_id: str) -> None:
        if (path, run_id) in self._held:
            self._hinted.set()

    def under_way(self) -> list[HeldRun]:
        """All runs whose leases are to be renewed; may be called from any thread."""
        return [*self._held.values(), *self._taking.values()]

    async def retake(self, held: HeldRun) -> None:
        """Acquire an expired lease again if the run is still ours; stop the run if it has another holder.

        The run's hash, not the lease, decides who may append. So an expired lease without a new holder may be acquired again.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        parts, key = self._parts, (held.channel.path, held.run_id)
        if self._held.get(key) is not held:
            return
        (flags,) = await parts.store.flags([(held.channel, held.run_id)])
        if self._held.get(key) is not held:
            return
        is_ours = flags.holder == held.holder
        if not (is_ours and await parts.leases.acquire_run(held.channel, held.run_id, held.holder, parts.lease_ms)):
            held.control.request(Stop.FENCED)

    async def poll(self) -> None:
        """Wait for a hint, or a second, and read the flags of all held runs.

        Raises:
            LogUnavailable: Redis is unreachable.
        """
        self._hinted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._hinted.wait()
        failure: LogUnavailable | None = None
        for held in list(self._held.values()):
            try:
                (flags,) = await self._parts.store.flags([(held.channel, held.run_id)])
            except LogUnavailable as error:  # the runs on other servers are polled
                failure = error
                continue
            if flags.holder != held.holder:
                held.control.request(Stop.FENCED)
            elif flags.cancel:
                held.control.request(Stop.CANCEL_NOW if flags.cancel == "force" else Stop.CANCEL)
            held.control.steers = flags.steers
        if failure is not None:
            raise failure
