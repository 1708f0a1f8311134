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

    type: Text32 = Field(description="Kind of the object, in the application's words, such as `issue`.")
    id: Text128 = Field(description="ID of the object in the application.")
    title: Maybe[Text200] = Field(None, description="Title to show; absent if it has none.")


class TeamActivity(Payload):
    """An activity of a user: a verb, its object, and a summary to display."""

    verb: Annotated[Text64, Field(min_length=1)] = Field(
        description="The user's action, in the application's words, such as `closed`."
    )
    object: TeamObject = Field(description="The object of the action.")
    target: Maybe[TeamObject] = Field(
        None,
        description="The context of the action, such as the project of an issue; absent if there is none.",
    )
    summary: Text500 = Field(description="The activity as a sentence, for people.")
    importance: Importance = Field("normal", description="Importance; `high` also notifies each member.")


class TeamPresenceUpdate(Payload):
    """The sender's status; others receive `invisible` as `offline`."""

    status: Literal["online", "away", "busy", "offline", "invisible"] = Field(
        description="The status to show to others."
    )
    message: Maybe[Text140] = Field(None, description="A short text beside the status; absent: none.")
    until: Maybe[Time] = Field(
        None,
        description="Time at which the status ends; absent: it ends when the member's last device leaves the channel. "
        "Without a subscription it is required, and at most five minutes ahead.",
    )


class TeamPresenceDelivered(Payload):
    """A member's status, over all devices."""

    status: Literal["online", "away", "busy", "offline"] = Field(
        description="The member's status; `offline` also for those who are invisible."
    )
    message: Maybe[Text140] = Field(None, description="The text beside the status; absent if there is none.")
    until: Maybe[Time] = Field(None, description="Time at which the status ends; absent if it has no end of its own.")
    user: str = Field(description="The member whose status is described.")
    devices: Count = Field(description="Connections of this member that follow the channel, on all nodes.")


class TeamNotification(Payload):
    """A notification to a team or a person, identified by its event ID; a later one with the same `collapse_key` replaces it."""

    kind: Text64 = Field(description="Kind of the notification, in the application's words, such as `mention`.")
    title: Text140 = Field(description="The notification in one line.")
    body: Maybe[Text1000] = Field(None, description="Further text; absent if there is none.")
    link: Maybe[Link] = Field(
        None, description="The link of the notification: an http or https URL, or a path; absent if there is none."
    )
    priority: Importance = Field("normal", description="Priority, for clients that sort or filter.")
    expires_at: Maybe[Time] = Field(None, description="Time after which it is no longer shown; absent: never.")
    collapse_key: Maybe[Text64] = Field(
        None, description="Replaces an earlier notification with the same key; absent: replaces none."
    )


class TeamNotificationRead(Payload):
    """The owner of the inbox has read these notifications, or all up to `up_to`."""

    ids: Maybe[Annotated[list[EventId], Field(max_length=100)]] = Field(
        None, description="IDs of the notifications that were read: those of their events; absent if `up_to` is given."
    )
    up_to: Maybe[EventId] = Field(
        None, description="Marks all notifications up to this event as read; absent if `ids` is given."
    )

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
        personal=(),
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
        personal=(),
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
