"""A worker in this loop that dies at one named place, as if it were killed there: nothing it would do then is done."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from consumers.worker import Worker, WorkerOptions
from streams.redis.log import Log
from support.consumer_rig import KillAt, Killed


class FrozenAt(KillAt):
    """Faults: at `point` the worker stands still for good; `abandon` it then."""

    def hit(self, point: str) -> None:
        if self.happened.is_set():
            raise Killed(point)  # a dead worker does nothing more, at any place
        super().hit(point)


async def killed_at(point: str, options: WorkerOptions, log: Log) -> tuple[Worker, FrozenAt]:
    """A worker that dies the first time it comes to `point`."""
    fault = FrozenAt(point)
    worker = Worker(replace(options, faults=fault), log)
    await worker.start()
    return worker, fault


async def bury(worker: Worker, fault: FrozenAt, within_s: float = 30) -> None:
    """Wait for the death, and take the body away."""
    async with asyncio.timeout(within_s):
        await fault.happened.wait()
    await worker.abandon()
