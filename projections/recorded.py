"""A stored event in the form that folds read: parsed values, in the newest version of its type. Pure.

`streams.envelope.Entry` holds the same event as bytes to be passed on; a `Recorded` is never sent.

Payloads were validated when they arrived, but a stored one may be older, imported or damaged. So the functions below check each
field again when it is used; unused and unknown fields are ignored. A null counts as absent.
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
"""Maximum number of parsed actors that are cached, since one person writes many events. A smaller cache costs 1 µs per event, a
larger one about 500 bytes per actor.
"""


class Recorded(NamedTuple):
    """One event; `seq` is 0 for an entry of the live lane, `v` is the version in which it was stored.

    `actor` is shared between events and must not be changed. `sealed_for` has the IDs of the keys by which the payload is sealed
    in the log. If the event was erased (`is_erased`), the payload is empty.
    """

    id: str
    seq: int
    type: str
    v: int
    actor: JsonObject
    meta: JsonObject
    payload: JsonObject
    sealed_for: tuple[str, ...] = ()
    is_erased: bool = False

    @property
    def at_ms(self) -> int:
        """The time at which it was appended, in milliseconds since 1970."""
        return ms_of_id(self.id)

    def item(self) -> JsonObject:
        """The payload as an item of a list in the state, with the event's ID and actor."""
        own: JsonObject = {"id": self.id, "actor": self.actor}
        return own | self.payload | own


def recorded(entry: Entry) -> Recorded:
    """Parse a stored entry and upgrade its payload to the newest version of its type.

    Raises:
        BrokenEvent: the entry is damaged, a field is not a JSON object, or its version is unknown.
    """
    if entry.is_damaged:
        raise BrokenEvent(entry.id.decode(), "type unknown", "its bytes do not match their checksum")
    try:
        name, version = entry.type.decode(), int(entry.v)
        payload = {} if entry.is_erased else _lifted(name, version, _object(entry.data))
        actor, meta = _actor(entry.actor), _object(entry.meta)
        return Recorded(
            entry.id.decode(), entry.seq, name, version, actor, meta, payload, entry.sealed_for, entry.is_erased
        )
    except (ValueError, RecursionError, UnreadableVersion) as error:
        raise BrokenEvent(entry.id.decode(), entry.type.decode(), f"is not readable ({error})") from error


def _lifted(name: str, version: int, payload: JsonObject) -> JsonObject:
    """The payload in the newest version of its type (docs/protocol.md#versions)."""
    return cast("JsonObject", lift(name, version, cast("dict[str, object]", payload)))


def _object(data: bytes) -> JsonObject:
    """Parse one JSON object; most entries have an empty `meta`, which needs no parser."""
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
    """Build the error for a problem with this event."""
    return BrokenEvent(event.id, event.type, problem)


def text(event: Recorded, name: str) -> str:
    """The value of a field that must be a string."""
    value = event.payload.get(name)
    if isinstance(value, str):
        return value
    raise broken(event, f"{name} must be a string")


def optional_text(event: Recorded, name: str) -> str | None:
    """The value of a field that must be a string or absent."""
    value = event.payload.get(name)
    if value is None or isinstance(value, str):
        return value
    raise broken(event, f"{name} must be a string")


def number(event: Recorded, name: str) -> int:
    """The value of a field that must be an integer."""
    value = event.payload.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise broken(event, f"{name} must be a whole number")


def optional_list(event: Recorded, name: str) -> list[Json] | None:
    """The value of a field that must be a list or absent."""
    value = event.payload.get(name)
    if value is None or isinstance(value, list):
        return value
    raise broken(event, f"{name} must be a list")


def object_field(event: Recorded, name: str) -> JsonObject:
    """The value of a field that must be an object."""
    value = event.payload.get(name)
    if isinstance(value, dict):
        return value
    raise broken(event, f"{name} must be an object")


def optional_time_ms(event: Recorded, name: str) -> int | None:
    """The value of a field that must be an RFC 3339 time or absent, in milliseconds since 1970."""
    value = optional_text(event, name)
    if value is None:
        return None
    try:
        return milliseconds_of_text(value)
    except ValueError as error:
        raise broken(event, f"{name} must be an RFC 3339 time with its offset") from error


def actor_name(event: Recorded) -> str:
    """The actor's name in lists of people: a user's name, or `<kind>:<id>`, which cannot be the name of a user."""
    kind, value = event.actor.get("kind"), event.actor.get("id")
    if isinstance(value, str):
        return value if kind == "user" else f"{kind}:{value}"
    raise broken(event, "actor.id must be a string")
