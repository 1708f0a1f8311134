"""How a file's bytes will come: which strategy, in parts of which size. Pure.

Limits are S3's (user guide, "Multipart upload limits"): 10,000 parts, each of 5 MiB to 5 GiB but the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MIB: Final = 1024 * 1024
PART_MIN_BYTES: Final = 5 * MIB
PART_BYTES: Final = 8 * MIB
"""Smallest planned part of a multipart upload. Smaller: more requests and URLs; larger: more to repeat after a cut."""
PARTS_WANTED_MAX: Final = 9_000
"""Parts a plan uses at most; a tenth of S3's 10,000 stays free."""
SINGLE_MAX_BYTES: Final = PART_BYTES
"""Largest file that `auto` sends by one PUT: no larger than a part, so that a cut costs no more than a lost part would."""
CHUNK_BYTES: Final = 256 * 1024
"""Chunk of a socket upload: as base64 it is 350 KB, well under the default message limit of 1 MiB."""
CHUNK_MAX_BYTES: Final = 512 * 1024
WINDOW_CHUNKS: Final = 4
"""Chunks on their way at a time: 1 MiB covers 100 ms at 10 MB/s and is what a node holds for one upload."""
SIGNED_PARTS_MAX: Final = 50
"""URLs signed in one go (20 ms of CPU, NOTES 8)."""


class Strategy(StrEnum):
    """How the bytes come."""

    SINGLE = "single"
    MULTIPART = "multipart"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided. `part_size` is the size of every part but the last; one part holds a file no larger than it."""

    strategy: Strategy
    size: int
    part_size: int

    @property
    def part_count(self) -> int:
        """How many parts; an empty file has none."""
        return -(-self.size // self.part_size)

    def part_bytes(self, n: int) -> int:
        """The size of part `n`, counted from 1.

        Raises:
            ValueError: the plan has no such part.
        """
        if not 1 <= n <= self.part_count:
            raise ValueError(f"parts are numbered 1 to {self.part_count}")
        return min(self.part_size, self.size - (n - 1) * self.part_size)

    @property
    def is_multipart(self) -> bool:
        """Whether the store is given parts. A socket upload of one part is put whole."""
        return self.strategy is Strategy.MULTIPART or (self.strategy is Strategy.SOCKET and self.part_count > 1)


def part_size(size: int, smallest: int = PART_BYTES) -> int:
    """Bytes a part: `smallest`, or what keeps the file within 9,000 parts, in whole MiB (NOTES 8)."""
    needed = -(-size // PARTS_WANTED_MAX)
    return max(smallest, -(-needed // MIB) * MIB)


def choose(wanted: str, size: int, *, takes_binary: bool) -> Strategy:
    """The strategy of a file of `size` bytes.

    `auto`: over the socket when the whole file is one chunk and the client announced `binary_chunks` (no second connection,
    no base64); by one PUT up to a part's size; in parts above. An empty file has no parts, so `multipart` becomes one PUT.
    """
    if wanted == Strategy.SOCKET or (wanted == "auto" and takes_binary and 0 < size <= CHUNK_BYTES):
        return Strategy.SOCKET
    if size == 0 or wanted == Strategy.SINGLE:
        return Strategy.SINGLE
    if wanted == "auto" and size <= SINGLE_MAX_BYTES:
        return Strategy.SINGLE
    return Strategy.MULTIPART


def make_plan(wanted: str, size: int, *, takes_binary: bool) -> Plan:
    """Strategy and part size of a file of `size` bytes. The socket's parts are small: the node spools one at a time."""
    strategy = choose(wanted, size, takes_binary=takes_binary)
    return Plan(strategy, size, part_size(size, PART_MIN_BYTES if strategy is Strategy.SOCKET else PART_BYTES))
