"""What an append's answer means to the client that asked for it. Pure."""

from __future__ import annotations

from typing import Final

from hub.errors import HubError, Problem
from hub.protocol.commands import Append
from streams.envelope import Appended, Lane
from streams.errors import GuardRefused, IdempotencyConflict, LogUnavailable, StreamsError
from streams.events import EventType
from streams.json_bytes import to_json

RETRY_AFTER_MS: Final = 500
_BOOL: Final = (b"false", b"true")


def stored_payload(event: EventType, append: Append, appended: Appended) -> bytes:
    """The reply's payload: where the event stands (nothing for the live lane), and what the handler adds."""
    results = append.results(appended) if callable(append.results) else append.results
    extra = results if isinstance(results, bytes) else to_json(results)[1:-1] if results else b""
    if event.lane is Lane.LIVE:
        return b"{" + extra + b"}"
    return b'{"id":"%b","seq":%d,"duplicate":%b,"durability":"%b"%b%b}' % (
        appended.id.encode(), appended.seq, _BOOL[appended.is_duplicate], appended.durability.value.encode(),
        b"," if extra else b"", extra,
    )  # fmt: skip


def append_error(append: Append, error: StreamsError) -> HubError:
    """Why it was not stored, as the client's error."""
    if isinstance(error, GuardRefused):
        return append.refused(error) if append.refused else invalid_state(error.field, error.present)
    return log_error(error)


def log_error(error: StreamsError) -> HubError:
    """An error of the log as the client's error."""
    if isinstance(error, IdempotencyConflict):
        return HubError(4009, "this id was used before with another body; use a new id")
    if isinstance(error, LogUnavailable):
        return unavailable()
    return HubError(4005, str(error))


def unavailable() -> HubError:
    """Redis is away."""
    return HubError(4013, "the log is away: send the same id again after a while", retry_after_ms=RETRY_AFTER_MS)


def invalid_state(field: str, present: str | None) -> HubError:
    """4021 with the field and its present state."""
    details = (Problem(field, f"is {present}" if present else "is not set"),)
    return HubError(4021, "the state has changed meanwhile; details say what it is now", details=details)
