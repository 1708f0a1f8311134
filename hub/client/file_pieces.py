"""A file on disk, read and digested by pieces. It blocks: called in threads."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path

from hub.client.signed_put import PIECE_BYTES


def measure(path: Path) -> tuple[int, str]:
    """Its size in bytes, and its SHA-256 in base64."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return size, b64encode(digest.digest()).decode()


def read_piece(path: Path, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`; fewer at the end."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def part_digests(path: Path, numbers: list[int], part_size: int) -> list[str]:
    """The SHA-256 in base64 of each of these parts, counted from 1."""
    found = []
    with path.open("rb") as file:
        for n in numbers:
            file.seek((n - 1) * part_size)
            digest, left = hashlib.sha256(), part_size
            while left and (piece := file.read(min(PIECE_BYTES, left))):
                digest.update(piece)
                left -= len(piece)
            found.append(b64encode(digest.digest()).decode())
    return found
