"""Custom event types, `custom.<name>`: any JSON object, or objects that match a JSON Schema (docs/guides/own-events.md).

They are rows like those of the catalogue, made on demand. All of them share one handler and one row of metrics: clients choose the
names, so nothing may be stored by name without a bound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ConfigDict, model_validator

from streams.envelope import Lane
from streams.errors import StreamsError
from streams.events.declaration import Action, Direction, EventType, Payload
from streams.events.json_limits import check_json

ROW: Final = "custom.*"
"""The row that all custom types share, in the table of handlers and in metrics."""
NAME_PATTERN: Final = r"custom(\.[a-z][a-z0-9_]{0,39}){1,3}"
CUSTOM_BYTES_MAX: Final = 65_536
SCHEMA_BYTES_MAX: Final = 262_144
SCHEMAS_MAX: Final = 500
_CHECKED_BYTES_MAX: Final = 67_108_864
"""Depth and numbers are checked first; the size of the stored JSON has a code of its own (4011)."""
_NAMES_MAX: Final = 1_024
_NAME: Final = re.compile(NAME_PATTERN)
_FILE: Final = re.compile(rf"({NAME_PATTERN})\.v([1-9][0-9]{{0,3}})\.json")
_INNER: Final = "#/$defs/"
_SHOWN_CHARACTERS_MAX: Final = 100
_OWN_NAMES: Final = ("$schema", "$id")
"""Keywords with a schema's own location, which changes once it is part of another document."""


class CustomPayload(Payload):
    """Any JSON object of at most 64 KiB, nested at most 16 deep, with integers of 64 bits."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _is_json(cls, value: object) -> object:
        check_json(value, _CHECKED_BYTES_MAX)
        return value


CUSTOM: Final = EventType(
    name=ROW,
    row=ROW,
    model=CustomPayload,
    direction=Direction.BOTH,
    lane=Lane.EVENTS,
    action=Action.WRITE,
    rate="command",
    reply="ack",
    is_wanted=True,
    personal=(),
    limit_bytes=CUSTOM_BYTES_MAX,
    summary="A custom event type. It changes no state except that of custom projections.",
)
"""The declaration that all custom types share. Each event gets a work entry: the node does not know which types are handled."""


class SchemasRefused(StreamsError):
    """The folder of schemas cannot be used; the text names the file and the reason."""


class PayloadSchema:
    """A JSON Schema (2020-12) that payloads must match."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Compile it.

        Raises:
            ValueError: it is not a schema, or refers to something outside itself.
        """
        from jsonschema_rs import Draft202012Validator, ReferencingError, RegexOptions, ValidationError

        for reference in _references(document):
            if not reference.startswith(_INNER):
                raise ValueError(f"a $ref must begin with {_INNER}: nothing outside the file is read")
        try:
            self._validator = Draft202012Validator(
                dict(document), validate_formats=True, pattern_options=RegexOptions(), retriever=_retrieve_nothing
            )
        except (ValidationError, ReferencingError) as error:
            raise ValueError(f"is not a JSON Schema of draft 2020-12: {str(error).partition(chr(10))[0]}") from error
        self._mismatch: type[Exception] = ValidationError
        self.document: Mapping[str, Any] = MappingProxyType({k: v for k, v in document.items() if k not in _OWN_NAMES})
        self._names = frozenset(_properties(document))

    def problems(self, payload: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """The path of the first mismatch with its problem, if there is one; neither contains anything of the payload.

        Listing all of them would cost as much as the payload has items.
        """
        try:
            self._validator.validate(payload)
        except self._mismatch as error:
            found: Any = error
            path: list[str | int] = list(found.instance_path)
            keyword = str(found.schema_path[-1]) if found.schema_path else ""
            if keyword == "required":
                path.append(str(getattr(found.kind, "property", "")))
            shown = ".".join(str(step) for step in path if isinstance(step, int) or step in self._names)
            yield shown or "payload", _sentence(keyword, self._value(found.schema_path))

    def _value(self, path: Sequence[str | int]) -> object:
        """The value of the keyword at this path of the schema."""
        value: Any = self.document
        for step in path:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        return value


def _sentence(keyword: str, value: object) -> str:
    """Completes "<path> …"; it contains the schema's words and nothing of the payload."""
    if keyword == "required":
        return "is required"
    if keyword in {"additionalProperties", "unevaluatedProperties"}:
        return "has an unknown field"
    shown = json.dumps(value, ensure_ascii=False)
    rule = f"{keyword}: {shown}" if len(shown) <= _SHOWN_CHARACTERS_MAX else keyword
    return f"must match `{rule}` of its schema"


def _retrieve_nothing(uri: str) -> Any:
    raise ValueError(f"{uri} is outside the file, and is not read")


def _references(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, inner in node.items():
            if name in {"$ref", "$dynamicRef"} and isinstance(inner, str):
                yield inner
            yield from _references(inner)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _properties(node: object) -> Iterator[str]:
    """Every property that the schema names, at any depth."""
    if isinstance(node, Mapping):
        for name, inner in node.items():
            if name == "properties" and isinstance(inner, Mapping):
                yield from inner
            elif name == "required" and isinstance(inner, list):
                yield from (item for item in inner if isinstance(item, str))
            yield from _properties(inner)
    elif isinstance(node, list):
        for item in node:
            yield from _properties(item)


def is_own_name(name: str) -> bool:
    """True for the name of a custom event type."""
    return _NAME.fullmatch(name) is not None


@lru_cache(maxsize=_NAMES_MAX)
def _undeclared(name: str) -> EventType:
    """Makes the row of a name, which must be valid: clients choose what is kept here, so its length must have a bound."""
    return replace(CUSTOM, name=name)


class OwnEvents:
    """The custom event types that a process knows: all names, or those that have a schema.

    Args:
        declared: the newest version of each type, by name; None accepts any name and any object.
    """

    def __init__(self, declared: Mapping[str, EventType] | None = None) -> None:
        self._declared = declared

    def find(self, name: str) -> EventType | None:
        """The declaration of the type with this name; None if there is none."""
        if self._declared is not None:
            return self._declared.get(name)
        return _undeclared(name) if is_own_name(name) else None

    @property
    def rows(self) -> Mapping[str, EventType]:
        """The rows to publish: those with a schema, or the one row that stands for every name."""
        return {ROW: CUSTOM} if self._declared is None else self._declared


ANY_OWN: Final = OwnEvents()
"""Accepts every name and every object."""


def read_schemas(folder: Path) -> OwnEvents:
    """Reads the folder of schemas: `custom.order_placed.v1.json` is version 1 of `custom.order_placed`; the newest version counts.

    Raises:
        SchemasRefused: it cannot be read; a `.json` file has another name, or is not a schema.
    """
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == ".json")
    except OSError as error:
        raise SchemasRefused(f"{folder} cannot be read: {error.strerror}") from error
    if len(files) > SCHEMAS_MAX:
        raise SchemasRefused(f"{folder} contains {len(files)} schemas; at most {SCHEMAS_MAX} are read")
    declared: dict[str, EventType] = {}
    for file in files:
        row = _read(file)
        if row.name not in declared or declared[row.name].version < row.version:
            declared[row.name] = row
    return OwnEvents(declared)


def _read(file: Path) -> EventType:
    named = _FILE.fullmatch(file.name)
    if named is None:
        raise SchemasRefused(f"{file.name} must be named like custom.order_placed.v1.json")
    try:
        data = file.read_bytes()
        if len(data) > SCHEMA_BYTES_MAX:
            raise ValueError(f"has more than {SCHEMA_BYTES_MAX} bytes")
        document = json.loads(data)
        if not isinstance(document, dict):
            raise ValueError("is not an object")  # noqa: TRY004 - what is wrong is the file, not a caller's type
        schema = PayloadSchema(document)
    except (OSError, ValueError, RecursionError) as error:
        raise SchemasRefused(f"{file.name}: {error}") from error
    return replace(
        CUSTOM,
        name=named[1],
        version=int(named[3]),
        personal=_personal(document),
        own_schema=schema,
        summary=str(document.get("description", "")),
    )


def _personal(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that the schema marks with `"x-personal": true`: they name users whom the event is about."""
    fields = document.get("properties", {})
    return tuple(name for name, one in fields.items() if isinstance(one, Mapping) and one.get("x-personal") is True)
