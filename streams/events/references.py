"""Finds the files, uploads, runs and questions to which a payload refers. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from streams.events.declaration import EventType, Payload

Referent = Literal["file", "upload", "run", "question", "message"]
_FIELDS: Final[Mapping[str, Referent]] = MappingProxyType(
    {
        "file_id": "file", "text_ref": "file", "ref": "file", "result_ref": "file", "output_ref": "file",
        "upload_id": "upload", "run_id": "run", "request_id": "question",
        "message_id": "message", "parent_id": "message", "leaf_id": "message", "active_leaf": "message",
    }
)  # fmt: skip # by what they name
_OWN: Final = frozenset({("agent.invoke", "run_id"), ("assistant.message.start", "message_id")})
"""Fields with the ID of an object that the event itself creates."""


class Reference(NamedTuple):
    """One reference: its field, such as `parts.0.file_id`, and the ID in it."""

    kind: Referent
    field: str
    id: str


def references(event: EventType, payload: Payload) -> list[Reference]:
    """Every reference in the payload, in the order of its fields, except to an object that the event itself creates."""
    return [found for found in _walk(payload, "") if (event.name, found.field) not in _OWN]


def _walk(payload: Payload, path: str) -> Iterator[Reference]:
    for name in type(payload).model_fields:
        value = getattr(payload, name)
        if name in _FIELDS and isinstance(value, str):
            yield Reference(_FIELDS[name], path + name, value)
        elif isinstance(value, Payload):
            yield from _walk(value, f"{path}{name}.")
        elif isinstance(value, list):
            for at, item in enumerate(value):
                if isinstance(item, Payload):
                    yield from _walk(item, f"{path}{name}.{at}.")
