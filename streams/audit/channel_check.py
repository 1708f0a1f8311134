"""The audit of a channel: its events compared with its record in Redis and with its archive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from streams.archive.heads import Head
from streams.archive.objects import ArchiveObjects
from streams.audit.archive_check import ArchiveCheck, ArchiveReport, HeadRecord
from streams.audit.deletion_records import DeletionRecords, RecordedDeletion, record_in
from streams.channel import Channel, Kind
from streams.cursor import START, id_order
from streams.envelope import Entry
from streams.errors import ChannelUnverified
from streams.records.deletions import deletions_of, recorded_deletion
from streams.redis.deleted import Deletion
from streams.redis.stored import ChannelRecord, StoredLog
from streams.times import rfc3339

if TYPE_CHECKING:
    from streams.audit.stamp_check import StampRecord

FAULTS_TOLD_MAX: Final = 100
"""Maximum number of errors reported. A broken stream may have one at every event, and the first ones show where to look."""

COVERS: Final = (
    "epoch, seq, floor, the order of ids, and the bytes of each event that has a checksum; "
    "not an id changed so that the order stays, nor the records beside the log"
)
COVERS_ARCHIVE: Final = (
    "all of that, and each event up to `covered_to_seq` against its leaf in a tree whose root is under a signed checkpoint; "
    "not newer events that were changed together with their checksum, nor the records beside the log"
)
COVERS_ALONE: Final = (
    "each event in the archive, against its leaf in a tree whose root is under a signed checkpoint, and the deletions that the "
    "archive has; not what was written or deleted after the newest checkpoint"
)
ATTEMPTS_MAX: Final = 3
"""Maximum number of checks of a channel that is trimmed during each; every check starts over."""


@dataclass(frozen=True, slots=True)
class ArchiveEvidence:
    """The archive, and a tenant's log of heads as it was verified.

    Attributes:
        again: reads the log of heads again, which may have grown.
        stamps: the tenant's stamps as they were verified; None if that was not asked for.
    """

    objects: ArchiveObjects
    record: HeadRecord
    again: Callable[[], Awaitable[HeadRecord]]
    stamps: StampRecord | None = None

    @property
    def faults(self) -> Sequence[str]:
        """The faults of the log of heads and of the stamps."""
        return (*self.record.faults, *(self.stamps.faults if self.stamps else ()))

    def heads_of(self, channel: Channel) -> Sequence[Head]:
        """The heads of a channel, oldest first."""
        return self.record.heads.get(channel.path, ())

    async def upto(self, channel: Channel, covered_seq: int) -> ArchiveEvidence:
        """This evidence; read again if checkpoints may have been added since, which cover the channel up to this seq."""
        heads = self.heads_of(channel)
        if heads and heads[-1].begin + heads[-1].size >= covered_seq:
            return self
        return replace(self, record=await self.again()) if covered_seq else self


def recorded_deletions(log: StoredLog | None, tenant: str, evidence: ArchiveEvidence | None) -> DeletionRecords:
    """The deletions of a tenant that are on record in the log and in the archive."""
    if evidence is None:
        return DeletionRecords(tenant, log)
    return DeletionRecords(tenant, log, evidence.objects, evidence.heads_of(deletions_of(tenant)))


async def verify_log(
    log: StoredLog,
    channel: Channel,
    evidence: ArchiveEvidence | None = None,
    deletions: DeletionRecords | None = None,
) -> Audit:
    """Audit a channel; `deletions` are those of its tenant, where they are read once for several channels.

    Raises:
        ChannelUnverified: neither Redis nor the archive knows the channel, or it was trimmed during every attempt.
    """
    deletions = deletions or recorded_deletions(log, channel.tenant, evidence)
    for _ in range(ATTEMPTS_MAX):
        before, unchecked_before = await log.record(channel), log.unchecked_count
        if evidence is not None:
            evidence, before = await evidence.upto(channel, before.covered.seq), await log.record(channel)
        heads = evidence.heads_of(channel) if evidence else ()
        if not before.is_known and not heads:
            raise ChannelUnverified(f"no such channel: {channel.wire} of tenant {channel.tenant}")
        deletion, recorded = await _last_deletion(log, channel, before, heads, deletions)
        if deletion is not None and not before.seq:
            found = Audit(channel, None)
            found.take_deletion(deletion, recorded)
            if evidence is not None:
                await found.take_archive(evidence, [one for one in heads if one.epoch == deletion.epoch])
            return found
        is_first = bool(heads) and heads[0].begin == 0 and all(one.epoch == before.epoch for one in heads)
        found = Audit(channel, before, deletion if recorded else None, is_first=is_first)
        if evidence is not None:
            await found.take_archive(evidence, heads)
        else:
            found.miss_archive()
        after = START
        while page := await log.hot_page(channel, after):
            for entry in page:
                found.take(entry)
            after = page[-1].id.decode()
        now = await log.record(channel)
        found.end(now.seq, log.unchecked_count - unchecked_before)
        if (now.floor, now.epoch, now.mark.removed) == (before.floor, before.epoch, before.mark.removed):
            return found
    raise ChannelUnverified(f"{channel.wire} was trimmed during each of {ATTEMPTS_MAX} checks; verify it again")


async def _last_deletion(
    log: StoredLog, channel: Channel, record: ChannelRecord, heads: Sequence[Head], deletions: DeletionRecords
) -> tuple[Deletion | None, RecordedDeletion | None]:
    """The last deletion of a channel, and its record; after a restore there is no mark in Redis, and the record alone tells."""
    if record.deletion is not None:
        near = await recorded_deletion(log, channel, record.deletion)  # where it should be: the others need not be read
        found = record_in(near)[1] if near else await deletions.of(channel, record.deletion.epoch)
        return record.deletion, found
    if not heads or heads[-1].epoch == record.epoch:
        return None, None
    found = await deletions.of(channel, heads[-1].epoch)
    return (found.deletion, found) if found else (None, None)


async def verify_archive(channel: Channel, evidence: ArchiveEvidence, deletions: DeletionRecords) -> Audit:
    """Audit a channel in an archive alone, without any Redis; `deletions` are those of its tenant in this archive.

    Raises:
        ChannelUnverified: the archive does not know the channel.
    """
    heads = evidence.heads_of(channel)
    if not heads:
        raise ChannelUnverified(f"no such channel in the archive: {channel.wire} of tenant {channel.tenant}")
    ended, last = await deletions.of(channel, heads[-1].epoch), await deletions.last_of(channel)
    found = Audit(channel, None, last.deletion if last else None)
    if ended is not None:
        found.take_deletion(ended.deletion, ended)
    await found.take_archive(evidence, [one for one in heads if one.epoch == heads[-1].epoch])
    await found.take_alone(deletions)
    return found


class Audit:
    """Compares a channel's events with its record; takes them in the order of the stream.

    Args:
        channel: the channel.
        record: the record as it was before the first event was read; None without a Redis.
        deletion: the deletion before this life of the channel, if it is on record.
        is_first: the archive knows the epoch from its first event, and no other; so it is after a restore from the archive.

    Attributes:
        faults: the errors found, as sentences.
        first_bad_seq: the seq of the first error; None if there is none.
        unknown: what an archive alone cannot tell of this channel, as sentences.
    """

    def __init__(
        self,
        channel: Channel,
        record: ChannelRecord | None,
        deletion: Deletion | None = None,
        *,
        is_first: bool = False,
    ) -> None:
        self.faults: list[str] = []
        self.first_bad_seq: int | None = None
        self.unknown: list[str] = []
        self._channel, self._record, self._before = channel, record, deletion
        self._ended: Deletion | None = None
        self._known: dict[str, Any] | None = None
        self._deleted: dict[str, Any] | None = None
        self._first_seq = self._seq = record.floor.seq if record else 0
        self._id = record.floor.id if record else START
        self._count = self._hot_only_count = self._unchecked_count = 0
        self._archive: ArchiveCheck | None = None
        self._evidence: ArchiveEvidence | None = None
        if record is None:
            return
        if record.epoch is None:
            rest = "its events are gone too" if record.last_id is None else "events are there"
            self._add_fault(1, f"the record of epoch, seq and floor is gone; {rest}")
        elif record.first_epoch not in {None, record.epoch} and deletion is None and not is_first:
            told = f"epoch {record.epoch} is not the first ({record.first_epoch}): its stream or its record was lost before"
            self._add_fault(1, told)

    def miss_archive(self) -> None:
        """Add a fault if the record names archived events, which cannot be checked without the archive."""
        if self._record is not None and self._record.mark.number:
            mark = self._record.mark
            told = f"events up to seq {mark.upto.seq} were archived, but there is no archive here; see --data and S3_BUCKET"
            self._add_fault(mark.removed.seq + 1, told)

    async def take_archive(self, evidence: ArchiveEvidence, heads: Sequence[Head]) -> None:
        """Check the archive of the channel's epoch; without a record, that of the newest epoch that a head names."""
        record = self._record
        for fault in evidence.faults:
            self._add_fault(1, fault)
        epoch = record.epoch if record and record.epoch else heads[-1].epoch if heads else None
        if epoch is None:
            return
        self._evidence = evidence
        self._archive = check = ArchiveCheck(evidence.objects, self._channel, epoch, heads)
        if (anew := await check.begun_anew()) is not None:
            self._add_fault(check.begin + 1, anew)
        await check.run(record.mark.number if record else 0, self._add_fault)
        if check.unproved and not check.is_proved_by((await evidence.again()).heads.get(self._channel.path, ())):
            for one in check.unproved:
                told = f"segment {one.name} is missing: a manifest says that a policy removed it, but no checkpoint covers that"
                self._add_fault(one.first_seq, told)
        if heads and heads[-1].epoch != epoch and not (self._before and self._before.epoch == heads[-1].epoch):
            lost = heads[-1]
            told = f"{lost.size} events of epoch {lost.epoch} are recorded, but the channel began anew: its stream was deleted"
            self._add_fault(lost.begin + 1, told)
        if record is not None:
            self._compare_record(record, check)

    def _compare_record(self, record: ChannelRecord, check: ArchiveCheck) -> None:
        covered, begin = check.recorded_to_seq, check.begin
        if record.covered.seq > covered:
            told = f"{record.covered.seq} events were under a checkpoint, the log of heads names {covered}: it was rolled back"
            self._add_fault(covered + 1, told)
        if covered > record.seq:
            found = "0 found" if record.last_id is None else f"the record names {record.seq}"
            self._add_fault(record.seq + 1, f"{covered - begin} events recorded under a checkpoint, {found} in Redis")
        if (changed := check.fault_of_mark(record.mark)) is not None:
            self._add_fault(begin + 1, changed)
        archived = check.report.archived_to_seq
        if record.floor.seq > max(archived, begin) and covered:
            told = f"events up to seq {record.floor.seq} were trimmed, but the archive ends with seq {max(archived, begin)}"
            self._add_fault(max(archived, begin) + 1, told)
        elif record.floor.seq > max(record.mark.upto.seq, begin) and covered:
            told = f"events up to seq {record.floor.seq} were trimmed, but the record in Redis names {record.mark.upto.seq}"
            changed = "its field `archive` was removed or changed, so readers do not get them"
            self._add_fault(begin + 1, f"{told} as archived: {changed}")

    def take_deletion(self, deletion: Deletion, recorded: RecordedDeletion | None) -> None:
        """Take the mark of a deletion, after which nothing was written, and its record."""
        self._ended = deletion
        self._deleted = {"at": rfc3339(deletion.at_ms), "by": deletion.by, "to_seq": deletion.seq}
        if recorded is None:
            told = f"{deletion.seq} events were deleted by {deletion.by}, but system:deletions has no record of it"
            self._add_fault(1, f"{told}: the deletion was cut off and `hub delete` completes it, or the mark is forged")
        elif recorded.deletion.seq != deletion.seq:
            told = f"the deletion is recorded with {recorded.deletion.seq} events, the mark in Redis has {deletion.seq}"
            self._add_fault(1, told)
        else:
            self._deleted["record"] = recorded.event_id

    async def take_alone(self, deletions: DeletionRecords) -> None:
        """Take what an archive alone tells of deletions, and what it cannot tell."""
        checkpoint = self._evidence.record.checkpoint if self._evidence else None
        known_until = rfc3339(checkpoint.time_s * 1_000) if checkpoint else None
        unread, faults = await deletions.unread_count(), await deletions.faults()
        self._known = {"records": await deletions.count(), "unread": unread, "known_until": known_until}
        if self.unread_count and self._deleted is None:
            first, last = self._newest_read + 1, self._newest_read + self.unread_count
            self.unknown.append(f"seq {first} to {last} are recorded under a checkpoint, but not in the archive")
        if self._deleted is not None or self._channel.kind is Kind.SYSTEM:
            return
        if faults:
            told = f"it may have been deleted, because the records of deletions cannot all be read: {faults[0]}"
            self._add_fault(1, told)
        elif unread:
            self.unknown.append(f"it may have been deleted: records of deletions that are not in the archive: {unread}")

    def take(self, entry: Entry) -> None:
        """Check the next event of the stream."""
        event_id, seq = entry.id.decode(), entry.seq
        if entry.is_foreign:
            told = f"entry {event_id} was not written by the hub: somebody added it by hand, or its field names are damaged"
            self._add_fault(self._seq + 1, told)
            self._id = event_id
            return
        if entry.is_damaged:
            self._add_fault(seq, f"event {event_id} is damaged: its bytes do not match their checksum")
        elif self._archive is not None and self._archive.leaves is not None:
            fault = self._archive.leaves.fault_of(entry, self._channel.wire.encode())
            if fault is not None:
                self._add_fault(seq, fault)
        if id_order(event_id) <= id_order(self._id):
            self._add_fault(seq, f"event {event_id} comes after {self._id}")
        if seq != self._seq + 1:
            self._add_fault(self._seq + 1, f"seq {seq} ({event_id}) follows {self._seq}")
        self._id, self._seq, self._count = event_id, seq, self._count + 1
        archived = self._archive.report if self._archive else None
        if archived is None or not archived.archived_from_seq <= seq <= archived.archived_to_seq:
            self._hot_only_count += 1

    def end(self, seq_now: int, unchecked_count: int = 0) -> None:
        """Finish the check; `seq_now` is the recorded seq after the last event was read."""
        record = self._record
        if record is None:
            return
        self._unchecked_count = unchecked_count
        if not self._count and record.seq > record.floor.seq:
            told = f"{record.seq - record.floor.seq} events recorded, 0 found"
            self._add_fault(record.floor.seq + 1, told if record.last_id else f"{told}: the stream was deleted")
        elif self._seq < record.seq:
            self._add_fault(self._seq + 1, f"the head is {record.seq}, but the last event is {self._seq}")
        elif record.epoch is not None and self._seq > seq_now:
            self._add_fault(seq_now + 1, f"the head is {seq_now}, but there are events up to {self._seq}")
        elif record.last_id is not None and id_order(self._id) < id_order(record.last_id):
            told = f"the stream last assigned the id {record.last_id}, the last event is {self._id}"
            self._add_fault(self._seq + 1, told)

    @property
    def told(self) -> str:
        """The result in words."""
        if self.faults:
            more = f" ({len(self.faults)} faults in all)" if len(self.faults) > 1 else ""
            return f"Not intact from seq {self.first_bad_seq}: {self.faults[0]}{more}"
        if self._deleted is not None:
            return f"Nothing to read: the channel was {self.deletion}."
        archived = self._archive.report if self._archive else None
        covered = archived.covered_to_seq if archived else 0
        first = archived.archived_from_seq if archived and archived.archived_to_seq else self._first_seq + 1
        newest = self._newest_read
        if newest < first:
            return "Intact: there are no events."
        whole = f"Intact: events {first:,} to {newest:,} are there, in order and undamaged."
        if not covered or self._evidence is None:
            return f"{whole} No checkpoint covers them, so a forger with access to Redis would not show."
        signers = self._evidence.record.signers
        by = f"signed by {', '.join(signers)}" if signers else "whose signature this node cannot check"
        if (stamps := self._evidence.stamps) is not None and stamps.newest is not None:
            by += f"; {stamps.stamped}"
        rest = f" It is not all: {'; '.join(self.unknown)}." if self.unknown else ""
        return f"{whole} Up to {min(covered, newest):,} each is the one recorded under a checkpoint {by}.{rest}"

    @property
    def deletion(self) -> str | None:
        """The words about the deletion that ended the channel, or its life before this one; None without one."""
        found = self._ended or self._before
        return found and found.told

    @property
    def is_deleted(self) -> bool:
        """True if nothing was written since the channel was deleted."""
        return self._deleted is not None

    @property
    def unread_count(self) -> int:
        """Number of events under a checkpoint that were not read: where the archive alone is read, those that are not in it."""
        check = self._archive
        return max(0, check.recorded_to_seq - max(self._newest_read, check.begin)) if check else 0

    @property
    def _newest_read(self) -> int:
        return max(self._seq, self._archive.report.archived_to_seq if self._archive else 0)

    def to_json(self) -> dict[str, Any]:
        """The report: result in words, events in Redis, in the archive and in both, range, errors, facts of the archive."""
        record = self._record
        archived = self._archive.report if self._archive else ArchiveReport()
        covers = COVERS_ARCHIVE if self._archive and self._archive.leaves else COVERS
        report: dict[str, Any] = {
            "told": self.told,
            "channel": self._channel.wire,
            "epoch": record.epoch if record else None,
            "events": archived.events + self._hot_only_count,
            "hot_events": self._count,
            "archived_events": archived.events,
            "from_seq": min(self._first_seq + 1, archived.archived_from_seq)
            if archived.events
            else self._first_seq + 1,
            "to_seq": max(self._seq, archived.archived_to_seq) if archived.events else self._seq,
            "whole": not self.faults and not self.unknown and self._deleted is None,
            "first_bad_seq": self.first_bad_seq,
            "faults": self.faults,
            "without_checksum": self._unchecked_count,
            "covers": covers if self._known is None else COVERS_ALONE,
        }
        if self._known is not None:
            report |= {"unknown": self.unknown, "deletions": self._known}
        if self._deleted is not None:
            report["deleted"] = self._deleted
        if self._archive is None or self._evidence is None:
            return report
        heads = self._evidence.record
        signed: dict[str, Any] = {"checkpoints": heads.count, "signed_by": list(heads.signers)}
        if self._evidence.stamps is not None:
            signed["stamps"] = self._evidence.stamps.to_json()
        return report | {"archive": self._archive.report.to_json() | signed}

    def _add_fault(self, seq: int, fault: str) -> None:
        self.first_bad_seq = seq if self.first_bad_seq is None else min(seq, self.first_bad_seq)
        if len(self.faults) < FAULTS_TOLD_MAX:
            self.faults.append(fault)
