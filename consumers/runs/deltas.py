"""Joining an answer's pieces of text into deltas. Pure: the time is passed in.

The first delta is sent at once; then one every 40 ms, or as soon as 512 characters wait. Below 25 ms nothing visible is gained,
and one entry per token would fill Redis. One delta is in flight at a time, so offsets cannot overtake each other, and text that
comes meanwhile is joined.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

JOIN_S: Final = 0.04
JOIN_CHARACTERS: Final = 512
DELTA_MAX: Final = 8_192
"""The catalogue's limit of `delta`, in code points."""
Track = Literal["text", "reasoning"]


class Delta(NamedTuple):
    """A piece of text to send. Offsets count code points of the track."""

    track: Track
    offset: int
    end: int
    text: str


@dataclass(slots=True)
class _Buffer:
    """The text of one track: sent, and waiting."""

    sent: list[str] = field(default_factory=list)
    sent_count: int = 0
    waiting: list[str] = field(default_factory=list)
    waiting_count: int = 0


class Joiner:
    """Joins the text of one message into deltas.

    Args:
        kept: text that an earlier attempt stored.
    """

    def __init__(self, kept: str = "") -> None:
        self._buffers: dict[Track, _Buffer] = {
            "reasoning": _Buffer(),
            "text": _Buffer([kept] if kept else [], len(kept)),
        }
        self._last_s: float | None = None
        self._in_flight: Delta | None = None
        self.joined_count = 0

    @property
    def has_waiting(self) -> bool:
        """True while text waits to be sent."""
        return any(buffer.waiting_count for buffer in self._buffers.values())

    @property
    def is_stored(self) -> bool:
        """True when all text is stored."""
        return self._in_flight is None and not self.has_waiting

    def add(self, track: Track, text: str) -> None:
        """Adds text of the agent."""
        buffer = self._buffers[track]
        buffer.waiting.append(text)
        buffer.waiting_count += len(text)
        self.joined_count += 1

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until a delta is due; None while one is in flight or nothing waits."""
        if self._in_flight is not None or not self.has_waiting:
            return None
        if self._last_s is None or max(buffer.waiting_count for buffer in self._buffers.values()) >= JOIN_CHARACTERS:
            return 0.0
        return max(0.0, self._last_s + JOIN_S - now_s)

    def take(self, now_s: float) -> Delta:
        """The next delta, reasoning before text, which is the order of models. It is in flight from now on."""
        track: Track = "reasoning" if self._buffers["reasoning"].waiting_count else "text"
        buffer = self._buffers[track]
        waiting = "".join(buffer.waiting)
        text, rest = waiting[:DELTA_MAX], waiting[DELTA_MAX:]
        delta = Delta(track, buffer.sent_count, buffer.sent_count + len(text), text)
        buffer.waiting, buffer.waiting_count = ([rest] if rest else []), len(rest)
        buffer.sent.append(text)
        buffer.sent_count = delta.end
        self._in_flight, self._last_s = delta, now_s
        return delta

    def stored(self) -> None:
        """Notes that the delta in flight is stored."""
        self._in_flight = None

    def whole(self, track: Track) -> str:
        """The whole text of a track, sent or not."""
        buffer = self._buffers[track]
        return "".join(buffer.sent) + "".join(buffer.waiting)
