"""Makes proofs from the archive: that an event is under the newest checkpoint, and that this one continues an older one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streams.archive.heads import Head, HeadLog
from streams.archive.merkle import leaf_hash
from streams.archive.notes import Checkpoint, NoteRefused, read_checkpoint
from streams.archive.objects import ArchiveObjects, ChannelFolder
from streams.archive.proofs import ConsistencyProof, EventProof, consistency_path, inclusion_path
from streams.archive.segments import line_of
from streams.channel import Channel
from streams.cursor import ms_of_id
from streams.envelope import Entry
from streams.errors import ArchiveDiffers

_SLACK_S: Final = 120
"""Seconds by which the clocks of Redis and of the keeper may differ without a longer search."""


class NotCovered(ArchiveDiffers):
    """No checkpoint covers the event yet, or the search for one that does was given up."""


@dataclass(slots=True)
class Prover:
    """Proves what a tenant's log of heads covers.

    Args:
        objects: the archive.
        tenant: the tenant.
        checkpoint_count: number of checkpoints that are known to be there.
        bundles_max: maximum number of entry bundles, of 256 heads each, that a proof searches; None searches them all.

    Attributes:
        bundle_count: number of bundles that were searched.
    """

    objects: ArchiveObjects
    tenant: str
    checkpoint_count: int = 0
    bundles_max: int | None = None
    bundle_count: int = 0

    async def newest(self) -> bytes:
        """The newest checkpoint, as a signed note.

        Raises:
            NotCovered: there is none.
        """
        log = HeadLog(self.objects, self.tenant, "")
        self.checkpoint_count = await log.checkpoint_count(self.checkpoint_count)
        note = await log.checkpoint(self.checkpoint_count) if self.checkpoint_count else None
        if note is None:
            raise NotCovered(f"tenant {self.tenant} has no checkpoint")
        return note

    async def event(self, channel: Channel, entry: Entry) -> EventProof:
        """The proof that an event, given as it is stored, is under the newest checkpoint.

        Raises:
            NotCovered: no checkpoint covers the event, or none was found within `bundles_max`.
            ArchiveDiffers: a tile, an entry or a checkpoint is missing or damaged.
        """
        log, note = HeadLog(self.objects, self.tenant, ""), await self.newest()
        seq, size = entry.seq, _opened(note).size
        before = await log.number_before(ms_of_id(entry.id.decode()) // 1_000 - _SLACK_S, self.checkpoint_count)
        older = await log.checkpoint(before) if before else None
        first = _opened(older).size if older else 0
        found = await self._search(log, channel, entry, first, size)
        if found is None and first and self.bundles_max is None:  # a clock was set back
            found = await self._search(log, channel, entry, 0, size)
        if found is None:
            raise NotCovered(
                f"event {seq} of {channel.wire} is under no checkpoint that was looked at; they follow each other by the minute"
            )
        index, head = found
        tree = ChannelFolder(self.objects, channel, head.epoch).tree
        path = await inclusion_path(tree, seq - head.begin - 1, head.size)
        head_path = await inclusion_path(log.tree, index, size)
        return EventProof(seq, tuple(path), head, index, tuple(head_path), note)

    async def _search(
        self, log: HeadLog, channel: Channel, entry: Entry, first: int, size: int
    ) -> tuple[int, Head] | None:
        """The first head from index `first` on that covers the event, with its index.

        The heads of an epoch that recorded another event with this seq count only if there are no others: the channel may have
        begun anew since.
        """
        leaf, at = leaf_hash(line_of(entry, channel.wire.encode())), first
        others: dict[str, tuple[int, Head]] = {}
        async for leaves in log.leaves(size, first):
            if self.bundles_max is not None and self.bundle_count >= self.bundles_max:
                break
            self.bundle_count += 1
            for raw in leaves:
                head = _head(raw, at)
                is_near = head.channel == channel.path and head.begin < entry.seq <= head.begin + head.size
                if is_near and head.epoch not in others:
                    if await self._leaf(channel, head, entry.seq) == leaf:
                        return at, head
                    others[head.epoch] = at, head
                at += 1
        return next(iter(others.values()), None)

    async def _leaf(self, channel: Channel, head: Head, seq: int) -> bytes:
        tree, at = ChannelFolder(self.objects, channel, head.epoch).tree, seq - head.begin - 1
        return b"".join([one async for several in tree.hashes(at, at + 1, head.size) for one in several])

    async def consistency(self, old_size: int) -> ConsistencyProof:
        """The proof that the newest checkpoint continues one with `old_size` heads.

        Raises:
            NotCovered: there is no checkpoint, or it has fewer heads.
            ArchiveDiffers: a tile is missing, or the checkpoint is damaged.
        """
        note = await self.newest()
        size = _opened(note).size
        if not 0 < old_size <= size:
            raise NotCovered(f"the newest checkpoint has {size} heads, not {old_size} or more")
        tree = HeadLog(self.objects, self.tenant, "").tree
        path = await consistency_path(tree, old_size, size) if old_size < size else []
        return ConsistencyProof(old_size, tuple(path), note)


def _opened(note: bytes) -> Checkpoint:
    try:
        return read_checkpoint(note)
    except NoteRefused as error:
        raise ArchiveDiffers(f"a checkpoint is damaged: {error}") from error


def _head(leaf: bytes, index: int) -> Head:
    try:
        return Head.parse(leaf)
    except ValueError as error:
        raise ArchiveDiffers(f"head {index} of the log is damaged: {error}") from error
