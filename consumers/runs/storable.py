"""What an agent gives, held against the catalogue before it is stored. Pure.

Agents are other people's code, and models write half of what they give. What the catalogue does not allow would be refused by
every reader of the log, for ever; so it is refused here, where somebody can still be told why.
"""

from __future__ import annotations

from typing import cast

from consumers.agents.agent import AgentFailed
from streams.events import CATALOGUE
from streams.events.validation import InvalidPayload, validate
from streams.json_bytes import JsonObject, parse, to_json


class Unstorable(Exception):
    """A payload is not what the catalogue declares; says which field, and what it must be."""


def storable_text(text: str, length_max: int) -> str:
    """The text without NUL and lone surrogates, and no longer than `length_max` code points."""
    return text[:length_max].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def storable(type_: str, payload: JsonObject) -> JsonObject:
    """The payload in plain JSON, as any reader will find it: tuples are lists, keys are text.

    Raises:
        Unstorable: it is no JSON, or not as declared.
    """
    try:
        plain = cast("JsonObject", parse(to_json(payload)))
        validate(CATALOGUE[type_], plain)
    except InvalidPayload as error:
        raise Unstorable(str(error)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise Unstorable(f"it cannot be written as JSON: {error}") from None
    return plain


def checked(type_: str, payload: JsonObject) -> JsonObject:
    """As `storable`, for what ends the run if it cannot be stored.

    Raises:
        AgentFailed: `bad_item`, with the field and what it must be.
    """
    try:
        return storable(type_, payload)
    except Unstorable as error:
        raise AgentFailed("bad_item", f"{type_}: {error}") from None
