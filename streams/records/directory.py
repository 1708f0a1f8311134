"""The directory of channels by tenant and kind: every channel that ever had an event, for quotas, listings and retention.

The append script writes it at a channel's first event, and then at most once a minute. So its size is bounded by the number of
channels, and a lost entry comes back with the channel's next event. A channel without a log is removed when it is next read.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from streams.channel import Channel, Kind
from streams.redis.calls import Calls
from streams.redis.keys import Keys
from streams.redis.wire import Argument, Reply

PAGE_MAX: Final = 1_000
"""Maximum number of channels in one answer: about 100 KB from Redis."""
_SPARE: Final = 16
"""Names requested from each partition beyond its even share, so that an uneven spread seldom costs a second round trip."""


class ListedChannel(NamedTuple):
    """A channel listed in the directory.

    Attributes:
        seq: the seq of its newest event; 0 in a log that has been started over.
        kept: number of its events that are still in the log.
        active_ms: the time of its last recorded activity, in milliseconds since 1970; up to a minute older than its newest
            event.
    """

    channel: Channel
    seq: int
    kept: int
    active_ms: int


class ListingLog(Protocol):
    """A log with a directory: `Log`, or `StoredLog`, which is only read."""

    @property
    def keys(self) -> Keys:
        """Builds the names of all keys."""
        ...

    def by_server(self) -> Iterable[tuple[Sequence[int], Calls]]:
        """The partitions of each server, and the calls to it."""
        ...


class ChannelDirectory:
    """Reads the directory. Every method raises LogUnavailable while Redis is unreachable.

    Args:
        log: the log.
        is_read_only: leaves channels without a log in the directory; they are not listed either way.
    """

    def __init__(self, log: ListingLog, *, is_read_only: bool = False) -> None:
        self._log = log
        self._keys = log.keys
        self._is_read_only = is_read_only

    async def channels(
        self, tenant: str, kind: Kind, *, prefix: str = "", after: str = "", limit: int = 100
    ) -> list[ListedChannel]:
        """List a tenant's channels of one kind, by name: those after `after` that begin with `prefix`.

        Returns at most `limit`, and never more than 1,000; a shorter result is the last page.
        """
        limit = min(limit, PAGE_MAX)
        found: list[ListedChannel] = []
        until: str | None = after
        while until is not None and len(found) < limit:
            names, until = await self._names(tenant, kind, prefix, until, limit - len(found))
            found += await self._living([Channel(tenant, kind, name) for name in names])
        return found[:limit]

    async def _names(
        self, tenant: str, kind: Kind, prefix: str, after: str, limit: int
    ) -> tuple[list[str], str | None]:
        """The next names, merged from all partitions, and the name up to which they are complete (None at the end).

        A partition that returned as many names as requested may have more right after its last one.
        """
        count = min(limit, 2 * limit // self._keys.partitions + _SPARE)
        start = f"({after}" if after and after >= prefix else f"[{prefix}" if prefix else "-"
        end = b"(" + prefix.encode() + b"\xff" if prefix else b"+"
        pages: list[list[str]] = []
        for partitions, calls in self._log.by_server():
            keys = [self._keys.directory(partition, tenant, kind) for partition in partitions]
            replies = await calls.pipeline([("ZRANGEBYLEX", key, start, end, "LIMIT", 0, count) for key in keys])
            pages += [[name.decode() for name in reply] for reply in replies]
        until = min((page[-1] for page in pages if len(page) == count), default=None)
        return [name for name in heapq.merge(*pages) if until is None or name <= until], until

    async def _living(self, channels: Sequence[Channel]) -> list[ListedChannel]:
        """The channels whose log still exists; the others are removed from the directory."""
        found: list[ListedChannel] = []
        for partitions, calls in self._log.by_server():
            here = [channel for channel in channels if self._keys.of(channel).partition in partitions]
            commands: list[tuple[Argument, ...]] = [
                ("HMGET", self._keys.of(c).meta, "seq", "floor_seq", "listed") for c in here
            ]
            listed = list(zip(here, await calls.pipeline(commands), strict=True))
            found += [_read(channel, *fields) for channel, fields in listed if fields[-1] is not None]
            if not self._is_read_only:
                await calls.pipeline([self._removal(channel) for channel, fields in listed if fields[-1] is None])
        return sorted(found, key=lambda one: one.channel.name)

    def _removal(self, channel: Channel) -> tuple[Argument, ...]:
        key = self._keys.directory(self._keys.of(channel).partition, channel.tenant, channel.kind)
        return ("ZREM", key, channel.name)


def _read(channel: Channel, seq: Reply, floor_seq: Reply, at: Reply) -> ListedChannel:
    return ListedChannel(channel, int(seq or 0), int(seq or 0) - int(floor_seq or 0), int(at))
