"""JSON Patch (RFC 6902) over JSON Pointer (RFC 6901), on values that are never changed. Pure.

Each operation gives a new document that shares what it did not touch, so a patch that fails halfway leaves nothing
behind, as section 5 demands, and `copy` costs nothing but the path to its target. Because shared values are written out
once for each place, what `add`, `replace`, `copy` and `move` put somewhere is weighed: 200 copies of the whole into
itself are a small patch and would be a document of 2^200 parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from projections.errors import PatchRefused
from projections.json_pointer import look_up, parent_changed, split
from streams.json_bytes import Json, JsonObject, equals, weigh

WEIGHT_MAX: Final = 4 * 1024 * 1024
"""What one patch may put into a document, in characters (`json_value.weigh`): sixteen patches of the largest size."""
DEPTH_MAX: Final = 128
"""Containers within containers that a document may have: JSON readers recurse."""


class Patched(NamedTuple):
    """A document after a patch, and the weight of all that the patch put somewhere: it grew by no more."""

    document: Json
    weight: int


def apply_patch(document: Json, operations: Sequence[Json]) -> Patched:
    """The document after all operations, in order.

    Raises:
        PatchRefused: an operation is malformed, does not apply, or puts in more than is allowed. Nothing was changed.
    """
    weight = 0
    for index, operation in enumerate(operations):
        try:
            document, added = _apply(document, operation)
        except ValueError as error:
            raise PatchRefused(index, str(error)) from error
        weight += added
        if weight > WEIGHT_MAX:
            raise PatchRefused(index, "the patch puts too much into the document")
    return Patched(document, weight)


def _apply(document: Json, operation: Json) -> Patched:
    """The document after one operation."""
    if not isinstance(operation, dict):
        raise ValueError("an operation is an object")  # noqa: TRY004 - the value is wrong, not a caller's type
    carry_out = _OPERATIONS.get(str(operation.get("op")))
    if carry_out is None:
        raise ValueError("op must be add, remove, replace, move, copy or test")
    return carry_out(document, operation)


def _place(document: Json, path: list[str], value: Json, *, is_new: bool) -> Patched:
    """Put a value where `path` points: beside or over what is there (`add`), or strictly over it (`replace`)."""
    weight, depth = weigh(value, WEIGHT_MAX)
    if len(path) + depth > DEPTH_MAX:
        raise ValueError("the document would be nested too deeply")
    if not path:
        return Patched(value, weight)
    changed = parent_changed(document, path, lambda parent, key: parent.put(key, value, is_new=is_new))
    return Patched(changed, weight + len(path[-1]))


def _without(document: Json, path: list[str]) -> Json:
    """The document without what `path` points at."""
    if not path:
        raise ValueError("the whole document cannot be removed")
    return parent_changed(document, path, lambda parent, key: parent.drop(key))


def _add(document: Json, operation: JsonObject) -> Patched:
    return _place(document, _pointer(operation, "path"), _value(operation), is_new=True)


def _remove(document: Json, operation: JsonObject) -> Patched:
    return Patched(_without(document, _pointer(operation, "path")), 0)


def _replace(document: Json, operation: JsonObject) -> Patched:
    return _place(document, _pointer(operation, "path"), _value(operation), is_new=False)


def _move(document: Json, operation: JsonObject) -> Patched:
    """A `remove` and an `add`; to its own place it changes nothing, into itself it cannot go."""
    source, path = _pointer(operation, "from"), _pointer(operation, "path")
    value = look_up(document, source)
    if source == path:
        return Patched(document, 0)
    if path[: len(source)] == source:
        raise ValueError("a value cannot be moved into itself")
    return _place(_without(document, source), path, value, is_new=True)


def _copy(document: Json, operation: JsonObject) -> Patched:
    value = look_up(document, _pointer(operation, "from"))
    return _place(document, _pointer(operation, "path"), value, is_new=True)


def _test(document: Json, operation: JsonObject) -> Patched:
    if not equals(look_up(document, _pointer(operation, "path")), _value(operation)):
        raise ValueError("the value tested for is not there")
    return Patched(document, 0)


def _pointer(operation: JsonObject, name: str) -> list[str]:
    text = operation.get(name)
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a JSON Pointer")  # noqa: TRY004 - as above
    return split(text)


def _value(operation: JsonObject) -> Json:
    """The operation's value, which may be null but not absent (section 4.1)."""
    if "value" not in operation:
        raise ValueError("value is missing")
    return operation["value"]


_OPERATIONS: Final[dict[str, Callable[[Json, JsonObject], Patched]]] = {
    "add": _add, "remove": _remove, "replace": _replace, "move": _move, "copy": _copy, "test": _test,
}  # fmt: skip
"""RFC 6902 section 4."""
