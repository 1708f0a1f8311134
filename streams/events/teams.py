"""The payloads of team.* (docs/events.md#team): the activity feed, members' statuses, notifications. Pure."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import Action, Direction, EventType, Payload, broken
from streams.events.values import (
    Count,
    EventId,
    Link,
    Maybe,
    Text32,
    Text64,
    Text128,
    Text140,
    Text200,
    Text500,
    Text1000,
    Time,
)

Importance = Literal["low", "normal", "high"]


class TeamObject(Payload):
    """The subject of an activity."""

    type: Text32
    id: Text128
    title: Maybe[Text200] = None


class TeamActivity(Payload):
    """An activity of a user: a verb, its object, and a summary to display."""

    verb: Annotated[Text64, Field(min_length=1)]
    object: TeamObject
    target: Maybe[TeamObject] = None
    summary: Text500
    importance: Importance = "normal"


class TeamPresenceUpdate(Payload):
    """The sender's status; others receive `invisible` as `offline`."""

    status: Literal["online", "away", "busy", "offline", "invisible"]
    message: Maybe[Text140] = None
    until: Maybe[Time] = None


class TeamPresenceDelivered(Payload):
    """A member's status, over all devices."""

    status: Literal["online", "away", "busy", "offline"]
    message: Maybe[Text140] = None
    until: Maybe[Time] = None
    user: str
    devices: Count


class TeamNotification(Payload):
    """A notification to a team or a person, identified by its event ID; a later one with the same `collapse_key` replaces it."""

    kind: Text64
    title: Text140
    body: Maybe[Text1000] = None
    link: Maybe[Link] = None
    priority: Importance = "normal"
    expires_at: Maybe[Time] = None
    collapse_key: Maybe[Text64] = None


class TeamNotificationRead(Payload):
    """The owner of the inbox has read these notifications, or all up to `up_to`."""

    ids: Maybe[Annotated[list[EventId], Field(max_length=100)]] = None
    up_to: Maybe[EventId] = None

    @model_validator(mode="after")
    def _ids_or_up_to(self) -> TeamNotificationRead:
        if (self.ids is None) == (self.up_to is None):
            raise broken("must have either ids or up_to")
        return self


_row = partial(
    EventType,
    direction=Direction.BOTH,
    lane=Lane.EVENTS,
    kinds=frozenset({Kind.TEAM}),
    reply="ack",
    rate="command",
    ag_ui="CUSTOM",
)

EVENTS: tuple[EventType, ...] = (
    _row(
        name="team.activity",
        model=TeamActivity,
        action=Action.WRITE,
        is_wanted=True,
        summary="A person's activity, to show in the team's feed.",
    ),
    _row(
        name="team.presence.update",
        model=TeamPresenceUpdate,
        delivered=TeamPresenceDelivered,
        lane=Lane.LIVE,
        action=Action.WRITE,
        rate="live",
        errors=(4021,),
        needs_subscription=True,
        limit_bytes=16_384,
        summary="A member's status.",
    ),
    _row(
        name="team.notification",
        model=TeamNotification,
        kinds=frozenset({Kind.TEAM, Kind.USER}),
        action=Action.MANAGE,
        is_wanted=True,
        summary="A notification to a team or a person.",
    ),
    _row(
        name="team.notification.read",
        model=TeamNotificationRead,
        kinds=frozenset({Kind.USER}),
        action=Action.READ,
        results=("unread",),
        ag_ui=None,
        summary="Notifications were read.",
    ),
)
