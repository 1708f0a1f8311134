"""The table of all errors that a client can get (docs/protocol.md#errors), and the exception that carries one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple


class RetryAdvice(StrEnum):
    """The next step that an error advises the client to take."""

    NO = "no"
    REFRESH = "refresh"
    BACKOFF = "backoff"
    NOW = "now"


class ErrorCode(NamedTuple):
    """One row: the code, its name, whether it always closes the socket, the advice to the client, and the HTTP status."""

    code: int
    name: str
    closes: bool
    retry: RetryAdvice
    http_status: int


_NO, _REFRESH, _BACKOFF, _NOW = RetryAdvice
_ROWS: Final = (
    ErrorCode(4001, "invalid_token", True, _NO, 401),
    ErrorCode(4002, "token_expired", True, _REFRESH, 401),
    ErrorCode(4003, "permission_denied", False, _NO, 403),
    ErrorCode(4004, "rate_limited", False, _BACKOFF, 429),
    ErrorCode(4005, "invalid_message", False, _NO, 422),
    ErrorCode(4006, "channel_not_found", False, _NO, 404),
    ErrorCode(4007, "agent_unavailable", False, _BACKOFF, 503),
    ErrorCode(4008, "handshake_timeout", True, _BACKOFF, 401),
    ErrorCode(4009, "idempotency_conflict", False, _NO, 409),
    ErrorCode(4010, "connection_limit", True, _BACKOFF, 429),
    ErrorCode(4011, "message_too_large", False, _NO, 413),
    ErrorCode(4012, "too_far_behind", True, _NOW, 503),
    ErrorCode(4013, "unavailable", False, _BACKOFF, 503),
    ErrorCode(4014, "unsupported_version", True, _NO, 422),
    ErrorCode(4015, "subscription_limit", False, _NO, 429),
    ErrorCode(4016, "heartbeat_timeout", True, _NOW, 503),
    ErrorCode(4017, "upload_rejected", False, _NO, 422),
    ErrorCode(4018, "not_found", False, _NO, 404),
    ErrorCode(4019, "token_revoked", True, _NO, 401),
    ErrorCode(4020, "session_replaced", True, _NO, 409),
    ErrorCode(4021, "invalid_state", False, _NO, 409),
    ErrorCode(4022, "expired", False, _NO, 410),
    ErrorCode(4023, "already_initialized", True, _NO, 409),
    ErrorCode(4024, "feature_disabled", False, _NO, 403),
    ErrorCode(4030, "internal_error", False, _BACKOFF, 500),
)
ERROR_CODES: Final = MappingProxyType({row.code: row for row in _ROWS})
"""Code → row; the source of the documents, replies, HTTP statuses and tests."""

CLOSE_UNSUPPORTED_DATA: Final = 1003
CLOSE_RESTART: Final = 1012


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One field and its problem, in our own words; never the client's value."""

    field: str
    problem: str


class HubError(Exception):
    """A refusal that is sent to the client.

    Args:
        code: a key of `ERROR_CODES`.
        message: one sentence: the problem and, where the client can do something about it, the next step; no secrets, no echo
            of input.
        details: the fields at fault.
        retry_after_ms: milliseconds to wait before the next attempt; set only with the advice `backoff`.
        closes: overrides whether the error closes the socket.
        retry: overrides the row's advice.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        details: tuple[ErrorDetail, ...] = (),
        retry_after_ms: int | None = None,
        closes: bool | None = None,
        retry: RetryAdvice | None = None,
    ) -> None:
        super().__init__(message)
        self.row = ERROR_CODES[code]
        self.message = message
        self.details = details
        self.retry_after_ms = retry_after_ms
        self.closes = self.row.closes if closes is None else closes
        self.retry = retry or self.row.retry

    def amended(self, *, closes: bool | None = None, details: tuple[ErrorDetail, ...] = ()) -> HubError:
        """Returns the same refusal with another `closes`, with further details, or both."""
        self.closes = self.closes if closes is None else closes
        self.details = details or self.details
        return self

    def to_payload(self) -> dict[str, object]:
        """Returns the payload of `connection.error`, without absent fields."""
        payload: dict[str, object] = {
            "code": self.row.code,
            "name": self.row.name,
            "message": self.message,
            "retry": self.retry.value,
        }
        if self.retry_after_ms is not None:
            payload["retry_after_ms"] = self.retry_after_ms
        if self.details:
            payload["details"] = [{"field": d.field, "problem": d.problem} for d in self.details]
        return payload
