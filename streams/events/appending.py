"""Payloads that the hub itself appends, held against the catalogue as a client's are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.channel import Channel
from streams.events import CATALOGUE
from streams.events.declaration import EventType
from streams.events.validation import FieldProblem, InvalidPayload, validate
from streams.json_bytes import parse, to_json


def appendable(channel: Channel, type_: str, payload: Mapping[str, Any]) -> tuple[EventType, bytes]:
    """The declaration of an event and its payload as JSON, as every reader of this channel will accept it.

    Raises:
        InvalidPayload: the type is unknown or not for this kind of channel, or the payload is not what it declares.
    """
    event = CATALOGUE.get(type_)
    if event is None:
        raise InvalidPayload((FieldProblem("type", "is not in the catalogue"),))
    if channel.kind not in event.kinds:
        raise InvalidPayload((FieldProblem("type", f"is not for a channel of kind {channel.kind.value}"),))
    try:
        plain = parse(to_json(payload))  # as readers find it: tuples are lists, keys are text
    except (TypeError, ValueError, RecursionError):
        raise InvalidPayload((FieldProblem("payload", "cannot be written as JSON"),)) from None
    if not isinstance(plain, dict):
        raise InvalidPayload((FieldProblem("payload", "must be an object"),))
    _, data = validate(event, plain, event.delivered)
    if len(data) > event.limit_bytes:
        raise InvalidPayload((FieldProblem("payload", f"must be at most {event.limit_bytes} bytes"),))
    return event, data
