"""Messages to JSON and back: the only file of the client that reads or writes JSON. Pure.

A WebSocket message is one JSON object or an array of them. The reader gets each object *with its position in the
text*, so that an event's own bytes can be cut out exactly as the hub sent them. The C scanner of `json` does the
parsing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from hub.client.items import Event, Payload, Signal

Frame: TypeAlias = dict[str, Any]
Placed: TypeAlias = tuple[Frame, int, int]
"""An object, with the start and end of its text."""

_JOINED_MAX: Final = 100
"""Maximum objects in one array (docs/protocol.md#messages)."""
_JOINED_BYTES_MAX: Final = 65_536
"""Maximum bytes in one array. A larger value saves no more system calls."""

_BRACKETS: Final = 2

_NOTHING: Final[Payload] = MappingProxyType({})
"""The empty object, used where the hub omitted one."""

_decode: Final = json.JSONDecoder().raw_decode
_space: Final = re.compile(r"[ \t\n\r]*").match
_write: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_write_ascii: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class MalformedMessage(Exception):
    """The text is not a JSON object or an array of objects."""


def split(text: str) -> list[Placed]:
    """Returns the objects of one WebSocket message, in order, each with its position in `text`.

    Raises:
        MalformedMessage: not JSON, or not an object or an array of objects.
    """
    try:
        placed, end = _frames(text, 0 if text[0] in "{[" else _after_space(text, 0))
        if end != len(text) and _after_space(text, end) != len(text):
            raise MalformedMessage("there is text after the message")
    except (ValueError, IndexError, RecursionError) as problem:
        raise MalformedMessage(str(problem)) from problem
    for frame, _, _ in placed:
        if type(frame) is not dict:
            raise MalformedMessage("a message must be a JSON object")
    return placed


def _frames(text: str, start: int) -> tuple[list[Placed], int]:
    if text[start] == "[":
        return elements(text, start)
    frame, end = _decode(text, start)
    return [(frame, start, end)], end


def elements(text: str, start: int) -> tuple[list[Placed], int]:
    """Parses the array that begins at `start`: returns its elements, each with its position, and the array's end."""
    found: list[Placed] = []
    here = _after_space(text, start + 1)
    if text[here] == "]":
        return found, here + 1
    while True:
        value, end = _decode(text, here)
        found.append((value, here, end))
        if text[end] not in ",]":
            end = _after_space(text, end)
        if text[end] == "]":
            return found, end + 1
        if text[end] != ",":
            raise MalformedMessage("an array's elements are separated by commas")
        here = end + 1
        if text[here] != "{":
            here = _after_space(text, here)


def member(text: str, start: int, name: str) -> int:
    """Finds the value of `name` in the object that begins at `start`, which must be valid JSON.

    Raises:
        KeyError: the object has no such member.
    """
    for key, here in _members(text, start):
        if key == name:
            return here
    raise KeyError(name)


def _members(text: str, start: int) -> Iterator[tuple[str, int]]:
    here = _after_space(text, start + 1)
    while text[here] == '"':
        key, colon = _decode(text, here)
        here = _after_space(text, _after_space(text, colon) + 1)
        yield key, here
        _, end = _decode(text, here)
        here = _after_space(text, _after_space(text, end) + 1)
        if here >= len(text):
            return


def _after_space(text: str, start: int) -> int:
    found = _space(text, start)
    return found.end() if found else start


def read_event(frame: Frame, raw: bytes, epoch: str | None) -> Event:
    """Converts the object of a stored event.

    Raises:
        KeyError: a required field is missing.
    """
    return Event(
        frame["id"],
        frame["seq"],
        frame["channel"],
        frame["type"],
        frame.get("v", 1),
        frame.get("actor", _NOTHING),
        frame.get("meta", _NOTHING),
        frame.get("payload", _NOTHING),
        raw,
        epoch,
        frame.get("erased", False),
    )


def read_signal(frame: Frame, raw: bytes) -> Signal:
    """Converts the object of an event that is not stored."""
    return Signal(
        frame["channel"],
        frame["type"],
        frame.get("v", 1),
        frame.get("actor", _NOTHING),
        frame.get("meta", _NOTHING),
        frame.get("payload", _NOTHING),
        raw,
    )


def encode(frame: Mapping[str, object]) -> bytes:
    """Encodes one object as UTF-8 JSON. A lone surrogate is escaped, so that the hub can refuse it by its own rule.

    Raises:
        TypeError: a value has no JSON form.
        ValueError: as above, for numbers such as NaN.
    """
    try:
        return _write(frame).encode()
    except UnicodeEncodeError:
        return _write_ascii(frame).encode()


def join(frames: Sequence[bytes], limit_bytes: int) -> Iterator[bytes]:
    """Packs encoded objects, in this order, into the fewest WebSocket messages within the hub's size limit.

    A single object over the limit is sent alone.
    """
    limit_bytes = min(limit_bytes, _JOINED_BYTES_MAX)
    batch: list[bytes] = []
    size = _BRACKETS
    for frame in frames:
        if batch and (len(batch) == _JOINED_MAX or size + len(frame) > limit_bytes):
            yield _array(batch)
            batch, size = [], _BRACKETS
        batch.append(frame)
        size += len(frame) + 1
    if batch:
        yield _array(batch)


def _array(batch: Sequence[bytes]) -> bytes:
    return batch[0] if len(batch) == 1 else b"[" + b",".join(batch) + b"]"
