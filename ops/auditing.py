"""Whether a channel's stream holds every event from its floor to its head, once and in order. Pure.

It looks at IDs and sequence numbers. Not here: a hash chain, which archived events will need; nothing is archived yet.
"""

from __future__ import annotations

from typing import Any, Final

from streams.ids import id_order

FAULTS_TOLD_MAX: Final = 100
"""A broken stream may be broken at every event; the first of them say where to look."""


class Audit:
    """Takes events in the order of the stream.

    Args:
        channel: as on the wire.
        epoch: the life of the stream that is looked at.
        floor_seq: the last event that was trimmed; 0 when none was.

    Attributes:
        faults: what is wrong, in sentences.
    """

    def __init__(self, channel: str, epoch: str, floor_seq: int) -> None:
        self.faults: list[str] = []
        self._channel, self._epoch = channel, epoch
        self._first_seq = self._seq = floor_seq
        self._id = "0"
        self._count = 0

    def take(self, event_id: str, seq: int) -> None:
        """The next event."""
        if id_order(event_id) <= id_order(self._id):
            self._blame(f"event {event_id} stands behind {self._id}")
        if seq != self._seq + 1:
            self._blame(f"seq {seq} ({event_id}) follows {self._seq}")
        self._id, self._seq, self._count = event_id, seq, self._count + 1

    def end(self, head_seq: int) -> None:
        """There are no more; the channel says its last event has `head_seq`, or a later one by now."""
        if self._seq < head_seq:
            self._blame(f"the head is {head_seq}, the last event {self._seq}")

    def to_json(self) -> dict[str, Any]:
        """The report: how many events, which range, what is wrong."""
        return {
            "channel": self._channel, "epoch": self._epoch, "events": self._count, "from_seq": self._first_seq + 1,
            "to_seq": self._seq, "whole": not self.faults, "faults": self.faults,
        }  # fmt: skip

    def _blame(self, fault: str) -> None:
        if len(self.faults) < FAULTS_TOLD_MAX:
            self.faults.append(fault)
