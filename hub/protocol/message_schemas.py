"""The JSON Schemas of frames (PROTOCOL 1), around a payload's: command, event or signal, reply. Pure."""

from __future__ import annotations

from typing import Final

from streams.channel import NAME_PATTERN
from streams.events import EventType

Node = dict[str, object]
_COMMAND_ID: Final[Node] = {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$"}
_EVENT_ID: Final[Node] = {"type": "string", "pattern": "^[0-9]{1,15}-[0-9]{1,10}$"}
_ACTOR: Final[Node] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["user", "agent", "system"]},
        "id": {"type": "string"},
        "client": {"type": "string"},
    },
    "required": ["kind", "id"],
}
_META: Final[Node] = {
    "type": "object",
    "properties": {"command": _COMMAND_ID, "correlation": _EVENT_ID, "causation": _EVENT_ID},
}


def command_frame(row: EventType, payload: Node) -> Node:
    """What a client sends. The payload may be left out where nothing in it is required."""
    fields: Node = {"type": {"const": row.name}, "id": _COMMAND_ID}
    if row.kinds:
        fields["channel"] = _channel(row)
    fields["payload"] = payload
    needed = ["type", *(["id"] if row.is_id_required else []), *(["channel"] if row.kinds else [])]
    if any(field.is_required() for field in row.model.model_fields.values()):
        needed.append("payload")
    return {"type": "object", "properties": fields, "required": needed, "additionalProperties": False}


def event_frame(row: EventType, payload: Node) -> Node:
    """What subscribers get: with `id` and `seq` if it is stored, without them if it is a signal."""
    place: Node = {"id": _EVENT_ID, "seq": {"type": "integer", "minimum": 1}} if row.is_stored else {}
    fields: Node = {
        **place, "channel": _channel(row), "type": {"const": row.name}, "v": {"const": row.version}, "actor": _ACTOR,
        "meta": _META, "payload": payload,
    }  # fmt: skip
    return {"type": "object", "properties": fields, "required": [key for key in fields if key != "meta"]}


def reply_frame(name: str, payload: Node) -> Node:
    """What one connection gets: an answer if it has `re`, else a word of the hub's own."""
    fields: Node = {
        "type": {"const": name}, "re": _COMMAND_ID, "channel": {"type": "string"}, "payload": payload,
    }  # fmt: skip
    return {"type": "object", "properties": fields, "required": ["type", "payload"]}


def _channel(row: EventType) -> Node:
    return {"type": "string", "pattern": f"^(?:{'|'.join(sorted(row.kinds))}):{NAME_PATTERN}$"}
