"""The partitions that a worker handles: leases with a limited lifetime, shared evenly among the running workers.

A channel's events are handled one at a time because its partition has one worker. A dead worker is replaced when its leases
expire.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final, Protocol

from streams.errors import LogUnavailable
from streams.records.leases import Leases

LIFE_MS: Final = 6_000
"""Lifetime of a partition's lease, and so the time that its work waits after its worker was killed. A shorter lease could
expire during a long garbage collection.
"""
RENEWALS: Final = 1 / 3
"""Fraction of its lifetime after which a lease is renewed: two renewals may fail before it is lost."""
_log = logging.getLogger(__name__)


class PartitionWorker(Protocol):
    """A part of the worker that works on its partitions: a group reader or the reaper."""

    async def take(self, partition: int, token: int) -> None:
        """Start working on a partition; `token` increases with each new worker."""

    async def leave(self, partition: int, *, is_lost: bool) -> None:
        """Stop working on a partition: at once if it was lost, otherwise after the work in progress."""


class Partitions:
    """Takes this worker's share of the partitions and renews the leases.

    Args:
        leases: the leases of this worker.
        count: the number of partitions.
        members: the parts of the worker that work on them.
        life_ms: lifetime of a lease; tests shorten it.
    """

    def __init__(self, leases: Leases, count: int, members: Sequence[PartitionWorker], life_ms: int = LIFE_MS) -> None:
        self._leases = leases
        self._count = count
        self._members = members
        self._life_ms = life_ms
        self._first = hash(leases.worker) % count  # workers start at different partitions, so that they collide less
        self._is_closing = False
        self._turning = asyncio.Lock()
        self.held: dict[int, int] = {}
        self.settled = asyncio.Event()
        """Set once this worker has tried to take its share for the first time."""

    @property
    def every_s(self) -> float:
        """The interval between two turns, in seconds."""
        return self._life_ms / 1000 * RENEWALS

    async def turn(self) -> None:
        """Renew the held partitions and take those missing from the share; does nothing after `close`.

        Raises:
            LogUnavailable: Redis is unreachable; leases may have expired.
        """
        async with self._turning:
            if not self._is_closing:
                await self._turn()

    async def close(self) -> None:
        """Finish the work in progress and release every partition, so that other workers need not wait."""
        self._is_closing = True
        with contextlib.suppress(LogUnavailable):
            async with self._turning:  # otherwise a running turn would take back the partitions released here
                await self._leases.sign_out()
                await _all(map(self._release, list(self.held)))

    async def _turn(self) -> None:
        failure: LogUnavailable | None = None
        workers = 0
        try:
            workers = await self._leases.sign_in(self._life_ms)
        except LogUnavailable as error:  # in a Cluster the partitions may be on servers that can be reached
            failure = error
        for partition, token in list(self.held.items()):
            try:
                is_held = await self._leases.renew_partition(partition, self._life_ms) == token
            except LogUnavailable as error:
                failure = error
                continue
            if not is_held:
                _log.warning("partition %d was taken over", partition)
                del self.held[partition]
                await self._notify_left(partition, is_lost=True)
        if workers:
            share = -(-self._count // workers)
            await _all(map(self._release, list(self.held)[share:]))
            await self._fill(share)
            self.settled.set()
        if failure is not None:
            raise failure

    async def _fill(self, share: int) -> None:
        failure: Exception | None = None
        for step in range(self._count):
            partition = (self._first + step) % self._count
            if len(self.held) >= share:
                break
            if partition in self.held:
                continue
            try:
                if token := await self._leases.acquire_partition(partition, self._life_ms):
                    await self._take(partition, token)
            except Exception as error:  # an error in one partition must not hold up the others
                failure = error
        if failure is not None:
            raise failure

    async def _take(self, partition: int, token: int) -> None:
        self.held[partition] = token
        try:
            await _all(member.take(partition, token) for member in self._members)
        except BaseException:
            del self.held[partition]  # only some members have taken it: the next turn tries again
            await self._notify_left(partition, is_lost=True)
            with contextlib.suppress(LogUnavailable):  # the lease then expires by itself
                await self._leases.release_partition(partition)
            raise

    async def _notify_left(self, partition: int, *, is_lost: bool) -> None:
        await _all(member.leave(partition, is_lost=is_lost) for member in self._members)

    async def _release(self, partition: int) -> None:
        del self.held[partition]
        await self._notify_left(partition, is_lost=False)
        await self._leases.release_partition(partition)


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Wait until all have ended, and only then raise the first failure, so that nothing continues in the background."""
    ends = await asyncio.gather(*works, return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end
