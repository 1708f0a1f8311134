"""Fields of a payload, read as the type a fold needs, or refused as a broken event. Pure.

Payloads were validated when they came in; what is read back may be older, imported or damaged, so each field is checked
once more, and only those that are used: what is unknown is passed over. A null counts as absent.
"""

from __future__ import annotations

from projections.errors import BrokenEvent
from projections.recorded import Recorded
from streams.json_bytes import Json, JsonObject
from streams.times import milliseconds_of_text


def broken(event: Recorded, problem: str) -> BrokenEvent:
    """The error that says what is wrong with this event."""
    return BrokenEvent(event.id, event.type, problem)


def text(event: Recorded, name: str) -> str:
    """A field that must be a string."""
    value = event.payload.get(name)
    if isinstance(value, str):
        return value
    raise broken(event, f"{name} must be a string")


def optional_text(event: Recorded, name: str) -> str | None:
    """A field that is a string or absent."""
    value = event.payload.get(name)
    if value is None or isinstance(value, str):
        return value
    raise broken(event, f"{name} must be a string")


def number(event: Recorded, name: str) -> int:
    """A field that must be a whole number."""
    value = event.payload.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise broken(event, f"{name} must be a whole number")


def optional_list(event: Recorded, name: str) -> list[Json] | None:
    """A field that is a list or absent."""
    value = event.payload.get(name)
    if value is None or isinstance(value, list):
        return value
    raise broken(event, f"{name} must be a list")


def object_field(event: Recorded, name: str) -> JsonObject:
    """A field that must be an object."""
    value = event.payload.get(name)
    if isinstance(value, dict):
        return value
    raise broken(event, f"{name} must be an object")


def optional_time_ms(event: Recorded, name: str) -> int | None:
    """A field that is an RFC 3339 time or absent, as milliseconds since 1970."""
    value = optional_text(event, name)
    if value is None:
        return None
    try:
        return milliseconds_of_text(value)
    except ValueError as error:
        raise broken(event, f"{name} must be an RFC 3339 time with its offset") from error


def actor_id(event: Recorded) -> str:
    """Who caused the event."""
    value = event.actor.get("id")
    if isinstance(value, str):
        return value
    raise broken(event, "actor.id must be a string")
