"""Builds a channel's history event by event, folds it at once, and gives the resulting state. Pure."""

from __future__ import annotations

import json
from typing import Any

from projections.channel_state import ChannelState
from streams.channel import Channel, Kind
from streams.envelope import Entry

START_MS = 1_795_367_479_000


class History:
    """Appends events to a channel of the given kind, one second apart, and folds them at once."""

    def __init__(self, kind: Kind) -> None:
        self.channel = Channel("acme", kind, "42")
        self.state: ChannelState = ChannelState.begin(self.channel)
        self.entries: list[Entry] = []

    def entry(self, event_type: str, payload: dict[str, Any], user: str = "alice", **meta: str) -> Entry:
        """The next event, which is not folded."""
        seq = self.state.seq + 1
        actor = json.dumps({"kind": "user", "id": user}).encode()
        data, meta_json = json.dumps(payload).encode(), json.dumps(meta).encode()
        return Entry(f"{START_MS + seq * 1000}-0".encode(), seq, event_type.encode(), b"1", actor, data, meta_json)

    def add(
        self,
        event_type: str,
        payload: dict[str, Any] | None = None,
        user: str = "alice",
        *,
        meta: dict[str, str] | None = None,
    ) -> str:
        """Append and fold an event; returns its ID."""
        entry = self.entry(event_type, payload or {}, user, **(meta or {}))
        self.entries.append(entry)
        self.state.advance(entry)
        return entry.id.decode()

    def say(self, text: str, user: str = "alice", **fields: Any) -> str:
        """Append a chat message; returns its ID."""
        return self.add("chat.message", {"text": text, **fields}, user)

    def answer(self, message_id: str, text: str = "so", **start: Any) -> str:
        """Append a complete answer; returns its ID."""
        meta = start.pop("meta", None)
        run_id = message_id.partition(".")[0]
        head = {"message_id": message_id, "run_id": run_id, "attempt": 1}
        self.add("assistant.message.start", {**head, "agent": "demo", **start}, "demo", meta=meta)
        self.add("assistant.message.end", {**head, "finish_reason": "stop", "text": text}, "demo")
        return message_id

    @property
    def shown(self) -> dict[str, Any]:
        """The rendered state."""
        shown: dict[str, Any] = json.loads(self.state.render())
        return shown

    @property
    def texts(self) -> list[str]:
        """The texts of the messages in the state."""
        return [message["text"] for message in self.shown["messages"]]

    def message(self, message_id: str) -> dict[str, Any]:
        """A message as it is in the state."""
        return next(message for message in self.shown["messages"] if message["message_id"] == message_id)
