"""JSON Pointer (RFC 6901): finding a place in a document, and a document changed at one place. Pure.

Documents are never changed: a change copies the containers on the way from the root to the place, and shares the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from streams.json_bytes import Json, JsonObject

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
"""Section 4: no leading zeros. Nine digits are more than any array here has."""
_ESCAPE: Final = re.compile(r"~(?![01])")
_APPEND: Final = "-"
"""The place after an array's last element."""


class PointerRefused(ValueError):
    """The text is no pointer, or points at nothing in this document."""


class Fields:
    """An object about to be changed: a copy of its own."""

    def __init__(self, value: JsonObject) -> None:
        self.value = dict(value)

    def put(self, key: str, value: Json, *, is_new: bool) -> JsonObject:
        """The object with this member, over one of the same name; `is_new` is false where there must be one."""
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
    """An array about to be changed: a copy of its own."""

    def __init__(self, value: list[Json]) -> None:
        self.value = list(value)

    def put(self, key: str, value: Json, *, is_new: bool) -> list[Json]:
        """The array with this element put in before the one at `key`, or at its end; over it unless `is_new`."""
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
    """The pointer's reference tokens, unescaped: `~1` is a slash, `~0` a tilde.

    Raises:
        PointerRefused: neither empty nor begun with a slash, or with a tilde that escapes nothing.
    """
    if not pointer:
        return []
    if not pointer.startswith("/") or _ESCAPE.search(pointer):
        raise PointerRefused("a JSON Pointer is empty or begins with a slash; a tilde is written ~0, a slash ~1")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def look_up(document: Json, path: list[str]) -> Json:
    """The value at a place.

    Raises:
        PointerRefused: there is nothing.
    """
    for token in path:
        document = _child(document, token)
    return document


def parent_changed(document: Json, path: list[str], change: Callable[[Container, str], Json]) -> Json:
    """The document with the container that holds the last token of `path` replaced by what `change` makes of it.

    Raises:
        PointerRefused: the path leads nowhere, or `change` found nothing at its end.
    """
    chain = [document]
    for token in path[:-1]:
        chain.append(_child(chain[-1], token))
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
    raise PointerRefused("the path goes through a value that has no parts")


def _container(value: Json) -> Container:
    if isinstance(value, dict):
        return Fields(value)
    if isinstance(value, list):
        return Elements(value)
    raise PointerRefused("the path goes through a value that has no parts")


def _position(token: str, count: int) -> int:
    """An array index below `count`."""
    if not _INDEX.fullmatch(token) or int(token) >= count:
        raise PointerRefused("there is no such element")
    return int(token)
