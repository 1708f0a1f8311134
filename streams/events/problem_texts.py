"""What is wrong with a field, in our own short sentences; each completes "<field> …". Pure.

pydantic's texts are not used: they are written for programmers, change between releases, and may repeat the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pydantic_core import ErrorDetails, PydanticCustomError

_OWN: Final = "rule"
_OTHERWISE: Final = "is not valid"
_TEXTS: Final[Mapping[str, str]] = MappingProxyType({
    "missing": "is required",
    "extra_forbidden": "has an unknown field",
    "string_type": "must be a string",
    "string_unicode": "must hold no lone surrogates",
    "string_too_long": "must be at most {max_length} characters",
    "string_too_short": "must be at least {min_length} characters",
    "string_pattern_mismatch": "has characters or a form that is not allowed",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "must be an integer of 64 bits",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be one of {expected}",
    "list_type": "must be a list",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "union_tag_not_found": "needs a type",
    "union_tag_invalid": "must be of type {expected_tags}",
})  # fmt: skip


def broken(text: str, **limits: int) -> PydanticCustomError:
    """The error that a rule of ours raises; `text` completes "<field> …" and names at most the limits."""
    return PydanticCustomError(_OWN, text, dict(limits))


def problem_text(detail: ErrorDetails) -> str:
    """The sentence for one error, with the limits that the declaration sets and nothing of the input."""
    if detail["type"] == _OWN:
        return detail["msg"]
    return _TEXTS.get(detail["type"], _OTHERWISE).format_map(detail.get("ctx", {}))
