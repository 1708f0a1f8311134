"""Restores the channels of a tenant from the archive into an empty Redis, so that clients resume from the cursors they hold.

A channel keeps its epoch if all that was recorded of it is in the archive: each cursor then resumes exactly. If newer events were
lost with Redis, it may begin another epoch with the archived events: cursors get the gap `epoch_changed`, and nobody takes an
event that is written now for one that is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from ops.cli.failure import CommandFailed
from streams.archive.heads import Head
from streams.archive.manifest import ArchiveSegment, Manifest
from streams.archive.objects import ArchiveObjects, ChannelFolder
from streams.archive.segments import SegmentCodec, read_line
from streams.audit.deletion_records import DeletionRecords
from streams.channel import Channel
from streams.errors import ArchiveDiffers
from streams.records.archive import ArchiveRecords, ChannelFacts, DamagedFacts
from streams.records.deletions import deletions_of
from streams.records.rebuilding import RebuiltRecords, RestoredChannels
from streams.redis.log import Log
from streams.redis.server import new_epoch


class Restorable(NamedTuple):
    """A channel as the archive has it.

    Attributes:
        lost: number of events that were recorded, but are not in the archive.
    """

    channel: Channel
    epoch: str
    manifest: Manifest | None
    lost: int


class ChannelRestorer:
    """Restores channels.

    Args:
        log: the log to restore into.
        objects: the archive.
        heads: for each channel's path, its heads, oldest first, as verified.
    """

    def __init__(self, log: Log, objects: ArchiveObjects, heads: Mapping[str, Sequence[Head]]) -> None:
        self._objects, self._heads = objects, heads
        self._records, self._restored = ArchiveRecords(log), RestoredChannels(log)
        self._codec = SegmentCodec()

    async def find(self, channels: Iterable[Channel]) -> list[Restorable]:
        """These channels as the archive has them, but for those that were deleted and not written since.

        Raises:
            ArchiveDiffers: a manifest is missing, or is not the one under the checkpoint.
        """
        channels = sorted(channels)
        gone = await self._deleted(channels[0].tenant) if channels else set()
        found = []
        for channel in channels:
            head = self._heads[channel.path][-1]
            if (channel.wire, head.epoch) not in gone:
                found.append(await self._find(channel, head))
        return found

    async def _find(self, channel: Channel, head: Head) -> Restorable:
        folder = ChannelFolder(self._objects, channel, head.epoch)
        manifest = await folder.newest_manifest(head.manifest)
        if manifest is not None and manifest.number == head.manifest and manifest.sha256 != head.manifest_sha256:
            raise ArchiveDiffers(f"manifest {manifest.number} of {folder.path} is not the one under the checkpoint")
        archived = manifest.upto.seq if manifest else 0
        return Restorable(channel, head.epoch, manifest, max(0, head.begin + head.size - archived))

    async def _deleted(self, tenant: str) -> set[tuple[str, str]]:
        """The channels that were deleted, with the epoch that ended: the records of all lives of `system:deletions` count.

        Raises:
            ArchiveDiffers: one of them cannot be read; a channel that was deleted might come back.
        """
        place = deletions_of(tenant)
        records = DeletionRecords(tenant, None, self._objects, self._heads.get(place.path, ()))
        if faults := await records.faults():
            raise ArchiveDiffers(f"the records of deletions cannot all be read: {faults[0]}")
        return await records.lives()

    async def _lines(self, folder: ChannelFolder, segment: ArchiveSegment) -> list[bytes]:
        data = await folder.segment(segment)
        if data is None or sha256(data).hexdigest() != segment.sha256:
            raise ArchiveDiffers(f"{folder.path}/{segment.name} is {'missing' if data is None else 'damaged'}")
        return self._codec.all_lines(data, segment.index_at)

    async def restore(self, one: Restorable) -> dict[str, Any]:
        """Restore a channel; returns what was done. One that is there already in this epoch stays as it is.

        Raises:
            CommandFailed: Redis has other events under this name.
            ArchiveDiffers: its archive is damaged.
        """
        channel, manifest = one.channel, one.manifest
        there = await self._records.facts(channel)
        told = {"channel": channel.wire, "events": manifest.upto.seq if manifest else 0, "lost": one.lost}
        if isinstance(there, ChannelFacts) and (there.epoch == one.epoch or one.lost):
            return told | {"restored": False}
        if there is not None and (isinstance(there, DamagedFacts) or there.seq):
            raise CommandFailed(f"{channel.wire} has events in Redis already: restore into an empty one")
        if manifest is None or not manifest.segments:
            return told | {"restored": False}
        folder = ChannelFolder(self._objects, channel, one.epoch)
        records = RebuiltRecords(channel)
        now = one.epoch if not one.lost else new_epoch()
        for segment in manifest.segments:
            for line in await self._lines(folder, segment):
                records.take(read_line(line))
        if one.lost:
            manifest = await self._copy(folder, ChannelFolder(self._objects, channel, now), manifest)
        for name, fields in records.hashes.items():
            await self._restored.put_record(channel, name, fields)
        await self._restored.begin(channel, now, manifest, is_covered=not one.lost)
        return told | {"restored": True, "epoch": now}

    async def _copy(self, folder: ChannelFolder, target: ChannelFolder, manifest: Manifest) -> Manifest:
        """Copy the segments into the folder of another epoch. Their lines name no epoch, so they are the same bytes."""
        await target.write_begin(manifest.removed)
        made = Manifest.first(target.channel, target.epoch, manifest.removed)
        for segment in manifest.segments:
            await target.write_segment(segment, await folder.segment(segment) or b"")
            made = made.with_segment(segment)
            await target.write_manifest(made)
        return made
