"""Joins an answer's pieces of text into deltas. Pure: the time is passed in.

The first delta is sent at once; then one every 40 ms, or as soon as 512 characters are waiting. An interval below 25 ms would
not be visible, and one entry per token would fill Redis. Only one delta is in flight at a time, so offsets cannot overtake each
other; text that arrives meanwhile is joined.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

JOIN_S: Final = 0.04
JOIN_CHARACTERS: Final = 512
DELTA_MAX: Final = 8_192
"""Maximum length of `delta` in the catalogue, in code points."""
Track = Literal["text", "reasoning"]


class Delta(NamedTuple):
    """A piece of text to send. Offsets count the code points of its track."""

    track: Track
    offset: int
    end: int
    text: str


@dataclass(slots=True)
class _Buffer:
    """The text of one track: the part already sent, and the part that waits."""

    sent: list[str] = field(default_factory=list)
    sent_count: int = 0
    waiting: list[str] = field(default_factory=list)
    waiting_count: int = 0


class Joiner:
    """Joins the text of one message into deltas.

    Args:
        kept: text that an earlier attempt has stored.
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
        """True if text is waiting to be sent."""
        return any(buffer.waiting_count for buffer in self._buffers.values())

    @property
    def is_stored(self) -> bool:
        """True if all text is stored."""
        return self._in_flight is None and not self.has_waiting

    def add(self, track: Track, text: str) -> None:
        """Add text from the agent."""
        buffer = self._buffers[track]
        buffer.waiting.append(text)
        buffer.waiting_count += len(text)
        self.joined_count += 1

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until a delta is due; None if one is in flight or no text is waiting."""
        if self._in_flight is not None or not self.has_waiting:
            return None
        if self._last_s is None or max(buffer.waiting_count for buffer in self._buffers.values()) >= JOIN_CHARACTERS:
            return 0.0
        return max(0.0, self._last_s + JOIN_S - now_s)

    def take(self, now_s: float) -> Delta:
        """Take the next delta, which is then in flight. Reasoning comes before text, as models produce them."""
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
        """Record that the delta in flight is stored."""
        self._in_flight = None

    def whole(self, track: Track) -> str:
        """The complete text of a track, sent or not."""
        buffer = self._buffers[track]
        return "".join(buffer.sent) + "".join(buffer.waiting)
