"""Valid and invalid payloads of every event type, derived from the catalogue. Pure.

Rules that a schema cannot express (one of two fields, an end derived from an offset) are listed here by type.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from pydantic import ValidationError

from streams.events import EventType, schemas
from streams.events.declaration import Payload
from streams.events.validation import FieldProblem, InvalidPayload
from support.payload_faults import Faults
from support.samples import Samples, Schema

Fields = dict[str, object]

ALTERNATIVES: dict[str, tuple[frozenset[str], ...]] = {
    "channel.configure": (frozenset({"metadata"}), frozenset({"members"}), frozenset({"access"})),
    "channel.history": (frozenset({"after"}), frozenset({"before"})),
    "assistant.message.end": (frozenset({"text"}), frozenset({"text_ref"})),
    "tool.call.complete": (frozenset({"output"}), frozenset({"output_ref"})),
    "agent.output": (frozenset({"value"}), frozenset({"ref"})),
    "agent.complete": (frozenset({"result"}), frozenset({"result_ref"})),
    "document.update": (frozenset({"base_version", "patch"}), frozenset({"update"})),
    "team.notification.read": (frozenset({"ids"}), frozenset({"up_to"})),
    "file.upload.status": (frozenset({"upload_id"}), frozenset({"resume_key"})),
    "file.upload.authorized": (frozenset({"single"}), frozenset({"multipart"}), frozenset({"socket"})),
    "ack": (frozenset(), frozenset({"id", "seq", "duplicate", "durability"})),
}
"""By event type, sets of fields of which a payload has exactly one set."""

FIXED: dict[str, Fields] = {
    "assistant.message.delta": {"offset": 5, "delta": "wörld", "end": 10},
    "tool.call.args": {"offset": 0, "delta": '{"a":', "end": 5},
    "agent.output": {"kind": "json"},
}
"""Fields that depend on each other, with consistent values."""

_PATCH = [{"op": "add", "path": "/a", "value": 1}]
BROKEN_RULES: dict[str, dict[str, Fields]] = {
    "ack": {"half stored": {"id": "1-0", "seq": 1}},
    "chat.message": {"empty": {"text": ""}, "empty parts": {"text": "", "parts": []}},
    "chat.edit": {"empty": {"message_id": "1-0", "text": ""}},
    "agent.steer": {"empty": {"run_id": "r", "text": ""}},
    "channel.configure": {"nothing": {}, "only a revision": {"if_revision": 1}},
    "channel.history": {"both": {"after": "0", "before": "1-0"}, "no time": {"from_time": "2027-02-30T00:00:00Z"}},
    "team.notification": {"script": {"kind": "k", "title": "t", "link": "javascript:alert(1)"},
                          "other host": {"kind": "k", "title": "t", "link": "//example.org"}},
    "team.notification.read": {"both": {"ids": ["1-0"], "up_to": "1-0"}, "neither": {}},
    "file.upload.status": {"both": {"upload_id": "0" * 32, "resume_key": "k"}, "neither": {}},
    "file.upload.request": {
        "slash": {"filename": "a/b", "size": 1, "mime": "text/plain"},
        "backslash": {"filename": "a\\b", "size": 1, "mime": "text/plain"},
        "control": {"filename": "a\nb", "size": 1, "mime": "text/plain"},
        "right to left": {"filename": "a\u202egpj.exe", "size": 1, "mime": "text/plain"},
    },
    "document.update": {
        "neither": {}, "both": {"base_version": 0, "patch": _PATCH, "update": "AAAA"}, "no base": {"patch": _PATCH},
        "no patch": {"base_version": 0}, "too many bytes": {
            "base_version": 0, "patch": [{"op": "add", "path": "/a", "value": "x" * 262_144}]},
        "base beside update": {"base_version": 0, "update": "AAAA"},
    },
    "assistant.message.delta": {"end": {"message_id": "r.0", "run_id": "r", "attempt": 1, "offset": 0, "end": 3,
                                        "delta": "\U0001f600"}},
    "agent.output": {"neither": {"run_id": "r", "index": 0, "kind": "text"}, "no patch": {
        "run_id": "r", "index": 0, "kind": "state_delta", "value": [{"op": "jump", "path": "/a"}]}},
}  # fmt: skip # a table
"""Payloads whose fields are valid individually but not together."""


class Case(NamedTuple):
    """A payload and its name, such as `maximal` or `parts.0.file_id:missing`."""

    name: str
    payload: Fields


def valid_payloads(event_type: EventType) -> Iterator[Case]:
    """The smallest and the largest payload, for each alternative that the type's rules allow."""
    return _valid(event_type.name, event_type.model)


def delivered_payloads(event_type: EventType) -> Iterator[Case]:
    """The same for payloads as delivered to subscribers."""
    return _valid(event_type.name, event_type.delivered or event_type.model)


@cache
def schema_of(model: type[Payload]) -> Schema:
    """The JSON Schema of a model, cached because about a thousand cases and strategies use it."""
    return schemas.schema_of(model)


def broken_payloads(event_type: EventType) -> Iterator[Case]:
    """Payloads with exactly one fault each; every one must be refused with 4005."""
    faults = Faults(schema_of(event_type.model))
    seen: set[str] = set()
    for valid in valid_payloads(event_type):
        if not valid.name.startswith("maximal"):
            continue
        for name, payload in faults.of_payload(valid.payload):
            if name not in seen:
                seen.add(name)
                yield Case(name, payload)
    for name, payload in BROKEN_RULES.get(event_type.name, {}).items():
        yield Case(f"rule:{name}", payload)


def short_payload(event_type: EventType) -> Fields:
    """A payload with every field and short texts, for human readers."""
    return list(_valid(event_type.name, event_type.model, length_max=12))[1].payload


def _valid(name: str, model: type[Payload], length_max: int = 2**20) -> Iterator[Case]:
    schema = schema_of(model)
    samples = Samples(schema, length_max)
    least, fullest = samples.sample(schema, is_full=False), samples.sample(schema, is_full=True)
    for chosen in ALTERNATIVES.get(name, (frozenset(),)):
        label = "/" + "+".join(sorted(chosen)) if chosen else ""
        fixed = fixed_fields(name, chosen)
        yield Case(f"minimal{label}", {**least, **{key: fullest[key] for key in chosen}, **fixed})
        rest = {key: value for key, value in fullest.items() if key not in others_of(name, chosen)}
        yield Case(f"maximal{label}", {**rest, **fixed})


def others_of(name: str, chosen: frozenset[str]) -> frozenset[str]:
    """The fields that a payload must not have because of the chosen ones."""
    return frozenset().union(*ALTERNATIVES.get(name, ())) - chosen


def fixed_fields(name: str, chosen: frozenset[str]) -> Fields:
    """The fields of this type whose values are fixed."""
    if name == "file.upload.authorized":
        return {"strategy": min(chosen)}
    return FIXED.get(name, {})


def read(event_type: EventType, payload: Fields) -> Payload:
    """Parse a stored payload. Unknown fields are ignored, because a newer hub may have written them (docs/protocol.md#versions).

    Raises:
        InvalidPayload: a declared field is invalid.
    """
    try:
        value: Payload = event_type.model.__pydantic_validator__.validate_python(payload, extra="ignore")
    except ValidationError as error:
        raise InvalidPayload((FieldProblem("payload", str(error)),)) from None
    return value


def to_json(payload: Payload) -> bytes:
    """The stored form of a payload, without unset fields."""
    return payload.__pydantic_serializer__.to_json(payload, exclude_unset=True)
