"""Checks payloads of agents against the catalogue before they are stored. Pure.

Agents are other people's code, and models write half of their payloads. Every reader of the log would refuse an invalid payload for
ever; so it is refused here, where the agent can still be told the reason.
"""

from __future__ import annotations

from typing import cast

from consumers.agents.agent import AgentFailed
from streams.events import CATALOGUE
from streams.events.validation import InvalidPayload, validate
from streams.json_bytes import JsonObject, joined, parse, to_json


class Unstorable(Exception):
    """A payload does not match the catalogue; the text names the field and the rule."""


def storable_text(text: str, length_max: int) -> str:
    """The text without NUL and lone surrogates, and no longer than `length_max` code points."""
    return joined(text)[:length_max].replace("\x00", "\ufffd")


def storable(type_: str, payload: JsonObject) -> JsonObject:
    """The payload in plain JSON, as readers will find it: tuples are lists, keys are text.

    Raises:
        Unstorable: it is not JSON, or does not match the catalogue.
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
    """As `storable`, for payloads without which the run cannot continue.

    Raises:
        AgentFailed: `bad_item`, with the field and the rule.
    """
    try:
        return storable(type_, payload)
    except Unstorable as error:
        raise AgentFailed("bad_item", f"{type_}: {error}") from None
