"""JSON values inside payloads: limits of size, depth, numbers and characters, and the form of patches (RFC 6902). Pure.

The meaning of a value is not checked. A NUL is allowed here, unlike in text fields, because JSON can escape it and stored
payloads are only read as JSON. The operations of a patch stay plain dicts, as they were sent; the document projection applies
them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticSerializationError, core_schema, to_json
from typing_extensions import TypedDict

from streams.events.declaration import broken

DEPTH_MAX: Final = 16
"""Maximum nesting of containers. Deeper values break recursive readers; no payload of the catalogue comes close."""
_INT_LIMIT: Final = 2**63


def check_json(value: object, max_bytes: int, depth_max: int = DEPTH_MAX) -> None:
    """Refuse a value that is not JSON or exceeds the limits.

    Raises:
        PydanticCustomError: the value is nested too deep or too large, or contains a number outside 64 bits or invalid Unicode.
    """
    _check_nodes(value, depth_max)
    try:
        size = len(to_json(value))
    except (PydanticSerializationError, UnicodeEncodeError):
        raise broken("must hold only text that can be written as UTF-8") from None
    if size > max_bytes:
        raise broken("must be at most {max_bytes} bytes of JSON", max_bytes=max_bytes)


def _check_nodes(value: object, depth_max: int) -> None:
    """Check every node, level by level, so that deeply nested input cannot exhaust the call stack."""
    level: list[object] = [value]
    depth = 0
    while level:
        inside: list[object] = []
        for node in level:
            _check_node(node, inside)
        depth += any(isinstance(node, list | dict) for node in level)
        if depth > depth_max:
            raise broken("must be nested at most {depth} deep", depth=depth_max)
        level = inside


def _check_node(node: object, inside: list[object]) -> None:
    """Check one node and append its children to `inside`."""
    match node:
        case None | bool() | str():
            return
        case int():
            if not -_INT_LIMIT <= node < _INT_LIMIT:
                raise broken("must hold only integers of 64 bits")
        case float():
            if node - node != 0.0:  # only infinities and NaN differ from themselves
                raise broken("must hold only finite numbers")
        case list():
            inside.extend(node)
        case dict() if all(isinstance(key, str) for key in node):
            inside.extend(node.values())
        case _:
            raise broken("must be a JSON value")


class JsonValue:
    """Marks a field as free JSON.

    Args:
        max_bytes: maximum size of its JSON.
        is_null_allowed: false where null would mean the same as an absent field.
        text_max: maximum length in code points of a value that is a string; None counts a string as JSON.
    """

    def __init__(self, max_bytes: int, *, is_null_allowed: bool = True, text_max: int | None = None) -> None:
        self.max_bytes = max_bytes
        self.is_null_allowed = is_null_allowed
        self.text_max = text_max

    def check(self, value: object) -> object:
        """Return the value if it is within the limits."""
        if value is None and not self.is_null_allowed:
            raise broken("must not be null")
        if self.text_max is not None and isinstance(value, str):
            self._check_text(value, self.text_max)
            return value
        check_json(value, self.max_bytes)
        return value

    @staticmethod
    def _check_text(value: str, length_max: int) -> None:
        if len(value) > length_max:
            raise broken("must be at most {max_length} characters", max_length=length_max)
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise broken("must hold no NUL and no lone surrogates")

    def __get_pydantic_core_schema__(self, source: type[object], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        bounds: JsonSchemaValue = {"x-max-bytes": self.max_bytes, "x-max-depth": DEPTH_MAX}
        if not self.is_null_allowed:
            bounds["not"] = {"type": "null"}
        if self.text_max is not None:
            bounds |= {"maxLength": self.text_max}
        return bounds


OPERATIONS_MAX = 200
PATCH_MAX_BYTES = 262_144
_AROUND_VALUE = 2
"""Levels of nesting that a patch adds around each value: the list and the operation."""
_STRICT = ConfigDict(extra="forbid", strict=True)

Pointer = Annotated[str, Field(max_length=2048, pattern=r"^(?:/(?:[^~/\x00]|~[01])*)*$", examples=["/title"])]
"""A JSON pointer (RFC 6901)."""


@with_config(_STRICT)
class Adding(TypedDict):
    """Sets, adds or compares a value."""

    op: Annotated[Literal["add", "replace", "test"], Field(description="Adds, replaces or compares the value.")]
    path: Annotated[Pointer, Field(description="JSON Pointer (RFC 6901) to the value; the empty one is the whole.")]
    value: Annotated[
        object, Field(description="The value; if a `test` finds a different value, the whole patch is refused.")
    ]


@with_config(_STRICT)
class Removing(TypedDict):
    """Removes a value."""

    op: Annotated[Literal["remove"], Field(description="Removes the value.")]
    path: Annotated[Pointer, Field(description="JSON Pointer (RFC 6901) to the value.")]


Moving = TypedDict(
    "Moving",
    {
        "op": Annotated[Literal["move", "copy"], Field(description="Moves or copies the value.")],
        "from": Annotated[Pointer, Field(description="JSON Pointer (RFC 6901) to the value.")],
        "path": Annotated[Pointer, Field(description="JSON Pointer (RFC 6901) to its new place.")],
    },
)
"""Copies or moves a value from another place. Written as a call because `from` is a Python keyword."""
with_config(_STRICT)(Moving)

Operation = Annotated[Adding | Removing | Moving, Field(discriminator="op")]


def _within_size(value: object) -> object:
    """Check the size and depth of the whole patch before its operations are parsed."""
    check_json(value, PATCH_MAX_BYTES, DEPTH_MAX + _AROUND_VALUE)
    return value


Patch = Annotated[list[Operation], Field(max_length=OPERATIONS_MAX), BeforeValidator(_within_size)]
_PATCH: TypeAdapter[list[Operation]] = TypeAdapter(Patch)


def check_patch(value: object, max_bytes: int) -> None:
    """Refuse a value that is not a patch of at most `max_bytes` bytes.

    Raises:
        PydanticCustomError: names the invalid operation.
    """
    check_json(value, max_bytes, DEPTH_MAX + _AROUND_VALUE)
    try:
        _PATCH.validate_python(value)
    except ValidationError:
        raise broken("must have a value of at most 200 RFC 6902 operations") from None
