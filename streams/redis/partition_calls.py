"""Connections of one user to the servers of all partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from streams.redis.calls import Calls
from streams.redis.keys import Keys, slot_of
from streams.redis.locate import Locator


class PartitionCalls:
    """Calls over separate connections: one for all partitions, or in a Cluster one for each.

    Args:
        calls: the calls for each partition; the same object for all partitions that share a connection.
    """

    def __init__(self, calls: Sequence[Calls]) -> None:
        self._calls = calls

    @classmethod
    def at(cls, locator: Locator, keys: Keys, name: str) -> PartitionCalls:
        """Connections that are opened by the first call."""
        if not locator.is_cluster:
            return cls([Calls(partial(locator.open, name))] * keys.partitions)
        slots = (slot_of(keys.prefix(number)) for number in range(keys.partitions))
        return cls([Calls(partial(locator.open, name, slot)) for slot in slots])

    def in_partition(self, partition: int) -> Calls:
        """The calls to the server of a partition."""
        return self._calls[partition]

    def by_connection(self) -> Iterator[tuple[Sequence[int], Calls]]:
        """For each connection, its partitions and its calls."""
        for calls in dict.fromkeys(self._calls):
            yield [number for number, one in enumerate(self._calls) if one is calls], calls

    def close(self) -> None:
        """Close the connections."""
        for calls in dict.fromkeys(self._calls):
            calls.close()
