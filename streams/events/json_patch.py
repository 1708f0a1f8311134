"""A JSON patch as a payload carries it: the operations of RFC 6902, checked for form and size. Pure.

Operations stay plain dicts, as they were sent; applying them is the document projection's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from streams.events.json_limits import DEPTH_MAX, check_json
from streams.events.problem_texts import broken

OPERATIONS_MAX = 200
PATCH_MAX_BYTES = 262_144
_AROUND_VALUE = 2
"""The list and the operation around a value are not the value's own depth."""
_STRICT = ConfigDict(extra="forbid", strict=True)

Pointer = Annotated[str, Field(max_length=2048, pattern=r"^(?:/(?:[^~/\x00]|~[01])*)*$", examples=["/title"])]
"""A JSON pointer (RFC 6901)."""


@with_config(_STRICT)
class Adding(TypedDict):
    """Sets, adds or compares a value."""

    op: Literal["add", "replace", "test"]
    path: Pointer
    value: object


@with_config(_STRICT)
class Removing(TypedDict):
    """Takes a value away."""

    op: Literal["remove"]
    path: Pointer


Moving = TypedDict("Moving", {"op": Literal["move", "copy"], "from": Pointer, "path": Pointer})
"""Takes a value from another place; written out because `from` is a word of Python."""
with_config(_STRICT)(Moving)

Operation = Annotated[Adding | Removing | Moving, Field(discriminator="op")]


def _within_size(value: object) -> object:
    """Size and depth of the whole, before its operations are looked at."""
    check_json(value, PATCH_MAX_BYTES, DEPTH_MAX + _AROUND_VALUE)
    return value


Patch = Annotated[list[Operation], Field(max_length=OPERATIONS_MAX), BeforeValidator(_within_size)]
_PATCH: TypeAdapter[list[Operation]] = TypeAdapter(Patch)


def check_patch(value: object, max_bytes: int) -> None:
    """Refuse what is not a patch of at most `max_bytes` bytes.

    Raises:
        PydanticCustomError: with which operation is broken.
    """
    check_json(value, max_bytes, DEPTH_MAX + _AROUND_VALUE)
    try:
        _PATCH.validate_python(value)
    except ValidationError:
        raise broken("must have a value of at most 200 RFC 6902 operations") from None
