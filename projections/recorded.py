"""A stored event as folds read it: names and values instead of bytes, in the newest version of its type. Pure.

`Entry` is for passing bytes on untouched; nothing here ever goes back on the wire.

Payloads were validated on arrival; one read back may be older, imported or damaged, so each field is checked
once more by the functions below, and only the fields in use: unknown ones are ignored. A null counts as absent.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, cast

from projections.errors import BrokenEvent
from streams.cursor import ms_of_id
from streams.envelope import Entry
from streams.events.upcast import UnreadableVersion, lift
from streams.json_bytes import Json, JsonObject, parse
from streams.times import milliseconds_of_text

_ACTORS_MAX = 16_384
"""Actors kept parsed: people write many events each. Smaller costs 1 µs an event, larger about 500 bytes an actor."""


class Recorded(NamedTuple):
    """One event; `seq` is 0 for a live entry, `v` is the version it was stored in.

    `actor` is shared between events and must not be changed.
    """

    id: str
    seq: int
    type: str
    v: int
    actor: JsonObject
    meta: JsonObject
    payload: JsonObject

    @property
    def at_ms(self) -> int:
        """The time it was appended, in milliseconds since 1970."""
        return ms_of_id(self.id)

    def item(self) -> JsonObject:
        """The payload as an item of a list in state, with its event and cause where needed."""
        own: JsonObject = {"id": self.id, "actor": self.actor}
        return own | self.payload | own


def recorded(entry: Entry) -> Recorded:
    """Read a stored entry and upgrade its payload to the newest version of its type.

    Raises:
        BrokenEvent: it is damaged; or a field is not JSON, not an object, or of a version this code does not know.
    """
    if entry.is_damaged:
        raise BrokenEvent(entry.id.decode(), "type unknown", "its bytes do not match their checksum")
    try:
        name, version = entry.type.decode(), int(entry.v)
        payload = _lifted(name, version, _object(entry.data))
        return Recorded(entry.id.decode(), entry.seq, name, version, _actor(entry.actor), _object(entry.meta), payload)
    except (ValueError, RecursionError, UnreadableVersion) as error:
        raise BrokenEvent(entry.id.decode(), entry.type.decode(), f"is not readable ({error})") from error


def _lifted(name: str, version: int, payload: JsonObject) -> JsonObject:
    """The payload in the newest version of its type (docs/protocol.md#versions)."""
    return cast("JsonObject", lift(name, version, cast("dict[str, object]", payload)))


def _object(data: bytes) -> JsonObject:
    """One JSON object; most entries have an empty `meta`, which needs no parser."""
    if data == b"{}":
        return {}
    value: Json = parse(data)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - what is wrong is the stored value, not a caller's type
    return value


@lru_cache(maxsize=_ACTORS_MAX)
def _actor(data: bytes) -> JsonObject:
    """The actor, parsed once and cached."""
    return _object(data)


def broken(event: Recorded, problem: str) -> BrokenEvent:
    """The error that describes the problem with this event."""
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


def actor_name(event: Recorded) -> str:
    """The actor in lists of people: a user's name, or `<kind>:<id>`, which no user's name can be."""
    kind, value = event.actor.get("kind"), event.actor.get("id")
    if isinstance(value, str):
        return value if kind == "user" else f"{kind}:{value}"
    raise broken(event, "actor.id must be a string")
