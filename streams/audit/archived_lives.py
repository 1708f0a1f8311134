"""All lives of one channel in the archive, read for the hub's own records: a life ends when Redis loses the channel.

Records of deletions and erasures count for ever, and those of a former life are in the archive alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from hashlib import sha256

from streams.archive.heads import Head
from streams.archive.manifest import ArchiveSegment, Manifest
from streams.archive.objects import ArchiveObjects, ChannelFolder
from streams.archive.segments import SegmentCodec, SegmentDamaged, read_line
from streams.audit.archive_check import RecordedLeaves, read_leaves
from streams.channel import Channel
from streams.envelope import Entry
from streams.errors import ArchiveDiffers


class ArchivedLives:
    """Reads the events of all lives of a channel that the archive has, each compared with its leaf under a checkpoint.

    Args:
        objects: the archive.
        channel: the channel.
        heads: the channel's heads as verified, oldest first.

    Attributes:
        unread: after `entries`, the number of events by epoch that are recorded there and not in the archive.
        faults: after `entries`, what cannot be read or is not as it was recorded, as sentences.
    """

    def __init__(self, objects: ArchiveObjects, channel: Channel, heads: Sequence[Head]) -> None:
        self.unread: dict[str, int] = {}
        self.faults: list[str] = []
        self._objects, self._channel, self._heads = objects, channel, heads
        self._codec = SegmentCodec()

    async def entries(self, present: str | None = None) -> AsyncIterator[Entry]:
        """The events, life by life, each in order; without those of the life with the epoch `present`, which a log has."""
        for epoch in dict.fromkeys(head.epoch for head in self._heads if head.epoch != present):
            heads = [head for head in self._heads if head.epoch == epoch]
            folder = ChannelFolder(self._objects, self._channel, epoch)
            leaves = await read_leaves(folder, heads, lambda _seq, fault: self.faults.append(fault))
            count, upto = 0, heads[-1].begin + heads[-1].size
            try:
                manifest = await self._manifest(folder, heads[-1])
                upto = max(upto, manifest.upto.seq if manifest else 0)
                for segment in manifest.segments if manifest else ():
                    for entry in await self._segment(folder, segment, leaves):
                        count += 1
                        yield entry
            except ArchiveDiffers as error:
                self.faults.append(str(error))
            self.unread[epoch] = upto - heads[-1].begin - count

    async def _manifest(self, folder: ChannelFolder, head: Head) -> Manifest | None:
        found = await folder.newest_manifest(head.manifest)
        if found is not None and found.number == head.manifest and found.sha256 != head.manifest_sha256:
            raise ArchiveDiffers(f"manifest {found.number} of {folder.path} is not the one under the checkpoint")
        return found

    async def _segment(self, folder: ChannelFolder, segment: ArchiveSegment, leaves: RecordedLeaves) -> list[Entry]:
        data, name = await folder.segment(segment), f"{folder.path}/{segment.name}"
        if data is None or sha256(data).hexdigest() != segment.sha256:
            raise ArchiveDiffers(f"{name} is {'missing' if data is None else 'damaged'}")
        try:
            entries = [read_line(line) for line in self._codec.all_lines(data, segment.index_at)]
        except SegmentDamaged as error:
            raise ArchiveDiffers(f"{name} is damaged: {error}") from error
        for entry in entries:
            if (fault := leaves.fault_of(entry, self._channel.wire.encode())) is not None:
                raise ArchiveDiffers(fault)
        return entries
