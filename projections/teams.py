"""A team's feed of activities, and a person's inbox of unread notifications. Pure.

Presence is not part of it, because it is live. Notifications that were read leave the state but stay in the log. The fold takes
the time from the log: an unread notification is dropped when an event later than its `expires_at` is folded, so every fold of
the same events drops the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydantic import Field

from projections.projection import Dumped, Home, Lists, Projection, items_of
from projections.recorded import Recorded, broken, object_field, optional_list, optional_text, optional_time_ms, text
from streams.cursor import id_order
from streams.errors import MalformedCursor
from streams.events.declaration import Payload
from streams.events.values import Count, Maybe
from streams.json_bytes import Json, JsonObject

ACTIVITIES_MAX: Final = 50
"""Maximum number of activities in the state (docs/protocol.md#state); `channel.history` returns older ones."""
SHOWN_MAX: Final = 100
"""Maximum number of unread notifications in the state (docs/protocol.md#state): the newest ones."""
UNREAD_MAX: Final = 5_000
"""Maximum number of unread notifications kept and counted in `unread`; beyond it the oldest are dropped. One takes about 300
bytes in a snapshot.
"""


class FeedFields(Payload):
    """The field of `ChannelState` for a team's feed."""

    activities: Maybe[list[dict[str, object]]] = Field(
        None,
        description="The newest activities, at most 50, oldest first: each is its payload with the event's `id` and "
        "`actor`; only in a team.",
    )


class InboxFields(Payload):
    """The fields of `ChannelState` for an inbox."""

    notifications: Maybe[list[dict[str, object]]] = Field(
        None,
        description="The newest unread notifications, at most 100: each is its payload with the event's `id` and "
        "`actor`; only in an inbox.",
    )
    unread: Maybe[Count] = Field(None, description="Number of unread notifications; only in an inbox.")


@dataclass(slots=True)
class Feed:
    """The newest activities, oldest first: each is the payload with the event's `id` and `actor`."""

    activities: list[JsonObject] = field(default_factory=list)


def _activity(state: Feed, event: Recorded) -> None:
    text(event, "verb"), object_field(event, "object")
    state.activities.append(event.item())
    del state.activities[:-ACTIVITIES_MAX]


def _initial_feed(_home: Home) -> Feed:
    return Feed()


def _render_feed(_state: Feed) -> JsonObject:
    return {}


def _feed_lists(state: Feed) -> Lists:
    return {"activities": items_of(state.activities)}


def _dump_feed(state: Feed) -> Json:
    return [*state.activities]


def _load_feed(_home: Home, value: Dumped) -> Feed:
    return Feed([*value])


TEAMS: Final = Projection(
    name="teams",
    version=1,
    model=FeedFields,
    initial=_initial_feed,
    handlers={"team.activity": _activity},
    render=_render_feed,
    dump=_dump_feed,
    load=_load_feed,
    lists=_feed_lists,
)
"""The fold that provides `activities` of teams."""


@dataclass(frozen=True, slots=True)
class Notification:
    """An unread notification: its payload with the event's `id` and `actor`, and its expiry in milliseconds since 1970."""

    shown: JsonObject
    collapse_key: str | None
    expires_at_ms: int | None


@dataclass(slots=True)
class Inbox:
    """Unread notifications by event ID, oldest first.

    Attributes:
        by_key: collapse key → the ID of the only unread notification with that key.
        next_expiry_ms: the earliest expiry, so that most events need not check the others.
    """

    unread: dict[str, Notification] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    next_expiry_ms: int | None = field(default=None, compare=False)

    def add(self, event_id: str, item: Notification) -> None:
        """Add a notification, which replaces an unread one with the same collapse key."""
        if item.collapse_key is not None:
            self.remove(self.by_key.get(item.collapse_key, ""))
            self.by_key[item.collapse_key] = event_id
        self.unread[event_id] = item
        if item.expires_at_ms is not None:
            self.next_expiry_ms = min(item.expires_at_ms, self.next_expiry_ms or item.expires_at_ms)
        if len(self.unread) > UNREAD_MAX:
            self.remove(next(iter(self.unread)))

    def remove(self, event_id: str) -> None:
        """Remove a notification that was read, replaced, or has expired; an unknown ID changes nothing."""
        item = self.unread.pop(event_id, None)
        if item is not None and item.collapse_key is not None:
            del self.by_key[item.collapse_key]

    def expire(self, at_ms: int) -> None:
        """Drop the notifications that have expired by `at_ms`."""
        if self.next_expiry_ms is None or at_ms < self.next_expiry_ms:
            return
        timed = [(name, item.expires_at_ms) for name, item in self.unread.items() if item.expires_at_ms is not None]
        for name, expires_at_ms in timed:
            if expires_at_ms <= at_ms:
                self.remove(name)
        self.next_expiry_ms = min((expiry for _, expiry in timed if expiry > at_ms), default=None)


def _notification(state: Inbox, event: Recorded) -> None:
    text(event, "title")
    collapse_key, expires_at_ms = optional_text(event, "collapse_key"), optional_time_ms(event, "expires_at")
    state.expire(event.at_ms)
    if expires_at_ms is None or expires_at_ms > event.at_ms:
        state.add(event.id, Notification(event.item(), collapse_key, expires_at_ms))


def _read(state: Inbox, event: Recorded) -> None:
    """Remove the notifications that were read: those listed, or all up to one."""
    ids, up_to = optional_list(event, "ids"), optional_text(event, "up_to")
    read = [name for name in ids or () if isinstance(name, str)]
    if up_to is not None:
        limit = _order(event, up_to)
        read += [name for name in state.unread if id_order(name) <= limit]
    for name in read:
        state.remove(name)
    state.expire(event.at_ms)


def _order(event: Recorded, event_id: str) -> tuple[int, int]:
    try:
        return id_order(event_id)
    except MalformedCursor as error:
        raise broken(event, "up_to must be an event ID") from error


def _initial_inbox(_home: Home) -> Inbox:
    return Inbox()


def _render_inbox(state: Inbox) -> JsonObject:
    return {"unread": len(state.unread)}


def _inbox_lists(state: Inbox) -> Lists:
    newest = list(state.unread.values())[-SHOWN_MAX:]
    return {"notifications": items_of([item.shown for item in newest])}


def _dump_inbox(state: Inbox) -> Json:
    return [[item.shown, item.collapse_key, item.expires_at_ms] for item in state.unread.values()]


def _load_inbox(_home: Home, value: Dumped) -> Inbox:
    items = [Notification(*fields) for fields in value]
    unread = {str(item.shown["id"]): item for item in items}
    by_key = {item.collapse_key: name for name, item in unread.items() if item.collapse_key is not None}
    expiries = [item.expires_at_ms for item in items if item.expires_at_ms is not None]
    return Inbox(unread, by_key, min(expiries, default=None))


NOTIFICATIONS: Final = Projection(
    name="notifications",
    version=1,
    model=InboxFields,
    initial=_initial_inbox,
    handlers={"team.notification": _notification, "team.notification.read": _read},
    render=_render_inbox,
    dump=_dump_inbox,
    load=_load_inbox,
    lists=_inbox_lists,
)
"""The fold that provides `notifications` and `unread` of a person's inbox."""
