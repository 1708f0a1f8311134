"""Housekeeping of a worker: trims finished work, counts what is left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from consumers.groups.reader import GroupReader
from consumers.metrics import WorkerMetrics
from streams.ids import ms_of_id
from streams.redis.groups import Groups

TURN_S = 2.0
_log = logging.getLogger(__name__)


class Upkeep:
    """The housekeeping in one worker's partitions."""

    def __init__(
        self,
        groups: Groups,
        readers: Sequence[GroupReader],
        partitions: Callable[[], Iterable[int]],
        metrics: WorkerMetrics,
    ) -> None:
        self._groups, self._readers, self._partitions, self._metrics = groups, readers, partitions, metrics

    async def turn(self) -> None:
        """Trims, counts and reclaims once."""
        partitions = list(self._partitions())
        for partition in partitions:
            await self._groups.trim(partition)
        for reader in self._readers:
            await reader.reclaim_orphans()
            await self._count(reader.name, partitions)

    async def _count(self, name: str, partitions: Iterable[int]) -> None:
        total, oldest_ms = 0, None
        for partition in partitions:
            found = await self._groups.backlog(partition, name)
            total += found.unread + found.pending
            if found.oldest is not None:
                at_ms = ms_of_id(found.oldest)
                oldest_ms = at_ms if oldest_ms is None else min(oldest_ms, at_ms)
        self._metrics.backlog[name] = total
        self._metrics.oldest_s[name] = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
