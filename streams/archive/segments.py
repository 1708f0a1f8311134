"""Segments: a closed range of a channel's events as lines of JSON, compressed in frames of one page each. Pure.

A segment is a row of zstd frames and ends with a skippable frame, the index, which names the place of each. Any zstd tool
reads all lines; a reader of one page decompresses one frame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

import zstandard

from streams.envelope import Entry

FORMAT: Final = 1
FRAME_EVENTS: Final = 500
FRAME_BYTES: Final = 262_144
"""Maximum payload bytes in a frame, unless a single event is larger: the bounds of a page of the log."""
_LINE_BYTES_MAX: Final = 8 * 1_048_576
LEVEL: Final = 6
"""Two thirds more processor time than level 3, for 8 % less space: 5.6 µs an event of a chat log."""
_SKIPPABLE: Final = b"\x50\x2a\x4d\x18"
_LINE: Final = re.compile(
    rb'\{"id":"([^"]++)","seq":(\d++),"channel":"[^"]++","type":"([^"]++)","v":(\d++),"actor":(\{(?:[^"{}]*+"[^"]*+")*+[^"{}]*+\})'
    rb'(?:,"meta":(\{(?:[^"{}]*+"[^"]*+")*+[^"{}]*+\}))?+(,"erased":true)?+,"payload":(.*)\}',
    re.DOTALL,
)
_PLACES: Final = re.compile(
    rb'\{"id":"(\d++-\d++)","seq":(\d++),"channel":"[^"]++","type":"[^"]++","v":\d++,"actor":\{.*+\n'
)


class SegmentDamaged(ValueError):
    """The bytes are not the segment that was stored."""


def line_of(entry: Entry, channel: bytes) -> bytes:
    """An event as a line, the leaf of the channel's tree: the bytes that a socket gets.

    Stored JSON is compact. Should a foreign hand have put a line break into it, a space takes its place, which means the same.
    """
    line = entry.wire(channel)
    return line.replace(b"\n", b" ") if b"\n" in line else line


def read_line(line: bytes) -> Entry:
    """The event of a line, or of any event on the wire.

    Raises:
        SegmentDamaged: it is no line that `line_of` makes.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        raise SegmentDamaged("a line is not an event")
    event_id, seq, type_, v, actor, meta, erased, data = found.groups()
    return Entry(event_id, int(seq), type_, v, actor, data, meta or b"{}", (), erased is not None)


def lines_of(text: bytes) -> list[bytes]:
    """The lines of a text, each without its end."""
    return text[:-1].split(b"\n")


def ids_of(text: bytes, first_seq: int, last_seq: int) -> list[bytes]:
    """The IDs of the events of a text, of whose lines no more than the beginning is read: their frame's checksum was.

    Raises:
        SegmentDamaged: it has other events than these.
    """
    places = _PLACES.findall(text)
    if [int(seq) for _, seq in places] != list(range(first_seq, last_seq + 1)):
        raise SegmentDamaged("a frame has other events than its index says")
    return [event_id for event_id, _ in places]


class Frame(NamedTuple):
    """The place of a frame in its segment, in bytes, and the events in it."""

    start: int
    size: int
    first_seq: int
    first_id: str
    last_seq: int
    last_id: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """A segment ready to be stored.

    Attributes:
        index_at: the place of its index, in bytes.
        raw_bytes: the total size of its lines.
        lines: the lines, from which the leaves follow.
    """

    data: bytes
    index_at: int
    raw_bytes: int
    lines: list[bytes]

    @property
    def sha256(self) -> str:
        """The digest of all bytes, in hexadecimal."""
        return sha256(self.data).hexdigest()


class SegmentCodec:
    """Compresses and decompresses; one is not for several threads."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(LEVEL, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor()

    def encode(self, entries: Sequence[Entry], channel: bytes) -> Encoded:
        """Make the segment of these events, which are in order; `channel` is its `kind:name`."""
        lines = [line_of(entry, channel) for entry in entries]
        data, frames, raw_bytes = bytearray(), [], 0
        for first, last in _pages(entries):
            text = b"\n".join(lines[first:last]) + b"\n"
            packed = self._compressor.compress(text)
            start, end = entries[first], entries[last - 1]
            frames.append(Frame(len(data), len(packed), start.seq, start.id.decode(), end.seq, end.id.decode()))
            data += packed
            raw_bytes += len(text)
        index_at = len(data)
        index = json.dumps({"format": FORMAT, "frames": frames}, separators=(",", ":")).encode()
        data += _SKIPPABLE + len(index).to_bytes(4, "little") + index
        return Encoded(bytes(data), index_at, raw_bytes, lines)

    def text(self, frame: bytes) -> bytes:
        """The lines of one frame, each with its end.

        Raises:
            SegmentDamaged: its checksum does not match, or it is too large to be one.
        """
        try:
            size = zstandard.frame_content_size(frame)
            if not 0 < size <= FRAME_EVENTS * 1_024 + FRAME_BYTES + _LINE_BYTES_MAX:
                raise SegmentDamaged("a frame has an impossible size")
            text = self._decompressor.decompress(frame)
        except zstandard.ZstdError as error:
            raise SegmentDamaged("a frame does not decompress, or does not match its checksum") from error
        if not text.endswith(b"\n"):
            raise SegmentDamaged("a frame does not end with a line")
        return text

    def lines(self, frame: bytes) -> list[bytes]:
        """The lines of one frame; raises as `text`."""
        return lines_of(self.text(frame))

    def all_lines(self, data: bytes, index_at: int) -> list[bytes]:
        """The lines of a whole segment.

        Raises:
            SegmentDamaged: a frame or the index is damaged.
        """
        return [
            line
            for frame in read_index(data[index_at:])
            for line in self.lines(data[frame.start : frame.start + frame.size])
        ]


def read_index(tail: bytes) -> list[Frame]:
    """The index, given the last bytes of a segment from the index on.

    Raises:
        SegmentDamaged: these bytes are no index of a known format.
    """
    try:
        if tail[:4] != _SKIPPABLE or int.from_bytes(tail[4:8], "little") != len(tail) - 8:
            raise SegmentDamaged("the index of a segment is damaged")
        found = json.loads(tail[8:])
        if found["format"] != FORMAT:
            raise SegmentDamaged(f"the segment has the format {found['format']}, this version reads {FORMAT}")
        return [Frame(*frame) for frame in found["frames"]]
    except SegmentDamaged:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise SegmentDamaged("the index of a segment is damaged") from error


def _pages(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """The ranges of events that share a frame."""
    found, first, size_bytes = [], 0, 0
    for at, entry in enumerate(entries):
        if at > first and (at - first == FRAME_EVENTS or size_bytes + len(entry.data) > FRAME_BYTES):
            found.append((first, at))
            first, size_bytes = at, 0
        size_bytes += len(entry.data)
    if entries:
        found.append((first, len(entries)))
    return found
