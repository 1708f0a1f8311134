"""Answers while they are written: deltas joined by the offset rule (EVENTS 6). Pure.

Both lanes feed it, in any order between them: deltas from the live lane; start, reset and end from the events lane.
Offsets count Unicode code points, which is what Python's `len` counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from projections.fields import broken, number, optional_text, text
from projections.recorded import Recorded
from streams.json_bytes import Json, JsonObject

TEXT: Final = "text"
REASONING: Final = "reasoning"
ENDED_MAX: Final = 100
"""Ended answers remembered, so that a delta that comes after the end does not open them again."""


@dataclass(slots=True)
class Writing:
    """One answer in progress, one list of pieces for each track.

    Attributes:
        held: code points held of each track: the offset of the next delta to apply.
    """

    message_id: str
    run_id: str
    attempt: int
    pieces: dict[str, list[str]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    def track(self, name: str) -> str:
        """What is held of a track, whole."""
        pieces = self.pieces.setdefault(name, [])
        pieces[:] = ["".join(pieces)]
        return pieces[0]

    def cut(self, attempt: int, keep: int) -> None:
        """Begin a new attempt with the first `keep` code points of text, and no reasoning."""
        kept = self.track(TEXT)[:keep]
        self.attempt, self.pieces, self.held = attempt, {TEXT: [kept]}, {TEXT: len(kept)}

    def render(self) -> JsonObject:
        """The answer as `open_messages` shows it."""
        shown: JsonObject = {
            "message_id": self.message_id, "run_id": self.run_id, "attempt": self.attempt,
            "text": self.track(TEXT), "offset": self.held.get(TEXT, 0),
        }  # fmt: skip
        if REASONING in self.held:
            shown |= {"reasoning": self.track(REASONING), "reasoning_offset": self.held[REASONING]}
        return shown


@dataclass(slots=True)
class OpenMessages:
    """Answers in progress by message ID."""

    open: dict[str, Writing] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def apply(self, event: Recorded) -> None:
        """Go on to the state after an `assistant.message.*` event; others change nothing."""
        match event.type:
            case "assistant.message.start":
                self._writing(event)
            case "assistant.message.delta":
                self._delta(event)
            case "assistant.message.reset":
                self._reset(event)
            case "assistant.message.end":
                message_id = text(event, "message_id")
                self.open.pop(message_id, None)
                self.ended = [*self.ended[1 - ENDED_MAX :], message_id]

    def render(self) -> list[Json]:
        """`open_messages` of the live part of state."""
        return [writing.render() for writing in self.open.values()]

    def _writing(self, event: Recorded) -> Writing | None:
        """The answer the event is about, opened by the first word of it; None once it has ended."""
        message_id, run_id, attempt = text(event, "message_id"), text(event, "run_id"), number(event, "attempt")
        if message_id in self.ended:
            return None
        return self.open.setdefault(message_id, Writing(message_id, run_id, attempt))

    def _delta(self, event: Recorded) -> None:
        offset, delta, attempt = number(event, "offset"), text(event, "delta"), number(event, "attempt")
        track, writing = optional_text(event, "track") or TEXT, self._writing(event)
        if track not in {TEXT, REASONING}:
            raise broken(event, "track must be text or reasoning")
        if writing is None or attempt < writing.attempt:
            return
        held = writing.held.get(track, 0)
        if offset == held and attempt == writing.attempt:
            writing.pieces.setdefault(track, []).append(delta)
            writing.held[track] = held + len(delta)

    def _reset(self, event: Recorded) -> None:
        attempt, writing = number(event, "attempt"), self.open.get(text(event, "message_id"))
        keep = event.payload.get("keep", 0)
        if not isinstance(keep, int):
            raise broken(event, "keep must be a whole number")
        if writing is not None and attempt > writing.attempt:
            writing.cut(attempt, keep)
