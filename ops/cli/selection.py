"""The selection of a channel's events by time and type, and the search for events that are missing from it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from ops.cli.failure import EXIT_USAGE, CommandFailed
from ops.cli.options import event_id, milliseconds
from streams.archive.cold import is_before
from streams.audit.sources import HistoryExtent, HistorySource
from streams.channel import Channel
from streams.cursor import START, Position
from streams.envelope import Entry
from streams.redis.deleted import Deletion

_LAST_OF_MS: Final = 2**64 - 1
"""The largest sequence number of a stream ID; the next ID belongs to the next millisecond."""
TOLD_MAX: Final = 100
"""Maximum number of sentences about missing events; the first ones show where to look."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The events to print: after a cursor, up to a stream ID (inclusive), of some types."""

    after: str
    upto: str
    types: tuple[str, ...]

    def takes(self, entry: Entry) -> bool:
        """True if the event's type is selected; `*` matches any text."""
        return not self.types or any(fnmatchcase(entry.type.decode(), pattern) for pattern in self.types)


def selection_of(after: str, from_time: str, to_time: str, types: str) -> Selection:
    """Parse the options of a selection.

    Raises:
        CommandFailed: one of them is malformed, or both `after` and `from_time` are given.
    """
    return Selection(_begin(after, from_time), _end(to_time), tuple(filter(None, types.split(","))))


async def selected(source: HistorySource, channel: Channel, wanted: Selection, holes: Holes) -> AsyncIterator[Entry]:
    """The selected events in order; `holes` is told of all that was read.

    Raises:
        ChannelUnverified: the source does not know the channel.
    """
    extent = await source.extent(channel)
    holes.begin(channel, wanted, extent)
    after = wanted.after
    while page := await source.page(channel, after, wanted.upto):
        for entry in page:
            holes.take(entry)
            if not entry.is_damaged and wanted.takes(entry):
                yield entry
        after = page[-1].id.decode()
    holes.end()


class Holes:
    """Finds the places where events are missing from a selection.

    Attributes:
        told: the first sentences about them, which are printed as they are found.
        deleted: sentences about channels that were deleted and not written since, printed as well.
        unread_count: number of events that are recorded, but not in the archive that is read alone.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.deleted: list[str] = []
        self.unread_count = 0
        self._seq: int | None = None
        self._extent = HistoryExtent(Position(START, 0), 0, 0)
        self._name = ""
        self._is_to_end = True

    def begin(self, channel: Channel, wanted: Selection, extent: HistoryExtent) -> None:
        """Start with a channel; events up to the extent's `removed` are gone."""
        self._extent, self._name, self._is_to_end, self._seq = extent, channel.wire, wanted.upto == "+", None
        if (deletion := extent.deletion) is not None:
            self._tell_deletion(deletion, is_ended=extent.is_ended)
        removed = extent.removed
        if removed.seq and is_before(wanted.after, removed.id):
            self._tell(f"events up to seq {removed.seq} ({removed.id}) were removed; it begins after them")
            self._seq = removed.seq
        elif wanted.after == START:
            self._seq = 0

    def take(self, entry: Entry) -> None:
        """Look at the next event."""
        if self._seq is not None and entry.seq > self._seq + 1:
            self._tell(f"seq {self._seq + 1} to {entry.seq - 1} are missing before event {entry.id.decode()}")
        if entry.is_damaged:
            self._tell(f"skipped: event {entry.id.decode()} (seq {entry.seq}) is damaged, or its segment is missing")
        self._seq = entry.seq

    def end(self) -> None:
        """Look at what should have followed the last event."""
        extent = self._extent
        if self._is_to_end and self._seq is not None and self._seq < extent.head_seq:
            self._tell(f"seq {self._seq + 1} to {extent.head_seq} are missing at the end")
        if self._is_to_end and extent.recorded_seq > extent.head_seq:
            self.unread_count += extent.recorded_seq - extent.head_seq
            where = "not in the archive" if extent.is_ended else "not yet in the archive"
            told = f"seq {extent.head_seq + 1} to {extent.recorded_seq} are recorded, but {where}"
            print(f"{self._name}: {told}", file=sys.stderr)

    @property
    def is_whole(self) -> bool:
        """True if everything is there that was ever recorded in the present lives of the channels."""
        return not (self.told or self.deleted or self.unread_count)

    def _tell_deletion(self, deletion: Deletion, *, is_ended: bool) -> None:
        if not is_ended:
            print(
                f"{self._name}: an earlier history of this name was {deletion.told}; it is not part of this",
                file=sys.stderr,
            )
            return
        self.deleted.append(f"{self._name} was {deletion.told}")
        print(
            f"{self.deleted[-1]}; `hub audit export --archive-only` writes what the archive has of it", file=sys.stderr
        )

    def _tell(self, sentence: str) -> None:
        if len(self.told) < TOLD_MAX:
            self.told.append(f"{self._name}: {sentence}")
            print(self.told[-1], file=sys.stderr)


def _begin(after: str, from_time: str) -> str:
    if not from_time:
        return event_id(after, "--after")
    if after != START:
        raise CommandFailed("use --after or --from, not both", EXIT_USAGE)
    return f"{max(milliseconds(from_time, '--from') - 1, 0)}-{_LAST_OF_MS}"


def _end(to_time: str) -> str:
    return str(milliseconds(to_time, "--to")) if to_time else "+"
