"""A minimal hub: the contract's behaviour towards one client, in memory, without I/O.

For tests of the client alone: it does what the contract specifies and, on demand, what a broken network or hub would do. Tests
against the real hub are in tests/integration.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Frame = dict[str, Any]


@dataclass
class ModelLog:
    """One channel: events as (ID, seq, text), a floor, an epoch."""

    epoch: str
    events: list[tuple[str, int, str]] = field(default_factory=list)
    head: tuple[str, int] = ("0", 0)
    floor: tuple[str, int] = ("0", 0)

    def after_seq(self, seq: int) -> list[tuple[str, int, str]]:
        return [event for event in self.events if event[1] > seq]


class ModelHub:
    """Channels, idempotency and sessions. `tokens` maps a token to None (valid) or to the code with which it is refused."""

    def __init__(self) -> None:
        self.logs: dict[str, ModelLog] = {}
        self.answered: dict[str, Frame] = {}
        self.sessions: list[ModelSession] = []
        self.refusals: dict[str, Frame] = {}
        self.later: dict[str, int] = {}
        self.ack: Frame = {}
        self.epochs = self.clock = self.session_count = 0

    def log(self, channel: str) -> ModelLog:
        if channel not in self.logs:
            self.epochs += 1
            self.logs[channel] = ModelLog(f"e{self.epochs}")
        return self.logs[channel]

    def append(
        self, channel: str, text: str, command: str | None = None, kind: str = "chat.message"
    ) -> tuple[str, int]:
        """Store an event and send it to all subscribers."""
        log = self.log(channel)
        self.clock += 1
        event_id, seq = f"{self.clock}-0", log.head[1] + 1
        frame: Frame = {"id": event_id, "seq": seq, "channel": channel, "type": kind, "v": 1}
        frame["actor"] = {"kind": "user", "id": "alice"}
        if command is not None:
            frame["meta"] = {"command": command}
        frame["payload"] = {"text": text}
        wire = json.dumps(frame, ensure_ascii=seq % 2 == 0, separators=(", ", ":")).replace('", "', '" ,  "')
        log.events.append((event_id, seq, wire))
        log.head = (event_id, seq)
        for session in self.sessions:
            if channel in session.following:
                session.out.append(wire)
        return log.head

    def trim(self, channel: str, keep: int) -> None:
        """Drop all but the newest `keep` events."""
        log = self.log(channel)
        while len(log.events) > keep:
            event_id, seq, _ = log.events.pop(0)
            log.floor = (event_id, seq)

    def flush(self, channel: str) -> None:
        """Lose the stream: the channel gets a new epoch, of which every subscriber is informed."""
        self.epochs += 1
        self.logs[channel] = ModelLog(f"e{self.epochs}")
        for session in self.sessions:
            if channel in session.following:
                session.announce(channel, {"reason": "epoch_changed", "from_seq": None, "to_seq": None}, 0, None)


class ModelSession:
    """One socket of the model hub: `receive` takes what the client sent, `out` holds what is to be sent to it."""

    def __init__(self, hub: ModelHub) -> None:
        self.hub = hub
        self.out: list[str] = []
        self.following: set[str] = set()
        self.greeted: Frame | None = None
        self.seen: list[Frame] = []
        self.closed: int | None = None
        hub.sessions.append(self)

    def receive(self, message: str) -> None:
        frames = json.loads(message)
        for frame in frames if isinstance(frames, list) else [frames]:
            self.seen.append(frame)
            if self.closed is None:
                self._on_frame(frame)

    def leave(self) -> None:
        if self in self.hub.sessions:
            self.hub.sessions.remove(self)
        self.following.clear()

    def send(self, frame: Frame) -> None:
        self.out.append(json.dumps(frame))

    def error(self, code: int, retry: str, *, re: str | None = None, closes: bool = False, **more: Any) -> None:
        payload = {"code": code, "name": "some_name", "message": "some sentence", "retry": retry}
        payload |= {key: value for key, value in more.items() if key != "channel"}
        frame: Frame = {"type": "connection.error", "payload": payload}
        if re is not None:
            frame["re"] = re
        if "channel" in more:
            frame["channel"] = more["channel"]
        self.send(frame)
        if closes:
            self.closed = code
            self.leave()

    def _on_frame(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind in ("connection.init", "connection.reconnect"):
            self._greet(frame)
        elif kind == "connection.heartbeat":
            self.send({"type": kind, "payload": {"server_time": "2026-01-01T00:00:00.000Z"}})
        elif kind == "connection.refresh":
            self.send({"type": "connection.refreshed", "re": frame["id"], "payload": {"token_expires_at": "later"}})
        elif kind == "channel.subscribe":
            for wanted in frame["payload"]["channels"]:
                self.subscribe(wanted, frame["id"])
        elif kind == "channel.unsubscribe":
            for channel in frame["payload"]["channels"]:
                self.following.discard(channel)
                self.send(
                    {
                        "type": "channel.unsubscribed",
                        "re": frame["id"],
                        "channel": channel,
                        "payload": {"reason": "requested"},
                    }
                )
        elif "id" in frame:
            self._command(frame)

    def _greet(self, frame: Frame) -> None:
        payload = frame["payload"]
        refusal = self.hub.refusals.get(payload["token"])
        if refusal is not None:
            self.error(**refusal, closes=True)
            return
        self.greeted = frame
        self.hub.session_count += 1
        ack: Frame = {
            "session_id": f"s{self.hub.session_count}", "client_id": payload.get("client_id", "c-made"), "user": "alice",
            "tenant": "acme", "version": 1, "capabilities": payload["capabilities"], "heartbeat_interval_ms": 30_000,
            "message_size_limit_bytes": 1_048_576, "max_subscriptions": 1000, "token_expires_at": "2030-01-01T00:00:00.000Z",
            "node": "n1", "server_time": "2026-01-01T00:00:00.000Z", "reconnect": {"min_ms": 1, "max_ms": 4},
        }  # fmt: skip # a table
        self.send({"type": "connection.ack", "re": frame["id"], "payload": ack | self.hub.ack})
        for channel, cursor in payload.get("cursors", {}).items():
            self.subscribe({"channel": channel, **cursor}, None)
        for wanted in payload.get("channels", []):
            self.subscribe(wanted, None)

    def subscribe(self, wanted: str | Frame, re: str | None) -> None:
        wanted = {"channel": wanted} if isinstance(wanted, str) else wanted
        channel = wanted["channel"]
        refusal = self.hub.refusals.get(channel)
        if refusal is not None:
            self.error(**refusal, channel=channel, re=re)
            return
        log = self.hub.log(channel)
        gap, from_seq = self._worth(log, wanted)
        replay = log.after_seq(log.head[1] if gap else from_seq)
        self.following.add(channel)
        self.announce(channel, gap, len(replay), re)
        texts = [text for _, _, text in replay]
        for start in range(0, len(texts), 100):
            batch = texts[start : start + 100]
            self.out.append(batch[0] if len(batch) == 1 else "[" + " ,\n".join(batch) + "]")
        if "after" in wanted or "rewind" in wanted:
            seqs = [seq for _, seq, _ in replay]
            told = {
                "from_seq": seqs[0] if seqs else None,
                "to_seq": seqs[-1] if seqs else None,
                "count": len(seqs),
                "gap": gap,
            }
            self.send({"type": "channel.resumed", "channel": channel, "payload": told})

    def _worth(self, log: ModelLog, wanted: Frame) -> tuple[Frame | None, int]:
        """Judge a cursor: (gap or None, the seq after which to replay)."""
        if "rewind" in wanted and "after" not in wanted:
            return None, max(log.floor[1], log.head[1] - wanted["rewind"])
        after, seq = wanted.get("after", "$"), wanted.get("seq")
        if after == "$":
            return None, log.head[1]
        if wanted.get("epoch") not in (None, log.epoch):
            return {"reason": "epoch_changed", "from_seq": None, "to_seq": None}, 0
        known = {event_id: number for event_id, number, _ in log.events} | {log.floor[0]: log.floor[1], "0": 0}
        seq = known.get(after) if seq is None else seq
        if seq is None or seq > log.head[1]:
            return {"reason": "cursor_unknown", "from_seq": None, "to_seq": None}, 0
        if seq < log.floor[1]:
            return {"reason": "trimmed", "from_seq": seq + 1, "to_seq": log.floor[1]}, 0
        return None, seq

    def announce(self, channel: str, gap: Frame | None, replay: int, re: str | None) -> None:
        log = self.hub.log(channel)
        payload: Frame = {
            "epoch": log.epoch, "head": {"id": log.head[0], "seq": log.head[1]},
            "floor": {"id": log.floor[0], "seq": log.floor[1]}, "recovered": gap is None, "replay": replay, "gap": gap,
            "state": {"count": log.head[1]}, "state_at": log.head[1],
        }  # fmt: skip # a table
        frame: Frame = {"type": "channel.subscribed", "channel": channel, "payload": payload}
        self.send(frame if re is None else frame | {"re": re})

    def _command(self, frame: Frame) -> None:
        command_id, channel = frame["id"], frame.get("channel", "")
        refusal = self.hub.refusals.get(frame["payload"].get("text", ""))
        if refusal is not None:
            self.error(**refusal, re=command_id)
        elif self.hub.later.get(command_id, 0) > 0:
            self.hub.later[command_id] -= 1
            self.error(4013, "backoff", re=command_id)
        elif frame["type"] in self._reads:
            self._reads[frame["type"]](self, frame)
        elif command_id in self.hub.answered:
            self.send(self._receipt(command_id, duplicate=True))
        else:
            event_id, seq = self.hub.append(channel, frame["payload"].get("text", ""), command_id)
            self.hub.answered[command_id] = {"id": event_id, "seq": seq, "durability": "memory"}
            self.send(self._receipt(command_id, duplicate=False))

    def _list(self, frame: Frame) -> None:
        self.send({"type": "agent.list", "re": frame["id"], "payload": {"agents": []}})

    def _history(self, frame: Frame) -> None:
        log, limit = self.hub.log(frame["channel"]), frame["payload"]["limit"]
        events = [text for _, _, text in log.events[:limit]]
        following = log.events[limit - 1][0] if len(log.events) > limit else None
        head = json.dumps({"type": "channel.history", "re": frame["id"], "channel": frame["channel"]})[:-1]
        rest = json.dumps({"next": following, "gap": None})[1:]
        self.out.append(f'{head}, "payload": {{ "events" : [{" , ".join(events)}], {rest}}}')

    def _state(self, frame: Frame) -> None:
        log = self.hub.log(frame["channel"])
        payload = {"epoch": log.epoch, "state": {"count": log.head[1]}, "state_at": log.head[1]}
        self.send({"type": "channel.state", "re": frame["id"], "channel": frame["channel"], "payload": payload})

    _reads = MappingProxyType({"agent.list": _list, "channel.history": _history, "channel.state": _state})

    def _receipt(self, command_id: str, *, duplicate: bool) -> Frame:
        return {
            "type": "message.received",
            "re": command_id,
            "payload": {**self.hub.answered[command_id], "duplicate": duplicate},
        }


def counted_ids(prefix: str = "c") -> Callable[[], str]:
    """IDs c1, c2, …, for tests that name every command."""
    count = iter(range(1, 1_000_000))
    return lambda: f"{prefix}{next(count)}"
