"""A page of events as on the wire, for readers that pass events on and do not look into them. Pure."""

from __future__ import annotations

from typing import NamedTuple

from streams.envelope import Entry, unbroken, until_damage


class WirePage(NamedTuple):
    """Events that were read together, oldest first: seqs in a row, up to a hole or a damaged event.

    Attributes:
        first_seq: seq of the first event, which has no line if it is damaged; 0 if nothing was read.
        last_id: the ID of the last line; "" without lines.
        lines: the events.
        read_count: number of events read, those after a hole included.
    """

    first_seq: int
    last_id: str
    lines: list[bytes]
    read_count: int

    @classmethod
    def of(cls, entries: list[Entry], channel: bytes) -> WirePage:
        """The page of these events of a channel, which is named by `kind:name`."""
        if not entries:
            return NO_EVENTS
        first_seq = entries[0].seq
        whole = unbroken(until_damage(entries), first_seq - 1)
        last_id = whole[-1].id.decode() if whole else ""
        return cls(first_seq, last_id, [entry.wire(channel) for entry in whole], len(entries))

    @property
    def last_seq(self) -> int:
        """Seq of the last line."""
        return self.first_seq + len(self.lines) - 1


NO_EVENTS = WirePage(0, "", [], 0)
