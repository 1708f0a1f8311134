"""The live part of a channel's state (EVENTS 11): who types, points, reads, uploads, and how the members are. Pure.

A fold of the live lane's entries. Its clock is theirs: an entry is as old as its ID says. What has expired is dropped when
something of its kind is added; `projections.live_rendering` leaves it out when it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from projections.fields import broken, number, optional_text, optional_time_ms, text
from projections.open_messages import OpenMessages
from projections.presence import PRESENCE, Person
from projections.projection import Home, kind_of
from projections.recorded import Recorded
from streams.channel import Kind
from streams.errors import MalformedCursor
from streams.ids import id_order
from streams.json_bytes import JsonObject

CURSOR_LIFE_MS: Final = 600_000
"""A cursor that has not moved for ten minutes points at nothing anybody is looking at."""
UPLOAD_LIFE_MS: Final = 86_400_000
"""As long as an upload may be abandoned before it is reaped."""
PASSING_MAX: Final = 200
"""Of each kind, in one channel: people typing, cursors, members, uploads; the newest. A client may call itself anything, and each
name has a cursor of its own."""
READ_MARKERS_MAX: Final = 200
"""Readers shown; those who moved last (EVENTS 11)."""
_TYPING_MS_DEFAULT: Final = 6_000
UPLOAD_ORDER: Final = ("requested", "uploading", "verifying", "scanning")
"""The states of an open upload, in the order they come."""


@dataclass(frozen=True, slots=True)
class Passing:
    """Something that is over at a time, in ms since 1970; None is until further notice."""

    shown: JsonObject
    until_ms: int | None

    def is_over(self, now_ms: int) -> bool:
        """Whether its time has passed."""
        return self.until_ms is not None and self.until_ms <= now_ms


@dataclass(slots=True)
class Live:
    """What a channel's live lane adds up to. Each dict is by user, but cursors by user and client, uploads by ID."""

    kind: Kind
    people: dict[str, Person] = field(default_factory=dict)
    typing: dict[str, Passing] = field(default_factory=dict)
    cursors: dict[str, Passing] = field(default_factory=dict)
    members: dict[str, Passing] = field(default_factory=dict)
    uploads: dict[str, Passing] = field(default_factory=dict)
    read_markers: dict[str, str] = field(default_factory=dict)
    open: OpenMessages = field(default_factory=OpenMessages)


class LiveFold:
    """The projection of the live part. Events of the events lane may be folded too: answers end there."""

    name: Final = "live"
    version: Final = 1

    def initial(self, home: Home) -> Live:
        """Nobody, nothing."""
        return Live(kind_of(home))

    def apply(self, state: Live, event: Recorded) -> Live:
        """What is true after the event."""
        match event.type:
            case "channel.presence":
                _presence(state, event)
            case "channel.read":
                _read(state, event)
            case "chat.typing":
                _typing(state, event)
            case "document.cursor":
                _cursor(state, event)
            case "team.presence.update":
                _member(state, event)
            case "file.upload.progress":
                _upload(state, event)
            case _:
                state.open.apply(event)
        return state


LIVE: Final = LiveFold()


def _put(held: dict[str, Passing], name: str, item: Passing, now_ms: int) -> None:
    """Add as the newest, and drop what is over."""
    for over in [other for other, passing in held.items() if other == name or passing.is_over(now_ms)]:
        del held[over]
    held[name] = item
    if len(held) > PASSING_MAX:
        del held[next(iter(held))]


def _presence(state: Live, event: Recorded) -> None:
    """Who is there; whoever is gone types, points and is a member no more."""
    state.people = PRESENCE.apply(state.people, event)
    user = text(event, "user")
    if user not in state.people:
        state.typing.pop(user, None)
        state.members.pop(user, None)
        state.cursors = {name: held for name, held in state.cursors.items() if held.shown["user"] != user}


def _read(state: Live, event: Recorded) -> None:
    """How far a person has read. It never moves back."""
    user, up_to = text(event, "user"), text(event, "up_to")
    try:
        is_further = id_order(up_to) > id_order(state.read_markers.get(user, "0"))
    except MalformedCursor as error:
        raise broken(event, "up_to must be an event ID") from error
    if is_further:
        state.read_markers.pop(user, None)
        state.read_markers[user] = up_to
        if len(state.read_markers) > READ_MARKERS_MAX:
            del state.read_markers[next(iter(state.read_markers))]


def _typing(state: Live, event: Recorded) -> None:
    user, said = text(event, "user"), text(event, "state")
    ttl_ms = number(event, "ttl_ms") if "ttl_ms" in event.payload else _TYPING_MS_DEFAULT
    if said == "stop":
        state.typing.pop(user, None)
    else:
        _put(state.typing, user, Passing({"user": user}, event.at_ms + ttl_ms), event.at_ms)


def _cursor(state: Live, event: Recorded) -> None:
    user, client, colour = text(event, "user"), text(event, "client"), optional_text(event, "colour")
    shown: JsonObject = {"user": user, "client": client, "selection": event.payload.get("selection")}
    if colour is not None:
        shown["colour"] = colour
    _put(state.cursors, f"{user} {client}", Passing(shown, event.at_ms + CURSOR_LIFE_MS), event.at_ms)


def _member(state: Live, event: Recorded) -> None:
    """How a member is, until a time if one is said; one who is offline is not listed."""
    user, status, devices = text(event, "user"), text(event, "status"), number(event, "devices")
    message, until_ms = optional_text(event, "message"), optional_time_ms(event, "until")
    shown: JsonObject = {"user": user, "status": status}
    if message is not None:
        shown["message"] = message
    shown["devices"] = devices
    if status in {"offline", "invisible"}:
        state.members.pop(user, None)
    else:
        _put(state.members, user, Passing(shown, until_ms), event.at_ms)


def _upload(state: Live, event: Recorded) -> None:
    upload_id, user, stage = text(event, "upload_id"), text(event, "user"), text(event, "state")
    shown: JsonObject = {"upload_id": upload_id, "user": user, "sent": number(event, "sent")}
    shown |= {"total": number(event, "total"), "state": stage}
    if stage in UPLOAD_ORDER:
        _put(state.uploads, upload_id, Passing(shown, event.at_ms + UPLOAD_LIFE_MS), event.at_ms)
    else:
        state.uploads.pop(upload_id, None)
