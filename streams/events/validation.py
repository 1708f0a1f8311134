"""Checks a payload, sent by a client or by the hub itself, against its declaration, and returns the JSON to store. Pure.

Only the payload itself is checked; permissions and the channel's state are checked elsewhere. Error texts are our own and never
repeat any of the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError

from streams.channel import Channel
from streams.errors import StreamsError
from streams.events import CATALOGUE
from streams.events.custom import ANY_OWN, OwnEvents
from streams.events.declaration import RULE, EventType, Payload
from streams.json_bytes import parse, to_json

PROBLEMS_MAX: Final = 10
"""Maximum number of problems reported at once; beyond that they mostly repeat one mistake."""
_WHOLE: Final = "payload"
_OTHERWISE: Final = "is not valid"
_TEXTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "is required",
        "extra_forbidden": "has an unknown field",
        "string_type": "must be a string",
        "string_unicode": "must hold no lone surrogates",
        "string_too_long": "must be at most {max_length} characters",
        "string_too_short": "must be at least {min_length} characters",
        "string_pattern_mismatch": "has characters or a form that is not allowed",
        "int_type": "must be an integer",
        "int_from_float": "must be an integer",
        "int_parsing_size": "must be an integer of 64 bits",
        "float_type": "must be a number",
        "finite_number": "must be a finite number",
        "bool_type": "must be true or false",
        "greater_than_equal": "must be at least {ge}",
        "less_than_equal": "must be at most {le}",
        "literal_error": "must be one of {expected}",
        "list_type": "must be a list",
        "too_long": "must have at most {max_length} items",
        "too_short": "must have at least {min_length} items",
        "dict_type": "must be an object",
        "model_type": "must be an object",
        "model_attributes_type": "must be an object",
        "union_tag_not_found": "needs a type",
        "union_tag_invalid": "must be of type {expected_tags}",
    }
)
"""Our sentence for each of pydantic's error types; it completes "<field> …". pydantic's own texts are not used: they are
written for programmers, change between releases, and may repeat the input.
"""


class FieldProblem(NamedTuple):
    """A field, as a path such as `parts.0.file_id`, and its problem."""

    field: str
    problem: str


class InvalidPayload(StreamsError):
    """The payload does not match its declaration in the catalogue.

    Attributes:
        problems: at most ten, in the order of the fields.
    """

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__("; ".join(f"{p.field} {p.problem}" for p in problems))
        self.problems = problems


def validate(
    event_type: EventType, payload: Mapping[str, object], model: type[Payload] | None = None
) -> tuple[Payload, bytes]:
    """Validate a payload; return it as a model and as the JSON to store and send. Fields that were not sent are omitted.

    `model` is the model to check against; the default is the payload as its sender writes it.

    Raises:
        InvalidPayload: a field is missing, null, unknown, of the wrong type or beyond its limit.
    """
    model = model or event_type.model
    try:
        value: Payload = model.__pydantic_validator__.validate_python(payload)
        if event_type.own_schema is not None:
            refuse_problems(event_type.own_schema.problems(payload))
        return value, model.__pydantic_serializer__.to_json(value, exclude_unset=True)
    except ValidationError as error:
        raise InvalidPayload(_problems(model, error)) from None
    except PydanticSerializationError:
        # Only a lone surrogate in a dict key gets past the constraints: keys are not re-encoded on the way in.
        raise InvalidPayload((FieldProblem(_WHOLE, "must hold only text that can be written as UTF-8"),)) from None


def _problems(model: type[Payload], error: ValidationError) -> tuple[FieldProblem, ...]:
    """Our sentences for pydantic's errors, one per field."""
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_input=False):
        found.setdefault(_field(model, detail), _sentence(detail))
        if len(found) == PROBLEMS_MAX:
            break
    return tuple(FieldProblem(field, problem) for field, problem in found.items())


def _sentence(detail: ErrorDetails) -> str:
    """The sentence for one error; it contains the declared limits and nothing of the input."""
    if detail["type"] == RULE:
        return detail["msg"]
    return _TEXTS.get(detail["type"], _OTHERWISE).format_map(detail.get("ctx", {}))


def _field(model: type[Payload], detail: ErrorDetails) -> str:
    """The path of a field, from declared names and indices only: keys that the client invented are omitted."""
    known = _declared_names(model)
    path = detail["loc"][:-1] if detail["type"] == "extra_forbidden" else detail["loc"]
    return ".".join(str(step) for step in path if isinstance(step, int) or step in known) or _WHOLE


@lru_cache(maxsize=512)
def _declared_names(model: type[Payload]) -> frozenset[str]:
    """Every field name that occurs in the model's schema, at any depth."""
    schema = model.model_json_schema()
    places = [schema, *schema.get("$defs", {}).values()]
    return frozenset(name for place in places for name in place.get("properties", {}))


def refuse_problems(problems: Iterable[tuple[str, str]]) -> None:
    """Refuse a payload whose fields have problems.

    Raises:
        InvalidPayload: there are some.
    """
    if found := tuple(FieldProblem(*problem) for problem in problems):
        raise InvalidPayload(found[:PROBLEMS_MAX])


class Appendable(NamedTuple):
    """A declared event with its payload, as a model and as JSON."""

    event: EventType
    payload: Payload
    data: bytes


def appendable(channel: Channel, type_: str, payload: Mapping[str, Any], own: OwnEvents = ANY_OWN) -> Appendable:
    """An event in the form that every reader of this channel accepts; `own` are the types beside the catalogue.

    Raises:
        InvalidPayload: the type is unknown or not for this kind of channel, or the payload does not match its declaration.
    """
    event = CATALOGUE.get(type_) or own.find(type_)
    if event is None:
        raise InvalidPayload((FieldProblem("type", "is not in the catalogue"),))
    if event.needs_subscription:
        raise InvalidPayload(
            (FieldProblem("type", "belongs to its sender's connection, and can be sent only over it"),)
        )
    if channel.kind not in event.kinds:
        raise InvalidPayload((FieldProblem("type", f"is not for a channel of kind {channel.kind.value}"),))
    try:
        plain = parse(to_json(payload))  # convert to what readers will parse: tuples become lists, keys become text
    except (TypeError, ValueError, RecursionError):
        raise InvalidPayload((FieldProblem("payload", "cannot be written as JSON"),)) from None
    if not isinstance(plain, dict):
        raise InvalidPayload((FieldProblem("payload", "must be an object"),))
    value, data = validate(event, plain, event.delivered)
    if len(data) > event.limit_bytes:
        raise InvalidPayload((FieldProblem("payload", f"must be at most {event.limit_bytes} bytes"),))
    return Appendable(event, value, data)
