"""The live part of a channel's state (docs/protocol.md#state): its fields, and a fold of the live lane. Pure.

The live lane carries typing indications and cursor positions. The fold takes the time from the entries' IDs. Expired entries
are dropped when another of the same kind is added, and omitted when the state is shown. Presence, members' statuses, uploads,
open answers and read markers are stored beside the log (`streams.records`), because the live lane keeps only recent entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from pydantic import Field

from projections.recorded import Recorded, number, optional_text, text
from streams.channel import Kind
from streams.events.declaration import Payload
from streams.events.values import Count, EventId, Maybe, MessageId, Ordinal, RunId
from streams.json_bytes import JsonObject

CURSOR_LIFE_MS: Final = 600_000
"""Lifetime of a cursor that does not move, in milliseconds: ten minutes."""
PASSING_MAX: Final = 200
"""Maximum number of typing indications, and of cursors, kept per channel; the oldest are dropped. The bound is needed because a
client chooses its own client ID, and each ID has a cursor of its own.
"""
_TYPING_MS_DEFAULT: Final = 6_000


class Person(Payload):
    """A person present in a channel, and the number of their devices."""

    user: str = Field(description="The user.")
    status: str = Field(description="The status that the user set; by default `active`.")
    devices: Count = Field(description="Connections of this user that follow the channel, on all nodes.")


class Member(Person):
    """A team member, with the optional message set beside the status."""

    message: Maybe[str] = Field(None, description="The text beside the status; absent if there is none.")


class UploadProgress(Payload):
    """The progress of an unfinished upload, in bytes."""

    upload_id: str = Field(description="ID of the upload.")
    user: str = Field(description="The user who uploads.")
    filename: Maybe[str] = Field(None, description="Name of the file; absent if it is not known yet.")
    sent: Count = Field(description="Bytes that were sent so far.")
    total: Count = Field(description="Size of the file, in bytes.")
    state: Literal["requested", "uploading", "verifying", "scanning", "ready", "failed"] = Field(
        description="State of the upload."
    )


class OpenMessage(Payload):
    """An answer in progress. `offset` is the length of `text` in code points, and thus the offset of the next delta to apply."""

    message_id: MessageId = Field(description="ID of the answer.")
    run_id: RunId = Field(description="ID of the run that writes it.")
    attempt: Ordinal = Field(description="The attempt that writes, from 1.")
    text: str = Field(description="The text so far.")
    offset: Count = Field(description="Code points of `text`: the offset of the next delta to apply.")
    reasoning: Maybe[str] = Field(
        None, description="The reasoning so far; absent if there is none, or without the capability `reasoning`."
    )
    reasoning_offset: Maybe[Count] = Field(None, description="Code points of `reasoning`; absent like it.")


class LiveStateFields(Payload):
    """The live fields of `ChannelState` of all kinds of channel; an inbox has none."""

    presence: Maybe[list[Person]] = Field(
        None, description="The people present, at most 200; absent if there are more."
    )
    presence_count: Maybe[Count] = Field(
        None, description="Number of people present, if they are more than 200; absent otherwise."
    )
    uploads: Maybe[list[UploadProgress]] = Field(None, description="The uploads that have not ended.")
    open_messages: Maybe[list[OpenMessage]] = Field(
        None, description="The answers that are being written; only in a conversation or an agent's channel."
    )
    typing: Maybe[list[str]] = Field(None, description="The users who are typing; only in a conversation.")
    read_markers: Maybe[dict[str, EventId]] = Field(
        None,
        description="For at most 200 users, the ID of the newest event that they have read; only in a conversation.",
    )
    members: Maybe[list[Member | str]] = Field(
        None, description="In a team, the members with their statuses; elsewhere, their names."
    )
    cursors: Maybe[list[dict[str, object]]] = Field(
        None,
        description="The cursors, each with `user`, `client`, `selection` and optionally `colour`; only in a document.",
    )


@dataclass(frozen=True, slots=True)
class Passing:
    """An entry that expires at `until_ms`, in milliseconds since 1970; None means never."""

    shown: JsonObject
    until_ms: int | None

    def is_over(self, now_ms: int) -> bool:
        """True if the entry has expired."""
        return self.until_ms is not None and self.until_ms <= now_ms


@dataclass(slots=True)
class Live:
    """The state folded from a channel's live lane. `typing` is keyed by user, `cursors` by user and client."""

    kind: Kind
    typing: dict[str, Passing] = field(default_factory=dict)
    cursors: dict[str, Passing] = field(default_factory=dict)

    def apply(self, event: Recorded) -> None:
        """Apply the event; types that are not in `LIVE_TYPES` change nothing.

        Raises:
            BrokenEvent: the payload violates its type's schema; the state is unchanged.
        """
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            handler(self, event)

    def render(self, now_ms: int) -> JsonObject:
        """The lane's fields of `ChannelState` at the time `now_ms`, by Redis's clock, which event IDs use."""
        match self.kind:
            case Kind.CONVERSATION:
                return {"typing": [held.shown["user"] for held in self.typing.values() if not held.is_over(now_ms)]}
            case Kind.DOCUMENT:
                return {"cursors": [held.shown for held in self.cursors.values() if not held.is_over(now_ms)]}
        return {}


def _put(held: dict[str, Passing], name: str, item: Passing, now_ms: int) -> None:
    """Add the item as the newest, and drop expired ones."""
    for over in [other for other, passing in held.items() if other == name or passing.is_over(now_ms)]:
        del held[over]
    held[name] = item
    if len(held) > PASSING_MAX:
        del held[next(iter(held))]


def _presence(state: Live, event: Recorded) -> None:
    """Remove the typing indication of a person who has left.

    Cursors are left to expire one by one, because another client of that person may just have joined.
    """
    user, devices = text(event, "user"), number(event, "devices")
    if devices < 1:
        state.typing.pop(user, None)


def _typing(state: Live, event: Recorded) -> None:
    user, now = text(event, "user"), text(event, "state")
    ttl_ms = number(event, "ttl_ms") if "ttl_ms" in event.payload else _TYPING_MS_DEFAULT
    if now == "stop":
        state.typing.pop(user, None)
    else:
        _put(state.typing, user, Passing({"user": user}, event.at_ms + ttl_ms), event.at_ms)


def _cursor(state: Live, event: Recorded) -> None:
    """Store the client's newest cursor; an update without a selection removes it."""
    user, client, colour = text(event, "user"), text(event, "client"), optional_text(event, "colour")
    selection = event.payload.get("selection")
    if selection is None:
        state.cursors.pop(f"{user} {client}", None)
        return
    shown: JsonObject = {"user": user, "client": client, "selection": selection}
    if colour is not None:
        shown["colour"] = colour
    _put(state.cursors, f"{user} {client}", Passing(shown, event.at_ms + CURSOR_LIFE_MS), event.at_ms)


_HANDLERS: Final[Mapping[str, Callable[[Live, Recorded], None]]] = MappingProxyType(
    {
        "channel.presence": _presence,
        "chat.typing": _typing,
        "document.cursor": _cursor,
    }
)
LIVE_TYPES: Final = frozenset(name.encode() for name in _HANDLERS)
"""The event types of the live lane that change the state, as bytes."""
