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
    Leaf,
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

    filename: FileName = Field(description="Name of the file, without a path.")
    size: Count = Field(description="Size of the file, in bytes; the setting `HUB_UPLOAD_SIZE_LIMIT` bounds it.")
    mime: Text127 = Field(description="Media type of the file, as the sender knows it.")
    strategy: Literal["auto", "single", "multipart", "socket"] = Field(
        "auto",
        description="The way to send the bytes: one HTTP request, several for parts, chunks over the socket, or the "
        "hub's choice (`auto`).",
    )
    sha256: Maybe[Sha256] = Field(
        None,
        description="SHA-256 of the whole file, in base64; absent: the hub computes it, and compares it with nothing.",
    )
    purpose: Literal["attachment", "document", "avatar"] = Field(
        "attachment", description="Use of the file, for the application; the hub does not interpret it."
    )
    resume_key: Maybe[Text128] = Field(
        None,
        description="Key of the uploader's choice, by which `file.upload.status` finds the upload again; absent: only "
        "its ID does.",
    )


class SingleWay(Payload):
    """An upload by one HTTP request; the headers are signed and must be sent unchanged."""

    method: Literal["PUT", "POST"] = Field(description="The HTTP method.")
    url: str = Field(description="The signed URL; it expires at `expires_at`.")
    headers: dict[str, str] = Field(description="Headers that must be sent unchanged, by name.")
    fields: Maybe[dict[str, str]] = Field(
        None, description="Fields of a form that is sent with POST, in front of the file; absent with PUT."
    )


class SignedPart(Payload):
    """The signed URL for uploading one part."""

    n: Ordinal = Field(description="Number of the part, from 1.")
    url: str = Field(description="The signed URL for a PUT; it expires at `expires_at`.")
    headers: dict[str, str] = Field(description="Headers that must be sent unchanged, by name.")


class MultipartWay(Payload):
    """An upload in parts of `part_size` bytes (the last may be smaller), and the URLs signed so far."""

    part_size: Ordinal = Field(description="Size of each part but the last, in bytes.")
    part_count: Ordinal = Field(description="Number of parts.")
    parts: Annotated[list[SignedPart], Field(max_length=50)] = Field(
        description="The URLs that were signed so far; `file.upload.sign` signs further ones."
    )


class SocketWay(Payload):
    """An upload in chunks over the socket: their maximum size in bytes, and how many may be unanswered at a time."""

    chunk_size: Ordinal = Field(description="Largest chunk, in bytes of the file.")
    window: Count = Field(
        description="Number of chunks that may be unanswered at a time; 0 once the upload accepts no more."
    )


class DonePart(Payload):
    """A part that is already stored."""

    n: Ordinal = Field(description="Number of the part, from 1.")
    size: Count = Field(description="Size of the part, in bytes.")
    sha256: Maybe[Sha256] = Field(
        None, description="SHA-256 of the part, in base64; absent if the store does not know it."
    )


class UploadDone(Payload):
    """The parts already stored, and the offset in bytes from which the socket continues."""

    parts: list[DonePart] = Field(description="The parts that are stored; empty for uploads without parts.")
    next_offset: Count = Field(
        description="Bytes stored from the beginning without a hole: the offset at which the socket continues."
    )


class FileUploadAuthorized(Payload):
    """The way to send the bytes, and the bytes stored already. After a request it also has the fields of `Stored`."""

    upload_id: FileId = Field(description="ID of the upload; once the file is ready, also its `file_id`.")
    strategy: Literal["single", "multipart", "socket"] = Field(
        description="The way to send the bytes; exactly the field of that name is present."
    )
    expires_at: Time = Field(description="Time at which the URLs expire or, for an upload over the socket, the upload.")
    single: Maybe[SingleWay] = Field(None, description="The one HTTP request; absent with another strategy.")
    multipart: Maybe[MultipartWay] = Field(None, description="The parts and their URLs; absent with another strategy.")
    socket: Maybe[SocketWay] = Field(None, description="Size and number of the chunks; absent with another strategy.")
    done: UploadDone = Field(description="The bytes already stored; none at the first request.")
    id: Maybe[EventId] = Field(
        None, description="ID of the event that was stored; only in the reply to `file.upload.request`."
    )
    seq: Maybe[Ordinal] = Field(
        None, description="Position of that event in its channel; only in the reply to `file.upload.request`."
    )
    duplicate: Maybe[bool] = Field(
        None, description="True if the same request was stored before; only in the reply to `file.upload.request`."
    )
    durability: Maybe[Literal["memory", "fsync", "replicated"]] = Field(
        None, description="The durability of the stored event; only in the reply to `file.upload.request`."
    )
    leaf: Maybe[Leaf] = Field(
        None, description="That event's leaf, in hexadecimal; only for clients with the capability `leaf`."
    )

    @model_validator(mode="after")
    def _the_way_it_names(self) -> FileUploadAuthorized:
        if {"single", "multipart", "socket"} & self.model_fields_set != {self.strategy}:
            raise broken("must describe the strategy it names and no other")
        return self


class PartToSign(Payload):
    """A part that needs a URL; if its digest is given, the store verifies it."""

    n: PartNumber = Field(description="Number of the part, from 1.")
    sha256: Maybe[Sha256] = Field(
        None, description="SHA-256 of the part, in base64, which the store then verifies; absent: it does not."
    )


class FileUploadSign(Payload):
    """Asks for the URLs of further parts."""

    upload_id: FileId = Field(description="ID of the upload.")
    parts: Annotated[list[PartToSign], Field(min_length=1, max_length=50)] = Field(
        description="The parts that need a URL."
    )


class FileChunk(Payload):
    """A chunk of a file, sent over the socket."""

    upload_id: FileId = Field(description="ID of the upload.")
    offset: Count = Field(description="Offset of the chunk in the file, in bytes.")
    data: Bytes512K = Field(description="The bytes of the chunk, in base64.")
    sha256: Maybe[Sha256] = Field(
        None, description="SHA-256 of the chunk, in base64, which the hub then compares; absent: it does not."
    )


class ChunkAnswer(Payload):
    """The answer to a chunk: the next offset, and how many chunks may be sent before the next answer (0: pause)."""

    upload_id: FileId = Field(description="ID of the upload.")
    accepted: bool = Field(description="True if the chunk was accepted.")
    problem: Maybe[Literal["offset", "checksum"]] = Field(
        None,
        description="The reason for a refusal: the chunk is not at `next_offset`, or its checksum differs. "
        "Absent if it was accepted.",
    )
    next_offset: Count = Field(description="Offset of the chunk that is expected next, in bytes.")
    stored_offset: Count = Field(
        description="Bytes that survive the loss of this node; after such a loss the upload continues from there."
    )
    window: Count = Field(
        description="Number of chunks that may be unanswered at a time; 0: wait until another answer raises it."
    )


class FileUploadProgress(Payload):
    """The number of bytes that the uploader has sent."""

    upload_id: FileId = Field(description="ID of the upload.")
    sent: Count = Field(description="Bytes that the uploader has sent, as it counts them.")


class FileUploadProgressDelivered(Payload):
    """The progress of a user's upload, in bytes; sent at most once a second."""

    upload_id: FileId = Field(description="ID of the upload.")
    user: str = Field(description="The user who uploads.")
    sent: Count = Field(description="Bytes that were sent so far.")
    total: Count = Field(description="Size of the file, in bytes.")
    state: UploadState = Field(description="State of the upload, from `requested` to `ready` or `failed`.")


class ClaimedPart(Payload):
    """A part that the uploader reports as uploaded."""

    n: PartNumber = Field(description="Number of the part, from 1.")
    sha256: Sha256 = Field(description="SHA-256 of the part, in base64.")


class FileUploadComplete(Payload):
    """Reports that all bytes are uploaded; after verification, file.ready or file.upload.failed follows."""

    upload_id: FileId = Field(description="ID of the upload.")
    sha256: Maybe[Sha256] = Field(
        None,
        description="SHA-256 of the whole file, in base64, which the stored bytes must have; absent: not compared.",
    )
    parts: Maybe[Annotated[list[ClaimedPart], Field(max_length=10_000)]] = Field(
        None, description="SHA-256 of parts, which the stored ones must have; absent: not compared."
    )


class FileUploadStatus(Payload):
    """Asks for the status of an upload, by its ID or by the uploader's `resume_key`."""

    upload_id: Maybe[FileId] = Field(None, description="ID of the upload; absent if the key is given.")
    resume_key: Maybe[Text128] = Field(
        None, description="The key that the same user gave in `file.upload.request`; absent if the ID is given."
    )

    @model_validator(mode="after")
    def _one_key(self) -> FileUploadStatus:
        if (self.upload_id is None) == (self.resume_key is None):
            raise broken("must have either upload_id or resume_key")
        return self


class FileUploadCancel(Payload):
    """Cancels an upload."""

    upload_id: FileId = Field(description="ID of the upload.")
    reason: Maybe[Text200] = Field(
        None, description="The uploader's reason, stored with the command; absent if none was given."
    )


class FileUploadFailed(Payload):
    """An upload failed, for the given reason."""

    upload_id: FileId = Field(description="ID of the upload.")
    reason: Literal["cancelled", "expired", "checksum", "size", "type", "storage", "infected"] = Field(
        description="The cause: somebody cancelled it, it expired, the bytes differ from what was announced (`checksum`, "
        "`size`, `type`), the store failed, or the scanner found something (`infected`)."
    )
    message: Text500 = Field(description="The cause as a sentence, for people.")


class Checksum(Payload):
    """The verified digest: of the whole file, or of the digests of its parts."""

    algorithm: Literal["sha256"] = Field(description="The digest's algorithm.")
    type: Literal["full", "composite"] = Field(
        description="The content that was digested: the whole file (`full`) or the digests of its parts (`composite`)."
    )
    value: Text64 = Field(description="The digest in base64; a composite one ends with `-` and the number of parts.")


class Scan(Payload):
    """The scanner that checked the file, and its verdict."""

    engine: Text64 = Field(description="Name of the scanner; `none` where there is none.")
    verdict: Literal["clean", "skipped"] = Field(
        description="The outcome: the scanner found nothing (`clean`), or there is no scanner (`skipped`)."
    )


class FileReady(Payload):
    """The file is complete and can be read."""

    file_id: FileId = Field(description="ID of the file: the upload's ID.")
    filename: FileName = Field(description="Name of the file, as the uploader gave it.")
    size: Count = Field(description="Size of the file, in bytes, as verified.")
    mime: Text127 = Field(description="Media type, as the uploader gave it.")
    detected_mime: Text127 = Field(description="Media type detected from the first bytes of the file.")
    checksum: Checksum = Field(description="The verified digest.")
    scan: Scan = Field(description="The outcome of the scan.")


class FileUrlQuestion(Payload):
    """Asks for a URL from which the file can be read."""

    file_id: FileId = Field(description="ID of the file; it must be ready in this channel.")
    disposition: Literal["inline", "attachment"] = Field(
        "attachment", description="The action of a browser: show the file (`inline`) or save it (`attachment`)."
    )


class FileUrl(Payload):
    """The URL, and the time at which it expires."""

    url: str = Field(description="The signed URL for a GET.")
    expires_at: Time = Field(description="Time at which the URL expires.")


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
