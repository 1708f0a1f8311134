"""Signs of life on one socket: when to give one, and when the other side has shown none for too long. Pure.

The application's heartbeat is used and not the protocol's ping, because the hub counts it and a proxy cannot answer it.
"""

from __future__ import annotations

from typing import Final

_BEATS_PER_INTERVAL: Final = 2
"""The hub closes after two silent intervals; at half an interval three of our beats may be lost."""
_SILENT_INTERVALS: Final = 2
"""Intervals without any frame after which the connection counts as half open."""


class Pulse:
    """The clock of one socket; every method is given the time in seconds."""

    __slots__ = ("_beat_s", "_heard_at", "_listening", "_next_beat_at", "_silence_s")

    def __init__(self) -> None:
        self._beat_s = 0.0
        self._silence_s = 0.0
        self._heard_at = 0.0
        self._next_beat_at: float | None = None
        self._listening = True

    def expect_within(self, now: float, silence_s: float) -> None:
        """A socket was opened: something must be heard within `silence_s`; no beats are given yet."""
        self._heard_at, self._silence_s, self._next_beat_at, self._listening = now, silence_s, None, True

    def start(self, now: float, interval_ms: int) -> None:
        """The handshake is done and told the heartbeat interval."""
        self._beat_s = interval_ms / 1000 / _BEATS_PER_INTERVAL
        self._silence_s = interval_ms / 1000 * _SILENT_INTERVALS
        self._heard_at, self._next_beat_at = now, now + self._beat_s

    def heard(self, now: float) -> None:
        """Some frame came."""
        self._heard_at = now

    def listen(self, now: float, *, listening: bool) -> None:
        """Reading was stopped or taken up again. Who does not listen cannot tell silence."""
        self._listening, self._heard_at = listening, now

    def beat(self, now: float) -> bool:
        """Whether a heartbeat is to be sent now; the next one is due half an interval later."""
        if self._next_beat_at is None or now < self._next_beat_at:
            return False
        self._next_beat_at = now + self._beat_s
        return True

    def silent(self, now: float) -> bool:
        """Whether the other side has been silent for too long."""
        return self._listening and now >= self._heard_at + self._silence_s

    @property
    def due(self) -> float:
        """When to look again; infinity when there is nothing to look for."""
        beat_at = float("inf") if self._next_beat_at is None else self._next_beat_at
        return min(beat_at, self._heard_at + self._silence_s) if self._listening else beat_at
