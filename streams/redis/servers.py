"""The map from partitions to servers: append, tail, replay, groups, records and leases all ask it where a key lives. Pure.

One server keeps every slot for now. A cluster gives each of its masters a range of slots, and nothing else changes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from streams.redis.keys import Keys, slot_of

S = TypeVar("S")


class Servers(Generic[S]):
    """The servers of a hub, by the slots they keep.

    Args:
        ranges: the first slot of each range and its server, from slot 0 upwards.

    Attributes:
        by_partition: the server that keeps each partition's keys.
    """

    def __init__(self, keys: Keys, ranges: Sequence[tuple[int, S]]) -> None:
        self._firsts = [first for first, _ in ranges]
        self._servers = [server for _, server in ranges]
        self.by_partition = tuple(self.keeping(keys.prefix(number)) for number in range(keys.partitions))

    def __iter__(self) -> Iterator[S]:
        return iter(dict.fromkeys(self._servers))

    def keeping(self, key: str | bytes) -> S:
        """The server that keeps this key."""
        return self._servers[bisect_right(self._firsts, slot_of(key)) - 1]
