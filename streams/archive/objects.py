"""The places of the archive in an object store, and the records of one channel there."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Final, Protocol

from streams.archive.manifest import ArchiveSegment, Manifest, ManifestDamaged, manifest_name
from streams.archive.merkle import HASH_BYTES, TILE_WIDTH, GrowingTree, Tile, split_hashes, tile_path, tiles_of
from streams.channel import Channel
from streams.cursor import Position
from streams.errors import ArchiveDiffers

_SEGMENT: Final = re.compile(r"segment/\d{16}-(\d{16})\.jsonl\.zst")
_FOREIGN_MAX: Final = 1_000
_log: Final = logging.getLogger(__name__)
_AT_ONCE: Final = 8
"""Number of tiles that are stored at a time."""


class ArchiveObjects(Protocol):
    """A store of objects that are never overwritten. All methods raise ArchiveUnavailable if it does not answer."""

    async def put(self, key: str, data: bytes) -> bool:
        """Store an object; False if the key holds one already, which then stays."""

    async def read(self, key: str, start: int = 0, size: int | None = None) -> bytes | None:
        """The bytes from `start` on, at most `size`; None if there is no such object."""

    async def keys(self, prefix: str, after: str = "") -> list[str]:
        """The keys that begin with `prefix` and follow `after`, sorted."""

    async def delete(self, key: str) -> None:
        """Remove an object; does nothing if there is none."""


async def keep(objects: ArchiveObjects, key: str, data: bytes) -> None:
    """Store an object, or find it stored with the same bytes.

    Raises:
        ArchiveDiffers: the key holds other bytes.
    """
    if not await objects.put(key, data) and (found := await objects.read(key)) != data:
        told = "is empty" if not found else f"holds {len(found)} other bytes"
        raise ArchiveDiffers(f"{key} {told}: somebody has changed the archive, or the events after they were recorded")


async def widest(objects: ArchiveObjects, whole: str) -> bytes | None:
    """A tile or an entry bundle under the key that it has when it is full, or else the widest incomplete one there is."""
    if (found := await objects.read(whole)) is not None:
        return found
    names = [key.rpartition("/")[2] for key in await objects.keys(f"{whole}.p/")]
    widths = [int(name) for name in names if name.isascii() and name.isdecimal()]
    return await objects.read(f"{whole}.p/{max(widths)}") if widths else None


class TreeFolder:
    """The tiles of one tree.

    Args:
        folder: the tree's folder, without a slash at the end.
    """

    def __init__(self, objects: ArchiveObjects, folder: str) -> None:
        self._objects = objects
        self._folder = folder

    async def load(self, size: int) -> GrowingTree:
        """The tree of this size; incomplete tiles of a later size will do.

        Raises:
            ArchiveDiffers: one of its tiles is missing or damaged.
        """
        found: dict[int, bytes] = {}
        for level, number, width in tiles_of(size):
            if width % TILE_WIDTH:
                found[level] = await self.tile_at_least(level, number, width)
        return GrowingTree.load(size, lambda level, _number, _width: found[level])

    async def tile_at_least(self, level: int, number: int, width: int) -> bytes:
        """The first `width` hashes of a tile, which may have more by now.

        Raises:
            ArchiveDiffers: it is missing, or too short.
        """
        try:
            return await self.tile(level, number, width)
        except ArchiveDiffers:
            later = await widest(self._objects, f"{self._folder}/{tile_path(level, number)}")
            if later is None or len(later) < width * HASH_BYTES:
                raise
            return later[: width * HASH_BYTES]

    async def tile(self, level: int, number: int, width: int = TILE_WIDTH) -> bytes:
        """The hashes of a tile.

        Raises:
            ArchiveDiffers: it is missing, or too short.
        """
        key = f"{self._folder}/{tile_path(level, number, width)}"
        found = await self._objects.read(key)
        if found is None:
            raise ArchiveDiffers(f"tile {key} is missing")
        if len(found) != width * HASH_BYTES:
            raise ArchiveDiffers(f"tile {key} has {len(found)} bytes, not {width * HASH_BYTES}")
        return found

    async def hashes(self, low: int, high: int, size: int) -> AsyncIterator[list[bytes]]:
        """The hashes of the leaves from `low` to `high` (exclusive) of a tree of `size`, or larger by now, tile by tile.

        Raises:
            ArchiveDiffers: a tile is missing.
        """
        for number in range(low // TILE_WIDTH, -(-high // TILE_WIDTH)):
            first = number * TILE_WIDTH
            width = min(TILE_WIDTH, size - first)
            tile = await (self.tile(0, number) if width == TILE_WIDTH else self.tile_at_least(0, number, width))
            found = split_hashes(tile)
            yield found[max(low - first, 0) : high - first]

    async def differences(self, tiles: Iterable[Tile]) -> AsyncIterator[tuple[int, str]]:
        """Compare stored tiles with these, which follow from the leaves; incomplete ones of a later size will do.

        Yields a sentence for each that differs, after the number of the first leaf below its first wrong hash.
        """
        for level, number, hashes in tiles:
            at = 0
            try:
                found = await self.tile_at_least(level, number, len(hashes) // HASH_BYTES)
            except ArchiveDiffers as error:
                told = str(error)
            else:
                if found == hashes:
                    continue
                pairs = zip(split_hashes(found), split_hashes(hashes), strict=True)
                at = next(at for at, (one, other) in enumerate(pairs) if one != other)
                told = (
                    f"tile {self._folder}/{tile_path(level, number)} does not fit the leaves below it: it was changed"
                )
            yield (number * TILE_WIDTH + at) * TILE_WIDTH**level, told

    async def write(self, full: list[Tile], tree: GrowingTree) -> None:
        """Store the tiles that were completed, and the incomplete ones of this size."""
        tiles = [*full, *tree.partial()]
        for at in range(0, len(tiles), _AT_ONCE):
            several = tiles[at : at + _AT_ONCE]
            await asyncio.gather(*(keep(self._objects, f"{self._folder}/{one.path}", one.hashes) for one in several))

    async def forget_partial(self, size: int, now: int) -> None:
        """Remove the incomplete tiles that only a tree of `size` had, now that it has grown."""
        current = set(tiles_of(now))
        for level, number, width in tiles_of(size):
            if width % TILE_WIDTH and (level, number, width) not in current:
                await self._objects.delete(f"{self._folder}/{tile_path(level, number, width)}")


def channel_folder(channel: Channel, epoch: str) -> str:
    """The folder of one epoch of a channel."""
    return f"{channel.tenant}/{channel.wire}/{epoch}"


def log_folder(tenant: str) -> str:
    """The folder of a tenant's log of heads."""
    return f"{tenant}/log"


_BEGIN: Final = "begin.json"
_NOTE: Final = "begun-anew"


class ChannelFolder:
    """The archive of one epoch of a channel.

    Attributes:
        tree: the tiles of the tree over its events.
    """

    def __init__(self, objects: ArchiveObjects, channel: Channel, epoch: str) -> None:
        self._objects = objects
        self.channel, self.epoch = channel, epoch
        self.path = channel_folder(channel, epoch)
        self.tree = TreeFolder(objects, self.path)

    async def begin(self) -> Position | None:
        """The position before the first event that the tree covers; None if nothing was recorded."""
        found = await self._objects.read(f"{self.path}/{_BEGIN}")
        if found is None:
            return None
        try:
            facts = json.loads(found)
            return Position(facts["id"], facts["seq"])
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveDiffers(f"{self.path}/{_BEGIN} is damaged") from error

    async def write_begin(self, position: Position) -> None:
        """Record the position before the first event."""
        await keep(self._objects, f"{self.path}/{_BEGIN}", json.dumps(position._asdict()).encode())

    async def note(self) -> bytes | None:
        """The signed record of the reason why this epoch was begun; None for most."""
        return await self._objects.read(f"{self.path}/{_NOTE}")

    async def write_note(self, note: bytes) -> None:
        """Record the reason why this epoch is begun."""
        await keep(self._objects, f"{self.path}/{_NOTE}", note)

    async def manifest(self, number: int) -> Manifest | None:
        """The manifest with this number; None if there is none.

        Raises:
            ArchiveDiffers: it is damaged, or of another channel.
        """
        name = f"{self.path}/{manifest_name(number)}"
        found = await self._objects.read(name)
        if found is None:
            return None
        try:
            manifest = Manifest.parse(found)
        except ManifestDamaged as error:
            raise ArchiveDiffers(f"{name}: {error}") from error
        if (manifest.channel, manifest.epoch, manifest.number) != (self.channel.path, self.epoch, number):
            raise ArchiveDiffers(f"{name} is the manifest of another channel, epoch or number")
        return manifest

    async def newest_manifest(self, at_least: int) -> Manifest | None:
        """The newest manifest, looked for from number `at_least` on; None if there is none at all.

        Raises:
            ArchiveDiffers: the one with number `at_least` is missing: the archive was rolled back.
        """
        found = await self.manifest(at_least) if at_least else None
        if at_least and found is None:
            raise ArchiveDiffers(f"{self.path}/{manifest_name(at_least)} is missing: the archive was rolled back")
        while (later := await self.manifest((found.number if found else 0) + 1)) is not None:
            found = later
        return found

    async def write_manifest(self, manifest: Manifest) -> None:
        """Store a manifest."""
        await keep(self._objects, f"{self.path}/{manifest.name}", manifest.to_json())

    async def write_segment(self, segment: ArchiveSegment, data: bytes) -> None:
        """Store a segment, and read it back.

        Raises:
            ArchiveDiffers: the store returned other bytes.
        """
        key = f"{self.path}/{segment.name}"
        await self._objects.put(key, data)
        found = await self._objects.read(key)
        if found is None or sha256(found).hexdigest() != segment.sha256:
            raise ArchiveDiffers(f"{key} was not read back as it was written")

    async def stored_segment_end(self, first_seq: int) -> int | None:
        """The last seq of a stored segment that begins with this seq, which a keeper may have left without a manifest."""
        names = await self._objects.keys(f"{self.path}/segment/{first_seq:016}-")
        found = [last for name in names if (last := self._last_seq_of(name)) is not None]
        return found[0] if found else None

    async def segment(self, segment: ArchiveSegment, start: int = 0, size: int | None = None) -> bytes | None:
        """The bytes of a segment, or a part of them; None if it is missing."""
        return await self._objects.read(f"{self.path}/{segment.name}", start, size)

    async def delete_segments(self, upto_seq: int) -> None:
        """Remove the segments that end at this seq or before it, listed by a manifest or left by a keeper that was killed."""
        for name in await self._objects.keys(f"{self.path}/segment/"):
            last = self._last_seq_of(name)
            if last is not None and last > upto_seq:
                return
            if last is not None:
                await self._objects.delete(name)

    def _last_seq_of(self, name: str) -> int | None:
        """The last seq in a segment's name; None for an object that the hub did not write, which stays and is told."""
        found = _SEGMENT.fullmatch(name.removeprefix(f"{self.path}/"))
        if found is None:
            tell_foreign(name)
        return None if found is None else int(found[1])


@lru_cache(maxsize=_FOREIGN_MAX)
def tell_foreign(name: str) -> None:
    """Tell of an object that the hub did not write, once for each."""
    _log.warning("the archive has an object that the hub did not write, which is passed over: %s", name)
