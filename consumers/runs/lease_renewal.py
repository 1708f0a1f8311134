"""Renews the leases of the held runs from a thread, so that an agent that blocks the event loop keeps its run for a limited time.

A blocked loop cannot renew a lease, so its runs would be given to other workers and executed twice. The thread detects a
blocked loop, logs the agent that blocks it, and keeps renewing. Beyond the limit it releases the leases and stores the reason,
which the next attempt, or the end of the run, reports.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from threading import Thread, get_ident
from time import monotonic
from typing import Final

from consumers.runs.held_runs import HeldRun, HeldRuns
from consumers.runs.parts import WorkerParts
from consumers.tasks import end_tasks
from streams.errors import LogUnavailable
from streams.records.leases import Leases

LOOK_EVERY_S: Final = 1.0
TOLD_AFTER_S: Final = 5.0
"""A loop that is blocked for this long, in seconds, is logged: longer than delays on a busy machine, and well below a lease of
15 s.
"""
_log = logging.getLogger(__name__)


class LeaseRenewal:
    """The renewing thread, and its communication with the event loop of the runs.

    Args:
        parts: the shared objects of the worker.
        held_runs: the runs whose leases are renewed.
        stall_max_s: time for which an agent may block the loop before the leases are released, in seconds.
    """

    def __init__(self, parts: WorkerParts, held_runs: HeldRuns, stall_max_s: float) -> None:
        self._parts, self._held_runs, self._stall_max_s = parts, held_runs, stall_max_s
        self._renew_every_s = parts.lease_ms / 3000
        self._calls = parts.log.own_partition_calls("run-leases")
        self._leases = Leases(parts.log, parts.worker, self._calls)
        self._loop = asyncio.get_running_loop()
        self._loop_thread = get_ident()
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()
        self._thread: Thread | None = None
        self._retaking: set[asyncio.Task[None]] = set()
        self._pulse_s = self._renewed_s = 0.0
        self._is_told = self._is_released = False

    def start(self) -> None:
        """Start the thread."""
        self._pulse()
        self._own_loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, args=(self._own_loop,), name="run-leases", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread and wait for its end."""
        if self._thread is not None and self._own_loop is not None:
            self._own_loop.call_soon_threadsafe(self._ending.set)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        await end_tasks(list(self._retaking))

    def _run(self, own_loop: asyncio.AbstractEventLoop) -> None:
        try:
            own_loop.run_until_complete(self._keep())
        finally:
            own_loop.close()

    async def _keep(self) -> None:
        loops = self._parts.log.loops
        turns = loops.every("run_leases", self._turn, min(LOOK_EVERY_S, self._renew_every_s), first_after_s=0)
        await self._ending.wait()
        await loops.stop(turns)
        self._calls.close()
        await asyncio.sleep(0)  # asyncio closes the socket in the loop's next turn

    async def _turn(self) -> None:
        """Check that the loop is running, and renew or release the leases.

        Raises:
            LogUnavailable: Redis is unreachable; leases may have expired.
        """
        if self._loop.is_closed():
            self._ending.set()
            return
        now_s = monotonic()
        stalled_s = now_s - self._pulse_s
        self._loop.call_soon_threadsafe(self._pulse)
        runs = self._held_runs.under_way()
        if stalled_s >= min(TOLD_AFTER_S, self._stall_max_s) and not self._is_told:
            self._is_told = True
            _log.warning("%s blocks the worker's loop at %s, for %.0f s so far", *self._blocker(runs), stalled_s)
        if stalled_s >= self._stall_max_s:
            await self._release(runs)
        elif now_s - self._renewed_s >= self._renew_every_s:
            await self._renew(runs)
            self._renewed_s = now_s

    async def _renew(self, runs: Sequence[HeldRun]) -> None:
        alive = await self._leases.renew_runs(
            [(held.channel, held.run_id, held.holder) for held in runs], self._parts.lease_ms
        )
        for held, is_alive in zip(runs, alive, strict=True):
            if not is_alive:
                self._loop.call_soon_threadsafe(self._lapsed, held)

    async def _release(self, runs: Sequence[HeldRun]) -> None:
        if self._is_released:
            return
        blocker, _ = self._blocker(runs)
        reason = f"{blocker} blocked its worker for {self._stall_max_s:g} s"
        for held in runs:
            await self._leases.release_run(held.channel, held.run_id, held.holder, reason)
        self._is_released = True
        _log.error("%s; its runs are left to other workers", reason)

    def _blocker(self, runs: Sequence[HeldRun]) -> tuple[str, str]:
        """The agent whose task the loop is running, and the source line it is at."""
        task = asyncio.current_task(self._loop)
        name = "" if task is None else task.get_name()
        agents = sorted({held.agent for held in runs if held.run_id in name} or {held.agent for held in runs})
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - documented; there is no other way to see it
        place = "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if not agents:
            return "something", place
        return f"the agent {agents[0]}" if len(agents) == 1 else f"one of the agents {', '.join(agents)}", place

    # Called in the event loop of the runs

    def _pulse(self) -> None:
        self._pulse_s = monotonic()
        self._is_told = self._is_released = False

    def _lapsed(self, held: HeldRun) -> None:
        task = self._loop.create_task(self._retake(held), name=f"retake {held.run_id}")
        self._retaking.add(task)
        task.add_done_callback(self._retaking.discard)

    async def _retake(self, held: HeldRun) -> None:
        try:
            await self._held_runs.retake(held)
        except LogUnavailable as error:  # the next renewal finds it expired and tries again
            _log.warning("the lease of run %s has ended and cannot be taken again yet: %s", held.run_id, error)
