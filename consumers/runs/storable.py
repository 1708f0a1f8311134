"""Checks payloads from agents against the catalogue before they are stored. Pure.

Agents are external code, and models write half of their payloads. An invalid payload in the log would be refused by every
reader for ever; so it is refused here, where the agent can still learn the reason.
"""

from __future__ import annotations

from typing import cast

from consumers.agents.agent import AgentFailed
from streams.events import CATALOGUE
from streams.events.validation import InvalidPayload, validate
from streams.json_bytes import JsonObject, joined, parse, to_json


class Unstorable(Exception):
    """A payload does not match the catalogue; the text has the field and the rule."""


def storable_text(text: str, length_max: int) -> str:
    """The text without NUL and lone surrogates, and no longer than `length_max` code points."""
    return joined(text)[:length_max].replace("\x00", "\ufffd")


def storable(type_: str, payload: JsonObject) -> JsonObject:
    """The payload as plain JSON, as readers will parse it: tuples become lists, keys become text.

    Raises:
        Unstorable: it cannot be written as JSON, or does not match the catalogue.
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
    """Like `storable`, for payloads without which the run cannot continue.

    Raises:
        AgentFailed: code `bad_item`, with the field and the rule.
    """
    try:
        return storable(type_, payload)
    except Unstorable as error:
        raise AgentFailed("bad_item", f"{type_}: {error}") from None
