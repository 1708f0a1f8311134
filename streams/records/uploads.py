"""An upload: its states, its plan (how the bytes are sent) and its record, a small hash kept as long as the file. Pure.

    requested ──▶ uploading ──▶ verifying ──▶ scanning ──▶ ready
        └─────────────┴─────────────┴─────────────┴──▶ failing ──▶ failed

`failing` is internal and is shown as `failed`: the outcome is decided and the bytes are being deleted; the event with state
`failed` is appended once they are gone. Every change is a compare-and-set on the upload's record, so of two concurrent
decisions only one takes effect, and exactly one of `file.ready` and `file.upload.failed` is ever appended.

The limits of a plan are S3's (user guide, "Multipart upload limits"): 10,000 parts, each of 5 MiB to 5 GiB except the last.
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
    """The states of an upload."""

    REQUESTED = "requested"
    UPLOADING = "uploading"
    VERIFYING = "verifying"
    SCANNING = "scanning"
    READY = "ready"
    FAILING = "failing"
    FAILED = "failed"

    @property
    def shown(self) -> str:
        """The state as shown to clients."""
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
"""For each state, the states from which it may be entered. A state that is among its own makes a repeated step harmless."""
OPEN: Final = (_S.REQUESTED, _S.UPLOADING)
"""The states in which bytes are still accepted."""
FINAL: Final = (_S.READY, _S.FAILED)


def sources(state: UploadState) -> str:
    """The states from which `state` may be entered, comma-separated, as a guard's `in` expects them."""
    return ",".join(COMES_FROM[state])


class FailReason(StrEnum):
    """The reasons for a `file.upload.failed`."""

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
"""Minimum size of a planned part of a multipart upload. Smaller parts need more requests and URLs; of a larger part, more has
to be repeated after a broken connection.
"""
PARTS_WANTED_MAX: Final = 9_000
"""Maximum number of parts in a plan, a tenth below S3's 10,000."""
SINGLE_MAX_BYTES: Final = PART_BYTES
"""Largest file that `auto` sends by a single PUT: the size of a part, so that a broken connection costs no more than a lost
part would.
"""
CHUNK_BYTES: Final = 256 * 1024
"""Size of a chunk of a socket upload: as base64 it is 350 KB, well below the default message limit of 1 MiB."""
CHUNK_MAX_BYTES: Final = 512 * 1024
WINDOW_CHUNKS: Final = 4
"""Maximum number of unanswered chunks: 1 MiB in flight allows 10 MB/s at 100 ms latency, and bounds a node's memory for one upload.
"""
SIGNED_PARTS_MAX: Final = 50
"""Maximum number of URLs signed per request (20 ms of CPU)."""


class Strategy(StrEnum):
    """The ways to send the bytes."""

    SINGLE = "single"
    MULTIPART = "multipart"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """Strategy and part size of an upload. Every part but the last has that size; a file that is not larger has one part."""

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
        """True if the store receives parts. A socket upload of a single part is stored by one PUT."""
        return self.strategy is Strategy.MULTIPART or (self.strategy is Strategy.SOCKET and self.part_count > 1)


def part_size(size: int, smallest: int = PART_BYTES) -> int:
    """The part size in bytes: `smallest`, or larger, in whole MiB, if the file would otherwise need more than 9,000 parts."""
    needed = -(-size // PARTS_WANTED_MAX)
    return max(smallest, -(-needed // MIB) * MIB)


def choose(wanted: str, size: int, *, takes_binary: bool) -> Strategy:
    """The strategy for a file of `size` bytes.

    `auto` chooses the socket if the whole file is one chunk and the client announced `binary_chunks` (no second connection, no
    base64); a single PUT up to the size of a part; and parts above that. An empty file has no parts, so `multipart` becomes one
    PUT.
    """
    if wanted == Strategy.SOCKET or (wanted == "auto" and takes_binary and 0 < size <= CHUNK_BYTES):
        return Strategy.SOCKET
    if size == 0 or wanted == Strategy.SINGLE:
        return Strategy.SINGLE
    if wanted == "auto" and size <= SINGLE_MAX_BYTES:
        return Strategy.SINGLE
    return Strategy.MULTIPART


def make_plan(wanted: str, size: int, *, takes_binary: bool) -> UploadPlan:
    """Strategy and part size for a file of `size` bytes. A socket upload has small parts, because the node spools one at a time."""
    strategy = choose(wanted, size, takes_binary=takes_binary)
    return UploadPlan(strategy, size, part_size(size, PART_MIN_BYTES if strategy is Strategy.SOCKET else PART_BYTES))


_FILE_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRecord:
    """One upload, as stored. The object is immutable; changes are made to the stored record.

    Attributes:
        event_id: ID of its `file.upload.request`.
        slot: the name of its reservation.
        sha256: digest of the whole file, as announced by the client.
        expires_ms: deadline for its completion, in milliseconds since 1970.
        handle: the store's name for the multipart upload; "" if there is none (yet).
        is_checked: true if every part is sent with its digest.
        reason, message: the cause of the failure; only in `failing` and `failed`.
        streamed: SHA-256 of the whole file, from the node that received every chunk; "" if no single node did.
        cause: the event that decided the outcome (complete, cancel); "" for a timeout.
        detected: the content type detected from its bytes, once it is ready.
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
        """The key under which the bytes are stored; no part of it comes from the client."""
        return f"{self.channel.tenant}/{self.id}"

    @property
    def size(self) -> int:
        """The announced size in bytes."""
        return self.plan.size

    def to_fields(self) -> dict[str, str | int]:
        """The fields of the stored hash."""
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
    """Parse an upload's hash."""
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
    """The `upload_id`, later `file_id`, of the `file.upload.request` with this event ID: 32 hex digits.

    The hub that answers the request and the worker that verifies the bytes derive the same one independently.
    """
    return blake2b(f"{channel.path}:{event_id}".encode(), digest_size=_FILE_ID_BYTES).hexdigest()
