"""What is remembered of an upload while it lives, and of a file for ever: one small hash. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from streams.channel import Channel, channel_from_path
from streams.records.upload_plan import Plan, Strategy
from streams.records.upload_states import FailReason, UploadState

_FILE_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One upload. It is made by `opened`, and changed only where the record is.

    Attributes:
        event_id: of its `file.upload.request`.
        slot: the name its reservation goes by.
        sha256: of the whole file, as its sender announced it.
        expires_ms: when it fails unless it was completed, in Unix milliseconds.
        handle: the store's name for the multipart upload; "" where there is none (yet).
        is_checked: whether every part comes with its digest.
        reason, message: why it failed; only in `failing` and `failed`.
        streamed: SHA-256 of the whole as the node saw it that every chunk came to; "" when there was no such node.
        cause: the event that decided (complete, cancel); "" when time did.
        detected: the content type its bytes have, once ready.
    """

    id: str
    channel: Channel
    user: str
    filename: str
    mime: str
    plan: Plan
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
        """Where its bytes are stored. Ours, never the sender's words."""
        return f"{self.channel.tenant}/{self.id}"

    @property
    def size(self) -> int:
        """Bytes announced."""
        return self.plan.size

    def to_fields(self) -> dict[str, str | int]:
        """The hash."""
        return {
            "channel": self.channel.path, "user": self.user, "filename": self.filename, "mime": self.mime,
            "strategy": self.plan.strategy.value, "size": self.plan.size, "part_size": self.plan.part_size,
            "event_id": self.event_id, "slot": self.slot, "expires_ms": self.expires_ms, "sha256": self.sha256 or "",
            "state": self.state.value, "handle": self.handle, "is_checked": int(self.is_checked),
            "reason": self.reason.value if self.reason else "", "message": self.message, "cause": self.cause,
            "detected": self.detected, "streamed": self.streamed,
        }  # fmt: skip


def from_fields(upload_id: str, fields: Mapping[str, str]) -> Upload:
    """The upload a hash holds."""
    plan = Plan(Strategy(fields["strategy"]), int(fields["size"]), int(fields["part_size"]))
    reason = fields.get("reason")
    return Upload(
        id=upload_id, channel=channel_from_path(fields["channel"]), user=fields["user"], filename=fields["filename"],
        mime=fields["mime"], plan=plan, event_id=fields["event_id"], slot=fields["slot"],
        expires_ms=int(fields["expires_ms"]), sha256=fields["sha256"] or None, state=UploadState(fields["state"]),
        handle=fields["handle"], is_checked=fields["is_checked"] == "1",
        reason=FailReason(reason) if reason else None, message=fields.get("message", ""),
        cause=fields.get("cause", ""), detected=fields.get("detected", ""),
        streamed=fields.get("streamed", ""),
    )  # fmt: skip


def file_id_of(channel: Channel, event_id: str) -> str:
    """The `upload_id`, later the `file_id`, of the `file.upload.request` with this ID: 32 hex digits.

    The hub that answers the request and the worker that verifies derive the same one without asking.
    """
    return blake2b(f"{channel.path}:{event_id}".encode(), digest_size=_FILE_ID_BYTES).hexdigest()
