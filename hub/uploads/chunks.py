"""Chunks over the socket: their binary format and the rule for offsets. Pure.

The rule is that of the tus protocol: a chunk's offset must be the next one, and a refusal gives the right offset. A
chunk that lies entirely before it is accepted again without effect, because its sender may not have received the
answer.
"""

from __future__ import annotations

import struct
from binascii import a2b_base64
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple
from zlib import crc32

from hub.storage.store import sha256_of

HEAD: Final = struct.Struct(">B16sQI")
"""Version, upload ID, offset, CRC32 of the data; big endian, 29 bytes (docs/events.md#file)."""
BINARY_VERSION: Final = 1


class ChunkProblem(StrEnum):
    """The reason why a chunk was not accepted. Sending again from the right offset solves both."""

    OFFSET = "offset"
    CHECKSUM = "checksum"


class MalformedChunk(ValueError):
    """The binary message is not a chunk."""


class Chunk(NamedTuple):
    """A chunk of a file. `is_intact` is False if the checksum sent with it does not match its bytes."""

    upload_id: str
    offset: int
    data: bytes
    is_intact: bool


def decode_binary(message: bytes) -> Chunk:
    """Parses a binary chunk message.

    Raises:
        MalformedChunk: shorter than its header, or of another version.
    """
    if len(message) < HEAD.size or message[0] != BINARY_VERSION:
        raise MalformedChunk("a binary message must be a chunk of version 1: a header of 29 bytes, then the data")
    _, upload_id, offset, checksum = HEAD.unpack_from(message)
    data = message[HEAD.size :]
    return Chunk(upload_id.hex(), offset, data, crc32(data) == checksum)


def encode_binary(upload_id: str, offset: int, data: bytes) -> bytes:
    """Builds a binary chunk message."""
    return HEAD.pack(BINARY_VERSION, bytes.fromhex(upload_id), offset, crc32(data)) + data


def decode_text(upload_id: str, offset: int, data: str, sha256: str | None) -> Chunk:
    """Converts the payload of a `file.chunk`. The schema has checked its base64."""
    raw = a2b_base64(data)
    return Chunk(upload_id, offset, raw, sha256 is None or sha256_of(raw) == sha256)


class ChunkVerdict(StrEnum):
    """The result for a chunk."""

    TAKE = "take"
    REPEAT = "repeat"
    OFFSET = "offset"
    CHECKSUM = "checksum"
    TOO_LONG = "too_long"


def judge(chunk: Chunk, next_offset: int, size: int) -> ChunkVerdict:
    """Decides on a chunk for a file of `size` bytes, of which the first `next_offset` have arrived."""
    end = chunk.offset + len(chunk.data)
    if end > size:
        return ChunkVerdict.TOO_LONG
    if not chunk.is_intact:
        return ChunkVerdict.CHECKSUM
    if end <= next_offset:
        return ChunkVerdict.REPEAT
    return ChunkVerdict.TAKE if chunk.offset == next_offset else ChunkVerdict.OFFSET


@dataclass(frozen=True, slots=True)
class PartSlice:
    """The bytes `start` to `end` of a chunk, which belong to part `n`; they complete the part if `is_last`."""

    n: int
    start: int
    end: int
    is_last: bool


def slices(offset: int, length: int, part_size: int, size: int) -> list[PartSlice]:
    """Splits a chunk at `offset` by the parts that its bytes belong to. Chunks and parts need not be aligned."""
    found = []
    start = 0
    while start < length:
        n, inside = divmod(offset + start, part_size)
        end = min(length, start + part_size - inside)
        reached = offset + end
        found.append(PartSlice(n + 1, start, end, reached % part_size == 0 or reached == size))
        start = end
    return found
