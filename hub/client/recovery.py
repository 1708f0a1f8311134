"""What to do after a socket was lost: come back after a pause, with a new token, or not at all. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from hub.client.backoff import full_jitter_s
from hub.client.errors import CLOSE_ADVICE, ConnectionRefused, HubError, Retry
from hub.client.items import Payload

_REFRESHES_MAX: Final = 2
"""Fresh tokens in a row that the hub may call expired before the token provider is held to be broken."""
_MIN_MS: Final = 200
"""Before any hub said its own: first ceiling of the back-off."""
_MAX_MS: Final = 10_000
"""Before any hub said its own: last ceiling of the back-off."""


@dataclass(frozen=True, slots=True)
class Again:
    """Connect again after `delay_s`; with a token asked anew when `fresh_token`."""

    delay_s: float
    fresh_token: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    """Do not come back: every iterator and command gets `error`."""

    error: ConnectionRefused


Verdict: TypeAlias = Again | Over


class Recovery:
    """Remembers what the hub advised, and how often coming back has failed.

    Args:
        jitter: draws from [0, 1).
        can_refresh: whether a new token can be had.
    """

    __slots__ = (
        "_attempt",
        "_can_refresh",
        "_drained_until",
        "_jitter",
        "_max_ms",
        "_min_ms",
        "_refreshes",
        "_refusal",
    )

    def __init__(self, jitter: Callable[[], float], *, can_refresh: bool) -> None:
        self._jitter = jitter
        self._can_refresh = can_refresh
        self._attempt = 0
        self._refreshes = 0
        self._min_ms, self._max_ms = _MIN_MS, _MAX_MS
        self._refusal: Payload | None = None
        self._drained_until: float | None = None

    def acknowledged(self, advice: Payload | None) -> None:
        """The handshake succeeded; `advice` is the ack's `{"min_ms", "max_ms"}`."""
        self._refreshes = 0
        if advice is not None:
            self._min_ms, self._max_ms = advice["min_ms"], advice["max_ms"]

    def progressed(self) -> None:
        """Something came of this connection; the next loss begins the back-off anew."""
        self._attempt = 0

    def refused(self, payload: Payload) -> None:
        """A `connection.error` that answers no command: it tells why the socket will be closed."""
        self._refusal = payload

    def drained(self, now: float, reconnect_after_ms: int) -> None:
        """The hub will restart and spreads its clients: come back no earlier than told."""
        self._drained_until = now + reconnect_after_ms / 1000

    def pause_s(self, attempt: int, error: HubError | None = None) -> float:
        """The pause before repeating something: what the hub said, else the back-off."""
        if error is not None and error.retry_after_ms is not None:
            return error.retry_after_ms / 1000 * (1 + self._jitter() / 4)
        return full_jitter_s(attempt, self._min_ms, self._max_ms, self._jitter())

    def lost(self, code: int | None, now: float) -> Verdict:
        """The socket is gone. `code` is the close code received; None when none came."""
        error = ConnectionRefused(self._told(code))
        drained_until, self._refusal, self._drained_until = self._drained_until, None, None
        attempt, self._attempt = self._attempt, self._attempt + 1
        if error.retry is Retry.REFRESH and self._can_refresh and self._refreshes < _REFRESHES_MAX:
            self._refreshes += 1
            return Again(0.0 if self._refreshes == 1 else self.pause_s(attempt), fresh_token=True)
        if error.retry in (Retry.NO, Retry.REFRESH):
            return Over(error)
        if drained_until is not None:
            return Again(max(0.0, drained_until - now))
        if error.retry is Retry.NOW and attempt == 0:
            return Again(0.0)
        return Again(self.pause_s(attempt, error))

    def _told(self, code: int | None) -> Payload:
        """The error that belongs to this end: the hub's own words, else what the table says of the code."""
        told = self._refusal
        if told is not None and (told["code"] == code or (code is None and told["code"] in CLOSE_ADVICE)):
            return told
        advice = CLOSE_ADVICE.get(code or 0, Retry.BACKOFF)
        return {"code": code or 1006, "name": "closed", "message": "the connection was closed", "retry": advice}
