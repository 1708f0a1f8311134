"""Merkle trees by RFC 6962: hashes, the tiles of a growing tree, inclusion and consistency proofs. Pure.

A tree is kept as tiles of 256 hashes (C2SP tlog-tiles): tile `n` of level `l` holds the hashes of 256 complete subtrees of
256^l leaves each. Proofs name the subtrees they need, and whoever has the tiles looks those up.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

HASH_BYTES: Final = 32
TILE_WIDTH: Final = 256
_TILE_HEIGHT: Final = 8
EMPTY_ROOT: Final = sha256().digest()
"""The root of a tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node."""
    return sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root of a tree, given the hashes of its leaves, or of complete subtrees of one size (the last may be smaller)."""
    level = list(hashes)
    while len(level) > 1:
        paired = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        level = paired + level[-1:] if len(level) % 2 else paired
    return level[0] if level else EMPTY_ROOT


class Tile(NamedTuple):
    """A tile: its place, and its hashes. One of fewer than 256 hashes is partial."""

    level: int
    number: int
    hashes: bytes

    @property
    def path(self) -> str:
        """Its path under the tree's folder."""
        return tile_path(self.level, self.number, len(self.hashes) // HASH_BYTES)


def index_path(index: int, width: int) -> str:
    """`index` in groups of three digits, all but the last marked with an x; a width of less than 256 is added."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups) + (f".p/{width}" if width % TILE_WIDTH else "")


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile in the layout of C2SP tlog-tiles."""
    return f"tile/{level}/{index_path(index, width)}"


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """The path of an entry bundle in the layout of C2SP tlog-tiles."""
    return f"tile/entries/{index_path(index, width)}"


def tiles_of(size: int) -> list[tuple[int, int, int]]:
    """Level, index and width of the last tile of each level of a tree of `size` leaves; full ones included."""
    found, level = [], 0
    while size:
        found.append((level, (size - 1) // TILE_WIDTH, (size - 1) % TILE_WIDTH + 1))
        level, size = level + 1, size // TILE_WIDTH
    return found


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """An entry bundle: each entry after its length in two bytes."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def unpack_entries(bundle: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        ValueError: it ends within an entry.
    """
    found, at = [], 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if end > len(bundle) or at + 2 > len(bundle):
            raise ValueError("the bundle ends within an entry")
        found.append(bundle[at + 2 : end])
        at = end
    return found


class GrowingTree:
    """The right edge of a tree: the incomplete tile of each level, which is all that appending requires.

    Attributes:
        size: number of leaves.
    """

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[list[bytes]] = [[]]

    @classmethod
    def load(cls, size: int, tile: Callable[[int, int, int], bytes]) -> GrowingTree:
        """The tree of `size` leaves, from its last tiles; `tile` returns the hashes of one, by level, index and width.

        Raises:
            ValueError: a tile does not have its number of hashes.
        """
        tree = cls()
        tree.size = size
        tree._levels = []
        for level, index, width in tiles_of(size):
            hashes = split_hashes(tile(level, index, width)) if width % TILE_WIDTH else []
            if width % TILE_WIDTH and len(hashes) != width:
                raise ValueError(f"{tile_path(level, index, width)} has {len(hashes)} hashes")
            tree._levels.append(hashes)
        if not tree._levels or not size % TILE_WIDTH:
            tree._levels = tree._levels or [[]]
        return tree

    def append(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Append the hashes of leaves. Returns the tiles that they complete."""
        full: list[Tile] = []
        self._append(0, leaves, full)
        self.size += len(leaves)
        return full

    def _append(self, level: int, hashes: Sequence[bytes], full: list[Tile]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        first = (self.size >> (_TILE_HEIGHT * level)) // TILE_WIDTH
        held = [*self._levels[level], *hashes]
        whole = len(held) // TILE_WIDTH
        above = []
        for at in range(whole):
            tile = held[at * TILE_WIDTH : (at + 1) * TILE_WIDTH]
            full.append(Tile(level, first + at, b"".join(tile)))
            above.append(root_of(tile))
        self._levels[level] = held[whole * TILE_WIDTH :]
        if above:
            self._append(level + 1, above, full)

    def partial(self) -> list[Tile]:
        """The incomplete tiles, which belong to this size alone."""
        return [
            Tile(level, (self.size >> (_TILE_HEIGHT * level)) // TILE_WIDTH, b"".join(hashes))
            for level, hashes in enumerate(self._levels)
            if hashes
        ]

    def root(self) -> bytes:
        """The root at this size."""
        below: list[bytes] = []
        for hashes in self._levels:
            if hashes or below:
                below = [root_of([*hashes, *below])]
        return below[0] if below else EMPTY_ROOT


def split_hashes(joined: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]


class Subtree(NamedTuple):
    """A complete subtree of 2^height leaves: number `number` of its height, from 0."""

    height: int
    number: int

    @property
    def tile(self) -> tuple[int, int]:
        """Level and number of the tile from which its hash follows."""
        level = self.height // _TILE_HEIGHT
        return level, (self.number << (self.height % _TILE_HEIGHT)) // TILE_WIDTH

    def hash_in(self, tile: bytes) -> bytes:
        """Its hash, from its tile; a partial tile will do if it reaches that far.

        Raises:
            ValueError: the tile does not reach that far.
        """
        count = 1 << (self.height % _TILE_HEIGHT)
        start = (self.number * count) % TILE_WIDTH
        hashes = split_hashes(tile[start * HASH_BYTES : (start + count) * HASH_BYTES])
        if len(hashes) != count or len(hashes[-1]) != HASH_BYTES:
            raise ValueError(f"a tile ends before hash {start + count}")
        return root_of(hashes)


def nodes_of(low: int, high: int) -> list[Subtree]:
    """The complete subtrees that make up the subtree over the leaves from `low` to `high` (exclusive), left to right."""
    found = []
    while low < high:
        height = (high - low).bit_length() - 1
        found.append(Subtree(height, low >> height))
        low += 1 << height
    return found


def fold(hashes: Sequence[bytes]) -> bytes:
    """The hash of a subtree, given those of `nodes_of`."""
    joined = hashes[-1]
    for left in reversed(hashes[:-1]):
        joined = node_hash(left, joined)
    return joined


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The leaf ranges whose hashes prove that a leaf is in a tree, from the leaf up (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    found: list[tuple[int, int]] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            found.append((middle, high))
            high = middle
        else:
            found.append((low, middle))
            low = middle
    return found[::-1]


def consistency_ranges(old: int, size: int) -> list[tuple[int, int]]:
    """The leaf ranges whose hashes prove that a tree of `old` leaves is the beginning of one of `size` (RFC 6962, 2.1.2)."""
    if not 0 < old <= size:
        raise ValueError(f"a tree of {old} is not the beginning of one of {size}")
    found: list[tuple[int, int]] = []
    low, high, is_whole = 0, size, True
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            found.append((middle, high))
            high = middle
        else:
            found.append((low, middle))
            low, is_whole = middle, False
    if not is_whole:
        found.append((low, high))
    return found[::-1]


def _root_of_path(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes | None:
    at, last, root, rest = index, size - 1, leaf, list(path)
    while last:
        if at % 2 or at < last:
            if not rest:
                return None
            root = node_hash(rest.pop(0), root) if at % 2 else node_hash(root, rest.pop(0))
        at, last = at // 2, last // 2
    return None if rest else root


def is_included(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> bool:
    """True if the path proves that the leaf with this hash is number `index` (from 0) in the tree."""
    return 0 <= index < size and _root_of_path(index, size, leaf, path) == root


def is_consistent(old: int, size: int, path: Sequence[bytes], old_root: bytes, root: bytes) -> bool:
    """True if the path proves that the tree with `old_root` is the beginning of the one with `root`."""
    if old == size:
        return not path and old_root == root
    if not 0 < old < size:
        return False
    rest = list(path)
    at, last = old - 1, size - 1
    while at % 2:
        at, last = at // 2, last // 2
    if at and not rest:
        return False
    first = second = rest.pop(0) if at else old_root
    while last:
        if at % 2 or at < last:
            if not rest:
                return False
            other = rest.pop(0)
            if at % 2:
                first, second = node_hash(other, first), node_hash(other, second)
            else:
                second = node_hash(second, other)
        at, last = at // 2, last // 2
    return not rest and first == old_root and second == root
