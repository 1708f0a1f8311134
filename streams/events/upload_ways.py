"""The three ways a file's bytes may come (EVENTS 8): one URL, URLs of parts, the socket. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streams.events.declaration import Payload
from streams.events.types import Count, Maybe, Ordinal, Sha256


class SingleWay(Payload):
    """One request; the headers are signed and must be sent exactly."""

    method: Literal["PUT", "POST"]
    url: str
    headers: dict[str, str]
    fields: Maybe[dict[str, str]] = None


class SignedPart(Payload):
    """The URL of one part."""

    n: Ordinal
    url: str
    headers: dict[str, str]


class MultipartWay(Payload):
    """Parts of `part_size` bytes (the last may be smaller), and the URLs signed so far."""

    part_size: Ordinal
    part_count: Ordinal
    parts: Annotated[list[SignedPart], Field(max_length=50)]


class SocketWay(Payload):
    """Chunks over the socket: their greatest size in bytes, and how many may be on their way."""

    chunk_size: Ordinal
    window: Count


class DonePart(Payload):
    """A part that is stored."""

    n: Ordinal
    size: Count
    sha256: Maybe[Sha256] = None


class UploadDone(Payload):
    """What is there already: parts, and where the socket goes on, in bytes."""

    parts: list[DonePart]
    next_offset: Count
