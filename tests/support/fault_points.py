"""A worker in the test's event loop that stops at a fault point as if it were killed there; nothing later in it is executed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from consumers.worker import Worker, WorkerOptions
from streams.redis.log import Log
from support.consumer_rig import KillAt, Killed


class FrozenAt(KillAt):
    """A fault point at which the worker stops for ever; call `abandon` on the worker then."""

    def hit(self, point: str) -> None:
        if self.happened.is_set():
            raise Killed(point)  # a dead worker does nothing more at any point
        super().hit(point)


async def killed_at(point: str, options: WorkerOptions, log: Log) -> tuple[Worker, FrozenAt]:
    """Make a worker that dies the first time it reaches `point`."""
    fault = FrozenAt(point)
    worker = Worker(replace(options, faults=fault), log)
    await worker.start()
    return worker, fault


async def bury(worker: Worker, fault: FrozenAt, within_s: float = 30) -> None:
    """Wait until the worker has died, then clean it up."""
    async with asyncio.timeout(within_s):
        await fault.happened.wait()
    await worker.abandon()
