"""A payload checked against its declaration, and its stored JSON. Pure.

It checks one payload by itself: what a sender may do and what state a channel is in are others' questions. The texts of a
refusal are ours; nothing of the input is ever repeated in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError

from streams.errors import StreamsError
from streams.events.declaration import EventType, Payload
from streams.events.problem_texts import problem_text

PROBLEMS_MAX: Final = 10
"""More would only repeat the same mistake; a client mends these first."""
_WHOLE: Final = "payload"


class Problem(NamedTuple):
    """A field, as a path such as `parts.0.file_id`, and what is wrong with it."""

    field: str
    problem: str


class InvalidPayload(StreamsError):
    """The payload is not what the catalogue declares.

    Attributes:
        problems: at most ten, in the order of the fields.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(f"{p.field} {p.problem}" for p in problems))
        self.problems = problems


def validate(event_type: EventType, payload: Mapping[str, object]) -> tuple[Payload, bytes]:
    """The payload as a model, and as the JSON that is stored and sent: fields that were not sent are left out.

    Raises:
        InvalidPayload: a field is missing, null, unknown, of the wrong type or beyond its limit.
    """
    model = event_type.model
    try:
        value: Payload = model.__pydantic_validator__.validate_python(payload)
        return value, model.__pydantic_serializer__.to_json(value, exclude_unset=True)
    except ValidationError as error:
        raise InvalidPayload(_problems(model, error)) from None
    except PydanticSerializationError:
        # Only a lone surrogate in the key of a dict gets past the constraints: keys are not re-encoded on the way in.
        raise InvalidPayload((Problem(_WHOLE, "must hold only text that can be written as UTF-8"),)) from None


def read(event_type: EventType, payload: Mapping[str, object]) -> Payload:
    """A stored payload as a model. Unknown fields are passed over: a newer hub may have written them (EVENTS 16).

    Raises:
        InvalidPayload: what the declaration does know is broken.
    """
    try:
        value: Payload = event_type.model.__pydantic_validator__.validate_python(payload, extra="ignore")
    except ValidationError as error:
        raise InvalidPayload(_problems(event_type.model, error)) from None
    return value


def to_json(payload: Payload) -> bytes:
    """The stored form of a payload built in code. Set only the fields there are: unset ones are left out."""
    return payload.__pydantic_serializer__.to_json(payload, exclude_unset=True)


def _problems(model: type[Payload], error: ValidationError) -> tuple[Problem, ...]:
    """Our own words for what pydantic found, once per field."""
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_input=False):
        found.setdefault(_field(model, detail), problem_text(detail))
        if len(found) == PROBLEMS_MAX:
            break
    return tuple(Problem(field, problem) for field, problem in found.items())


def _field(model: type[Payload], detail: ErrorDetails) -> str:
    """The path of the field, of declared names and indices only: a key that the client made up is left out."""
    known = _declared_names(model)
    path = detail["loc"][:-1] if detail["type"] == "extra_forbidden" else detail["loc"]
    return ".".join(str(step) for step in path if isinstance(step, int) or step in known) or _WHOLE


@lru_cache(maxsize=512)
def _declared_names(model: type[Payload]) -> frozenset[str]:
    """Every field name that occurs in the model's schema, at any depth."""
    schema = model.model_json_schema()
    places = [schema, *schema.get("$defs", {}).values()]
    return frozenset(name for place in places for name in place.get("properties", {}))
