"""The keeper of the archive: records the leaf of every event, moves closed ranges into segments, and trims what is archived.

A turn goes through all channels. For each it stores the tiles of new leaves, then segments and a manifest; then one checkpoint
of the tenant covers them; then the marks in Redis are set and the stream is trimmed. Each step leaves objects whose names
follow from their place, so a keeper that was killed anywhere finds what it would write and goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, NamedTuple

from streams.archive.heads import Head, HeadLog, HeadWriter
from streams.archive.manifest import ArchiveSegment, Manifest
from streams.archive.merkle import GrowingTree, leaf_hash
from streams.archive.notes import NoteRefused, Signer, read_checkpoint
from streams.archive.objects import ArchiveObjects, ChannelFolder
from streams.archive.retention import HotFacts, Retention, RetentionPolicy, trim_to
from streams.archive.segments import Encoded, SegmentCodec, SegmentDamaged, line_of, read_line
from streams.channel import Channel
from streams.cursor import Position, ms_of_id
from streams.envelope import Entry, unbroken, until_damage
from streams.errors import ArchiveDiffers
from streams.records.archive import ArchivedLog, ArchiveRecords, ChannelFacts, DamagedFacts
from streams.redis.replay import PAGE_EVENTS

SEGMENT_RAW_BYTES: Final = 8 * 1_048_576
"""Bytes of lines after which a segment is closed: about 1 MB compressed."""
SEGMENT_EVENTS: Final = 50_000
"""Maximum number of events in a segment, which one trim then drops: a few milliseconds of Redis."""
TURN_EVENTS: Final = 200_000
"""Maximum number of events of one channel in a turn, so that a long one does not keep the others waiting."""
TREES_MAX: Final = 1_024
"""Maximum number of trees whose right edge is kept in memory, about 20 KB each at most."""
WRITERS_MAX: Final = 256
AGES_MAX: Final = 100_000
"""Maximum number of channels whose oldest segment is kept in mind, about 300 bytes each."""
ATTEMPTS_MAX: Final = 20
"""Attempts at a whole channel while another keeper is at work, each of which is a turn of that one."""
LOOK_EVERY_S: Final = 1.0
TIGHT: Final = 0.75
"""Part of Redis's memory limit above which turns follow each other without a pause, and bounds have no slack."""
_log = logging.getLogger(__name__)


class _CoveredTree(NamedTuple):
    """A channel's tree, and the position before its first leaf."""

    begin: Position
    tree: GrowingTree
    upto: Position


class _Age(NamedTuple):
    """The end of a channel's oldest segment, by the manifest with this number."""

    epoch: str
    manifest: int
    oldest_ms: int


@dataclass(slots=True)
class _Step:
    """The work that is left on a channel once its objects are stored; `floor` is the newest event that leaves Redis."""

    facts: ChannelFacts
    folder: ChannelFolder
    recorded: _CoveredTree
    manifest: Manifest | None
    floor: Position
    is_erasing: bool

    @property
    def is_news(self) -> bool:
        """True if a checkpoint must cover it: the tree grew, or there is another manifest."""
        number = self.manifest.number if self.manifest else 0
        return self.recorded.upto != self.facts.covered or number != self.facts.mark.number

    def head(self) -> Head:
        """The head for the tenant's log."""
        manifest = (self.manifest.number, self.manifest.sha256) if self.manifest else (0, "-")
        tree = self.recorded.tree
        return Head(
            self.facts.channel.path, self.facts.epoch, self.recorded.begin.seq, tree.size, tree.root(), *manifest
        )


class Keeper:
    """Keeps the archive of one hub. One keeper is at work; another one at the same time can do no harm.

    Args:
        interval_s: seconds between two turns, hence between two checkpoints.

    Attributes:
        covered_count, archived_count, trimmed_count, segment_count: totals since the start.
        stopped: for each channel whose archive does not go on, by path, the reason.
        tenants: those with channels, as the last turn found them.
    """

    def __init__(
        self, log: ArchivedLog, objects: ArchiveObjects, policy: RetentionPolicy, signer: Signer, interval_s: float
    ) -> None:
        self.covered_count = self.archived_count = self.trimmed_count = self.segment_count = 0
        self.stopped: dict[str, str] = {}
        self.tenants: frozenset[str] = frozenset()
        self._log, self._objects, self._policy, self._signer = log, objects, policy, signer
        self._records = ArchiveRecords(log)
        self._codec = SegmentCodec()
        self._interval_s = interval_s
        self._due_at = 0.0
        self._trees: OrderedDict[tuple[Channel, str], _CoveredTree] = OrderedDict()
        self._writers: OrderedDict[str, HeadWriter] = OrderedDict()
        self._ages: OrderedDict[str, _Age] = OrderedDict()

    async def run(self, is_mine: Callable[[], bool]) -> None:
        """Take turns for ever, while the archive is this process's.

        Raises:
            ArchiveDiffers: the archive of a channel does not go on; the others are archived nevertheless.
            LogUnavailable: Redis or the store does not answer.
        """
        while True:
            if is_mine():
                await self.look()
            else:  # whoever has it now tells what is stopped
                self.stopped = {}
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Take a turn if one is due, or if Redis is nearly full.

        Raises:
            ArchiveDiffers, LogUnavailable: as `run`.
        """
        if monotonic() < self._due_at and not self.is_tight:
            self._require_all_go_on()
            return
        await self.turn()

    @property
    def is_tight(self) -> bool:
        """True if Redis is nearly full."""
        used_bytes, max_bytes = self._log.memory
        return bool(max_bytes) and used_bytes > max_bytes * TIGHT

    async def turn(self) -> None:
        """Go through all channels once.

        Raises:
            ArchiveDiffers, LogUnavailable: as `run`.
        """
        stopped, self.stopped = self.stopped, {}
        tenants = set[str]()
        try:
            async for several in self._records.channels():
                tenants.update(facts.channel.tenant for facts in several)
                await self._take(several)
        except BaseException:
            self.stopped = stopped | self.stopped
            raise
        self.tenants = frozenset(tenants)
        self._due_at = monotonic() + self._interval_s
        for path, reason in self.stopped.items():
            if stopped.get(path) != reason:
                _log.error("the archive of %s does not go on: %s", path, reason)
        self._require_all_go_on()

    def _require_all_go_on(self) -> None:
        if self.stopped:
            path, reason = next(iter(self.stopped.items()))
            raise ArchiveDiffers(f"{len(self.stopped)} channels are not archived, among them {path}: {reason}")

    async def _take(self, several: list[ChannelFacts | DamagedFacts]) -> None:
        left = several
        while left:
            steps: dict[str, list[_Step]] = {}
            unfinished = []
            for facts in left:
                if isinstance(facts, DamagedFacts):
                    self.stopped[facts.channel.path] = "its record in Redis (the meta hash) is damaged"
                    continue
                try:
                    step = await self._prepare(facts)
                except ArchiveDiffers as error:
                    self._trees.pop((facts.channel, facts.epoch), None)
                    self.stopped[facts.channel.path] = str(error)
                    continue
                if step is not None:
                    steps.setdefault(facts.channel.tenant, []).append(step)
                    if step.recorded.upto.seq < facts.seq and facts.channel.path not in self.stopped:
                        unfinished.append(facts.channel)
            for tenant, those in steps.items():
                try:
                    await self._commit(tenant, those)
                except ArchiveDiffers as error:  # of this tenant's log: the others go on
                    self.stopped |= dict.fromkeys((step.facts.channel.path for step in those), str(error))
            going_on = (channel for channel in unfinished if channel.path not in self.stopped)
            again = [await self._records.facts(channel) for channel in going_on]
            left = [facts for facts in again if facts is not None]

    async def archive_whole(self, channel: Channel, *, trims: bool) -> None:
        """Archive all events that a channel has now, the newest too, whatever the policy; does nothing if it has no record.

        Raises:
            ArchiveDiffers, LogUnavailable: not all of it is archived. It may be called again.
        """
        wanted: int | None = None
        failure: ArchiveDiffers | None = None
        for _ in range(ATTEMPTS_MAX):
            facts = await self._records.facts(channel)
            if isinstance(facts, DamagedFacts):
                raise ArchiveDiffers("its record in Redis (the meta hash) is damaged")
            if facts is None:
                return
            wanted = facts.seq if wanted is None else wanted
            if facts.mark.upto.seq >= wanted and (facts.floor.seq >= wanted or not trims):
                return
            self.stopped.pop(channel.path, None)
            try:
                step = await self._prepare(facts, whole=trims)
                if step is not None:
                    await self._commit(channel.tenant, [step])
                failure = None
            except ArchiveDiffers as error:  # another keeper made the next checkpoint, or the same segments
                self._trees.pop((channel, facts.epoch), None)
                failure = error
            if channel.path in self.stopped:
                raise ArchiveDiffers(self.stopped[channel.path])
        raise failure or ArchiveDiffers(f"{channel.path} is written faster than it is archived")

    async def remove_whole(self, facts: ChannelFacts) -> int:
        """Remove all segments of a channel that is deleted; returns their number. Its tree and its manifests stay.

        Raises:
            ArchiveDiffers, LogUnavailable: they may not all be removed. It may be called again.
        """
        folder = ChannelFolder(self._objects, facts.channel, facts.epoch)
        manifest = await folder.newest_manifest(facts.mark.number)
        if manifest is None:
            return 0
        count = len(manifest.segments)
        if count:
            manifest = manifest.without(count)
            await folder.write_manifest(manifest)
        step = _Step(facts, folder, await self._recorded(folder, facts), manifest, facts.floor, False)
        if step.is_news:
            await self._sign(facts.channel.tenant, [step.head()])
            await self._records.note_archived(facts, manifest.mark)
        await folder.delete_segments(manifest.removed.seq)
        return count

    async def _prepare(self, facts: ChannelFacts, *, whole: bool | None = None) -> _Step | None:
        """Store the objects of a channel; None if nothing about it is new.

        `whole` is for a channel that is being deleted: all of it is due, and is trimmed if this is true.
        """
        if not facts.seq:
            return None
        retention = self._policy.of(facts.channel)
        due = await self._due(facts, retention) if whole is None else facts.seq
        may_erase = not retention.is_held and facts.mark.number > 0
        before_ms = 0 if retention.total_age_ms is None else self._log.now_ms() - retention.total_age_ms
        is_old = retention.total_age_ms is not None and may_erase and self._may_have_older(facts, before_ms)
        is_erased = facts.mark.removed.seq == facts.erased_seq or not may_erase
        is_covered = facts.covered.seq == facts.seq
        if is_covered and not due and not is_old and is_erased:
            return None
        folder = ChannelFolder(self._objects, facts.channel, facts.epoch)
        recorded = await self._cover(folder, facts)
        manifest = await folder.newest_manifest(facts.mark.number)
        if manifest is not None and manifest.upto.seq > facts.floor.seq:
            await self._require_continued(facts.channel, manifest.upto)
        if due:
            manifest = await self._archive(folder, recorded, manifest, min(due, recorded.upto.seq))
        if is_old and manifest is not None:
            old = sum(ms_of_id(one.last_id) < before_ms for one in manifest.segments)
            if old:
                manifest = manifest.without(old)
                await folder.write_manifest(manifest)
        if retention.total_age_ms is not None and manifest is not None:
            self._keep_age(facts, manifest)
        is_erasing = manifest is not None and may_erase and manifest.removed.seq != facts.erased_seq
        is_trimming = retention.moves if whole is None else whole
        floor = facts.floor if manifest is None or not is_trimming else await self._next_floor(facts, manifest, due)
        step = _Step(facts, folder, recorded, manifest, floor, is_erasing)
        return step if step.is_news or step.is_erasing or floor.seq > facts.floor.seq else None

    async def _next_floor(self, facts: ChannelFacts, manifest: Manifest, due: int) -> Position:
        """The newest archived event that is due to leave Redis; `hub archive` archives those that are to stay there, too."""
        if manifest.upto.seq <= due:
            return max(manifest.upto, facts.floor, key=_seq_of)
        ends = [Position(one.last_id, one.last_seq) for one in manifest.segments if one.last_seq <= due]
        at = max(facts.floor, manifest.removed, *ends[-1:], key=_seq_of)
        while at.seq < due:
            page = await self._log.stored.page(facts.channel, at.id, min(PAGE_EVENTS, due - at.seq))
            if not page:
                raise ArchiveDiffers(f"an event after {at.seq} is missing in Redis")
            at = Position(page[-1].id.decode(), page[-1].seq)
        return at

    def _may_have_older(self, facts: ChannelFacts, before_ms: int) -> bool:
        """False if no archived segment is older, as far as this keeper has seen the newest manifest."""
        known = self._ages.get(facts.channel.path)
        is_current = known is not None and (known.epoch, known.manifest) == (facts.epoch, facts.mark.number)
        return known is None or not is_current or known.oldest_ms < before_ms

    def _keep_age(self, facts: ChannelFacts, manifest: Manifest) -> None:
        oldest_ms = ms_of_id(manifest.segments[0].last_id) if manifest.segments else self._log.now_ms()
        self._ages[facts.channel.path] = _Age(facts.epoch, manifest.number, oldest_ms)
        while len(self._ages) > AGES_MAX:
            self._ages.popitem(last=False)

    async def _require_continued(self, channel: Channel, upto: Position) -> None:
        """Check that the newest archived event is one of the log, which goes on after it.

        Raises:
            ArchiveDiffers: the log does not have it, as after a restore of an older Redis.
        """
        found = await self._log.stored.page_from(channel, upto.id, 1)
        if not found or (found[0].id.decode(), found[0].seq) != upto:
            told = f"the archive has event {upto.seq} ({upto.id}), which Redis does not have"
            raise ArchiveDiffers(f"{told}: it was restored from an older backup, or lost its newest events")

    async def _due(self, facts: ChannelFacts, retention: Retention) -> int:
        """The seq up to which events are due to leave Redis; 0 if none are."""
        if not retention.moves or facts.seq - facts.floor.seq <= 1:
            return 0
        is_aged = retention.hot_age_ms is not None and (
            not facts.floor.seq or self._log.now_ms() - ms_of_id(facts.floor.id) > retention.hot_age_ms
        )
        oldest_ms = await self._records.oldest_ms(facts.channel) if is_aged else None
        memory_bytes = await self._records.memory_bytes(facts.channel) if retention.hot_bytes else 0
        now_ms = self._log.now_ms()
        hot = HotFacts(facts.seq, facts.floor.seq, now_ms if oldest_ms is None else oldest_ms, memory_bytes)
        seq, until_ms = trim_to(retention, hot, now_ms, is_tight=self.is_tight)
        if until_ms is not None:
            seq = max(seq, min(await self._records.newest_until(facts.channel, until_ms), facts.seq - 1))
        return seq if seq > facts.floor.seq else 0

    async def _recorded(self, folder: ChannelFolder, facts: ChannelFacts) -> _CoveredTree:
        known = self._trees.get((facts.channel, facts.epoch))
        if known is not None and known.upto == facts.covered:
            return known
        begin = await folder.begin()
        if begin is None:
            if facts.covered.seq:
                raise ArchiveDiffers(f"{folder.path} is missing, but {facts.covered.seq} events were recorded there")
            begin = facts.floor
            await folder.write_begin(begin)
        upto = facts.covered if facts.covered.seq else begin
        return _CoveredTree(begin, await folder.tree.load(upto.seq - begin.seq), upto)

    async def _cover(self, folder: ChannelFolder, facts: ChannelFacts) -> _CoveredTree:
        """Store the tiles of new events' leaves, at most of a turn's. A damaged or missing event is where it stops."""
        key = (facts.channel, facts.epoch)
        begin, tree, upto = await self._recorded(folder, facts)
        self._trees.pop(key, None)  # it grows now: if this is cut off, the next turn loads it again
        name, target, full = facts.channel.wire.encode(), min(facts.seq, upto.seq + TURN_EVENTS), []
        while upto.seq < target:
            page = await self._log.stored.page(facts.channel, upto.id, min(PAGE_EVENTS, target - upto.seq))
            sound = unbroken(until_damage(page), upto.seq)
            full += tree.append([leaf_hash(line_of(entry, name)) for entry in sound])
            self.covered_count += len(sound)
            if sound:
                upto = Position(sound[-1].id.decode(), sound[-1].seq)
            if len(sound) < len(page) or not page:
                self.stopped[facts.channel.path] = f"event {upto.seq + 1} is missing in Redis, or damaged"
                break
        if upto != facts.covered:
            await folder.tree.write(full, tree)
        return self._keep_tree(key, _CoveredTree(begin, tree, upto))

    def _keep_tree(self, key: tuple[Channel, str], recorded: _CoveredTree) -> _CoveredTree:
        self._trees[key] = recorded
        while len(self._trees) > TREES_MAX:
            self._trees.popitem(last=False)
        return recorded

    async def _archive(
        self, folder: ChannelFolder, recorded: _CoveredTree, manifest: Manifest | None, due: int
    ) -> Manifest | None:
        """Store the events up to `due` in segments, and a manifest for each."""
        if manifest is None:
            manifest = Manifest.first(folder.channel, folder.epoch, recorded.begin)
        while manifest.upto.seq < due:
            end = await folder.stored_segment_end(manifest.upto.seq + 1)
            entries = await self._read(
                folder.channel, manifest.upto, min(end or due, recorded.upto.seq), is_whole=bool(end)
            )
            first, last = entries[0], entries[-1]
            made = await asyncio.to_thread(self._encode, entries, folder.channel.wire.encode())
            await _require_recorded(folder, recorded, first.seq, made)
            segment = ArchiveSegment(
                first.seq, first.id.decode(), last.seq, last.id.decode(), len(entries), len(made.data), made.raw_bytes,
                made.index_at, made.sha256,
            )  # fmt: skip # in the order of the fields
            await folder.write_segment(segment, made.data)
            manifest = manifest.with_segment(segment)
            await folder.write_manifest(manifest)
            self.segment_count += 1
            self.archived_count += len(entries)
        return manifest if manifest.number else None

    async def _read(self, channel: Channel, after: Position, upto: int, *, is_whole: bool) -> list[Entry]:
        """The events after a position up to a seq: as many as make a segment, or all of them."""
        found: list[Entry] = []
        at, size_bytes = after, 0
        while at.seq < upto and (is_whole or (size_bytes < SEGMENT_RAW_BYTES and len(found) < SEGMENT_EVENTS)):
            page = await self._log.stored.page(channel, at.id, min(PAGE_EVENTS, upto - at.seq))
            if not page or len(unbroken(until_damage(page), at.seq)) < len(page):
                raise ArchiveDiffers(f"an event after {at.seq} is missing in Redis, or damaged")
            found += page
            at = Position(page[-1].id.decode(), page[-1].seq)
            size_bytes += sum(len(entry.data) for entry in page)
        return found

    def _encode(self, entries: list[Entry], channel: bytes) -> Encoded:
        made = self._codec.encode(entries, channel)
        if self._codec.all_lines(made.data, made.index_at) != made.lines:
            raise ArchiveDiffers("a segment does not give back its lines")
        for line, entry in zip(made.lines, entries, strict=True):
            try:
                is_same = line_of(read_line(line), channel) == line
            except SegmentDamaged:
                is_same = False
            if not is_same:
                raise ArchiveDiffers(f"event {entry.seq} cannot be read back from its line, so it stays in Redis")
        return made

    async def _commit(self, tenant: str, steps: list[_Step]) -> None:
        """Sign a checkpoint over what is new, and carry out what may follow it: marks, trims, deletions."""
        heads = [step.head() for step in steps if step.is_news]
        if heads:
            await self._sign(tenant, heads)
        for step in steps:
            await self._finish(step)

    async def _sign(self, tenant: str, heads: list[Head]) -> None:
        writer = self._writers.pop(tenant, None) or await self._open_writer(tenant)
        await writer.append(heads, self._signer, self._log.now_ms() // 1_000)
        self._writers[tenant] = writer
        while len(self._writers) > WRITERS_MAX:
            self._writers.popitem(last=False)

    async def _finish(self, step: _Step) -> None:
        facts, recorded = step.facts, step.recorded
        if recorded.upto != facts.covered:
            await self._records.note_covered(facts, recorded.upto)
            before = max(0, facts.covered.seq - recorded.begin.seq)
            await step.folder.tree.forget_partial(before, recorded.tree.size)
        if step.manifest is None:
            return
        if not await self._records.note_archived(facts, step.manifest.mark):
            return  # another epoch, or another keeper
        if step.floor.seq > facts.floor.seq:
            self.trimmed_count += await self._records.trim(facts.channel, facts.epoch, step.floor.id)
        if step.is_erasing:  # noted once all are gone: a keeper that was killed before leaves it to the next one
            await step.folder.delete_segments(step.manifest.removed.seq)
            await self._records.note_erased(facts, step.manifest.removed.seq)

    async def _open_writer(self, tenant: str) -> HeadWriter:
        log = HeadLog(self._objects, tenant, self._signer.public.name)
        number = await log.checkpoint_count()
        size, root = 0, None
        if number:
            note = await log.checkpoint(number)
            try:
                checkpoint = read_checkpoint(note or b"")
            except NoteRefused as error:
                raise ArchiveDiffers(f"checkpoint {number} of tenant {tenant} is damaged: {error}") from error
            size, root = checkpoint.size, checkpoint.root
        writer = await HeadWriter.open(self._objects, log, tenant, size, number)
        if root is not None and writer.root() != root:
            raise ArchiveDiffers(f"the log of tenant {tenant} does not have the root of its checkpoint {number}")
        return writer


def _seq_of(position: Position) -> int:
    return position.seq


async def _require_recorded(folder: ChannelFolder, recorded: _CoveredTree, first_seq: int, made: Encoded) -> None:
    """Check that these events are the ones whose leaves were recorded.

    Raises:
        ArchiveDiffers: one of them was changed since.
    """
    low = first_seq - recorded.begin.seq - 1
    at = 0
    async for hashes in folder.tree.hashes(low, low + len(made.lines), recorded.tree.size):
        for leaf in hashes:
            if leaf_hash(made.lines[at]) != leaf:
                raise ArchiveDiffers(f"event {first_seq + at} is not the one that was recorded")
            at += 1
