"""An example of every event type in wire form, generated from its schema with values chosen by field name. Pure.

A new type gets an example automatically. Only payloads whose fields depend on each other are written out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from projections.channel_state import state_schema
from streams.envelope import Lane
from streams.events.declaration import Direction, EventType, Payload
from streams.events.schemas import Schema, schema_of

Node = Mapping[str, Any]
_EVENT_ID: Final = "1795367479511-0"
_RUN: Final = "run-7"
_FILE: Final = "0123456789abcdef0123456789abcdef"
_VALUES: Final[Mapping[str, object]] = {
    "agent": "helper", "attempt": 1, "batch_id": f"{_RUN}.1", "by": "alice", "channel": "conversation:42",
    "checksum": {"algorithm": "sha256", "type": "full", "value": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
    "client_id": "laptop", "data": "aGVsbG8=", "description": "Answers questions.", "detected_mime": "text/plain",
    "devices": 1, "duration_ms": 5200, "duplicate": False, "durability": "memory", "epoch": "5f1c2a9e",
    "expected_revision": 3, "file_id": _FILE, "filename": "notes.txt", "floor": {"id": "0", "seq": 0},
    "head": {"id": _EVENT_ID, "seq": 42}, "heartbeat_interval_ms": 30_000, "id": _EVENT_ID, "in_ms": 60_000, "index": 0,
    "input": "What did we decide?", "kind": "mention", "max_subscriptions": 200, "message_id": f"{_RUN}.0",
    "message_size_limit_bytes": 1_048_576, "mime": "text/plain", "name": "search", "node": "n-1",
    "prompt": "Shall I send it?", "reaction": "👍", "reconnect_after_ms": 1500, "request_id": f"{_RUN}.q0",
    "revision": 4, "run_id": _RUN, "segment": 1, "sent": 5, "seq": 42, "server_time": "2027-01-01T00:00:00.000Z",
    "session_id": "s-8fX2", "size": 5, "state_at": 42, "summary": "Alice closed issue 7", "tenant": "acme",
    "text": "hello", "title": "Alice mentioned you", "token": "eyJ…", "tool_call_id": "call_1", "total": 5,
    "unread": 2, "up_to": _EVENT_ID, "upload_id": _FILE, "url": "https://hub.example.org/files/…", "user": "alice",
    "verb": "closed", "version": 1, "versions": [1],
}  # fmt: skip  # with one field per line it would take three pages
"""Example value by field name. A value that the field does not allow is skipped."""
_MORE: Final[Mapping[str, Mapping[str, object]]] = {
    "channel.subscribed": {"gap": None, "recovered": True, "replay": 3},
    "channel.resumed": {"from_seq": 40, "to_seq": 42, "count": 3, "gap": None},
    "chat.branch": {"leaf_id": f"{_RUN}.0"},
    "tool.call.response": {"request_id": f"{_RUN}.q0", "decision": "approve"},
    "agent.subagent": {"subagent_run_id": "run-8", "name": "researcher", "phase": "started"},
    "document.cursor": {"selection": {"from": 3, "to": 9}},
    "channel.history": {"after": "0", "types": ["chat.*"], "limit": 100},
    "channel.configure": {
        "metadata": {"topic": "Release"},
        "members": {"add": ["alice"]},
        "access": {"write": ["alice", "bob"]},
    },
    "channel.updated": {"revision": 4, "changes": {"metadata": {"topic": "Release"}}, "by": "alice"},
    "chat.configure": {"settings": {"title": "Release plan"}, "expected_revision": 3},
    "conversation.updated": {"changes": {"title": "Release plan"}},
    "assistant.message.delta": {"offset": 0, "delta": "Hello", "end": 5},
    "assistant.message.end": {"finish_reason": "stop", "text": "Hello, Alice."},
    "tool.call.args": {"offset": 0, "delta": '{"q": ', "end": 6},
    "tool.call.complete": {"output": {"hits": 3}},
    "file.upload.authorized": {"strategy": "socket", "socket": {"chunk_size": 262_144, "window": 4}},
    "file.upload.status": {"upload_id": _FILE},
    "agent.output": {"kind": "json", "value": {"hits": 3}},
    "agent.invoke": {"input": "What did we decide?"},
    "agent.complete": {"outcome": "success", "result": "Done."},
    "connection.error": {
        "code": 4004,
        "name": "rate_limited",
        "message": "too many of these; come back later",
        "retry": "backoff",
        "retry_after_ms": 250,
    },
    "document.update": {"base_version": 3, "patch": [{"op": "replace", "path": "/title", "value": "Plan"}]},
    "team.notification.read": {"up_to": _EVENT_ID},
    "ack": {"id": _EVENT_ID, "seq": 42, "duplicate": False, "durability": "memory"},
    "channel.subscribe": {"channels": [{"channel": "conversation:42", "after": _EVENT_ID, "seq": 42}]},
    "connection.reconnect": {"cursors": {"conversation:42": {"after": _EVENT_ID, "seq": 42, "epoch": "5f1c2a9e"}}},
}
"""Fields, by event type, that are added to the generated ones or replace them."""


def example_of(row: EventType) -> dict[str, object]:
    """An example message of this type: as its sender writes it if clients may send it, otherwise as clients receive it."""
    message: dict[str, object] = {"type": row.name}
    is_event = row.lane is not Lane.CONNECTION and row.direction is Direction.OUT
    if is_event and row.is_stored:
        message = {"id": _EVENT_ID, "seq": 42, "channel": _channel(row), "type": row.name}
    elif is_event:
        message = {"channel": _channel(row), "type": row.name}
    elif row.is_inbound:
        message |= {"id": "c-17"} | ({"channel": _channel(row)} if row.kinds else {})
    else:
        message |= {"re": "c-17"}
    if is_event:
        message |= {
            "v": row.version,
            "actor": {"kind": "agent" if row.family in _OF_AGENTS else "system", "id": "helper"},
        }
    return message | {"payload": payload_of(row)}


_OF_AGENTS: Final = frozenset({"agent", "assistant", "tool"})


@cache
def published_schema(model: type[Payload]) -> Schema:
    """The schema of a payload, with that of `ChannelState` filled in. It is cached and must not be changed."""
    return schema_of(model, _state())


_state = cache(state_schema)


def payload_of(row: EventType) -> dict[str, object]:
    """An example payload that is valid for the type."""
    schema = published_schema(row.model)
    maker = _Maker(schema.get("$defs", {}))
    return {**maker.fields(schema), **_MORE.get(row.name, {})}


def _channel(row: EventType) -> str:
    kinds = sorted(row.kinds)
    return "conversation:42" if "conversation" in kinds else f"{kinds[0]}:42"


class _Maker:
    """Generates values within one root schema, to whose `$defs` references are resolved."""

    def __init__(self, definitions: Any) -> None:
        self._definitions = definitions

    def fields(self, schema: Node) -> dict[str, object]:
        """Values for the required fields; objects without required fields are omitted."""
        fields = schema.get("properties", {})
        return {name: self._field(name, fields[name]) for name in schema.get("required", ())}

    def _field(self, name: str, schema: Node) -> object:
        value = _VALUES.get(name)
        return value if value is not None and self._takes(schema, value) else self._value(schema)

    def _takes(self, schema: Node, value: object) -> bool:
        """True if the value has the right JSON type; the models check the rest."""
        schema = self._first(schema)
        if "const" in schema or "enum" in schema:
            return value in schema.get("enum", [schema.get("const")])
        kinds: dict[str, type] = {"string": str, "integer": int, "array": list, "object": dict, "boolean": bool}
        return type(value) is kinds.get(schema.get("type", ""), type(value))

    def _first(self, schema: Node) -> Node:
        """The schema itself, or the target of its reference, or its first alternative."""
        while "$ref" in schema or "anyOf" in schema or "oneOf" in schema:
            if "$ref" in schema:
                schema = self._definitions[schema["$ref"].removeprefix("#/$defs/")]
            else:
                schema = (schema.get("anyOf") or schema["oneOf"])[0]
        return schema

    def _value(self, schema: Node) -> object:
        schema = self._first(schema)
        chosen: list[object] = [schema[key] for key in ("default", "const") if key in schema]
        chosen += schema.get("enum", []) + schema.get("examples", [])
        return chosen[0] if chosen else self._plain(schema)

    def _plain(self, schema: Node) -> object:
        match schema.get("type"):
            case "string":
                return "hello"
            case "integer" | "number":
                return int(max(0, schema.get("minimum", 0)))
            case "array":
                return [self._value(schema["items"]) for _ in range(schema.get("minItems", 0))]
            case "object":
                return self.fields(schema)
            case kind:
                return True if kind == "boolean" else {"hits": 3}
