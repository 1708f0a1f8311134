"""Joining an answer's pieces of text into deltas. Pure: the time is passed in.

The first delta goes at once; then one every 40 ms or as soon as 512 characters wait. Below 25 ms nothing visible is gained,
and one entry per token fills Redis (NOTES 3). One delta is on its way at a time, so offsets cannot overtake each other and
whatever comes meanwhile is joined.
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
    """A piece to send. Offsets count code points of the track."""

    track: Track
    offset: int
    end: int
    text: str


@dataclass(slots=True)
class _Tape:
    """One track: what was given and sent, and what waits."""

    sent: list[str] = field(default_factory=list)
    sent_count: int = 0
    waiting: list[str] = field(default_factory=list)
    waiting_count: int = 0


class Joiner:
    """The text of one message on its way out.

    Args:
        kept: text that an earlier attempt wrote and that stays.
    """

    def __init__(self, kept: str = "") -> None:
        self._tapes: dict[Track, _Tape] = {
            "reasoning": _Tape(), "text": _Tape([kept] if kept else [], len(kept)),
        }  # fmt: skip
        self._last_s: float | None = None
        self._on_its_way: Delta | None = None
        self.joined_count = 0

    @property
    def has_waiting(self) -> bool:
        """Whether text waits to be sent."""
        return any(tape.waiting_count for tape in self._tapes.values())

    @property
    def is_quiet(self) -> bool:
        """Whether everything given is stored."""
        return self._on_its_way is None and not self.has_waiting

    def add(self, track: Track, text: str) -> None:
        """Text the agent gave."""
        tape = self._tapes[track]
        tape.waiting.append(text)
        tape.waiting_count += len(text)
        self.joined_count += 1

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until a delta should go; None while one is on its way or nothing waits."""
        if self._on_its_way is not None or not self.has_waiting:
            return None
        if self._last_s is None or max(tape.waiting_count for tape in self._tapes.values()) >= JOIN_CHARACTERS:
            return 0.0
        return max(0.0, self._last_s + JOIN_S - now_s)

    def take(self, now_s: float) -> Delta:
        """The next delta, reasoning before text: that is the order models give them in. It is on its way from now on."""
        track: Track = "reasoning" if self._tapes["reasoning"].waiting_count else "text"
        tape = self._tapes[track]
        waiting = "".join(tape.waiting)
        text, rest = waiting[:DELTA_MAX], waiting[DELTA_MAX:]
        delta = Delta(track, tape.sent_count, tape.sent_count + len(text), text)
        tape.waiting, tape.waiting_count = ([rest] if rest else []), len(rest)
        tape.sent.append(text)
        tape.sent_count = delta.end
        self._on_its_way, self._last_s = delta, now_s
        return delta

    def stored(self) -> None:
        """The delta on its way has arrived."""
        self._on_its_way = None

    def whole(self, track: Track) -> str:
        """Everything given on a track, sent or not."""
        tape = self._tapes[track]
        return "".join(tape.sent) + "".join(tape.waiting)
