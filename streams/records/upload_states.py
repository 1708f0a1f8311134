"""The life of an upload, as a table (EVENTS 8). Pure.

    requested ──▶ uploading ──▶ verifying ──▶ scanning ──▶ ready
        └─────────────┴─────────────┴─────────────┴──▶ failing ──▶ failed

`failing` is ours and is shown as `failed`: the outcome is decided and the bytes are being removed; the event that says
`failed` is appended when they are gone. Every change is a compare-and-set on the upload's record, so that of two that
decide at once only one does, and exactly one of `file.ready` and `file.upload.failed` is ever appended.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class UploadState(StrEnum):
    """Where an upload stands."""

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


def may_enter(state: UploadState, present: UploadState) -> bool:
    """Whether an upload that is `present` may become `state`."""
    return present in COMES_FROM.get(state, ())


def sources(state: UploadState) -> str:
    """The states `state` may be entered from, comma-separated, as a guard's `in` wants them."""
    return ",".join(COMES_FROM[state])


class FailReason(StrEnum):
    """Why an upload failed (EVENTS 8, `file.upload.failed`)."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CHECKSUM = "checksum"
    SIZE = "size"
    TYPE = "type"
    STORAGE = "storage"
    INFECTED = "infected"
