"""The places that an auditor reads a tenant's channels from: a log with its archive, or an archive alone. Nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Protocol

from streams.archive.cold import ArchivePlace, ColdReader
from streams.archive.heads import Head
from streams.archive.manifest import ArchiveMark
from streams.archive.objects import ArchiveObjects, ChannelFolder
from streams.audit.archive_check import HeadRecord
from streams.audit.deletion_records import DeletionRecords
from streams.channel import Channel, channel_from_path
from streams.cursor import START, Position, ms_of_id
from streams.envelope import Entry
from streams.errors import ArchiveDiffers, ChannelUnverified
from streams.records.deletions import deletions_of
from streams.records.listed_channels import listed_channels
from streams.redis.deleted import Deletion
from streams.redis.replay import PAGE_EVENTS
from streams.redis.stored import ChannelRecord, StoredLog
from streams.times import rfc3339


class HistoryExtent(NamedTuple):
    """The range of a channel's history that can be read.

    Attributes:
        removed: the newest event that cannot be read any more.
        head_seq: the newest event that can be read.
        recorded_seq: the newest event that is known; an archive alone may not have it yet.
        deletion: the newest deletion of the channel, if it has been deleted.
        is_ended: nothing was written since; an archive may still have events from before.
    """

    removed: Position
    head_seq: int
    recorded_seq: int
    deletion: Deletion | None = None
    is_ended: bool = False


@dataclass(frozen=True, slots=True)
class AuditedChannel:
    """A channel in the auditor's list.

    Attributes:
        head_seq: its newest event, as Redis or a checkpoint names it.
        first_seq: its oldest event that can be read.
        hot_count: number of its events in Redis; None if no Redis was read.
        hot_bytes, archive_bytes: memory of the stream; bytes of the segments.
        archived_to, covered_to: the newest event in the archive; the newest one under a checkpoint; 0 if there is none.
        active_ms: time of the newest event that is known; None if there is none.
        fault: a sentence, if its manifest cannot be read.
        deletion: the deletion that ended it, if nothing was written since.
    """

    channel: Channel
    head_seq: int
    first_seq: int
    hot_count: int | None
    hot_bytes: int
    archive_bytes: int
    archived_to: int
    covered_to: int
    active_ms: int | None
    fault: str | None = None
    deletion: Deletion | None = None

    @property
    def count(self) -> int:
        """Number of events that can be read."""
        newest = self.archived_to if self.hot_count is None else self.head_seq
        return max(0, newest - self.first_seq + 1)

    @property
    def where(self) -> str:
        """`hot` if all of it is in Redis, `cold` if all is in the archive, `both`, or `none`."""
        is_hot, is_cold = bool(self.hot_count), self.archived_to >= self.first_seq
        return {(True, True): "both", (True, False): "hot", (False, True): "cold"}.get((is_hot, is_cold), "none")

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON."""
        facts: dict[str, Any] = {
            "channel": self.channel.wire,
            "head": self.head_seq,
            "count": self.count,
            "first": self.first_seq,
            "where": self.where,
            "hot": self.hot_count,
            "hot_bytes": self.hot_bytes,
            "archive_bytes": self.archive_bytes,
            "archived_to": self.archived_to or None,
            "covered_to": self.covered_to or None,
            "last_activity": None if self.active_ms is None else rfc3339(self.active_ms),
        }
        if (ended := self.deletion) is not None:
            facts["deleted"] = {"at": rfc3339(ended.at_ms), "by": ended.by, "to_seq": ended.seq}
        return facts | ({"fault": self.fault} if self.fault else {})


class HistorySource(Protocol):
    """A place with the histories of channels.

    All methods raise LogUnavailable if it does not answer, and ChannelUnverified for a channel that it does not know.
    """

    async def extent(self, channel: Channel) -> HistoryExtent:
        """The range that can be read."""
        ...

    async def page(self, channel: Channel, after: str = START, upto: str = "+") -> list[Entry]:
        """One page of events after `after`, oldest first, none newer than `upto`; an empty page is the end."""
        ...

    def channels(self, tenant: str, pattern: str = "*") -> AsyncIterator[AuditedChannel]:
        """The channels of a tenant that fit `kind:name`, or a name in any kind; `*` matches any text."""
        ...


class LoggedHistories:
    """The histories of a log, those that were archived included.

    Args:
        log: the log, with a reader of the archive.
        objects: the archive, for the size of segments; None if there is none.
        heads: the tenant's log of heads; it names channels that Redis has lost.
    """

    def __init__(self, log: StoredLog, objects: ArchiveObjects | None = None, heads: HeadRecord | None = None) -> None:
        self._log, self._objects = log, objects
        self._heads = heads or HeadRecord()
        self._deletions = _Deletions(log, objects, self._heads)

    async def extent(self, channel: Channel) -> HistoryExtent:
        """See HistorySource."""
        record = await self._log.record(channel)
        deletion = await self._deletion(channel, record)
        if not record.is_known and deletion is None:
            raise ChannelUnverified(f"no such channel: {channel.wire} of tenant {channel.tenant}")
        return HistoryExtent(self._log.floor_of(record), record.seq, record.seq, deletion, is_ended=not record.seq)

    async def page(self, channel: Channel, after: str = START, upto: str = "+") -> list[Entry]:
        """See HistorySource."""
        return await self._log.page(channel, after, upto)

    async def channels(self, tenant: str, pattern: str = "*") -> AsyncIterator[AuditedChannel]:
        """See HistorySource. Channels that only the archive knows come last."""
        seen = set[Channel]()
        async for one in listed_channels(self._log, tenant, pattern):
            seen.add(one.channel)
            yield await self._described(one.channel)
        for channel in _fitting(self._heads, tenant, pattern):
            if channel not in seen:
                yield await self._described(channel)

    async def _deletion(self, channel: Channel, record: ChannelRecord) -> Deletion | None:
        """The newest deletion, as Redis marks it; after a restore there is no mark, and its record alone tells."""
        if record.deletion is not None or record.is_known:
            return record.deletion
        found = await self._deletions.of(channel.tenant).last_of(channel)
        return found.deletion if found else None

    async def _described(self, channel: Channel) -> AuditedChannel:
        record = await self._log.record(channel)
        heads = self._heads.heads.get(channel.path)
        deletion = None if record.seq else await self._deletion(channel, record)
        if not record.is_known and heads and self._objects is not None:
            lost = replace(
                await _described_in_archive(self._objects, channel, heads[-1]), hot_count=0, deletion=deletion
            )
            is_told = lost.fault is not None or deletion is not None
            return lost if is_told else replace(lost, fault="Redis has no trace of this channel")
        newest = record.last_id or (record.covered.id if record.covered.seq else None)
        size_bytes, fault = 0, None
        if self._objects is not None and record.epoch is not None:
            folder = ChannelFolder(self._objects, channel, record.epoch)
            size_bytes, fault = await _archive_bytes(folder, record.mark.number)
        return AuditedChannel(
            channel,
            head_seq=record.seq,
            first_seq=self._log.floor_of(record).seq + 1,
            hot_count=record.seq - record.floor.seq if record.last_id else 0,
            hot_bytes=await self._log.memory_bytes(channel),
            archive_bytes=size_bytes,
            archived_to=record.mark.upto.seq if record.mark.number else 0,
            covered_to=record.covered.seq,
            active_ms=ms_of_id(newest) if newest else None,
            fault=fault,
            deletion=deletion,
        )


class ArchivedHistories:
    """The histories of an archive alone, without any Redis: of each channel the epoch that the newest checkpoint names.

    Args:
        objects: the archive.
        cold: reads its events.
        heads: the tenant's log of heads.
    """

    def __init__(self, objects: ArchiveObjects, cold: ColdReader, heads: HeadRecord) -> None:
        self._objects, self._cold, self._heads = objects, cold, heads
        self._places: dict[Channel, ArchivePlace] = {}
        self._deletions = _Deletions(None, objects, heads)

    async def extent(self, channel: Channel) -> HistoryExtent:
        """See HistorySource."""
        head, mark = self._head_of(channel), (await self._place(channel)).mark
        begin = mark.removed if mark.number else Position(START, head.begin)
        ended, last = await self._ended(channel), await self._deletions.of(channel.tenant).last_of(channel)
        return HistoryExtent(
            begin,
            mark.upto.seq if mark.number else head.begin,
            max(head.begin + head.size, ended.seq if ended else 0),
            last.deletion if last else None,
            is_ended=ended is not None,
        )

    async def page(self, channel: Channel, after: str = START, upto: str = "+") -> list[Entry]:
        """See HistorySource."""
        place = await self._place(channel)
        return await self._cold.after(place, after, PAGE_EVENTS, upto) if place.mark.number else []

    async def channels(self, tenant: str, pattern: str = "*") -> AsyncIterator[AuditedChannel]:
        """See HistorySource."""
        for channel in _fitting(self._heads, tenant, pattern):
            found = await _described_in_archive(self._objects, channel, self._head_of(channel))
            yield replace(found, deletion=await self._ended(channel))

    async def _ended(self, channel: Channel) -> Deletion | None:
        """The deletion that ended the newest life that a checkpoint names; None if none is in the archive."""
        found = await self._deletions.of(channel.tenant).of(channel, self._head_of(channel).epoch)
        return found.deletion if found else None

    def _head_of(self, channel: Channel) -> Head:
        heads = self._heads.heads.get(channel.path)
        if not heads:
            raise ChannelUnverified(f"no such channel in the archive: {channel.wire} of tenant {channel.tenant}")
        return heads[-1]

    async def _place(self, channel: Channel) -> ArchivePlace:
        if channel not in self._places:
            head = self._head_of(channel)
            manifest = await ChannelFolder(self._objects, channel, head.epoch).newest_manifest(head.manifest)
            mark = manifest.mark if manifest else ArchiveMark()
            self._places[channel] = ArchivePlace(channel, head.epoch, mark)
        return self._places[channel]


def _fitting(heads: HeadRecord, tenant: str, pattern: str) -> list[Channel]:
    kind_pattern, separator, name_pattern = pattern.rpartition(":")
    found = (channel_from_path(path) for path in sorted(heads.heads))
    return [
        one
        for one in found
        if one.tenant == tenant
        and fnmatchcase(one.name, name_pattern)
        and (not separator or fnmatchcase(one.kind.value, kind_pattern))
    ]


async def _described_in_archive(objects: ArchiveObjects, channel: Channel, head: Head) -> AuditedChannel:
    manifest, fault = None, None
    try:
        manifest = await ChannelFolder(objects, channel, head.epoch).newest_manifest(head.manifest)
    except ArchiveDiffers as error:
        fault = str(error)
    has_events = manifest is not None and bool(manifest.segments)
    return AuditedChannel(
        channel,
        head_seq=head.begin + head.size,
        first_seq=(manifest.removed.seq if manifest else head.begin) + 1,
        hot_count=None,
        hot_bytes=0,
        archive_bytes=sum(one.bytes for one in manifest.segments) if manifest else 0,
        archived_to=manifest.upto.seq if manifest else 0,
        covered_to=head.begin + head.size,
        active_ms=ms_of_id(manifest.upto.id) if manifest and has_events else None,
        fault=fault,
    )


async def _archive_bytes(folder: ChannelFolder, number: int) -> tuple[int, str | None]:
    if not number:
        return 0, None
    try:
        manifest = await folder.manifest(number)
    except ArchiveDiffers as error:
        return 0, str(error)
    if manifest is None:
        return 0, f"manifest {number} is missing"
    return sum(one.bytes for one in manifest.segments), None


class _Deletions:
    """The deletions on record, of each tenant that is asked for."""

    def __init__(self, log: StoredLog | None, objects: ArchiveObjects | None, heads: HeadRecord) -> None:
        self._log, self._objects, self._heads = log, objects, heads
        self._by_tenant: dict[str, DeletionRecords] = {}

    def of(self, tenant: str) -> DeletionRecords:
        if tenant not in self._by_tenant:
            heads = self._heads.heads.get(deletions_of(tenant).path, ())
            self._by_tenant[tenant] = DeletionRecords(tenant, self._log, self._objects, heads)
        return self._by_tenant[tenant]
