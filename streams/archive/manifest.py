"""Manifests: the list of a channel's segments, and the mark in Redis that names the newest one. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Final, NamedTuple

from streams.channel import Channel
from streams.cursor import START, Position

FORMAT: Final = 1


class ManifestDamaged(ValueError):
    """The bytes are no manifest, or not the one of this channel."""


@dataclass(frozen=True, slots=True)
class ArchiveSegment:
    """A stored segment. `bytes` is its size, `raw_bytes` that of its lines; `sha256` is in hexadecimal.

    Attributes:
        index_at: the place of its index, in bytes.
    """

    first_seq: int
    first_id: str
    last_seq: int
    last_id: str
    count: int
    bytes: int
    raw_bytes: int
    index_at: int
    sha256: str

    @property
    def name(self) -> str:
        """Its path under the channel's folder."""
        return f"segment/{self.first_seq:016}-{self.last_seq:016}.jsonl.zst"


class ArchiveMark(NamedTuple):
    """The field `archive` of a channel's meta hash.

    Attributes:
        number: number of the newest manifest; 0 if there is none.
        removed: the newest event that a policy removed from the archive.
        upto: the newest event archived.
    """

    number: int = 0
    removed: Position = Position(START, 0)
    upto: Position = Position(START, 0)

    @classmethod
    def parse(cls, text: str) -> ArchiveMark:
        """Read the field; "" means that nothing was archived.

        Raises:
            ValueError: it is no mark.
        """
        if not text:
            return cls()
        number, removed_id, removed_seq, upto_id, upto_seq = text.split(" ")
        return cls(int(number), Position(removed_id, int(removed_seq)), Position(upto_id, int(upto_seq)))

    def __str__(self) -> str:
        return f"{self.number} {self.removed.id} {self.removed.seq} {self.upto.id} {self.upto.seq}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The archive of one epoch of a channel.

    Attributes:
        number: 1 for the first; each change makes the next.
        previous: SHA-256 of the manifest before, in hexadecimal; "" for the first.
        removed: the newest event that a policy removed, or the beginning of the epoch.
        segments: contiguous, in order.
    """

    channel: str
    epoch: str
    number: int
    previous: str
    removed: Position
    segments: tuple[ArchiveSegment, ...]

    @classmethod
    def first(cls, channel: Channel, epoch: str, begin: Position) -> Manifest:
        """The manifest before the first segment; `begin` is the position before the epoch's first event."""
        return cls(channel.path, epoch, 0, "", begin, ())

    @property
    def upto(self) -> Position:
        """The newest event archived."""
        return Position(self.segments[-1].last_id, self.segments[-1].last_seq) if self.segments else self.removed

    @property
    def mark(self) -> ArchiveMark:
        """The mark that names this manifest."""
        return ArchiveMark(self.number, self.removed, self.upto)

    @property
    def name(self) -> str:
        """Its path under the channel's folder."""
        return manifest_name(self.number)

    def with_segment(self, segment: ArchiveSegment) -> Manifest:
        """The next manifest, with one more segment.

        Raises:
            ValueError: the segment does not continue the archive.
        """
        if segment.first_seq != self.upto.seq + 1:
            raise ValueError(f"the segment begins with seq {segment.first_seq}, the archive ends with {self.upto.seq}")
        return self._next(self.removed, (*self.segments, segment))

    def without(self, count: int) -> Manifest:
        """The next manifest, without its first `count` segments."""
        last = self.segments[count - 1]
        return self._next(Position(last.last_id, last.last_seq), self.segments[count:])

    def _next(self, removed: Position, segments: Iterable[ArchiveSegment]) -> Manifest:
        previous = self.sha256 if self.number else ""
        return replace(self, number=self.number + 1, previous=previous, removed=removed, segments=tuple(segments))

    def to_json(self) -> bytes:
        """The stored form."""
        facts = {
            "format": FORMAT,
            "channel": self.channel,
            "epoch": self.epoch,
            "number": self.number,
            "previous": self.previous,
            "removed": {"id": self.removed.id, "seq": self.removed.seq},
            "segments": [asdict(segment) for segment in self.segments],
        }
        return json.dumps(facts, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """The digest of the stored form, in hexadecimal."""
        return sha256(self.to_json()).hexdigest()

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read the stored form.

        Raises:
            ManifestDamaged: it has another form, or segments that do not follow each other.
        """
        try:
            found = json.loads(data)
            if found["format"] != FORMAT:
                raise ManifestDamaged(f"the manifest has the format {found['format']}, this version reads {FORMAT}")
            removed = Position(found["removed"]["id"], found["removed"]["seq"])
            segments = tuple(ArchiveSegment(**segment) for segment in found["segments"])
            made = cls(found["channel"], found["epoch"], found["number"], found["previous"], removed, segments)
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestDamaged(str(error) or "the manifest is damaged") from error
        after = removed.seq
        for segment in segments:
            if segment.first_seq != after + 1 or segment.count != segment.last_seq - after:
                raise ManifestDamaged(f"segment {segment.name} does not follow seq {after}")
            after = segment.last_seq
        return made


def manifest_name(number: int) -> str:
    """The path of a manifest under its channel's folder."""
    return f"manifest/{number:010}.json"
