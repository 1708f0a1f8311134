"""Proofs: that an event is under a checkpoint, and that one checkpoint continues another.

A proof of an event needs no hub, Redis or archive to be checked: the event's bytes, the proof and public keys are enough.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from streams.archive.heads import Head
from streams.archive.merkle import (
    HASH_BYTES,
    TILE_WIDTH,
    consistency_ranges,
    fold,
    inclusion_ranges,
    is_consistent,
    is_included,
    leaf_hash,
    nodes_of,
    split_hashes,
)
from streams.archive.notes import NoteRefused, Opened, PublicKey, open_checkpoint
from streams.archive.objects import TreeFolder

FORMAT: Final = "event-proof/v1"
CONSISTENCY_FORMAT: Final = "consistency-proof/v1"


class ProofRefused(ValueError):
    """The proof is malformed, or does not prove the event."""


async def inclusion_path(tree: TreeFolder, index: int, size: int) -> list[bytes]:
    """The proof that a leaf is in the tree of this size.

    Raises:
        ArchiveDiffers: a tile is missing.
    """
    return await _path(tree, inclusion_ranges(index, size), size)


async def consistency_path(tree: TreeFolder, old: int, size: int) -> list[bytes]:
    """The proof that the tree of `old` leaves is the beginning of the one of `size`.

    Raises:
        ArchiveDiffers: a tile is missing.
    """
    return await _path(tree, consistency_ranges(old, size), size)


async def _path(tree: TreeFolder, ranges: Sequence[tuple[int, int]], size: int) -> list[bytes]:
    tiles: dict[tuple[int, int], bytes] = {}
    found = []
    for low, high in ranges:
        hashes = []
        for subtree in nodes_of(low, high):
            level, number = subtree.tile
            if (level, number) not in tiles:
                width = min(TILE_WIDTH, (size >> (8 * level)) - number * TILE_WIDTH)
                tiles[level, number] = await tree.tile_at_least(level, number, width)
            hashes.append(subtree.hash_in(tiles[level, number]))
        found.append(fold(hashes))
    return found


@dataclass(frozen=True, slots=True)
class EventProof:
    """The proof that an event is in its channel's tree, whose root is in the tenant's log, whose head is signed.

    Attributes:
        seq: the event's seq.
        path: from the event to the root in the head.
        head: the leaf of the tenant's log.
        head_index, head_path: its place there, and the path from it to the checkpoint's root.
        checkpoint: the signed checkpoint.
    """

    seq: int
    path: tuple[bytes, ...]
    head: Head
    head_index: int
    head_path: tuple[bytes, ...]
    checkpoint: bytes

    def to_json(self) -> bytes:
        """The proof as text; hashes are joined."""
        facts = {
            "format": FORMAT,
            "seq": self.seq,
            "path": b64encode(b"".join(self.path)).decode(),
            "head": self.head.leaf().decode(),
            "head_index": self.head_index,
            "head_path": b64encode(b"".join(self.head_path)).decode(),
            "checkpoint": self.checkpoint.decode(),
        }
        return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> EventProof:
        """Read the text.

        Raises:
            ProofRefused: it is no proof.
        """
        try:
            facts = json.loads(data)
            if facts["format"] != FORMAT:
                raise ProofRefused(f"a proof of the format {facts['format']}, this version reads {FORMAT}")
            paths = [_split(facts[name]) for name in ("path", "head_path")]
            head, note = Head.parse(facts["head"].encode()), facts["checkpoint"].encode()
            return cls(int(facts["seq"]), paths[0], head, int(facts["head_index"]), paths[1], note)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProofRefused(str(error) if isinstance(error, ProofRefused) else "this is not a proof") from error

    def check(self, line: bytes, keys: Iterable[PublicKey]) -> Opened:
        """Check that the event with these bytes, as on the wire, is under the checkpoint; returns the checkpoint.

        Raises:
            ProofRefused: it is not, or none of the keys has signed the checkpoint.
        """
        try:
            opened = open_checkpoint(self.checkpoint, keys)
        except NoteRefused as error:
            raise ProofRefused(f"the checkpoint cannot be trusted: {error}") from error
        head, top = self.head, opened.checkpoint
        if top.origin.rpartition("/")[2] != head.channel.partition(":")[0]:
            raise ProofRefused("the checkpoint is of another tenant")
        if not is_included(self.head_index, top.size, leaf_hash(head.leaf()), self.head_path, top.root):
            raise ProofRefused("the channel's head is not in the log under the checkpoint")
        if not is_included(self.seq - head.begin - 1, head.size, leaf_hash(line), self.path, head.root):
            raise ProofRefused(f"these bytes are not event {self.seq} of {head.channel}")
        return opened


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """The proof that a log continues one that had `old_size` heads.

    Attributes:
        checkpoint: the signed checkpoint of the continued log.
    """

    old_size: int
    path: tuple[bytes, ...]
    checkpoint: bytes

    def to_json(self) -> bytes:
        """The proof as text; hashes are joined."""
        facts = {
            "format": CONSISTENCY_FORMAT,
            "old_size": self.old_size,
            "path": b64encode(b"".join(self.path)).decode(),
            "checkpoint": self.checkpoint.decode(),
        }
        return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> ConsistencyProof:
        """Read the text.

        Raises:
            ProofRefused: it is no such proof.
        """
        try:
            facts = json.loads(data)
            if facts["format"] != CONSISTENCY_FORMAT:
                raise ProofRefused(f"a proof of the format {facts['format']}, this version reads {CONSISTENCY_FORMAT}")
            return cls(int(facts["old_size"]), _split(facts["path"]), facts["checkpoint"].encode())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProofRefused(str(error) if isinstance(error, ProofRefused) else "this is not a proof") from error

    def check(self, known: bytes, keys: Sequence[PublicKey]) -> tuple[Opened, Opened]:
        """Check that the checkpoint continues the known one; returns both, opened.

        Raises:
            ProofRefused: it does not, or none of the keys has signed one of them.
        """
        try:
            before, now = open_checkpoint(known, keys), open_checkpoint(self.checkpoint, keys)
        except NoteRefused as error:
            raise ProofRefused(f"a checkpoint cannot be trusted: {error}") from error
        old, new = before.checkpoint, now.checkpoint
        if old.origin != new.origin:
            raise ProofRefused(f"the checkpoints are of two logs, {old.origin} and {new.origin}")
        if old.size != self.old_size:
            raise ProofRefused(f"the proof is about a checkpoint with {self.old_size} heads, this one has {old.size}")
        if not is_consistent(old.size, new.size, self.path, old.root, new.root):
            raise ProofRefused(f"the log was forked: its first {old.size} heads are not those of the known checkpoint")
        return before, now


def _split(joined: str) -> tuple[bytes, ...]:
    raw = b64decode(joined, validate=True)
    if len(raw) % HASH_BYTES:
        raise ProofRefused("a path has a broken hash")
    return tuple(split_hashes(raw))
