"""Leases: one holder at a time, for a while, with a token that rises with each new holder.

A partition's lease says which worker handles its work, a run's which worker writes the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from streams.channel import Channel
from streams.records.scripts import load
from streams.redis.calls import Calls
from streams.redis.keys import WORKERS
from streams.redis.log import Log

_LEASE: Final = load("lease")
_PROCESS_LEASE: Final = load("process_lease")


class Leases:
    """The leases of one worker.

    Args:
        worker: its name; a lease is held by name and may be taken again by the same name.
    """

    def __init__(self, log: Log, worker: str) -> None:
        self._log = log
        self._keys = log.keys
        self._workers = log.calls_at(WORKERS)
        self.worker = worker

    async def acquire_partition(self, partition: int, life_ms: int) -> int:
        """Take the partition if it is free. Returns the fencing token, 0 when another worker has it."""
        return await self._run(
            self._log.calls_in(partition), self._keys.lease(partition), "acquire", self.worker, life_ms, ""
        )

    async def renew_partition(self, partition: int, life_ms: int) -> int:
        """Renew the partition's lease. Returns the token, 0 when another worker has taken it."""
        return await self._run(
            self._log.calls_in(partition), self._keys.lease(partition), "renew", self.worker, life_ms, ""
        )

    async def release_partition(self, partition: int) -> None:
        """Release the partition, so that another worker need not wait for the lease to end."""
        await self._run(self._log.calls_in(partition), self._keys.lease(partition), "release", self.worker, 0, "")

    async def acquire_run(self, channel: Channel, run_id: str, holder: str, life_ms: int) -> bool:
        """Take a run's lease if it is free."""
        calls, key = self._log.calls_of(channel), self._keys.run_lease(channel, run_id)
        return await self._run(calls, key, "acquire", holder, life_ms, "1") > 0

    async def release_run(self, channel: Channel, run_id: str, holder: str) -> None:
        """Release a run's lease."""
        calls, key = self._log.calls_of(channel), self._keys.run_lease(channel, run_id)
        await self._run(calls, key, "release", holder, 0, "1")

    async def renew_runs(self, held: Sequence[tuple[Channel, str, str]], life_ms: int) -> list[bool]:
        """Renew the leases of several runs (channel, run id, holder) in one round trip. False for each that was lost.

        A lease that ended without a successor is taken again: the run's hash decides who may append, not the lease.
        """
        return list(await asyncio.gather(*(self.acquire_run(*one, life_ms) for one in held)))  # pipelined by the wire

    async def is_run_alive(self, channel: Channel, run_id: str) -> bool:
        """True while some worker holds the run's lease."""
        calls, key = self._log.calls_of(channel), self._keys.run_lease(channel, run_id)
        return await self._run(calls, key, "look", "", 0, "1") > 0

    async def sign_in(self, life_ms: int) -> int:
        """Renew this worker's own lease. Returns the number of living workers, this one included."""
        _, living = await self._workers.run(_PROCESS_LEASE, (WORKERS,), self.worker, life_ms, "drop")
        return int(living)

    async def sign_out(self) -> None:
        """End this worker's own lease, so that the others take over at once."""
        await self._workers.call("ZREM", WORKERS, self.worker)

    async def _run(self, calls: Calls, key: bytes, operation: str, holder: str, life_ms: int, is_passing: str) -> int:
        return int(await calls.run(_LEASE, (key,), operation, holder, life_ms, is_passing))
