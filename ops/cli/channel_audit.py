"""The audit of a channel: its events compared with its record."""

from __future__ import annotations

from typing import Any, Final

from ops.cli.failure import CommandFailed
from ops.cli.log_access import record_of
from streams.channel import Channel
from streams.cursor import id_order
from streams.redis.stored import ChannelRecord, StoredLog

FAULTS_TOLD_MAX: Final = 100
"""Maximum number of errors reported. A broken stream may have one at every event, and the first ones show where to look."""

COVERS: Final = (
    "epoch, seq, floor, the order of ids, and the bytes of each event that has a checksum; "
    "not an id changed so that the order stays, nor the records beside the log"
)
ATTEMPTS_MAX: Final = 3
"""Maximum number of checks of a channel that is trimmed during each; every check starts over."""


async def verify_log(log: StoredLog, channel: Channel) -> Audit:
    """Audit a channel.

    Raises:
        CommandFailed: there is no such channel, or it was trimmed during every attempt.
    """
    for _ in range(ATTEMPTS_MAX):
        before, unchecked_before = await record_of(log, channel), log.unchecked_count
        found = Audit(channel.wire, before)
        after = "0"
        while page := await log.hot_page(channel, after):
            for entry in page:
                found.take(entry.id.decode(), int(entry.seq), is_damaged=entry.is_damaged)
            after = page[-1].id.decode()
        now = await log.record(channel)
        found.end(now.seq, log.unchecked_count - unchecked_before)
        if (now.floor, now.epoch) == (before.floor, before.epoch):
            return found
    raise CommandFailed(f"{channel.wire} was trimmed during each of {ATTEMPTS_MAX} checks; verify it again")


class Audit:
    """Compares a channel's events with its record; takes them in the order of the stream.

    Args:
        channel: the channel in wire form.
        record: the record as it was before the first event was read.

    Attributes:
        faults: the errors found, as sentences.
        first_bad_seq: the seq of the first error; None if there is none.
    """

    def __init__(self, channel: str, record: ChannelRecord) -> None:
        self.faults: list[str] = []
        self.first_bad_seq: int | None = None
        self._channel, self._record = channel, record
        self._first_seq = self._seq = record.floor.seq
        self._id = record.floor.id
        self._count = self._unchecked_count = 0
        if record.epoch is None:
            rest = "its events are gone too" if record.last_id is None else "events are there"
            self._add_fault(1, f"the record of epoch, seq and floor is gone; {rest}")
        elif record.first_epoch not in {None, record.epoch}:
            told = f"epoch {record.epoch} is not the first ({record.first_epoch}): its stream or its record was lost before"
            self._add_fault(1, told)

    def take(self, event_id: str, seq: int, *, is_damaged: bool = False) -> None:
        """Check the next event."""
        if is_damaged:
            self._add_fault(seq, f"event {event_id} is damaged: its bytes do not match their checksum")
        if id_order(event_id) <= id_order(self._id):
            self._add_fault(seq, f"event {event_id} comes after {self._id}")
        if seq != self._seq + 1:
            self._add_fault(self._seq + 1, f"seq {seq} ({event_id}) follows {self._seq}")
        self._id, self._seq, self._count = event_id, seq, self._count + 1

    def end(self, seq_now: int, unchecked_count: int = 0) -> None:
        """Finish the check; `seq_now` is the recorded seq after the last event was read."""
        self._unchecked_count = unchecked_count
        if self._seq < self._record.seq:
            self._add_fault(self._seq + 1, f"the head is {self._record.seq}, but the last event is {self._seq}")
        elif self._record.epoch is not None and self._seq > seq_now:
            self._add_fault(seq_now + 1, f"the head is {seq_now}, but there are events up to {self._seq}")
        elif self._record.last_id is not None and id_order(self._id) < id_order(self._record.last_id):
            self._add_fault(
                self._seq + 1, f"the stream last assigned the id {self._record.last_id}, the last event is {self._id}"
            )

    def to_json(self) -> dict[str, Any]:
        """The report: number of events, range, errors."""
        return {
            "channel": self._channel,
            "epoch": self._record.epoch,
            "events": self._count,
            "from_seq": self._first_seq + 1,
            "to_seq": self._seq,
            "whole": not self.faults,
            "first_bad_seq": self.first_bad_seq,
            "faults": self.faults,
            "without_checksum": self._unchecked_count,
            "covers": COVERS,
        }

    def _add_fault(self, seq: int, fault: str) -> None:
        self.first_bad_seq = seq if self.first_bad_seq is None else min(seq, self.first_bad_seq)
        if len(self.faults) < FAULTS_TOLD_MAX:
            self.faults.append(fault)
