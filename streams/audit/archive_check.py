"""The audit of a channel's archive: checkpoints, tree, manifest and segments, each compared with what the others record.

The order follows the proof: a signed checkpoint fixes the tenant's log of heads, a head fixes a channel's tree and manifest, the
tree fixes every event, the manifest every segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from streams.archive.heads import Head, HeadLog
from streams.archive.manifest import ArchiveMark, ArchiveSegment, Manifest
from streams.archive.merkle import HASH_BYTES, GrowingTree, Tile, leaf_hash
from streams.archive.notes import Checkpoint, NoteRefused, Opened, PublicKey, open_checkpoint, read_checkpoint
from streams.archive.objects import ArchiveObjects, ChannelFolder
from streams.archive.segments import SegmentCodec, SegmentDamaged, line_of, read_line
from streams.channel import Channel
from streams.envelope import Entry
from streams.errors import ArchiveDiffers

_NOTE_LINES: Final = 8
AddFault = Callable[[int, str], None]


@dataclass(slots=True)
class HeadRecord:
    """A tenant's log of heads, verified.

    Attributes:
        faults: what is wrong with it, as sentences.
        heads: for each channel's path, its heads, oldest first.
        checkpoint: the newest checkpoint; None if there is none.
        signers: the known keys that signed it.
    """

    faults: list[str] = field(default_factory=list)
    heads: dict[str, list[Head]] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    count: int = 0
    signers: tuple[str, ...] = ()


async def read_heads(
    objects: ArchiveObjects,
    tenant: str,
    keys: Sequence[PublicKey],
    known: Sequence[bytes] = (),
    *,
    is_full: bool = False,
) -> HeadRecord:
    """Read a tenant's log of heads and compare it with its checkpoints.

    Args:
        objects: the archive.
        tenant: the tenant.
        keys: the keys that may have signed; without any, signatures are not checked.
        known: signed checkpoints that were kept elsewhere.
        is_full: compare every checkpoint, not only the newest, and every tile of the log.
    """
    found, log = HeadRecord(), HeadLog(objects, tenant, "")
    found.count = await log.checkpoint_count()
    if not found.count:
        if known:
            found.faults.append("the archive has no checkpoint, but one was kept elsewhere: the log of heads is gone")
        return found
    wanted = range(1 if is_full else found.count, found.count + 1)
    checkpoints = [(number, await _checkpoint(log, number, keys, found)) for number in wanted]
    newest = checkpoints[-1][1]
    if newest is not None:
        found.checkpoint, found.signers = newest
    size = found.checkpoint.size if found.checkpoint else 0
    trusted = [(number, opened.checkpoint) for number, opened in checkpoints if opened]
    roots = {checkpoint.size: (f"checkpoint {number}", checkpoint) for number, checkpoint in trusted}
    _check_times(trusted, found)
    for note in known:
        _add_known(note, keys, roots, size, found)
    await _compare(log, size, roots, found, has_tiles=is_full)
    return found


async def _checkpoint(log: HeadLog, number: int, keys: Sequence[PublicKey], found: HeadRecord) -> Opened | None:
    note = await log.checkpoint(number)
    try:
        if note is None:
            raise NoteRefused("it is missing")
        return open_checkpoint(note, keys) if keys else Opened(read_checkpoint(note), ())
    except NoteRefused as error:
        found.faults.append(f"checkpoint {number} cannot be trusted: {error}")
        return None


def _check_times(checkpoints: Sequence[tuple[int, Checkpoint]], found: HeadRecord) -> None:
    before = 0
    for number, checkpoint in checkpoints:
        if checkpoint.time_s < before:
            found.faults.append(f"checkpoint {number} is dated before the one it follows: a clock was set back")
        before = max(before, checkpoint.time_s)


def _add_known(
    note: bytes, keys: Sequence[PublicKey], roots: dict[int, tuple[str, Checkpoint]], size: int, found: HeadRecord
) -> None:
    try:
        kept = open_checkpoint(note, keys).checkpoint if keys else read_checkpoint(note)
    except NoteRefused as error:
        found.faults.append(f"the checkpoint that was kept elsewhere cannot be trusted: {error}")
        return
    if kept.size > size:
        told = f"a checkpoint kept elsewhere has {kept.size} heads, the log has {size}: the log was rolled back"
        found.faults.append(told)
        return
    here = roots.get(kept.size)
    if here is not None and here[1].root != kept.root:
        told = f"{here[0]} and one kept elsewhere have {kept.size} heads and different roots: the log was forked"
        found.faults.append(told)
    elif here is not None and here[1] != kept:
        told = f"{here[0]} and one kept elsewhere have {kept.size} heads and different dates: it was written anew"
        found.faults.append(told)
    elif found.checkpoint is not None and found.checkpoint.time_s < kept.time_s:
        found.faults.append("the newest checkpoint is dated before one kept elsewhere: a clock was set back")
    roots[kept.size] = ("the checkpoint that was kept elsewhere", kept)


async def _compare(
    log: HeadLog, size: int, roots: dict[int, tuple[str, Checkpoint]], found: HeadRecord, *, has_tiles: bool
) -> None:
    """Read all heads, and compare the root with each checkpoint's at its size, and the tiles with the heads."""
    tree, tiles = GrowingTree(), list[Tile]()
    try:
        async for leaves in log.leaves(size):
            for leaf in leaves:
                tiles += tree.append([leaf_hash(leaf)])
                head = Head.parse(leaf)
                found.heads.setdefault(head.channel, []).append(head)
                if tree.size in roots and tree.root() != roots[tree.size][1].root:
                    named = roots[tree.size][0]
                    found.faults.append(
                        f"{named} does not fit the log of heads: one of its first {tree.size} was changed"
                    )
            if has_tiles:
                found.faults += [told async for _, told in log.tree.differences(tiles)]
            tiles = []
    except (ArchiveDiffers, ValueError) as error:
        found.faults.append(f"the log of heads is damaged after {tree.size} of {size} heads: {error}")
        return
    if has_tiles:
        found.faults += [told async for _, told in log.tree.differences(tree.partial())]


class RecordedLeaves:
    """The hashes of a channel's events as the tree records them.

    Attributes:
        begin: the seq before the first recorded event.
    """

    def __init__(self, begin: int, hashes: bytes) -> None:
        self.begin = begin
        self._hashes = hashes

    @property
    def upto(self) -> int:
        """The seq of the newest recorded event."""
        return self.begin + len(self._hashes) // HASH_BYTES

    def fault_of(self, entry: Entry, channel: bytes) -> str | None:
        """The sentence about an event that is not the recorded one; None if it is, or if it is newer."""
        at = (entry.seq - self.begin - 1) * HASH_BYTES
        if not 0 <= at < len(self._hashes) or leaf_hash(line_of(entry, channel)) == self._hashes[at : at + HASH_BYTES]:
            return None
        return f"event {entry.seq} ({entry.id.decode()}) is not the one that was recorded: its bytes were changed since"


async def read_leaves(folder: ChannelFolder, heads: Sequence[Head], add_fault: AddFault) -> RecordedLeaves:
    """Read the leaf record of an epoch and compare its root with that of every head."""
    begin, size = heads[-1].begin, max(head.size for head in heads)
    tree, hashes, above = GrowingTree(), bytearray(), list[Tile]()
    by_size = {head.size: head for head in heads}
    good = 0
    try:
        async for several in folder.tree.hashes(0, size, size):
            at = 0
            for until in sorted(one for one in by_size if tree.size < one <= tree.size + len(several) - at):
                taken = until - tree.size
                above += tree.append(several[at : at + taken])
                at += taken
                if tree.root() != by_size[until].root:
                    told = f"the leaf record of seq {begin + good + 1} to {begin + until} does not fit its head"
                    add_fault(begin + good + 1, f"{told} under a checkpoint: tiles were changed")
                    return RecordedLeaves(begin, bytes(hashes))
                good = until
            above += tree.append(several[at:])
            above = [tile for tile in above if tile.level]
            hashes += b"".join(several)
    except ArchiveDiffers as error:
        upto = begin + len(hashes) // HASH_BYTES
        add_fault(upto + 1, f"{error}: the leaf record ends at seq {upto} of {begin + size}")
        return RecordedLeaves(begin, bytes(hashes))
    async for leaf, told in folder.tree.differences([*above, *(tile for tile in tree.partial() if tile.level)]):
        add_fault(begin + leaf + 1, told)
    return RecordedLeaves(begin, bytes(hashes))


@dataclass(slots=True)
class ArchiveReport:
    """The facts about a channel's archive that an audit found; `events` is the number of those that could be read."""

    events: int = 0
    segments: int = 0
    archived_from_seq: int = 0
    archived_to_seq: int = 0
    covered_to_seq: int = 0
    bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON."""
        return {
            "segments": self.segments,
            "archived_from_seq": self.archived_from_seq,
            "archived_to_seq": self.archived_to_seq,
            "covered_to_seq": self.covered_to_seq,
            "bytes": self.bytes,
        }


class ArchiveCheck:
    """Checks one epoch of a channel in the archive.

    Attributes:
        report: the facts found.
        leaves: the leaf record; None if no head names this epoch.
        begin, recorded_to_seq: the range that the newest head names.
        unproved: segments that are missing, which a manifest newer than the newest head calls removed by a policy.
    """

    def __init__(self, objects: ArchiveObjects, channel: Channel, epoch: str, heads: Sequence[Head]) -> None:
        self._folder = ChannelFolder(objects, channel, epoch)
        self._channel = channel
        self._heads = [head for head in heads if head.epoch == epoch]
        self._codec = SegmentCodec()
        self.report = ArchiveReport()
        self.leaves: RecordedLeaves | None = None
        self.unproved: list[ArchiveSegment] = []
        self._manifest: Manifest | None = None
        self.begin = self._heads[-1].begin if self._heads else 0
        self.recorded_to_seq = self.begin + self._heads[-1].size if self._heads else 0

    async def run(self, at_least: int, add_fault: AddFault) -> None:
        """Check tree, manifest and segments; `at_least` is the number of the manifest that Redis names, or 0."""
        if self._heads:
            self.leaves = await read_leaves(self._folder, self._heads, add_fault)
            self.report.covered_to_seq = self.leaves.upto
            await self._compare_begin(add_fault)
        covered, newest = await self._manifests(at_least, add_fault)
        if newest is None:
            return
        self._manifest = newest
        self.report.archived_from_seq = newest.removed.seq + 1
        self.report.archived_to_seq = newest.upto.seq
        removed = [one for one in covered.segments if one.last_seq <= newest.removed.seq] if covered else []
        for segment in (*removed, *newest.segments):
            await self._segment(segment, add_fault, is_removed=segment.last_seq <= newest.removed.seq)

    def is_proved_by(self, heads: Sequence[Head]) -> bool:
        """True if a later head of the channel names the manifest by which segments were removed."""
        newest = self._manifest
        named = [(head.manifest, head.manifest_sha256) for head in heads if head.epoch == self._folder.epoch]
        return newest is not None and (newest.number, newest.sha256) in named

    def fault_of_mark(self, mark: ArchiveMark) -> str | None:
        """The sentence about a mark in Redis that says other than its manifest; None if they agree."""
        newest = self._manifest
        if newest is None or newest.number != mark.number or newest.mark == mark:
            return None
        told = f"the record in Redis has the archive from seq {mark.removed.seq + 1} to {mark.upto.seq}"
        return f"{told}, manifest {mark.number} from {newest.removed.seq + 1} to {newest.upto.seq}: it was changed"

    async def _compare_begin(self, add_fault: AddFault) -> None:
        try:
            begin = await self._folder.begin()
        except ArchiveDiffers as error:
            add_fault(self.begin + 1, str(error))
            return
        if begin is None or begin.seq != self.begin:
            told = "is missing" if begin is None else f"names seq {begin.seq}"
            add_fault(self.begin + 1, f"{self._folder.path}/begin.json {told}; the checkpoints name seq {self.begin}")

    async def begun_anew(self) -> str | None:
        """The words about a signed record that this epoch was begun because archiving had stopped; None without one."""
        note = await self._folder.note()
        lines = note.decode(errors="replace").split("\n")[:8] if note else []
        if len(lines) < _NOTE_LINES:
            return None
        _, _, former, _, _, by, reason, fault = lines
        return f"archiving was begun anew by {by} after epoch {former} ({reason}), because: {fault}"

    async def _manifests(self, at_least: int, add_fault: AddFault) -> tuple[Manifest | None, Manifest | None]:
        """The manifest under the newest head, and the newest there is."""
        head = self._heads[-1] if self._heads else None
        wanted = max(at_least, head.manifest if head else 0)
        try:
            newest = await self._folder.newest_manifest(wanted)
            covered = await self._folder.manifest(head.manifest) if head and head.manifest else None
        except ArchiveDiffers as error:
            oldest = self.leaves.begin + 1 if self.leaves else 1
            add_fault(oldest, str(error))
            return None, await self._older_manifest(wanted)
        if head is not None and covered is not None and covered.sha256 != head.manifest_sha256:
            told = f"manifest {head.manifest} is not the one under the checkpoint: it was exchanged"
            add_fault(covered.removed.seq + 1, told)
        return covered, newest

    async def _older_manifest(self, before: int) -> Manifest | None:
        for number in range(before - 1, 0, -1):
            try:
                found = await self._folder.manifest(number)
            except ArchiveDiffers:
                continue
            if found is not None:
                return found
        return None

    async def _segment(self, segment: ArchiveSegment, add_fault: AddFault, *, is_removed: bool) -> None:
        data = await self._folder.segment(segment)
        if data is None and is_removed:
            self.unproved.append(segment)
            return
        if not is_removed:
            self.report.segments += 1
            self.report.bytes += segment.bytes
        if data is None:
            told = f"segment {segment.name} is missing: {segment.count} events, seq {segment.first_seq} to {segment.last_seq}"
            add_fault(segment.first_seq, told)
            return
        if sha256(data).hexdigest() != segment.sha256:
            seq, told = self._damage_in(segment, data)
            add_fault(seq, f"segment {segment.name} is damaged: its bytes do not match the manifest{told}")
            return
        try:
            lines = self._codec.all_lines(data, segment.index_at)
            entries = [read_line(line) for line in lines]
        except SegmentDamaged as error:
            add_fault(segment.first_seq, f"segment {segment.name}: {error}")
            return
        self.report.events += 0 if is_removed else len(entries)
        expected = segment.first_seq
        for entry in entries:
            if entry.seq != expected:
                add_fault(expected, f"segment {segment.name} has seq {entry.seq} in the place of {expected}")
                return
            fault = self.leaves.fault_of(entry, self._channel.wire.encode()) if self.leaves else None
            if fault is not None:
                add_fault(entry.seq, f"{fault} (in segment {segment.name})")
            expected += 1
        if expected != segment.last_seq + 1:
            add_fault(expected, f"segment {segment.name} ends at seq {expected - 1}, not {segment.last_seq}")

    def _damage_in(self, segment: ArchiveSegment, data: bytes) -> tuple[int, str]:
        """The first event of a damaged segment that is not as recorded, and words about it."""
        try:
            entries = [read_line(line) for line in self._codec.all_lines(data, segment.index_at)]
        except SegmentDamaged as error:
            return segment.first_seq, f" ({error})"
        wire = self._channel.wire.encode()
        for entry in entries:
            if self.leaves is not None and (fault := self.leaves.fault_of(entry, wire)) is not None:
                return entry.seq, f"; {fault}"
        return segment.first_seq, ""
