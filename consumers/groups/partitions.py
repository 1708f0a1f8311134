"""The partitions a worker handles: leases with a TTL, shared evenly among the live workers.

A channel's events are handled one at a time because its partition has one worker; a dead worker is replaced when its leases end.
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
"""Time a partition stands still after its worker was killed. A shorter lease could end during a long garbage collection."""
RENEWALS: Final = 1 / 3
"""The fraction of its life after which a lease is renewed: two renewals may fail before it is lost."""
_log = logging.getLogger(__name__)


class PartitionWorker(Protocol):
    """A part of the worker that works in its partitions: a group reader or the reaper."""

    async def take(self, partition: int, token: int) -> None:
        """Begins with a partition; its `token` rises with each new worker."""

    async def leave(self, partition: int, *, is_lost: bool) -> None:
        """Stops with a partition: at once if it was lost, else after the work under way."""


class Partitions:
    """Takes and keeps this worker's share of the partitions.

    Args:
        life_ms: life of a lease; tests shorten it.
    """

    def __init__(self, leases: Leases, count: int, members: Sequence[PartitionWorker], life_ms: int = LIFE_MS) -> None:
        self._leases = leases
        self._count = count
        self._members = members
        self._life_ms = life_ms
        self._first = hash(leases.worker) % count  # workers begin at different places and so collide less
        self._is_closing = False
        self._turning = asyncio.Lock()
        self.held: dict[int, int] = {}
        self.settled = asyncio.Event()
        """Set once this worker has tried to take its share for the first time."""

    @property
    def every_s(self) -> float:
        """The pause between two turns."""
        return self._life_ms / 1000 * RENEWALS

    async def turn(self) -> None:
        """Renews what is held and takes what is missing of the share; nothing after `close`.

        Raises:
            LogUnavailable: Redis is unreachable; leases may have ended.
        """
        async with self._turning:
            if not self._is_closing:
                await self._turn()

    async def close(self) -> None:
        """Finishes the work under way and gives up every partition, so that other workers need not wait."""
        self._is_closing = True
        with contextlib.suppress(LogUnavailable):
            async with self._turning:  # a turn under way would retake what is given up here
                await self._leases.sign_out()
                await _all(map(self._release, list(self.held)))

    async def _turn(self) -> None:
        workers = await self._leases.sign_in(self._life_ms)
        share = -(-self._count // max(1, workers))
        for partition, token in list(self.held.items()):
            if await self._leases.renew_partition(partition, self._life_ms) != token:
                _log.warning("partition %d was taken over", partition)
                del self.held[partition]
                await self._notify_left(partition, is_lost=True)
        await _all(map(self._release, list(self.held)[share:]))
        await self._fill(share)
        self.settled.set()

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
            except LogUnavailable:
                raise
            except Exception as error:  # what one partition refuses must not hold up the others
                failure = error
        if failure is not None:
            raise failure

    async def _take(self, partition: int, token: int) -> None:
        self.held[partition] = token
        try:
            await _all(member.take(partition, token) for member in self._members)
        except BaseException:
            del self.held[partition]  # half taken is not taken: the next turn tries again
            await self._notify_left(partition, is_lost=True)
            with contextlib.suppress(LogUnavailable):  # then the lease ends by itself
                await self._leases.release_partition(partition)
            raise

    async def _notify_left(self, partition: int, *, is_lost: bool) -> None:
        await _all(member.leave(partition, is_lost=is_lost) for member in self._members)

    async def _release(self, partition: int) -> None:
        del self.held[partition]
        await self._notify_left(partition, is_lost=False)
        await self._leases.release_partition(partition)


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Waits for the end of every one, and raises the first failure only then: nothing goes on behind the caller's back."""
    ends = await asyncio.gather(*works, return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end
