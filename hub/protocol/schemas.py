"""The AsyncAPI 3 document of the socket and the JSON Schemas of its messages, built from the catalogue. Pure.

Everything that the catalogue, the projections or the table of errors know is taken from there. HTTP has its own
document (OpenAPI).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from hub.errors import ERROR_CODES
from hub.protocol.examples import command_example, event_example, has_example, reply_example
from projections.channel_state import state_schema
from streams.channel import NAME_PATTERN
from streams.envelope import Lane
from streams.events import CATALOGUE, EventType
from streams.events.custom import NAME_PATTERN as CUSTOM_NAME
from streams.events.custom import ROW as CUSTOM_ROW
from streams.events.schemas import Schema, catalogue_hash, schemas_of

Catalogue = Mapping[str, EventType]
JsonObject = dict[str, object]
_COMMAND_ID: Final[JsonObject] = {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$"}
_EVENT_ID: Final[JsonObject] = {"type": "string", "pattern": "^[0-9]{1,15}-[0-9]{1,10}$"}
_ACTOR: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["user", "agent", "system"]},
        "id": {"type": "string"},
        "client": {"type": "string"},
    },
    "required": ["kind", "id"],
}
_TRACEPARENT: Final[JsonObject] = {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"}
_META: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "command": _COMMAND_ID,
        "correlation": _EVENT_ID,
        "causation": _EVENT_ID,
        "traceparent": _TRACEPARENT,
    },
}
_COMMAND_META: Final[JsonObject] = {
    "type": "object",
    "properties": {"traceparent": _TRACEPARENT},
    "required": ["traceparent"],
    "additionalProperties": False,
}
_ANY_COMMAND: Final = (4003, 4004, 4005, 4011, 4013, 4030)
"""Error codes that any command may be answered with."""


def asyncapi_document(catalogue: Catalogue = CATALOGUE, server_url: str = "ws://127.0.0.1:8000/ws") -> JsonObject:
    """Builds the whole document, without event types that are not served. `server_url` includes the path."""
    served = {name: row for name, row in catalogue.items() if row.is_served}
    messages = dict(_messages(served))
    url = urlsplit(server_url)
    return {
        "asyncapi": "3.0.0",
        "info": _info(served),
        "defaultContentType": "application/json",
        "servers": {"hub": {"host": url.netloc, "protocol": url.scheme, "pathname": url.path or "/"}},
        "channels": {"socket": _socket(url.path or "/", messages)},
        "operations": {key: _operation(key, served[name]) for key, name in _operation_keys(served)},
        "components": {"messages": messages, "schemas": component_schemas(served)},
        "x-errors": [row._asdict() for row in ERROR_CODES.values()],
        "x-schema-sha256": catalogue_hash(served, state_schema()),
    }


def json_schemas(catalogue: Catalogue = CATALOGUE) -> dict[str, Schema]:
    """Returns the JSON Schemas by name: `chat.typing`, and `chat.typing-delivered` or `-reply` where these differ."""
    state = state_schema()
    return {
        name if role == "payload" else f"{name}-{role}": schema
        for name, row in catalogue.items()
        for role, schema in schemas_of(row, state).items()
    }


def errors_of(row: EventType) -> tuple[int, ...]:
    """Returns every error code that a command of this type may be answered with, in ascending order."""
    of_channel = (4006,) if row.kinds else ()
    of_storing = (4009,) if row.is_stored else ()
    return tuple(sorted({*_ANY_COMMAND, *of_channel, *of_storing, *row.errors}))


def _info(catalogue: Catalogue) -> JsonObject:
    return {
        "title": "Realtime hub",
        "version": "1",
        "description": f"{len(catalogue)} event types over one WebSocket. A message is a JSON object, or an array of them.",
    }


def _socket(path: str, messages: Mapping[str, JsonObject]) -> JsonObject:
    refs = {key: {"$ref": f"#/components/messages/{key}"} for key in messages}
    return {"address": path, "description": "The socket; subprotocol hub.v1.json.", "messages": refs}


def _messages(catalogue: Catalogue) -> Iterator[tuple[str, JsonObject]]:
    """Yields key and message of each type's command, event, signal and reply, where it has them."""
    for name, row in catalogue.items():
        if row.is_inbound:
            yield f"{name}-command", _message(row, command_schema(row, _ref(name)), command_example(row))
        if row.direction != "in":
            role = "delivered" if row.delivered else "payload"
            example = reply_example(row) if row.lane is Lane.CONNECTION else event_example(row)
            yield _outgoing_key(row), _message(row, _outgoing_schema(row, _ref(name, role)), example)
        if row.reply_model and row.reply:
            schema = reply_schema(row.reply, _ref(name, "reply"))
            yield f"{row.reply}-reply", _message(row, schema, reply_example(row))


def _outgoing_key(row: EventType) -> str:
    return row.name + {Lane.EVENTS: "-event", Lane.LIVE: "-signal", Lane.CONNECTION: "-reply"}[row.lane]


def _outgoing_schema(row: EventType, payload: JsonObject) -> JsonObject:
    if row.lane is Lane.CONNECTION:
        return reply_schema(row.name, payload)
    return event_schema(row, payload)


def _message(row: EventType, schema: JsonObject, example: Mapping[str, object]) -> JsonObject:
    facts = {
        "lane": row.lane.value,
        "version": row.version,
        "kinds": sorted(row.kinds),
        "action": row.action,
        "rate": row.rate,
        "errors": list(errors_of(row)) if row.is_inbound else [],
        "reply": row.reply,
        "results": list(row.results),
        "limit_bytes": row.limit_bytes,
        "ag_ui": row.ag_ui,
    }
    examples = [{"payload": example}] if has_example(row) else []
    return {"name": row.name, "summary": row.summary, "payload": schema, "examples": examples, "x-hub": facts}


def _operation_keys(catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """Yields operation key and event type.

    The hub receives commands and sends the rest; replies belong to their commands.
    """
    for name, row in catalogue.items():
        if row.is_inbound:
            yield f"receive-{name}", name
        if row.direction != "in":
            yield f"send-{name}", name


def _operation(key: str, row: EventType) -> JsonObject:
    if key.startswith("send-"):
        return {"action": "send", "channel": _SOCKET, "messages": [_in_socket(_outgoing_key(row))]}
    answers = [_in_socket(f"{row.reply}-reply")] if row.reply else []
    return {
        "action": "receive",
        "channel": _SOCKET,
        "summary": row.summary,
        "messages": [_in_socket(f"{row.name}-command")],
        "reply": {"channel": _SOCKET, "messages": [*answers, _in_socket("connection.error-reply")]},
    }


_SOCKET: Final[JsonObject] = {"$ref": "#/channels/socket"}


def _in_socket(key: str) -> JsonObject:
    return {"$ref": f"#/channels/socket/messages/{key}"}


def _ref(name: str, role: str = "payload") -> JsonObject:
    return {"$ref": f"#/components/schemas/{name if role == 'payload' else f'{name}-{role}'}"}


def component_schemas(catalogue: Catalogue) -> dict[str, object]:
    """Returns the schemas with absolute references, since `#/$defs` means another place within the document."""
    return {key: _absolute(schema, f"#/components/schemas/{key}") for key, schema in json_schemas(catalogue).items()}


def _absolute(value: object, root: str) -> object:
    if isinstance(value, dict):
        return {k: _absolute(v, root) for k, v in value.items()}
    if isinstance(value, list):
        return [_absolute(item, root) for item in value]
    return value.replace("#/$defs/", f"{root}/$defs/", 1) if isinstance(value, str) else value


def command_schema(row: EventType, payload: JsonObject) -> JsonObject:
    """Builds the schema of a command. The payload may be omitted if it has no required field."""
    fields: JsonObject = {"type": _type(row), "id": _COMMAND_ID}
    if row.kinds:
        fields["channel"] = _channel(row)
    fields["payload"] = payload
    fields["meta"] = _COMMAND_META
    needed = ["type", *(["id"] if row.is_id_required else []), *(["channel"] if row.kinds else [])]
    own = row.own_schema.document if row.own_schema is not None else {}
    if own.get("required") or any(field.is_required() for field in row.model.model_fields.values()):
        needed.append("payload")
    return {"type": "object", "properties": fields, "required": needed, "additionalProperties": False}


def event_schema(row: EventType, payload: JsonObject) -> JsonObject:
    """Builds the schema of a delivered event: a stored one has `id` and `seq`, a signal has neither."""
    place: JsonObject = {"id": _EVENT_ID, "seq": {"type": "integer", "minimum": 1}} if row.is_stored else {}
    fields: JsonObject = {
        **place,
        "channel": _channel(row),
        "type": _type(row),
        "v": {"const": row.version},
        "actor": _ACTOR,
        "meta": _META,
        "payload": payload,
    }
    return {"type": "object", "properties": fields, "required": [key for key in fields if key != "meta"]}


def reply_schema(name: str, payload: JsonObject) -> JsonObject:
    """Builds the schema of a message to one connection. Replies have `re`; messages that the hub sends unasked do not."""
    fields: JsonObject = {
        "type": {"const": name},
        "re": _COMMAND_ID,
        "channel": {"type": "string"},
        "payload": payload,
    }
    return {"type": "object", "properties": fields, "required": ["type", "payload"]}


def _type(row: EventType) -> JsonObject:
    """The type of a message; the row that stands for all custom types has a pattern."""
    return {"type": "string", "pattern": f"^{CUSTOM_NAME}$"} if row.name == CUSTOM_ROW else {"const": row.name}


def _channel(row: EventType) -> JsonObject:
    return {"type": "string", "pattern": f"^(?:{'|'.join(sorted(row.kinds))}):{NAME_PATTERN}$"}
