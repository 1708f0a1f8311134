"""JSON as values and as compact bytes, for the whole tree, and text as UTF-8 can hold it. Pure.

One value built in one order gives one byte string. Keys keep the order they were built in (a payload's own order, or the
order a `render` writes them); they are not sorted, because stored payloads are shown as sent.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Final, NoReturn, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]


def _finite(literal: str) -> float:
    """A JSON float; 1e400 is refused, since its infinity could never be written back."""
    value = float(literal)
    if not isfinite(value):
        raise ValueError("a number is too large")
    return value


def _no_constant(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ASCII_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def parse(data: bytes) -> Json:
    """Read one JSON value.

    `raw_decode` takes a third of the time of `json.loads` on a chat message; only JSON with surrounding whitespace, which the
    hub never stores, needs the slower way.

    Raises:
        ValueError: not JSON, not UTF-8, or a number without a finite value.
        RecursionError: nested deeper than the interpreter's stack.
    """
    text = data.decode()
    try:
        value, end = _DECODER.raw_decode(text)
    except ValueError:
        end = -1
    if end != len(text):
        value = _DECODER.decode(text)
    parsed: Json = value
    return parsed


def to_json(value: object) -> bytes:
    """The value as compact JSON in UTF-8, keys in insertion order.

    A lone surrogate, which UTF-8 cannot write, causes the whole value to be written in ASCII with escapes.

    Raises:
        ValueError: it holds a number without a finite value.
        TypeError: it holds something that JSON cannot express.
    """
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        return _ASCII_ENCODER.encode(value).encode()


def weigh(value: Json, weight_max: int) -> tuple[int, int]:
    """The weight and the depth of a value: characters of text plus 8 for each node, and levels of nested containers.

    Walks level by level and stops beyond `weight_max`, so that no value exhausts our time or stack.
    """
    weight, depth = 0, 0
    level = [value]
    while level and weight <= weight_max:
        inside: list[Json] = []
        weight += 8 * len(level)
        is_deeper = False
        for node in level:
            if isinstance(node, str):
                weight += len(node)
            elif isinstance(node, dict):
                is_deeper, weight = True, weight + sum(map(len, node))
                inside.extend(node.values())
            elif isinstance(node, list):
                is_deeper = True
                inside.extend(node)
        depth += is_deeper
        level = inside
    return weight, depth


def joined(text: str) -> str:
    """The text with each pair of surrogates joined into its character, and each lone one replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def split_half(text: str) -> tuple[str, str]:
    """The text and the first half of a character at its end, if there is one: the next piece may bring the other."""
    return (text[:-1], text[-1]) if "\ud800" <= text[-1:] <= "\udbff" else (text, "")
