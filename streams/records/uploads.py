"""An upload: its states, the plan by which its bytes come, and its record: one small hash, kept for as long as the file. Pure.

    requested ──▶ uploading ──▶ verifying ──▶ scanning ──▶ ready
        └─────────────┴─────────────┴─────────────┴──▶ failing ──▶ failed

`failing` is ours and is shown as `failed`: the outcome is decided and the bytes are being removed; the event that says
`failed` is appended when they are gone. Every change is a compare-and-set on the upload's record, so that of two
concurrent decisions only one takes effect, and exactly one of `file.ready` and `file.upload.failed` is ever appended.

Limits of plans are S3's (user guide, "Multipart upload limits"): 10,000 parts, each of 5 MiB to 5 GiB but the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from streams.channel import Channel, channel_from_path


class UploadState(StrEnum):
    """The state of an upload."""

    REQUESTED = "requested"
    UPLOADING = "uploading"
    VERIFYING = "verifying"
    SCANNING = "scanning"
    READY = "ready"
    FAILING = "failing"
    FAILED = "failed"

    @property
    def shown(self) -> str:
        """The state as clients know it."""
        return "failed" if self is UploadState.FAILING else self.value


_S = UploadState
COMES_FROM: Final = MappingProxyType(
    {
        _S.UPLOADING: (_S.REQUESTED, _S.UPLOADING),
        _S.VERIFYING: (_S.REQUESTED, _S.UPLOADING),
        _S.SCANNING: (_S.VERIFYING, _S.SCANNING),
        _S.READY: (_S.SCANNING,),
        _S.FAILING: (_S.REQUESTED, _S.UPLOADING, _S.VERIFYING, _S.SCANNING),
        _S.FAILED: (_S.FAILING,),
    }
)
"""State → the states it may be entered from. A state among its own: a repeated step is no error."""
OPEN: Final = (_S.REQUESTED, _S.UPLOADING)
"""Bytes are still taken."""
FINAL: Final = (_S.READY, _S.FAILED)


def sources(state: UploadState) -> str:
    """The states `state` may be entered from, comma-separated, as a guard's `in` wants them."""
    return ",".join(COMES_FROM[state])


class FailReason(StrEnum):
    """The reason of a `file.upload.failed`."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CHECKSUM = "checksum"
    SIZE = "size"
    TYPE = "type"
    STORAGE = "storage"
    INFECTED = "infected"


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
"""URLs signed in one go (20 ms of CPU)."""


class Strategy(StrEnum):
    """The way the bytes are sent."""

    SINGLE = "single"
    MULTIPART = "multipart"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """Strategy and part size of an upload: the size of every part but the last. A file no larger than that has one part."""

    strategy: Strategy
    size: int
    part_size: int

    @property
    def part_count(self) -> int:
        """The number of parts; an empty file has none."""
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
        """True when the store is given parts. A socket upload of one part is put whole."""
        return self.strategy is Strategy.MULTIPART or (self.strategy is Strategy.SOCKET and self.part_count > 1)


def part_size(size: int, smallest: int = PART_BYTES) -> int:
    """The size of a part in bytes: `smallest`, or what keeps the file within 9,000 parts, in whole MiB."""
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


def make_plan(wanted: str, size: int, *, takes_binary: bool) -> UploadPlan:
    """Strategy and part size of a file of `size` bytes. The socket's parts are small: the node spools one at a time."""
    strategy = choose(wanted, size, takes_binary=takes_binary)
    return UploadPlan(strategy, size, part_size(size, PART_MIN_BYTES if strategy is Strategy.SOCKET else PART_BYTES))


_FILE_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRecord:
    """One upload, as recorded. Only the record is changed.

    Attributes:
        event_id: of its `file.upload.request`.
        slot: the name of its reservation.
        sha256: of the whole file, as announced by its sender.
        expires_ms: deadline for its completion, in Unix milliseconds.
        handle: the store's name for the multipart upload; "" where there is none (yet).
        is_checked: whether every part comes with its digest.
        reason, message: why it failed; only in `failing` and `failed`.
        streamed: SHA-256 of the whole file, from the node that received every chunk; "" when there was no such node.
        cause: the event that decided the outcome (complete, cancel); "" for a timeout.
        detected: the content type its bytes have, once ready.
    """

    id: str
    channel: Channel
    user: str
    filename: str
    mime: str
    plan: UploadPlan
    event_id: str
    slot: str
    expires_ms: int
    sha256: str | None = None
    state: UploadState = UploadState.REQUESTED
    handle: str = ""
    is_checked: bool = False
    reason: FailReason | None = None
    message: str = ""
    cause: str = ""
    streamed: str = ""
    detected: str = ""

    @property
    def key(self) -> str:
        """The key its bytes are stored under; no part of it comes from the sender."""
        return f"{self.channel.tenant}/{self.id}"

    @property
    def size(self) -> int:
        """The announced size in bytes."""
        return self.plan.size

    def to_fields(self) -> dict[str, str | int]:
        """The hash."""
        return {
            "channel": self.channel.path,
            "user": self.user,
            "filename": self.filename,
            "mime": self.mime,
            "strategy": self.plan.strategy.value,
            "size": self.plan.size,
            "part_size": self.plan.part_size,
            "event_id": self.event_id,
            "slot": self.slot,
            "expires_ms": self.expires_ms,
            "sha256": self.sha256 or "",
            "state": self.state.value,
            "handle": self.handle,
            "is_checked": int(self.is_checked),
            "reason": self.reason.value if self.reason else "",
            "message": self.message,
            "cause": self.cause,
            "detected": self.detected,
            "streamed": self.streamed,
        }


def from_fields(upload_id: str, fields: Mapping[str, str]) -> UploadRecord:
    """The upload a hash holds."""
    plan = UploadPlan(Strategy(fields["strategy"]), int(fields["size"]), int(fields["part_size"]))
    reason = fields.get("reason")
    return UploadRecord(
        id=upload_id,
        channel=channel_from_path(fields["channel"]),
        user=fields["user"],
        filename=fields["filename"],
        mime=fields["mime"],
        plan=plan,
        event_id=fields["event_id"],
        slot=fields["slot"],
        expires_ms=int(fields["expires_ms"]),
        sha256=fields["sha256"] or None,
        state=UploadState(fields["state"]),
        handle=fields["handle"],
        is_checked=fields["is_checked"] == "1",
        reason=FailReason(reason) if reason else None,
        message=fields.get("message", ""),
        cause=fields.get("cause", ""),
        detected=fields.get("detected", ""),
        streamed=fields.get("streamed", ""),
    )


def file_id_of(channel: Channel, event_id: str) -> str:
    """The `upload_id`, later the `file_id`, of the `file.upload.request` with this ID: 32 hex digits.

    The hub that answers the request and the worker that verifies derive the same one without asking.
    """
    return blake2b(f"{channel.path}:{event_id}".encode(), digest_size=_FILE_ID_BYTES).hexdigest()
