"""Leases: one holder at a time, for a while, with a token that rises with each new holder.

Of partitions (who handles the work) and of runs (who writes the answer). What a lease is for is its user's business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from streams.channel import Channel
from streams.records.scripts import load
from streams.redis.calls import Calls
from streams.redis.keys import WORKERS
from streams.redis.log import Log

_LEASE: Final = load("lease")


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
        """Take the partition if it is free. Returns the fencing token, 0 when somebody else has it."""
        return await self._run(
            self._log.calls_in(partition), self._keys.lease(partition), "acquire", self.worker, life_ms, ""
        )

    async def renew_partition(self, partition: int, life_ms: int) -> int:
        """Keep the partition. Returns the token, 0 when somebody else took it meanwhile."""
        return await self._run(
            self._log.calls_in(partition), self._keys.lease(partition), "renew", self.worker, life_ms, ""
        )

    async def release_partition(self, partition: int) -> None:
        """Let the partition go, so that another worker need not wait for its end."""
        await self._run(self._log.calls_in(partition), self._keys.lease(partition), "release", self.worker, 0, "")

    async def acquire_run(self, channel: Channel, run_id: str, holder: str, life_ms: int) -> bool:
        """Take a run's lease if nobody lives on it."""
        calls, key = self._log.calls_of(channel), self._keys.run_lease(channel, run_id)
        return await self._run(calls, key, "acquire", holder, life_ms, "1") > 0

    async def release_run(self, channel: Channel, run_id: str, holder: str) -> None:
        """Let a run's lease go."""
        calls, key = self._log.calls_of(channel), self._keys.run_lease(channel, run_id)
        await self._run(calls, key, "release", holder, 0, "1")

    async def renew_runs(self, held: Sequence[tuple[Channel, str, str]], life_ms: int) -> list[bool]:
        """Keep several runs (channel, run id, holder), one round trip. False for each that was lost.

        A lease that ended without a successor is taken again: the run's hash decides who may append, not the lease.
        """
        return list(await asyncio.gather(*(self.acquire_run(*one, life_ms) for one in held)))  # pipelined by the wire

    async def is_run_alive(self, channel: Channel, run_id: str) -> bool:
        """Whether some worker still gives a sign of life for the run."""
        return bool(await self._log.calls_of(channel).call("EXISTS", self._keys.run_lease(channel, run_id)))

    async def sign_in(self, life_ms: int) -> int:
        """Give a sign of life as a worker. Returns how many workers live, this one included."""
        now_ms = int(time.time() * 1000)
        await self._workers.call("ZADD", WORKERS, now_ms + life_ms, self.worker)
        await self._workers.call("ZREMRANGEBYSCORE", WORKERS, 0, now_ms)
        return int(await self._workers.call("ZCARD", WORKERS))

    async def sign_out(self) -> None:
        """Leave the workers, so that the others take over at once."""
        await self._workers.call("ZREM", WORKERS, self.worker)

    async def _run(self, calls: Calls, key: bytes, operation: str, holder: str, life_ms: int, is_passing: str) -> int:
        return int(await calls.run(_LEASE, (key,), operation, holder, life_ms, is_passing))
