"""The OpenAPI document: what FastAPI knows of the routes, with security schemes, request bodies and problem documents. Pure.

Bodies and answers are described by the schemas of the catalogue, the same as in the AsyncAPI document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from hub.errors import ERROR_CODES
from hub.protocol.examples import command_example, has_example
from hub.protocol.schemas import command_schema, component_schemas
from streams.channel import Kind
from streams.envelope import Lane
from streams.events import EventType

JsonObject = dict[str, Any]
Catalogue = Mapping[str, EventType]
_SCHEMAS: Final = "#/components/schemas/"
_USER_ROUTES: Final = "/v1/"
_BODY: Final = ("type", "payload")
_SECURITY: Final[JsonObject] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A user's token, the same as on the socket; its grants decide what is allowed.",
    },
    "metrics": {
        "type": "http",
        "scheme": "bearer",
        "description": "The value of HUB_METRICS_TOKEN; not needed where that is not set.",
    },
}
_PROBLEM: Final[JsonObject] = {
    "type": "object",
    "description": "A problem document (RFC 9457) with the code and name of the error.",
    "properties": {
        "type": {"type": "string", "description": "Always `about:blank`: the code says more."},
        "title": {"type": "string", "description": "The name of the error."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What is wrong and what to do about it, for people."},
        "code": {"enum": sorted(ERROR_CODES), "description": "The code from the table of errors, for programs."},
        "name": {
            "enum": sorted({row.name for row in ERROR_CODES.values()}),
            "description": "The name that belongs to the code.",
        },
        "retry": {
            "enum": sorted({row.retry for row in ERROR_CODES.values()}),
            "description": "What the client does next: give up, get a new token, wait and try again, or come back at once.",
        },
        "retry_after_ms": {
            "type": "integer",
            "description": "Milliseconds to wait; absent if there is nothing to wait for.",
        },
        "details": {
            "type": "array",
            "description": "The fields at fault; absent if no field is.",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "Path of the field."},
                    "problem": {"type": "string", "description": "The problem, as the end of a sentence."},
                },
                "required": ["field", "problem"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "code", "name", "retry"],
}
_PROBLEM_RESPONSE: Final[JsonObject] = {
    "description": "An error; the status follows from the code.",
    "headers": {
        "Retry-After": {"description": "Seconds to wait, with 429 and 503.", "schema": {"type": "integer"}},
    },
    "content": {"application/problem+json": {"schema": {"$ref": f"{_SCHEMAS}Problem"}}},
}
_REVOCATION: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "jti": {"type": "string", "description": "ID of the token to revoke."},
        "sub": {"type": "string", "description": "The user whose tokens, issued up to now, are revoked."},
    },
    "oneOf": [{"required": ["jti"]}, {"required": ["sub"]}],
    "additionalProperties": False,
}
_EVENTS: Final = "/v1/channels/{channel}/events"
_INBOX: Final = "/v1/users/{user}/events"
_ROLLOUT: Final = "/v1/rollout"
_ANSWERS: Final = {
    (_EVENTS, "get"): "channel.history-reply",
    (_EVENTS, "post"): "ack",
    (_INBOX, "post"): "ack",
    ("/v1/channels/{channel}/state", "get"): "channel.state-reply",
}
"""Route and method → the schema of its answer."""


def openapi_document(routes: Mapping[str, Any], catalogue: Catalogue) -> JsonObject:
    """Builds the document.

    Args:
        routes: FastAPI's own document; it is not changed.
        catalogue: the event types that are served.
    """
    document = deepcopy(dict(routes))
    appendable = {name: row for name, row in catalogue.items() if _is_appendable(row)}
    answers = {name.removesuffix("-reply") for name in _ANSWERS.values()}
    described = {name: row for name, row in catalogue.items() if name in {*appendable, *answers, "rollout.changed"}}
    document["components"] = {
        "securitySchemes": _SECURITY,
        "responses": {"Problem": _PROBLEM_RESPONSE},
        "schemas": {**component_schemas(described), "Problem": _PROBLEM},
    }
    for path, method, operation in _operations(document):
        if path.startswith(_USER_ROUTES):
            operation["security"] = [{"token": []}]
        elif path == "/metrics":
            operation["security"] = [{"metrics": []}, {}]
        operation["responses"].pop("422", None)  # FastAPI's own form of it, which is never sent
        operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
        if (answer := _ANSWERS.get((path, method))) is not None:
            for status in {"200", "201"} & operation["responses"].keys():
                operation["responses"][status]["content"] = _json({"$ref": f"{_SCHEMAS}{answer}"})
    paths = document["paths"]
    paths[_EVENTS]["post"]["requestBody"] = _append_body(appendable)
    paths[_INBOX]["post"]["requestBody"] = _append_body({n: r for n, r in appendable.items() if Kind.USER in r.kinds})
    paths[_ROLLOUT]["put"]["requestBody"] = {"required": True, "content": _json({"$ref": f"{_SCHEMAS}rollout.changed"})}
    paths["/v1/revocations"]["post"]["requestBody"] = {"required": True, "content": _json(_REVOCATION)}
    return document


def _operations(document: JsonObject) -> Iterator[tuple[str, str, JsonObject]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _is_appendable(row: EventType) -> bool:
    return row.is_served and row.is_inbound and row.lane is not Lane.CONNECTION and bool(row.kinds)


def _append_body(catalogue: Catalogue) -> JsonObject:
    """The body of an append: one of these types with its payload."""
    forms = [_form(row) for row in catalogue.values()]
    examples = {
        name: {"summary": row.summary, "value": {part: command_example(row)[part] for part in _BODY}}
        for name, row in catalogue.items()
        if has_example(row)
    }
    return {"required": True, "content": {"application/json": {"schema": {"oneOf": forms}, "examples": examples}}}


def _form(row: EventType) -> JsonObject:
    """A command of this type without the fields that are in the path and in the headers."""
    command: JsonObject = command_schema(row, {"$ref": f"{_SCHEMAS}{row.name}"})
    return command | {
        "title": row.name,
        "description": row.summary,
        "properties": {part: command["properties"][part] for part in _BODY},
        "required": [part for part in command["required"] if part in _BODY],
    }


def _json(schema: JsonObject) -> JsonObject:
    return {"application/json": {"schema": schema}}
