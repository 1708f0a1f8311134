"""An example of every event type as it travels on the wire, for the documents. Pure.

A new type needs a row in `PAYLOADS` and, where its declaration has models for them, in `DELIVERED` and `REPLIES`; a test
validates each against its model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streams.envelope import Lane
from streams.events.custom import ROW
from streams.events.declaration import Direction, EventType

JsonObject = Mapping[str, object]
_MESSAGE: Final = "1795367479511-0"
_RUN: Final = "run-7"
_ANSWER: Final = "run-7.0"
_CALL: Final = "call_1"
_FILE: Final = "0123456789abcdef0123456789abcdef"
_SHA256: Final = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
_STORED: Final[JsonObject] = {"id": _MESSAGE, "seq": 42, "duplicate": False, "durability": "memory"}
_HEAD: Final[JsonObject] = {"id": _MESSAGE, "seq": 42}
_SIGNED: Final = "https://hub.example.org/files/…"

PAYLOADS: Final[Mapping[str, JsonObject]] = {
    "operator.call": {
        "scope": "auditor",
        "call": "GET /v1/channels/{channel}/events",
        "channels": ["conversation:42"],
    },
    "operator.delete": {
        "channel": "conversation:42",
        "epoch": "0f3a9c1d2b4e5f60",
        "seq": 1300,
        "deleted_at": "2026-11-23T04:59:01.000Z",
        "archived_to": 1300,
        "is_purged": False,
        "files": 2,
    },
    "operator.erasure": {
        "subject": "f894fa758ca7a2212cec49bc35168ed646b61edfa022b5c26cbe4db4728846dc",
        "keys": ["3f0c5be91a77d2e4c8b60a19"],
        "by": "olga",
        "events": 42,
        "channels": 3,
        "plain": 0,
    },
    "rollout.changed": {
        "websocket_percent": 25,
        "variants": [{"name": "blue", "percent": 50}, {"name": "green", "percent": 50}],
        "note": "a quarter first",
    },
    "ack": _STORED,
    "connection.init": {
        "token": "eyJ…",
        "client_id": "laptop",
        "versions": [1],
        "capabilities": ["batch"],
        "client": {"name": "my-app", "version": "2.0"},
        "channels": ["conversation:42"],
    },
    "connection.reconnect": {
        "token": "eyJ…",
        "client_id": "laptop",
        "versions": [1],
        "session_id": "s-8fX2",
        "cursors": {"conversation:42": {"after": _MESSAGE, "seq": 42, "epoch": "5f1c2a9e"}},
    },
    "connection.ack": {
        "session_id": "s-8fX2",
        "client_id": "laptop",
        "user": "alice",
        "tenant": "acme",
        "version": 1,
        "capabilities": ["batch"],
        "heartbeat_interval_ms": 30_000,
        "message_size_limit_bytes": 1_048_576,
        "max_subscriptions": 200,
        "token_expires_at": "2027-01-01T01:00:00.000Z",
        "node": "n-1",
        "server_time": "2027-01-01T00:00:00.000Z",
        "reconnect": {"min_ms": 100, "max_ms": 10_000},
    },
    "connection.heartbeat": {},
    "connection.error": {
        "code": 4004,
        "name": "rate_limited",
        "message": "too many commands of this kind; retry later",
        "retry": "backoff",
        "retry_after_ms": 250,
    },
    "connection.refresh": {"token": "eyJ…"},
    "connection.refreshed": {"token_expires_at": "2027-01-01T02:00:00.000Z"},
    "connection.expiring": {"in_ms": 60_000},
    "connection.drain": {"reconnect_after_ms": 1_500},
    "channel.subscribe": {"channels": [{"channel": "conversation:42", "after": _MESSAGE, "seq": 42}, "team:blue"]},
    "channel.subscribed": {
        "epoch": "5f1c2a9e",
        "head": {"id": "1795367481034-0", "seq": 45},
        "floor": {"id": "0", "seq": 0},
        "recovered": True,
        "replay": 3,
        "gap": None,
        "state_at": 45,
    },
    "channel.resumed": {"from_seq": 43, "to_seq": 45, "count": 3, "gap": None},
    "channel.unsubscribed": {"channel": "conversation:42", "reason": "requested"},
    "channel.unsubscribe": {"channels": ["conversation:42"]},
    "channel.presence": {"status": "away"},
    "channel.history": {"before": _MESSAGE, "types": ["chat.*"], "limit": 50},
    "channel.state": {},
    "channel.configure": {
        "metadata": {"topic": "Release"},
        "members": {"add": ["alice"]},
        "access": {"write": ["alice", "bob"]},
        "if_revision": 3,
    },
    "channel.updated": {"revision": 4, "changes": {"metadata": {"topic": "Release"}}, "by": "alice"},
    "channel.read": {"up_to": _MESSAGE},
    "chat.message": {
        "text": "What did we decide about the release?",
        "agent": "helper",
        "parts": [{"type": "file", "file_id": _FILE, "caption": "the plan"}],
    },
    "message.received": {**_STORED, "disposition": "queued", "run_id": _RUN},
    "message.status": {"message_id": _MESSAGE, "status": "applied", "run_id": _RUN},
    "chat.typing": {"state": "start", "ttl_ms": 6_000},
    "chat.configure": {"settings": {"title": "Release plan", "temperature": None}, "expected_revision": 3},
    "chat.regenerate": {"message_id": _ANSWER, "settings": {"temperature": 0.2}},
    "chat.cancel": {"run_id": _RUN, "reason": "no longer needed"},
    "chat.edit": {"message_id": _MESSAGE, "text": "What did we decide on Monday?", "mode": "branch", "rerun": True},
    "chat.delete": {"message_id": _MESSAGE, "scope": "self"},
    "chat.react": {"message_id": _ANSWER, "reaction": "👍", "op": "add"},
    "chat.feedback": {"message_id": _ANSWER, "rating": "down", "tags": ["too long"], "comment": "One line would do."},
    "chat.branch": {"leaf_id": _ANSWER},
    "conversation.updated": {
        "revision": 4,
        "changes": {"title": "Release plan", "settings": {"temperature": None}},
        "by": "alice",
    },
    "assistant.message.start": {
        "message_id": _ANSWER,
        "run_id": _RUN,
        "attempt": 1,
        "agent": "helper",
        "parent_id": _MESSAGE,
    },
    "assistant.message.delta": {
        "message_id": _ANSWER,
        "run_id": _RUN,
        "attempt": 1,
        "track": "text",
        "offset": 4,
        "end": 16,
        "delta": "release goes",
    },
    "assistant.message.reset": {
        "message_id": _ANSWER,
        "run_id": _RUN,
        "attempt": 2,
        "keep": 16,
        "reason": "worker_lost",
    },
    "assistant.message.end": {
        "message_id": _ANSWER,
        "run_id": _RUN,
        "attempt": 1,
        "finish_reason": "stop",
        "text": "The release goes out on Thursday.",
        "usage": {"model": "large-1", "input_tokens": 812, "output_tokens": 9},
    },
    "tool.call.start": {
        "tool_call_id": _CALL,
        "run_id": _RUN,
        "message_id": _ANSWER,
        "name": "search",
        "executor": "server",
        "args": {"words": "release"},
        "idempotent": True,
    },
    "tool.call.args": {"tool_call_id": _CALL, "run_id": _RUN, "offset": 0, "end": 10, "delta": '{"words": '},
    "tool.call.progress": {"tool_call_id": _CALL, "run_id": _RUN, "progress": 3, "total": 12, "message": "page 3"},
    "tool.call.complete": {
        "tool_call_id": _CALL,
        "run_id": _RUN,
        "outcome": "ok",
        "output": {"hits": 3},
        "duration_ms": 5_200,
    },
    "tool.call.error": {
        "tool_call_id": _CALL,
        "run_id": _RUN,
        "reason": "timeout",
        "message": "no result within 30 s",
        "retryable": True,
    },
    "tool.call.request": {
        "request_id": "run-7.q0",
        "batch_id": "run-7.s1",
        "run_id": _RUN,
        "tool_call_id": _CALL,
        "kind": "approval",
        "name": "send_mail",
        "args": {"to": "team@example.org"},
        "prompt": "Shall I send it?",
        "allow_edit": True,
        "expires_at": "2027-01-02T00:00:00.000Z",
    },
    "tool.call.response": {"request_id": "run-7.q0", "decision": "approve", "edited_args": {"to": "bob@example.org"}},
    "tool.call.resolved": {
        "request_id": "run-7.q0",
        "run_id": _RUN,
        "tool_call_id": _CALL,
        "resolution": "approved",
        "by": "alice",
        "edited": True,
    },
    "file.upload.request": {"filename": "notes.txt", "size": 5, "mime": "text/plain", "resume_key": "notes-1"},
    "file.upload.authorized": {
        "upload_id": _FILE,
        "strategy": "single",
        "expires_at": "2027-01-01T00:15:00.000Z",
        "single": {"method": "PUT", "url": _SIGNED, "headers": {"Content-Type": "text/plain"}},
        "done": {"parts": [], "next_offset": 0},
        **_STORED,
    },
    "file.upload.sign": {"upload_id": _FILE, "parts": [{"n": 51, "sha256": _SHA256}]},
    "file.chunk": {"upload_id": _FILE, "offset": 0, "data": "aGVsbG8="},
    "file.upload.progress": {"upload_id": _FILE, "sent": 5},
    "file.upload.complete": {"upload_id": _FILE, "sha256": _SHA256},
    "file.upload.status": {"resume_key": "notes-1"},
    "file.upload.cancel": {"upload_id": _FILE, "reason": "wrong file"},
    "file.upload.failed": {"upload_id": _FILE, "reason": "size", "message": "3 bytes arrived, but 5 were announced"},
    "file.ready": {
        "file_id": _FILE,
        "filename": "notes.txt",
        "size": 5,
        "mime": "text/plain",
        "detected_mime": "text/plain",
        "checksum": {"algorithm": "sha256", "type": "full", "value": _SHA256},
        "scan": {"engine": "none", "verdict": "skipped"},
    },
    "file.url": {"file_id": _FILE, "disposition": "inline"},
    "team.activity": {
        "verb": "closed",
        "object": {"type": "issue", "id": "7", "title": "Resume after a restart"},
        "summary": "Alice closed issue 7",
    },
    "team.presence.update": {"status": "busy", "message": "in a meeting", "until": "2027-01-01T00:05:00.000Z"},
    "team.notification": {
        "kind": "mention",
        "title": "Alice mentioned you",
        "link": "/conversations/42",
        "collapse_key": "conversation-42",
    },
    "team.notification.read": {"up_to": _MESSAGE},
    "agent.invoke": {"agent": "helper", "input": "What did we decide?", "deadline_ms": 60_000},
    "agent.status": {
        "run_id": _RUN,
        "agent": "helper",
        "state": "running",
        "previous": "queued",
        "attempt": 1,
        "segment": 1,
    },
    "agent.output": {"run_id": _RUN, "index": 0, "kind": "json", "name": "decision", "value": {"day": "Thursday"}},
    "agent.complete": {
        "run_id": _RUN,
        "agent": "helper",
        "outcome": "success",
        "result": {"day": "Thursday"},
        "message_ids": [_ANSWER],
        "duration_ms": 5_200,
        "attempts": 1,
    },
    "agent.cancel": {"run_id": _RUN, "mode": "force"},
    "agent.steer": {"run_id": _RUN, "text": "Only what was decided this week.", "when": "asap"},
    "agent.subagent": {"run_id": _RUN, "subagent_run_id": "run-8", "phase": "started", "name": "researcher"},
    "agent.list": {},
    "document.update": {"base_version": 3, "patch": [{"op": "replace", "path": "/title", "value": "Plan"}]},
    "document.cursor": {"selection": {"from": 3, "to": 9}, "colour": "#3b82f6"},
}
"""Event type → the payload as a client sends it."""

DELIVERED: Final[Mapping[str, JsonObject]] = {
    "channel.presence": {"user": "alice", "status": "away", "devices": 2},
    "channel.read": {"user": "alice", "up_to": _MESSAGE},
    "chat.typing": {"user": "alice", "state": "start", "ttl_ms": 6_000},
    "file.upload.progress": {"upload_id": _FILE, "user": "alice", "sent": 5, "total": 12, "state": "uploading"},
    "team.presence.update": {"user": "alice", "status": "busy", "message": "in a meeting", "devices": 1},
    "document.cursor": {"user": "alice", "client": "laptop", "selection": {"from": 3, "to": 9}, "colour": "#3b82f6"},
}
"""Event type → the payload as subscribers get it, where the hub adds to it."""

REPLIES: Final[Mapping[str, JsonObject]] = {
    "connection.heartbeat": {"server_time": "2027-01-01T00:00:00.000Z"},
    "channel.history": {
        "events": [
            {
                "id": _MESSAGE,
                "seq": 42,
                "channel": "conversation:42",
                "type": "chat.message",
                "v": 1,
                "actor": {"kind": "user", "id": "alice", "client": "laptop"},
                "payload": {"text": "hello"},
            }
        ],
        "next": None,
        "gap": None,
    },
    "channel.state": {"epoch": "5f1c2a9e", "state": {"metadata": {}, "count": 0}, "state_at": 0},
    "file.chunk": {"upload_id": _FILE, "accepted": True, "next_offset": 5, "stored_offset": 0, "window": 4},
    "file.url": {"url": _SIGNED, "expires_at": "2027-01-01T00:15:00.000Z"},
    "agent.list": {
        "agents": [{"name": "helper", "description": "Answers questions.", "available": True, "interactive": True}]
    },
}
"""Event type → the payload of its reply, where that has a model of its own."""

_OF_AGENTS: Final = frozenset({"agent", "assistant", "tool"})
_UNASKED: Final = frozenset({"connection.expiring", "connection.drain", "channel.resumed"})
"""Messages to one connection that are not replies, and so have no `re`."""


_OWN_TYPE: Final = "custom.order_placed"
_OWN_PAYLOAD: Final[JsonObject] = {"order": "7", "amount": 12.5}


def has_example(row: EventType) -> bool:
    """False for a custom event type whose schema gives no example."""
    return row.own_schema is None or bool(row.own_schema.document.get("examples"))


def _payload_of(row: EventType) -> JsonObject:
    if row.own_schema is not None:
        payload: JsonObject = next(iter(row.own_schema.document.get("examples", ())), {})
        return payload
    return _OWN_PAYLOAD if row.row == ROW else PAYLOADS[row.name]


def _type_of(row: EventType) -> str:
    return _OWN_TYPE if row.name == ROW else row.name


def command_example(row: EventType) -> JsonObject:
    """A message of this type as a client sends it."""
    channel = {"channel": _channel(row)} if row.kinds else {}
    return {"type": _type_of(row), "id": "c-17", **channel, "payload": _payload_of(row)}


def event_example(row: EventType) -> JsonObject:
    """A message of this type as subscribers get it: stored with `id` and `seq`, otherwise without."""
    place = _HEAD if row.is_stored else {}
    if row.direction is Direction.BOTH:
        actor: JsonObject = {"kind": "user", "id": "alice", "client": "laptop"}
    else:
        actor = {"kind": "agent", "id": "helper"} if row.family in _OF_AGENTS else {"kind": "system", "id": "hub"}
    payload = DELIVERED[row.name] if row.delivered is not None else _payload_of(row)
    head = {**place, "channel": _channel(row), "type": _type_of(row), "v": row.version}
    return {**head, "actor": actor, "payload": payload}


def reply_example(row: EventType) -> JsonObject:
    """A message to one connection: the reply of this type, or the type itself if it is one."""
    is_reply = row.reply_model is not None
    return {
        "type": row.reply if is_reply else row.name,
        **({} if row.name in _UNASKED else {"re": "c-17"}),
        **({"channel": _channel(row)} if row.kinds else {}),
        "payload": REPLIES[row.name] if is_reply else PAYLOADS[row.name],
    }


def examples_of(row: EventType) -> list[JsonObject]:
    """The examples of a type: as sent, then as delivered or answered where that differs."""
    found = [command_example(row)] if row.is_inbound else []
    if row.lane is not Lane.CONNECTION and (row.delivered is not None or not row.is_inbound):
        found.append(event_example(row))
    if row.reply_model is not None or (row.lane is Lane.CONNECTION and not row.is_inbound):
        found.append(reply_example(row))
    return found


def _channel(row: EventType) -> str:
    kinds = sorted(row.kinds)
    return "conversation:42" if "conversation" in kinds else {"user": "user:alice"}.get(kinds[0], f"{kinds[0]}:42")
