"""Conversion between JSON values and compact JSON bytes for all packages, and repair of text that UTF-8 cannot encode. Pure.

A value always gives the same bytes. Object keys keep their insertion order; they are not sorted, because stored payloads are
shown as they were sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import (  # type: ignore[attr-defined]  # typeshed leaves the C part out
    c_make_encoder,
    encode_basestring,
    encode_basestring_ascii,
)
from math import isfinite
from typing import Final, NoReturn, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]


def _finite(literal: str) -> float:
    """Parse a float; 1e400 is refused, since the resulting infinity could not be written as JSON."""
    value = float(literal)
    if not isfinite(value):
        raise ValueError("a number is too large")
    return value


def _no_constant(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ASCII_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def _encoded(encoder: json.JSONEncoder) -> Callable[[object], str]:
    """A function like `encoder.encode`, but with one encoder in C for all calls.

    `encode` makes another one for each call, which takes three quarters of the time for a short answer.
    """
    if c_make_encoder is None:  # an interpreter without the C part
        return encoder.encode
    write = encode_basestring_ascii if encoder.ensure_ascii else encode_basestring
    pieces = c_make_encoder(
        None,
        encoder.default,
        write,
        None,
        encoder.key_separator,
        encoder.item_separator,
        False,
        False,
        encoder.allow_nan,
    )
    return lambda value: "".join(pieces(value, 0))


_encode: Final = _encoded(_ENCODER)
_encode_ascii: Final = _encoded(_ASCII_ENCODER)


def parse(data: bytes) -> Json:
    """Parse one JSON value.

    `raw_decode` takes a third of the time of `json.loads` on a chat message; JSON with surrounding whitespace, which the hub
    never stores, takes the slower path.

    Raises:
        ValueError: the data is not JSON or not UTF-8, or contains a number without a finite value.
        RecursionError: it is nested deeper than the interpreter's stack.
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

    If it contains a lone surrogate, which UTF-8 cannot encode, the whole value is written in ASCII with escapes.

    Raises:
        ValueError: it contains a number without a finite value.
        TypeError: it contains something that JSON cannot express.
    """
    try:
        return _encode(value).encode()
    except UnicodeEncodeError:
        return _encode_ascii(value).encode()


def weigh(value: Json, weight_max: int) -> tuple[int, int]:
    """The weight and the depth of a value: characters of text plus 8 for each node, and levels of nested containers.

    Walks level by level and stops beyond `weight_max`, so that no value exhausts time or the call stack.
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
    """The text with each surrogate pair joined into its character, and each lone surrogate replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def split_half(text: str) -> tuple[str, str]:
    """Split off a high surrogate at the end of the text, since the next piece may begin with its other half.

    Returns the text without it, and the surrogate or "".
    """
    return (text[:-1], text[-1]) if "\ud800" <= text[-1:] <= "\udbff" else (text, "")
