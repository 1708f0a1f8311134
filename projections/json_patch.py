"""JSON Patch (RFC 6902) and JSON Pointer (RFC 6901), on values that are never changed in place. Pure.

Each operation gives a new document that shares all unchanged parts with the old one. So a patch that fails halfway has no
effect, as section 5 requires, and `copy` costs no more than copying the path to its target. A shared value is written out once
for each of its places, so everything that `add`, `replace`, `copy` and `move` insert is weighed: otherwise a small patch of 200
operations that each copy the whole document into itself would give one of 2^200 parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from projections.errors import PatchRefused
from streams.json_bytes import Json, JsonObject, weigh

WEIGHT_MAX: Final = 4 * 1024 * 1024
"""Maximum weight that one patch may insert, in characters (`json_bytes.weigh`): sixteen times the largest patch."""
WORK_MAX: Final = 200_000
"""Maximum work of one patch, in values visited: about 20 ms. The largest patch that inserts each of its values once needs 130,000.
"""
_COPIED_PER_UNIT: Final = 16
"""Number of copied container elements that count as one unit of work, like one visited value."""
DEPTH_MAX: Final = 128
"""Maximum nesting of containers in a document, because JSON readers recurse."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
"""An array index (section 4): no leading zeros. Nine digits are more than any array here needs."""
_ESCAPE: Final = re.compile(r"~(?![01])")
_APPEND: Final = "-"
"""The token for the position after an array's last element."""


class Patched(NamedTuple):
    """A document after a patch, and the weight of everything that the patch inserted: an upper bound of the document's growth."""

    document: Json
    weight: int


class PatchWork:
    """The work done by a patch, and its limit; None means unlimited.

    Attributes:
        done: values visited so far.
    """

    def __init__(self, most: int | None = None) -> None:
        self.done = 0
        self._most = most

    def add(self, values: int) -> None:
        """Count work that is about to be done.

        Raises:
            ValueError: the work would exceed the limit.
        """
        self.done += values
        if self._most is not None and self.done > self._most:
            raise ValueError("the patch takes too much work; send several smaller ones")

    def note(self, values: int) -> None:
        """Count work without checking the limit."""
        self.done += values

    def copy(self, container: Json) -> None:
        """Count the work of copying a container.

        Raises:
            ValueError: the work would exceed the limit.
        """
        if isinstance(container, list | dict):
            self.add(1 + len(container) // _COPIED_PER_UNIT)


def apply_patch(document: Json, operations: Sequence[Json], work: PatchWork | None = None) -> Patched:
    """The document after all operations, in order.

    A patch that is already stored is applied without a limit of work: every reader of the log must reach the same document.

    Raises:
        PatchRefused: an operation is malformed, does not apply, or inserts too much. Nothing is changed.
    """
    weight, work = 0, work or PatchWork()
    for index, operation in enumerate(operations):
        try:
            document, added = _apply(document, operation, work)
        except ValueError as error:
            raise PatchRefused(index, str(error)) from error
        weight += added
        if weight > WEIGHT_MAX:
            raise PatchRefused(index, "the patch inserts too much into the document")
    return Patched(document, weight)


def _apply(document: Json, operation: Json, work: PatchWork) -> Patched:
    """The document after one operation."""
    if not isinstance(operation, dict):
        raise ValueError("an operation must be an object")  # noqa: TRY004 - the value is wrong, not a caller's type
    carry_out = _OPERATIONS.get(str(operation.get("op")))
    if carry_out is None:
        raise ValueError("op must be add, remove, replace, move, copy or test")
    work.add(1)
    return carry_out(document, operation, work)


def _place(document: Json, path: list[str], value: Json, work: PatchWork, *, is_new: bool) -> Patched:
    """Put a value at `path`: insert or replace if `is_new` (`add`), otherwise replace an existing one (`replace`)."""
    weight, depth = weigh(value, WEIGHT_MAX)
    work.add(weight // 8)
    if len(path) + depth > DEPTH_MAX:
        raise ValueError("the document would be nested too deeply")
    if not path:
        return Patched(value, weight)
    changed = parent_changed(document, path, lambda parent, key: parent.put(key, value, is_new=is_new), work)
    return Patched(changed, weight + len(path[-1]))


def _without(document: Json, path: list[str], work: PatchWork) -> Json:
    """The document without the value at `path`."""
    if not path:
        raise ValueError("the whole document cannot be removed")
    return parent_changed(document, path, lambda parent, key: parent.drop(key), work)


def _add(document: Json, operation: JsonObject, work: PatchWork) -> Patched:
    return _place(document, _pointer(operation, "path"), _value(operation), work, is_new=True)


def _remove(document: Json, operation: JsonObject, work: PatchWork) -> Patched:
    return Patched(_without(document, _pointer(operation, "path"), work), 0)


def _replace(document: Json, operation: JsonObject, work: PatchWork) -> Patched:
    return _place(document, _pointer(operation, "path"), _value(operation), work, is_new=False)


def _move(document: Json, operation: JsonObject, work: PatchWork) -> Patched:
    """A `remove` followed by an `add`. A move onto itself changes nothing; a move into a part of itself is refused."""
    source, path = _pointer(operation, "from"), _pointer(operation, "path")
    value = look_up(document, source)
    if source == path:
        return Patched(document, 0)
    if path[: len(source)] == source:
        raise ValueError("a value cannot be moved into itself")
    return _place(_without(document, source, work), path, value, work, is_new=True)


def _copy(document: Json, operation: JsonObject, work: PatchWork) -> Patched:
    value = look_up(document, _pointer(operation, "from"))
    return _place(document, _pointer(operation, "path"), value, work, is_new=True)


def _test(document: Json, operation: JsonObject, work: PatchWork) -> Patched:
    expected = _value(operation)
    work.add(weigh(expected, WEIGHT_MAX)[0] // 8)
    if not equals(look_up(document, _pointer(operation, "path")), expected):
        raise ValueError("the test failed: the value is different")
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


_OPERATIONS: Final[dict[str, Callable[[Json, JsonObject, PatchWork], Patched]]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
"""The operations of RFC 6902 section 4, by name."""


def equals(one: Json, other: Json) -> bool:
    """Equality as in RFC 6902 section 4.6: 1 equals 1.0, but neither equals true; the order of keys does not matter."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equals(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equals, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


class PointerRefused(ValueError):
    """The text is not a JSON Pointer, or the document has no value there."""


class Fields:
    """A copy of an object, to be changed."""

    def __init__(self, value: JsonObject) -> None:
        self.value = dict(value)

    def put(self, key: str, value: Json, *, is_new: bool) -> JsonObject:
        """The object with this member set; if `is_new` is false, the member must already exist."""
        if not is_new and key not in self.value:
            raise PointerRefused("there is no such member")
        self.value[key] = value
        return self.value

    def drop(self, key: str) -> JsonObject:
        """The object without this member."""
        if key not in self.value:
            raise PointerRefused("there is no such member")
        del self.value[key]
        return self.value


class Elements:
    """A copy of an array, to be changed."""

    def __init__(self, value: list[Json]) -> None:
        self.value = list(value)

    def put(self, key: str, value: Json, *, is_new: bool) -> list[Json]:
        """The array with this element: inserted before the one at `key` (`-` is the end) if `is_new`, otherwise in place of it."""
        if not is_new:
            self.value[_position(key, len(self.value))] = value
            return self.value
        position = len(self.value) if key == _APPEND else _position(key, len(self.value) + 1)
        self.value.insert(position, value)
        return self.value

    def drop(self, key: str) -> list[Json]:
        """The array without this element."""
        del self.value[_position(key, len(self.value))]
        return self.value


Container: TypeAlias = Fields | Elements


def split(pointer: str) -> list[str]:
    """Split a pointer into its reference tokens, unescaped: `~1` is a slash, `~0` a tilde.

    Raises:
        PointerRefused: the text is not empty and does not begin with a slash, or a tilde is followed by neither 0 nor 1.
    """
    if not pointer:
        return []
    if not pointer.startswith("/") or _ESCAPE.search(pointer):
        raise PointerRefused("a JSON Pointer is empty or begins with a slash; a tilde is written ~0, a slash ~1")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def look_up(document: Json, path: list[str]) -> Json:
    """The value at `path`.

    Raises:
        PointerRefused: there is none.
    """
    for token in path:
        document = _child(document, token)
    return document


def parent_changed(document: Json, path: list[str], change: Callable[[Container, str], Json], work: PatchWork) -> Json:
    """The document in which `change` has replaced the container that holds the last token of `path`.

    Raises:
        PointerRefused: the container does not exist, or `change` refused the last token.
    """
    chain = [document]
    for token in path[:-1]:
        chain.append(_child(chain[-1], token))
    for holder in chain:
        work.copy(holder)
    changed = change(_container(chain.pop()), path[-1])
    for token, holder in zip(reversed(path[:-1]), reversed(chain), strict=True):
        changed = _container(holder).put(token, changed, is_new=False)
    return changed


def _child(value: Json, token: str) -> Json:
    if isinstance(value, dict):
        if token in value:
            return value[token]
        raise PointerRefused("there is no such member")
    if isinstance(value, list):
        return value[_position(token, len(value))]
    raise PointerRefused("the path continues below a value that is neither an object nor an array")


def _container(value: Json) -> Container:
    if isinstance(value, dict):
        return Fields(value)
    if isinstance(value, list):
        return Elements(value)
    raise PointerRefused("the path continues below a value that is neither an object nor an array")


def _position(token: str, count: int) -> int:
    """Parse an array index, which must be below `count`."""
    if not _INDEX.fullmatch(token) or int(token) >= count:
        raise PointerRefused("there is no such element")
    return int(token)
