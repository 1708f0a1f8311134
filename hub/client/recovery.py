"""Detects a lost connection and decides what follows: heartbeats, back-off, a new token, or the end. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from hub.client.errors import CLOSE_ADVICE, ConnectionRefused, HubError, Retry
from hub.client.items import Payload

_DOUBLINGS_MAX: Final = 32
"""Maximum exponent of the back-off, which keeps the numbers small; the ceiling is reached long before."""


def full_jitter_s(attempt: int, min_ms: int, max_ms: int, jitter: float) -> float:
    """Returns the pause in seconds before attempt number `attempt` (from 0), for a `jitter` in [0, 1).

    Full jitter (a uniform draw between zero and the ceiling) best spreads the clients that lost their node at the
    same moment: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    ceiling_ms: int = min(max_ms, min_ms * 2 ** min(attempt, _DOUBLINGS_MAX))
    return ceiling_ms * jitter / 1000


_BEATS_PER_INTERVAL: Final = 2
"""Heartbeats per interval. The hub closes after two silent intervals, so three of our heartbeats in a row may be lost."""
_SILENT_INTERVALS: Final = 2
"""Intervals without any message after which the connection counts as half open."""


class Heartbeat:
    """The heartbeats of one socket, and the silence of the other side. All times are in seconds.

    The application's heartbeat is used instead of the protocol's ping, because the hub counts it and a proxy
    cannot answer it.
    """

    __slots__ = ("_beat_s", "_heard_at", "_listening", "_next_beat_at", "_silence_s")

    def __init__(self) -> None:
        self._beat_s = 0.0
        self._silence_s = 0.0
        self._heard_at = 0.0
        self._next_beat_at: float | None = None
        self._listening = True

    def expect_within(self, now: float, silence_s: float) -> None:
        """Starts on a new socket: a message must arrive within `silence_s`; no heartbeats are sent yet."""
        self._heard_at, self._silence_s, self._next_beat_at, self._listening = now, silence_s, None, True

    def start(self, now: float, interval_ms: int) -> None:
        """Starts heartbeats at the interval that the handshake announced."""
        self._beat_s = interval_ms / 1000 / _BEATS_PER_INTERVAL
        self._silence_s = interval_ms / 1000 * _SILENT_INTERVALS
        self._heard_at, self._next_beat_at = now, now + self._beat_s

    def heard(self, now: float) -> None:
        """Records a message of the other side."""
        self._heard_at = now

    def listen(self, now: float, *, listening: bool) -> None:
        """Records that reading stopped or resumed. While nothing is read, silence proves nothing."""
        self._listening, self._heard_at = listening, now

    def beat(self, now: float) -> bool:
        """Returns True if a heartbeat is due now; the next one is due half an interval later."""
        if self._next_beat_at is None or now < self._next_beat_at:
            return False
        self._next_beat_at = now + self._beat_s
        return True

    def silent(self, now: float) -> bool:
        """Returns True if the other side has been silent for too long."""
        return self._listening and now >= self._heard_at + self._silence_s

    @property
    def due(self) -> float:
        """The time of the next check; infinity if there is none."""
        beat_at = float("inf") if self._next_beat_at is None else self._next_beat_at
        return min(beat_at, self._heard_at + self._silence_s) if self._listening else beat_at


_REFRESHES_MAX: Final = 2
"""Fresh tokens in a row refused as expired after which the token provider counts as broken."""
_MIN_MS: Final = 200
"""First ceiling of the back-off in milliseconds, until a hub has given its own."""
_MAX_MS: Final = 10_000
"""Last ceiling of the back-off in milliseconds, until a hub has given its own."""


@dataclass(frozen=True, slots=True)
class Again:
    """Connect again after `delay_s`, with a renewed token if `fresh_token`."""

    delay_s: float
    fresh_token: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    """Do not reconnect: every iterator and command gets `error`."""

    error: ConnectionRefused


Verdict: TypeAlias = Again | Over


class Recovery:
    """Decides when to connect again, from the hub's advice and the number of failed attempts.

    Args:
        jitter: returns a random number in [0, 1).
        can_refresh: True if a new token can be requested.
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
        """Records a successful handshake; `advice` is `{"min_ms", "max_ms"}` of `connection.ack`."""
        self._refreshes = 0
        if advice is not None:
            self._min_ms, self._max_ms = advice["min_ms"], advice["max_ms"]

    def progressed(self) -> None:
        """Records that the connection delivered something: the back-off starts anew after the next loss."""
        self._attempt = 0

    def refused(self, payload: Payload) -> None:
        """Records a `connection.error` that answers no command: the reason why the socket will be closed."""
        self._refusal = payload

    def drained(self, now: float, reconnect_after_ms: int) -> None:
        """Records that the hub is about to restart: reconnect no earlier than it advised, so that clients spread out."""
        self._drained_until = now + reconnect_after_ms / 1000

    def pause_s(self, attempt: int, error: HubError | None = None) -> float:
        """Returns the pause in seconds before another attempt: the hub's if it gave one, else the back-off."""
        if error is not None and error.retry_after_ms is not None:
            return error.retry_after_ms / 1000 * (1 + self._jitter() / 4)
        return full_jitter_s(attempt, self._min_ms, self._max_ms, self._jitter())

    def lost(self, code: int | None, now: float) -> Verdict:
        """Decides what to do after the end of a socket. `code` is the received close code, or None."""
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
        """Returns the error that explains this end: the one the hub sent, else one made from the close code."""
        told = self._refusal
        if told is not None and (told["code"] == code or (code is None and told["code"] in CLOSE_ADVICE)):
            return told
        advice = CLOSE_ADVICE.get(code or 0, Retry.BACKOFF)
        return {"code": code or 1006, "name": "closed", "message": "the connection was closed", "retry": advice}


_RETRY_MAX_S: Final = 300.0


class Fallback:
    """Chooses between WebSocket and HTTP: HTTP where no WebSocket gets through or the hub refuses it, else WebSocket.

    Attributes:
        is_http: True if the next connection uses HTTP.
    """

    def __init__(self, retry_s: float) -> None:
        self.is_http = False
        self._first_s = self._retry_s = retry_s

    def unacknowledged(self) -> bool:
        """Records that a connection ended without `connection.ack`. Returns True if HTTP must be tried at once, False otherwise."""
        self.is_http = not self.is_http
        return self.is_http

    def refused(self) -> bool:
        """Records that the hub keeps this user off WebSocket. Returns True if HTTP must be tried at once, False otherwise."""
        was_http, self.is_http = self.is_http, True
        return not was_http

    def acknowledged(self, jitter: float) -> float | None:
        """Records `connection.ack`. Over HTTP it returns the seconds until WebSocket is tried again, which double each time."""
        if not self.is_http:
            self._retry_s = self._first_s
            return None
        pause_s, self._retry_s = self._retry_s, min(self._retry_s * 2, _RETRY_MAX_S)
        return pause_s * (0.75 + jitter / 2)

    def returned(self) -> None:
        """Records that WebSocket works again."""
        self.is_http = False
