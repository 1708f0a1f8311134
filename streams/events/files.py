"""The payloads of file.* (docs/events.md#file): uploads, their progress and their end. Pure.

URLs and file bytes are sent on one connection only and never enter a stream.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import ALL_KINDS, Action, Direction, EventType, Payload, broken
from streams.events.values import (
    Bytes512K,
    Count,
    EventId,
    FileId,
    FileName,
    Maybe,
    Ordinal,
    Sha256,
    Text64,
    Text127,
    Text128,
    Text200,
    Text500,
    Time,
)

PartNumber = Annotated[int, Field(ge=1, le=10_000)]
UploadState = Literal["requested", "uploading", "verifying", "scanning", "ready", "failed"]


class FileUploadRequest(Payload):
    """Requests an upload. `sha256` is the digest of the whole file; without it a single-request upload is not verified."""

    filename: FileName
    size: Count
    mime: Text127
    strategy: Literal["auto", "single", "multipart", "socket"] = "auto"
    sha256: Maybe[Sha256] = None
    purpose: Literal["attachment", "document", "avatar"] = "attachment"
    resume_key: Maybe[Text128] = None


class SingleWay(Payload):
    """An upload by one HTTP request; the headers are signed and must be sent unchanged."""

    method: Literal["PUT", "POST"]
    url: str
    headers: dict[str, str]
    fields: Maybe[dict[str, str]] = None


class SignedPart(Payload):
    """The signed URL for uploading one part."""

    n: Ordinal
    url: str
    headers: dict[str, str]


class MultipartWay(Payload):
    """An upload in parts of `part_size` bytes (the last may be smaller), and the URLs signed so far."""

    part_size: Ordinal
    part_count: Ordinal
    parts: Annotated[list[SignedPart], Field(max_length=50)]


class SocketWay(Payload):
    """An upload in chunks over the socket: their maximum size in bytes, and how many may be unanswered at a time."""

    chunk_size: Ordinal
    window: Count


class DonePart(Payload):
    """A part that is already stored."""

    n: Ordinal
    size: Count
    sha256: Maybe[Sha256] = None


class UploadDone(Payload):
    """The parts already stored, and the offset in bytes from which the socket continues."""

    parts: list[DonePart]
    next_offset: Count


class FileUploadAuthorized(Payload):
    """The way to send the bytes, and the bytes stored already. After a request it also has the fields of `Stored`."""

    upload_id: FileId
    strategy: Literal["single", "multipart", "socket"]
    expires_at: Time
    single: Maybe[SingleWay] = None
    multipart: Maybe[MultipartWay] = None
    socket: Maybe[SocketWay] = None
    done: UploadDone
    id: Maybe[EventId] = None
    seq: Maybe[Ordinal] = None
    duplicate: Maybe[bool] = None
    durability: Maybe[Literal["memory", "fsync", "replicated"]] = None

    @model_validator(mode="after")
    def _the_way_it_names(self) -> FileUploadAuthorized:
        if {"single", "multipart", "socket"} & self.model_fields_set != {self.strategy}:
            raise broken("must describe the strategy it names and no other")
        return self


class PartToSign(Payload):
    """A part that needs a URL; if its digest is given, the store verifies it."""

    n: PartNumber
    sha256: Maybe[Sha256] = None


class FileUploadSign(Payload):
    """Asks for the URLs of further parts."""

    upload_id: FileId
    parts: Annotated[list[PartToSign], Field(min_length=1, max_length=50)]


class FileChunk(Payload):
    """A chunk of a file, sent over the socket."""

    upload_id: FileId
    offset: Count
    data: Bytes512K
    sha256: Maybe[Sha256] = None


class ChunkAnswer(Payload):
    """The answer to a chunk: the next offset, and how many chunks may be sent before the next answer (0: pause)."""

    upload_id: FileId
    accepted: bool
    problem: Maybe[Literal["offset", "checksum"]] = None
    next_offset: Count
    stored_offset: Count
    window: Count


class FileUploadProgress(Payload):
    """The number of bytes that the uploader has sent."""

    upload_id: FileId
    sent: Count


class FileUploadProgressDelivered(Payload):
    """The progress of a user's upload, in bytes; sent at most once a second."""

    upload_id: FileId
    user: str
    sent: Count
    total: Count
    state: UploadState


class ClaimedPart(Payload):
    """A part that the uploader reports as uploaded."""

    n: PartNumber
    sha256: Sha256


class FileUploadComplete(Payload):
    """Reports that all bytes are uploaded; after verification, file.ready or file.upload.failed follows."""

    upload_id: FileId
    sha256: Maybe[Sha256] = None
    parts: Maybe[Annotated[list[ClaimedPart], Field(max_length=10_000)]] = None


class FileUploadStatus(Payload):
    """Asks for the status of an upload, by its ID or by the uploader's `resume_key`."""

    upload_id: Maybe[FileId] = None
    resume_key: Maybe[Text128] = None

    @model_validator(mode="after")
    def _one_key(self) -> FileUploadStatus:
        if (self.upload_id is None) == (self.resume_key is None):
            raise broken("must have either upload_id or resume_key")
        return self


class FileUploadCancel(Payload):
    """Cancels an upload."""

    upload_id: FileId
    reason: Maybe[Text200] = None


class FileUploadFailed(Payload):
    """An upload failed, for the given reason."""

    upload_id: FileId
    reason: Literal["cancelled", "expired", "checksum", "size", "type", "storage", "infected"]
    message: Text500


class Checksum(Payload):
    """The verified digest: of the whole file, or of the digests of its parts."""

    algorithm: Literal["sha256"]
    type: Literal["full", "composite"]
    value: Text64


class Scan(Payload):
    """The scanner that checked the file, and its verdict."""

    engine: Text64
    verdict: Literal["clean", "skipped"]


class FileReady(Payload):
    """The file is complete and can be read."""

    file_id: FileId
    filename: FileName
    size: Count
    mime: Text127
    detected_mime: Text127
    checksum: Checksum
    scan: Scan


class FileUrlQuestion(Payload):
    """Asks for a URL from which the file can be read."""

    file_id: FileId
    disposition: Literal["inline", "attachment"] = "attachment"


class FileUrl(Payload):
    """The URL, and the time at which it expires."""

    url: str
    expires_at: Time


_row = partial(EventType, kinds=ALL_KINDS - {Kind.USER})
_command = partial(
    _row, direction=Direction.BOTH, lane=Lane.EVENTS, reply="ack", action=Action.UPLOAD, rate="upload", is_wanted=True
)
_question = partial(
    _row,
    direction=Direction.IN,
    lane=Lane.CONNECTION,
    reply="file.upload.authorized",
    action=Action.UPLOAD,
    rate="upload",
)

EVENTS: tuple[EventType, ...] = (
    _command(
        name="file.upload.request",
        model=FileUploadRequest,
        reply="file.upload.authorized",
        errors=(4017, 4024),
        summary="Requests an upload.",
    ),
    _row(
        name="file.upload.authorized",
        model=FileUploadAuthorized,
        direction=Direction.OUT,
        lane=Lane.CONNECTION,
        summary="The strategy and the URLs for sending the bytes.",
    ),
    _question(
        name="file.upload.sign",
        model=FileUploadSign,
        errors=(4018, 4021, 4022),
        summary="Asks for the URLs of further parts.",
    ),
    _question(
        name="file.chunk",
        model=FileChunk,
        reply="file.upload.progress",
        reply_model=ChunkAnswer,
        rate="chunk",
        errors=(4017, 4018, 4021, 4022),
        summary="A chunk of a file, sent over the socket.",
    ),
    _row(
        name="file.upload.progress",
        model=FileUploadProgress,
        delivered=FileUploadProgressDelivered,
        direction=Direction.BOTH,
        lane=Lane.LIVE,
        reply="ack",
        action=Action.UPLOAD,
        rate="live",
        is_id_required=False,
        limit_bytes=16_384,
        ag_ui="ACTIVITY_SNAPSHOT",
        summary="The progress of an upload.",
    ),
    _command(
        name="file.upload.complete",
        model=FileUploadComplete,
        errors=(4018, 4021, 4022),
        summary="The uploader reports that all bytes are sent.",
    ),
    _question(
        name="file.upload.status",
        model=FileUploadStatus,
        errors=(4018, 4022),
        summary="Asks for the status of an upload.",
    ),
    _command(name="file.upload.cancel", model=FileUploadCancel, errors=(4018, 4021), summary="Cancels an upload."),
    _row(
        name="file.upload.failed",
        model=FileUploadFailed,
        direction=Direction.OUT,
        lane=Lane.EVENTS,
        ag_ui="CUSTOM",
        summary="An upload failed.",
    ),
    _row(
        name="file.ready",
        model=FileReady,
        direction=Direction.OUT,
        lane=Lane.EVENTS,
        ag_ui="CUSTOM",
        summary="A file is ready to be read.",
    ),
    _question(
        name="file.url",
        model=FileUrlQuestion,
        reply="file.url",
        reply_model=FileUrl,
        action=Action.READ,
        rate="history",
        errors=(4018, 4021),
        summary="Asks for a URL from which a file can be read.",
    ),
)
