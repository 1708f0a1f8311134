"""The payloads of channel.* (docs/events.md#channel): subscriptions, resumes, history, state, presence. Pure.

A subscription accepts any text as its channel, so that a malformed one is refused by itself, with 4006, and the rest of the
command is carried out.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import ALL_KINDS, NO_CHANNEL, Action, Direction, EventType, Payload, broken
from streams.events.values import Count, EventId, IdOrZero, Json8K, Maybe, Name, Start, Text64, Text128, Time

ChannelText = Annotated[str, Field(max_length=1024, examples=["conversation:42"])]
"""A channel name as a client sends it, not yet checked against the grammar."""
AccessList = Annotated[list[Name], Field(max_length=1000)] | None
"""The users on an access list."""
Rewind = Annotated[int, Field(ge=0, le=1000)]


class Subscription(Payload):
    """A channel to follow, and the position to start from.

    Attributes:
        after: the cursor: everything after it is replayed; "0" replays all, "$" (the default) nothing.
        rewind: replay this many of the newest events instead.
        state: include the channel's state in the answer.
        presence: receive an event when a user joins, leaves or changes status.
    """

    channel: ChannelText
    after: Start = "$"
    seq: Maybe[Count] = None
    epoch: Maybe[Text64] = None
    rewind: Maybe[Rewind] = None
    state: bool = True
    presence: bool = False


class OpeningSubscription(Subscription):
    """A subscription within `connection.init`, where unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


def _spelled_out(value: object) -> object:
    """Expand a bare channel name into a subscription with default options."""
    return {"channel": value} if isinstance(value, str) else value


SubscriptionItem = Annotated[
    Subscription, BeforeValidator(_spelled_out, json_schema_input_type=Subscription | ChannelText)
]
"""A subscription, or just the name of a channel, which is expanded into a subscription."""
OpeningItem = Annotated[
    OpeningSubscription, BeforeValidator(_spelled_out, json_schema_input_type=OpeningSubscription | ChannelText)
]


class CursorGiven(Payload):
    """A client's position in one channel. `seq` proves that no event is missing, `epoch` that the stream is still the same."""

    model_config = ConfigDict(extra="ignore", title="Cursor")

    after: IdOrZero
    seq: Maybe[Count] = None
    epoch: Maybe[Text64] = None


class Mark(Payload):
    """A position in a stream: its head or its floor. An empty channel has "0" and 0."""

    id: IdOrZero
    seq: Count


class GapTold(Payload):
    """Events that the reader missed and that cannot be delivered. The range is null where it is unknown."""

    model_config = ConfigDict(title="Gap")

    reason: Literal["trimmed", "epoch_changed", "cursor_unknown", "too_far"]
    from_seq: Count | None
    to_seq: Count | None


class Presence(Payload):
    """One user's presence in a channel, over all devices."""

    user: str
    status: Literal["joined", "left", "active", "away", "dnd"]
    devices: Count


class StoredEvent(Payload):
    """A stored event in its wire form, for payloads that contain events."""

    id: EventId
    seq: Count
    channel: str
    type: str
    v: Count
    actor: dict[str, str]
    payload: dict[str, object]
    meta: Maybe[dict[str, str]] = None


class OpenState(Payload):
    """The state of one channel. The projections define its fields (`projections.channel_state`), so any field is allowed here."""

    model_config = ConfigDict(title="ChannelState", extra="allow")


class ChannelSubscribe(Payload):
    """Subscribes to channels; each gets an answer of its own."""

    channels: Annotated[list[SubscriptionItem], Field(min_length=1, max_length=100)]


class ChannelSubscribed(Payload):
    """Announces the start of a subscription: a resume or a gap, the number of events replayed, and the state.

    The state is included if it was requested, or if a gap makes it necessary. The message is sent again, without `re`, if the log
    loses its continuity while the subscription is live.
    """

    epoch: Text64
    head: Mark
    floor: Mark
    recovered: bool
    replay: Count
    gap: GapTold | None
    state: Maybe[OpenState] = None
    state_scope: Maybe[Literal["live", "full"]] = None
    state_at: Count


class ChannelResumed(Payload):
    """The end of a replay: the range of events replayed, and any gap."""

    from_seq: Count | None
    to_seq: Count | None
    count: Count
    gap: GapTold | None


class ChannelUnsubscribe(Payload):
    """Unsubscribes from channels; each gets an answer of its own."""

    channels: Annotated[list[ChannelText], Field(min_length=1, max_length=100)]


class ChannelUnsubscribed(Payload):
    """A subscription has ended, for the given reason."""

    channel: str
    reason: Literal["requested", "permission_denied", "too_far_behind", "deleted"]


class ChannelPresence(Payload):
    """The sender's status in this channel."""

    status: Literal["active", "away", "dnd"]


class ChannelHistory(Payload):
    """A page of the stored events: forwards from `after`, or backwards from `before`, within times and types."""

    after: Maybe[IdOrZero] = None
    before: Maybe[IdOrZero] = None
    from_time: Maybe[Time] = None
    to_time: Maybe[Time] = None
    types: Maybe[Annotated[list[Text128], Field(max_length=32)]] = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    @model_validator(mode="after")
    def _one_direction(self) -> ChannelHistory:
        if self.after is not None and self.before is not None:
            raise broken("must have after or before, not both")
        return self


class HistoryPage(Payload):
    """Events in order, and the cursor for the next page; null on the last page."""

    events: list[StoredEvent]
    next: EventId | None
    gap: GapTold | None


class ChannelStateQuestion(Payload):
    """Asks for the channel's current state; the payload is empty."""


class ChannelStateAnswer(Payload):
    """The channel's state after the event with seq `state_at`, exactly."""

    epoch: Text64
    state: OpenState
    state_at: Count


class ChannelRead(Payload):
    """The sender has read everything up to this event."""

    up_to: EventId


class ChannelReadDelivered(ChannelRead):
    """A read position as delivered: it includes the reader."""

    user: str


class MembersChange(Payload):
    """Members to add and to remove; a user on both lists is removed."""

    add: Maybe[Annotated[list[Name], Field(max_length=1000)]] = None
    remove: Maybe[Annotated[list[Name], Field(max_length=1000)]] = None


class AccessLists(Payload):
    """For each action, the users who may perform it if their tokens also allow it; null removes a list.

    Omitted actions keep theirs.
    """

    read: AccessList = None
    write: AccessList = None
    invoke: AccessList = None
    upload: AccessList = None


class ChannelChanges(Payload):
    """Changes of a channel's settings. `metadata` is a merge patch (RFC 7396)."""

    metadata: Maybe[dict[Text128, Json8K]] = None
    members: Maybe[MembersChange] = None
    access: Maybe[AccessLists] = None


class ChannelConfigure(ChannelChanges):
    """Changes the channel's settings, if they are still at `if_revision`."""

    if_revision: Maybe[Count] = None

    @model_validator(mode="after")
    def _something(self) -> ChannelConfigure:
        if not self.model_fields_set - {"if_revision"}:
            raise broken("must have metadata, members or access")
        return self


class ChannelUpdated(Payload):
    """The channel after a change of its settings: the new revision and the changes."""

    revision: Count
    changes: ChannelChanges
    by: Name


CONFIGURED = ALL_KINDS - {Kind.USER}
"""The kinds of channel that have settings: all but the inbox, which only its owner uses."""
_row = partial(EventType, rate="live", action=Action.READ)
_question = partial(_row, direction=Direction.IN, lane=Lane.CONNECTION)
_answer = partial(EventType, direction=Direction.OUT, lane=Lane.CONNECTION, kinds=ALL_KINDS)

EVENTS: tuple[EventType, ...] = (
    _question(
        name="channel.subscribe",
        model=ChannelSubscribe,
        kinds=NO_CHANNEL,
        reply="channel.subscribed",
        rate="subscribe",
        errors=(4006, 4015),
        ag_ui="run join",
        summary="Follow channels, each from a cursor.",
    ),
    _answer(
        name="channel.subscribed",
        model=ChannelSubscribed,
        ag_ui="STATE_SNAPSHOT + MESSAGES_SNAPSHOT",
        summary="The channel is followed; replay comes next.",
    ),
    _answer(name="channel.resumed", model=ChannelResumed, summary="The replay is complete; live events come next."),
    _answer(name="channel.unsubscribed", model=ChannelUnsubscribed, summary="The channel is no longer followed."),
    _question(
        name="channel.unsubscribe",
        model=ChannelUnsubscribe,
        kinds=NO_CHANNEL,
        reply="channel.unsubscribed",
        rate="subscribe",
        action=None,
        errors=(4006,),
        summary="Leave channels.",
    ),
    _row(
        name="channel.presence",
        model=ChannelPresence,
        delivered=Presence,
        direction=Direction.BOTH,
        lane=Lane.LIVE,
        reply="ack",
        action=Action.WRITE,
        errors=(4021,),
        needs_subscription=True,
        ag_ui="CUSTOM",
        limit_bytes=16_384,
        summary="A person's status, sent to subscriptions with presence.",
    ),
    _question(
        name="channel.history",
        model=ChannelHistory,
        reply="channel.history",
        reply_model=HistoryPage,
        rate="history",
        summary="A page of the stored events.",
    ),
    _question(
        name="channel.state",
        model=ChannelStateQuestion,
        reply="channel.state",
        reply_model=ChannelStateAnswer,
        rate="history",
        ag_ui="STATE_SNAPSHOT + MESSAGES_SNAPSHOT",
        summary="The channel's current state.",
    ),
    _row(
        name="channel.configure",
        model=ChannelConfigure,
        direction=Direction.BOTH,
        lane=Lane.EVENTS,
        kinds=CONFIGURED,
        reply="ack",
        action=Action.MANAGE,
        rate="command",
        results=("revision",),
        errors=(4021,),
        is_wanted=True,
        limit_bytes=65_536,
        summary="Changes the channel's metadata, members and access lists.",
    ),
    _row(
        name="channel.updated",
        model=ChannelUpdated,
        direction=Direction.OUT,
        lane=Lane.EVENTS,
        kinds=CONFIGURED,
        action=None,
        rate=None,
        summary="The channel's settings have changed.",
    ),
    _row(
        name="channel.read",
        model=ChannelRead,
        delivered=ChannelReadDelivered,
        direction=Direction.BOTH,
        lane=Lane.LIVE,
        reply="ack",
        errors=(4018,),
        ag_ui="CUSTOM",
        limit_bytes=16_384,
        summary="A person has read up to here.",
    ),
)
