"""A device's view of streamed answers: a second implementation of docs/events.md#assistant that shares no code with the hub.

For each message a screen also keeps the text made from deltas alone (`tape`), and compares everything that it ever showed with
the final text: rule 9 of docs/protocol.md#stream-rules. Violations are collected in `faults`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.client import Event, Item, Signal, Subscribed

Payload = Mapping[str, Any]


@dataclass(slots=True)
class Shown:
    """One message. `tape` is its text from deltas and snapshots; `final` is the text of its end event, once received."""

    run_id: str
    attempt: int
    tape: str = ""
    final: str | None = None
    history: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text shown to a person."""
        return self.tape if self.final is None else self.final


class Screen:
    """One device's view of one channel.

    Attributes:
        seq: the newest event it knows, directly or from a state.
        is_behind: an item was ahead of the known text; the device must request `channel.state` and call `take_state`.
        starts: number of answered subscriptions: 1 for a device that was never disconnected.
    """

    def __init__(self) -> None:
        self.messages: dict[str, Shown] = {}
        self.faults: list[str] = []
        self.seq = 0
        self.is_behind = False
        self.starts = 0
        self.types: list[str] = []

    @property
    def length(self) -> int:
        """The length of all messages together, in code points."""
        return sum(len(shown.text) for shown in self.messages.values())

    def texts(self, run_id: str) -> list[str]:
        """The current texts of the run's messages, in order."""
        return [shown.text for shown in self.messages.values() if shown.run_id == run_id]

    def take(self, item: Item) -> None:
        """Apply a received item."""
        if isinstance(item, Subscribed):
            self.starts += 1
            if item.gap is not None:
                self.faults.append(f"a gap: {item.gap}")
            if item.state is not None and item.state_scope == "live":  # the replayed events give the rest
                self._take_open(item.state)
            elif item.state is not None:
                self.take_state(item.state, item.state_at or 0)
        elif isinstance(item, Event):
            self._event(item)
        elif isinstance(item, Signal) and item.type == "assistant.message.delta":
            self._delta(item.payload)

    def take_state(self, state: Payload, state_at: int) -> None:
        """Apply the parts of a snapshot that are ahead of the known text."""
        self.is_behind = False
        self.seq = max(self.seq, state_at)
        for message in state["messages"]:
            if message["role"] == "assistant" and "finish_reason" in message:
                shown = self._opened(message["message_id"], message["run_id"], 0)
                self._end(message["message_id"], shown, message["text"])
        self._take_open(state)

    def _take_open(self, state: Payload) -> None:
        for held in state["open_messages"]:
            if len(held["text"]) != held["offset"]:
                self.faults.append(f"a snapshot of {len(held['text'])} code points says offset {held['offset']}")
            shown = self._opened(held["message_id"], held["run_id"], held["attempt"])
            if (held["attempt"], held["offset"]) > (shown.attempt, len(shown.tape)):
                shown.attempt = held["attempt"]
                self._write(shown, held["text"])

    def _event(self, event: Event) -> None:
        if self.seq and event.seq > self.seq + 1:
            self.faults.append(f"seq {event.seq} after {self.seq}")
        self.seq = max(self.seq, event.seq)
        self.types.append(event.type)
        payload = event.payload
        if event.type == "assistant.message.start":
            self._opened(payload["message_id"], payload["run_id"], payload["attempt"])
        elif event.type == "assistant.message.reset":
            self._reset(payload)
        elif event.type == "assistant.message.end":
            shown = self._opened(payload["message_id"], payload["run_id"], payload["attempt"])
            self._end(payload["message_id"], shown, payload["text"])

    def _opened(self, message_id: str, run_id: str, attempt: int) -> Shown:
        return self.messages.setdefault(message_id, Shown(run_id, attempt))

    def _reset(self, payload: Payload) -> None:
        shown = self._opened(payload["message_id"], payload["run_id"], 0)
        if payload["attempt"] <= shown.attempt:
            return
        shown.attempt = payload["attempt"]
        self.is_behind |= len(shown.tape) < payload["keep"]
        self._write(shown, shown.tape[: payload["keep"]])

    def _delta(self, payload: Payload) -> None:
        if payload["end"] != payload["offset"] + len(payload["delta"]):
            self.faults.append(f"a delta of {len(payload['delta'])} from {payload['offset']} to {payload['end']}")
        shown = self._opened(payload["message_id"], payload["run_id"], payload["attempt"])
        if payload["attempt"] < shown.attempt or payload["track"] != "text":
            return
        held = len(shown.tape)
        if payload["attempt"] > shown.attempt or payload["offset"] > held:
            self.is_behind = shown.final is None
        elif payload["offset"] == held:
            self._write(shown, shown.tape + payload["delta"])

    def _write(self, shown: Shown, text: str) -> None:
        shown.tape = text
        if shown.final is None:
            shown.history.append(text)
        elif not shown.final.startswith(text):
            self.faults.append("a late delta does not belong to the text of the end")

    def _end(self, message_id: str, shown: Shown, text: str) -> None:
        if shown.final not in {None, text}:
            self.faults.append(f"{message_id} ended twice, with two texts")
        shown.final = text
        wrong = [held for held in shown.history if not text.startswith(held)]
        if wrong:
            self.faults.append(f"{message_id} showed what is not a beginning of its end: {wrong[-1]!r}")
        shown.history.clear()
