"""A tenant's log of heads: one leaf for each channel whose tree or manifest changed, and signed checkpoints over them.

The log has the layout of C2SP tlog-tiles, except that a checkpoint is an object of its own, because the store never overwrites.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from streams.archive.merkle import TILE_WIDTH, GrowingTree, entries_path, leaf_hash, pack_entries, unpack_entries
from streams.archive.notes import Checkpoint, NoteRefused, Signer, read_checkpoint
from streams.archive.objects import ArchiveObjects, TreeFolder, keep, log_folder, tell_foreign, widest
from streams.errors import ArchiveDiffers

_FORM: Final = "head/v1"
_NUMBER: Final = re.compile(r"\d{12}")


class Head(NamedTuple):
    """The tree and the manifest of one epoch of a channel, at one moment.

    Attributes:
        begin: the seq before the first event that the tree covers; event `seq` is leaf `seq - begin - 1`.
        manifest, manifest_sha256: number and digest of the newest manifest; 0 and "-" if nothing was archived.
    """

    channel: str
    epoch: str
    begin: int
    size: int
    root: bytes
    manifest: int = 0
    manifest_sha256: str = "-"

    def leaf(self) -> bytes:
        """The leaf of the tenant's log: words and a line end."""
        root = b64encode(self.root).decode()
        words = (_FORM, self.channel, self.epoch, self.begin, self.size, root, self.manifest, self.manifest_sha256)
        return " ".join(map(str, words)).encode() + b"\n"

    @classmethod
    def parse(cls, leaf: bytes) -> Head:
        """Read a leaf.

        Raises:
            ValueError: it is no head.
        """
        form, channel, epoch, begin, size, root, manifest, digest = leaf.decode().rstrip("\n").split(" ")
        if form != _FORM:
            raise ValueError(f"a head of the form {form}")
        return cls(channel, epoch, int(begin), int(size), b64decode(root, validate=True), int(manifest), digest)


class HeadLog:
    """The log of heads of one tenant.

    Args:
        name: the name of the hub; with the tenant it is the origin of the checkpoints.

    Attributes:
        tree: the tiles of the tree over the heads.
        origin: the first line of its checkpoints.
    """

    def __init__(self, objects: ArchiveObjects, tenant: str, name: str) -> None:
        self._objects = objects
        self._folder = log_folder(tenant)
        self.tree = TreeFolder(objects, self._folder)
        self.origin = f"{name}/{tenant}"

    async def checkpoint_count(self, at_least: int = 0) -> int:
        """The number of the newest checkpoint, also if one before it is missing; 0 if there is none.

        They are too many to be listed: one a minute makes half a million in a year. `at_least` is a number that was there.
        """
        low, step = at_least, 1
        while await self.checkpoint(high := low + step) is not None:
            low, step = high, 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if await self.checkpoint(middle) is None else (middle, high)
        return max(await self._numbers("checkpoint", low), default=low)

    async def _numbers(self, kind: str, after: int) -> list[int]:
        """The numbers of the objects of one folder that follow a number, in order."""
        folder = f"{self._folder}/{kind}/"
        found = {key: key.removeprefix(folder) for key in await self._objects.keys(folder, f"{folder}{after:012}")}
        for foreign in (key for key, name in found.items() if not _NUMBER.fullmatch(name)):
            tell_foreign(foreign)
        return sorted(int(name) for name in found.values() if _NUMBER.fullmatch(name))

    async def stamped(self, after: int = 0) -> list[int]:
        """The numbers of the checkpoints after this one that a time-stamping authority has stamped, in order."""
        return await self._numbers("stamp", after)

    async def stamp(self, number: int) -> bytes | None:
        """The stamp of a checkpoint; None if there is none."""
        return await self._objects.read(f"{self._folder}/stamp/{number:012}")

    async def keep_stamp(self, number: int, reply: bytes) -> None:
        """Store the stamp of a checkpoint; one that is there stays."""
        await self._objects.put(f"{self._folder}/stamp/{number:012}", reply)

    def _checkpoint_key(self, number: int) -> str:
        return f"{self._folder}/checkpoint/{number:012}"

    async def checkpoint(self, number: int) -> bytes | None:
        """A signed checkpoint, counted from 1; None if there is none."""
        return await self._objects.read(self._checkpoint_key(number))

    async def number_before(self, time_s: int, count: int) -> int:
        """The number of the newest checkpoint that is older than a time, out of `count`; 0 if there is none.

        It is where a search begins, and no proof of anything: a clock may have been set back.

        Raises:
            ArchiveDiffers: a checkpoint is damaged.
        """
        low, high = 0, count + 1
        while high - low > 1:
            middle = (low + high) // 2
            note = await self.checkpoint(middle)
            try:
                is_before = note is not None and read_checkpoint(note).time_s < time_s
            except NoteRefused as error:
                raise ArchiveDiffers(f"{self._checkpoint_key(middle)} is damaged: {error}") from error
            low, high = (middle, high) if is_before else (low, middle)
        return low

    async def leaves(self, size: int, first: int = 0) -> AsyncIterator[list[bytes]]:
        """The leaves from `first` on of the log at this size, bundle by bundle.

        Raises:
            ArchiveDiffers: a bundle is missing or damaged.
        """
        for number in range(first // TILE_WIDTH, -(-size // TILE_WIDTH)):
            width = min(TILE_WIDTH, size - number * TILE_WIDTH)
            key = f"{self._folder}/{entries_path(number, width)}"
            found = await self._objects.read(key)
            if found is None:  # the log has grown since, or lost its newest checkpoint
                found = await widest(self._objects, f"{self._folder}/{entries_path(number)}")
            try:
                leaves = unpack_entries(found or b"")[:width]
            except ValueError as error:
                raise ArchiveDiffers(f"{key} is damaged: {error}") from error
            if len(leaves) != width:
                raise ArchiveDiffers(f"{key} is missing" if found is None else f"{key} has {len(leaves)} entries")
            yield leaves[max(0, first - number * TILE_WIDTH) :]


class HeadWriter:
    """Appends to a tenant's log. There is one, the keeper's; a second one that is behind must begin anew.

    Args:
        number: the newest checkpoint.
        tree: the tree at its size.
        bundle: the leaves of the incomplete entry bundle.
    """

    def __init__(
        self, objects: ArchiveObjects, log: HeadLog, folder: str, number: int, tree: GrowingTree, bundle: list[bytes]
    ) -> None:
        self._objects, self._log, self._folder = objects, log, folder
        self._number, self._tree, self._bundle = number, tree, bundle

    @classmethod
    async def open(cls, objects: ArchiveObjects, log: HeadLog, tenant: str, size: int, number: int) -> HeadWriter:
        """Continue after checkpoint `number`, at which the log has `size` heads.

        Raises:
            ArchiveDiffers: tiles or entries of the log are missing.
        """
        tree, bundle = await log.tree.load(size), list[bytes]()
        if size % TILE_WIDTH:
            async for leaves in log.leaves(size, size // TILE_WIDTH * TILE_WIDTH):
                bundle = leaves
        return cls(objects, log, log_folder(tenant), number, tree, bundle)

    def root(self) -> bytes:
        """The root of the log at its present size."""
        return self._tree.root()

    async def append(self, heads: Sequence[Head], signer: Signer, now_s: int) -> None:
        """Append heads and sign the next checkpoint; entries and tiles are stored before it.

        A claim, stored first, fixes what the next checkpoint covers: keepers at the same number write the same objects, and the
        checkpoint of one that was killed is completed.

        Raises:
            ArchiveDiffers: another keeper made the next checkpoint; this writer is of no more use.
        """
        wanted = pack_entries([str(now_s).encode(), *(head.leaf() for head in heads)])
        while (claimed := await self._claim(wanted)) != wanted:
            await self._complete(claimed, signer)
        await self._complete(wanted, signer)

    async def _claim(self, wanted: bytes) -> bytes:
        """Claim the next checkpoint; returns the claim that holds, which may be another keeper's."""
        key, name = self._claim_key(), self._checkpoint_key()
        is_mine = await self._objects.put(key, wanted)
        claimed = wanted if is_mine else await self._objects.read(key)
        if claimed is None or await self._objects.read(name) is not None:  # a claim goes once its checkpoint is there
            if is_mine:
                await self._objects.delete(key)
            raise ArchiveDiffers(f"{name} is there already: another keeper is at work")
        return claimed

    def _claim_key(self) -> str:
        return f"{self._folder}/claim/{self._number + 1:012}"

    def _checkpoint_key(self) -> str:
        return f"{self._folder}/checkpoint/{self._number + 1:012}"

    async def _complete(self, claimed: bytes, signer: Signer) -> None:
        try:
            time_s, *leaves = unpack_entries(claimed)
            now_s = int(time_s)
        except ValueError as error:
            raise ArchiveDiffers(f"{self._claim_key()} is damaged: {error}") from error
        before = self._tree.size
        held, full = [*self._bundle, *leaves], before // TILE_WIDTH
        while len(held) >= TILE_WIDTH:
            await self._replace(entries_path(full), pack_entries(held[:TILE_WIDTH]))
            held, full = held[TILE_WIDTH:], full + 1
        tiles = self._tree.append([leaf_hash(leaf) for leaf in leaves])
        if held:
            await self._replace(entries_path(full, len(held)), pack_entries(held))
        for tile in (*tiles, *self._tree.partial()):
            await self._replace(tile.path, tile.hashes)
        checkpoint = Checkpoint(self._log.origin, self._tree.size, self._tree.root(), (f"time {now_s}",))
        name, claim = self._checkpoint_key(), self._claim_key()
        if not await self._objects.put(name, checkpoint.signed(signer)):
            await self._require_same(name, checkpoint)
        await self._objects.delete(claim)
        self._bundle, self._number = held, self._number + 1
        await self._log.tree.forget_partial(before, self._tree.size)
        if before % TILE_WIDTH:
            await self._objects.delete(f"{self._folder}/{entries_path(before // TILE_WIDTH, before % TILE_WIDTH)}")

    async def _require_same(self, name: str, checkpoint: Checkpoint) -> None:
        found = await self._objects.read(name)
        try:
            there = read_checkpoint(found or b"")
        except NoteRefused as error:
            raise ArchiveDiffers(f"{name} is damaged: {error}") from error
        if (there.size, there.root) != (checkpoint.size, checkpoint.root):
            raise ArchiveDiffers(f"{name} covers other heads than its claim: another keeper is at work")

    async def _replace(self, path: str, data: bytes) -> None:
        """Store an object of the claimed checkpoint; one that no claim covered gives way."""
        key = f"{self._folder}/{path}"
        if not await self._objects.put(key, data) and await self._objects.read(key) != data:
            await self._objects.delete(key)
            await keep(self._objects, key, data)
