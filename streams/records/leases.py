"""Leases: each has one holder for a limited time, and a token that increases with each new holder.

A partition's lease determines which worker handles its work; a run's lease determines which worker writes its answer.
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
from streams.redis.partition_calls import PartitionCalls

_LEASE: Final = load("lease")
_PROCESS_LEASE: Final = load("process_lease")


class Leases:
    """The leases of one worker.

    Args:
        worker: its name. A lease is held by name, so a worker with the same name may take it again.
        run_calls: the calls for leases of runs, if another thread makes them; by default the log's own.
    """

    def __init__(self, log: Log, worker: str, run_calls: PartitionCalls | None = None) -> None:
        self._log = log
        self._run_calls = run_calls
        self._keys = log.keys
        self._workers = log.calls_at(WORKERS)
        self.worker = worker

    async def acquire_partition(self, partition: int, life_ms: int) -> int:
        """Take the partition's lease if it is free. Returns the fencing token, or 0 if another worker holds it."""
        return await self._run(
            self._log.calls_in(partition), self._keys.lease(partition), "acquire", self.worker, life_ms, ""
        )

    async def renew_partition(self, partition: int, life_ms: int) -> int:
        """Renew the partition's lease. Returns the token, or 0 if another worker has taken it."""
        return await self._run(
            self._log.calls_in(partition), self._keys.lease(partition), "renew", self.worker, life_ms, ""
        )

    async def release_partition(self, partition: int) -> None:
        """Release the partition's lease, so that another worker need not wait for it to expire."""
        await self._run(self._log.calls_in(partition), self._keys.lease(partition), "release", self.worker, 0, "")

    async def acquire_run(self, channel: Channel, run_id: str, holder: str, life_ms: int) -> bool:
        """Take a run's lease if it is free; true on success."""
        return await self._run_of(channel, run_id, "acquire", holder, life_ms) > 0

    async def release_run(self, channel: Channel, run_id: str, holder: str, reason: str = "") -> None:
        """Release a run's lease. `reason`, if given, is stored for the next holder."""
        await self._run_of(channel, run_id, "release", holder, 0, reason)

    async def renew_runs(self, held: Sequence[tuple[Channel, str, str]], life_ms: int) -> list[bool]:
        """Renew the leases of several runs (channel, run ID, holder) in one round trip. False for each that has ended."""
        renewals = (self._run_of(channel, run_id, "renew", holder, life_ms) for channel, run_id, holder in held)
        return [token > 0 for token in await asyncio.gather(*renewals)]  # the wire sends them as one pipeline

    async def is_run_alive(self, channel: Channel, run_id: str) -> bool:
        """True while a worker holds the run's lease."""
        return await self._run_of(channel, run_id, "look", "", 0) > 0

    async def release_reason(self, channel: Channel, run_id: str) -> str:
        """The reason stored when the run's lease was released; "" when there is none."""
        reason = await self._calls_of(channel).call("HGET", self._keys.run_lease(channel, run_id), "reason")
        return (reason or b"").decode()

    async def _run_of(
        self, channel: Channel, run_id: str, operation: str, holder: str, life_ms: int, reason: str = ""
    ) -> int:
        key = self._keys.run_lease(channel, run_id)
        return await self._run(self._calls_of(channel), key, operation, holder, life_ms, "1", reason)

    def _calls_of(self, channel: Channel) -> Calls:
        if self._run_calls is None:
            return self._log.calls_of(channel)
        return self._run_calls.in_partition(self._keys.of(channel).partition)

    async def sign_in(self, life_ms: int) -> int:
        """Renew this worker's own lease. Returns the number of workers with a valid lease, including this one."""
        _, living, _ = await self._workers.run(_PROCESS_LEASE, (WORKERS,), self.worker, life_ms, "drop")
        return int(living)

    async def sign_out(self) -> None:
        """End this worker's own lease, so that other workers take over its partitions at once."""
        await self._workers.call("ZREM", WORKERS, self.worker)

    async def _run(
        self, calls: Calls, key: bytes, operation: str, holder: str, life_ms: int, is_passing: str, reason: str = ""
    ) -> int:
        return int(await calls.run(_LEASE, (key,), operation, holder, life_ms, is_passing, reason))
