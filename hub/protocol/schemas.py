"""The AsyncAPI 3 document of the socket, and the JSON Schemas, built from the catalogue. Pure.

Nothing is written here by hand that the catalogue or the table of errors knows. HTTP has its own document (OpenAPI).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from hub.errors import ERROR_CODES
from hub.protocol.message_schemas import Node, command_frame, event_frame, reply_frame
from streams.envelope import Lane
from streams.events import CATALOGUE, EventType
from streams.events.schemas import Schema, catalogue_hash, schemas_of

Catalogue = Mapping[str, EventType]
_ANY_COMMAND: Final = (4003, 4004, 4005, 4011, 4013, 4030)
"""What any command may be answered with (EVENTS 2)."""


def asyncapi_document(catalogue: Catalogue = CATALOGUE, server_url: str = "ws://127.0.0.1:8000/ws") -> Node:
    """The whole document. `server_url` is where clients connect, path included; types not served are left out."""
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
        "components": {"messages": messages, "schemas": _component_schemas(served)},
        "x-errors": [row._asdict() for row in ERROR_CODES.values()],
        "x-schema-sha256": catalogue_hash(served),
    }


def json_schemas(catalogue: Catalogue = CATALOGUE) -> dict[str, Schema]:
    """The JSON Schemas by name: `chat.typing`, and `chat.typing-delivered` or `-reply` where these differ."""
    return {
        name if role == "payload" else f"{name}-{role}": schema
        for name, row in catalogue.items()
        for role, schema in schemas_of(row).items()
    }


def errors_of(row: EventType) -> tuple[int, ...]:
    """Every code that a command of this type may be answered with, rising."""
    of_channel = (4006,) if row.kinds else ()
    of_storing = (4009,) if row.is_stored else ()
    return tuple(sorted({*_ANY_COMMAND, *of_channel, *of_storing, *row.errors}))


def _info(catalogue: Catalogue) -> Node:
    return {
        "title": "Realtime hub",
        "version": "1",
        "description": f"{len(catalogue)} event types over one WebSocket. A frame is a JSON object, or an array of them.",
    }


def _socket(path: str, messages: Mapping[str, Node]) -> Node:
    refs = {key: {"$ref": f"#/components/messages/{key}"} for key in messages}
    return {"address": path, "description": "The socket; subprotocol hub.v1.json.", "messages": refs}


def _messages(catalogue: Catalogue) -> Iterator[tuple[str, Node]]:
    """Message key → message: a command, an event, a signal or a reply of each type, as far as it has them."""
    for name, row in catalogue.items():
        if row.is_inbound:
            yield f"{name}-command", _message(row, command_frame(row, _ref(name)))
        if row.direction != "in":
            role = "delivered" if row.delivered else "payload"
            yield _outgoing_key(row), _message(row, _outgoing_frame(row, _ref(name, role)))
        if row.reply_model and row.reply:
            yield f"{row.reply}-reply", _message(row, reply_frame(row.reply, _ref(name, "reply")))


def _outgoing_key(row: EventType) -> str:
    return row.name + {Lane.EVENTS: "-event", Lane.LIVE: "-signal", Lane.CONNECTION: "-reply"}[row.lane]


def _outgoing_frame(row: EventType, payload: Node) -> Node:
    if row.lane is Lane.CONNECTION:
        return reply_frame(row.name, payload)
    return event_frame(row, payload)


def _message(row: EventType, frame: Node) -> Node:
    facts = {
        "lane": row.lane.value, "version": row.version, "kinds": sorted(row.kinds), "action": row.action,
        "rate": row.rate, "errors": list(errors_of(row)) if row.is_inbound else [], "reply": row.reply,
        "results": list(row.results), "limit_bytes": row.limit_bytes, "ag_ui": row.ag_ui,
    }  # fmt: skip
    return {"name": row.name, "summary": row.summary, "payload": frame, "x-hub": facts}


def _operation_keys(catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """Operation key → event type. The hub receives commands and sends the rest; replies belong to their commands."""
    for name, row in catalogue.items():
        if row.is_inbound:
            yield f"receive-{name}", name
        if row.direction != "in":
            yield f"send-{name}", name


def _operation(key: str, row: EventType) -> Node:
    if key.startswith("send-"):
        return {"action": "send", "channel": _SOCKET, "messages": [_in_socket(_outgoing_key(row))]}
    answers = [_in_socket(f"{row.reply}-reply")] if row.reply else []
    return {
        "action": "receive", "channel": _SOCKET, "summary": row.summary,
        "messages": [_in_socket(f"{row.name}-command")],
        "reply": {"channel": _SOCKET, "messages": [*answers, _in_socket("connection.error-reply")]},
    }  # fmt: skip


_SOCKET: Final[Node] = {"$ref": "#/channels/socket"}


def _in_socket(key: str) -> Node:
    return {"$ref": f"#/channels/socket/messages/{key}"}


def _ref(name: str, role: str = "payload") -> Node:
    return {"$ref": f"#/components/schemas/{name if role == 'payload' else f'{name}-{role}'}"}


def _component_schemas(catalogue: Catalogue) -> dict[str, object]:
    """The schemas, their inner references made absolute: within the document `#/$defs` is elsewhere."""
    return {key: _absolute(schema, f"#/components/schemas/{key}") for key, schema in json_schemas(catalogue).items()}


def _absolute(value: object, root: str) -> object:
    if isinstance(value, dict):
        return {k: _absolute(v, root) for k, v in value.items()}
    if isinstance(value, list):
        return [_absolute(item, root) for item in value]
    return value.replace("#/$defs/", f"{root}/$defs/", 1) if isinstance(value, str) else value
