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
from streams.events.declaration import (
    ALL_KINDS,
    NO_CHANNEL,
    READABLE_KINDS,
    Action,
    Direction,
    EventType,
    Payload,
    broken,
)
from streams.events.values import Count, EventId, IdOrZero, Json8K, Maybe, Name, Start, Text64, Text128, Time

ChannelText = Annotated[str, Field(max_length=1024, examples=["conversation:42"])]
"""A channel name as a client sends it, not yet checked against the grammar."""
AccessList = Annotated[list[Name], Field(max_length=1000)] | None
"""The users on an access list."""
Rewind = Annotated[int, Field(ge=0, le=1000)]


class Subscription(Payload):
    """A channel to follow, and the position to start from."""

    channel: ChannelText = Field(description="Name of the channel, as `kind:name`.")
    after: Start = Field(
        "$", description='The cursor: all events after this ID are replayed; `"0"` replays everything, `"$"` nothing.'
    )
    seq: Maybe[Count] = Field(
        None,
        description="The `seq` of the cursor's event, by which the hub notices a missing event; absent if the client did "
        "not keep it.",
    )
    epoch: Maybe[Text64] = Field(
        None,
        description="The epoch that the cursor belongs to, by which the hub notices another stream; absent if the client "
        "did not keep it.",
    )
    rewind: Maybe[Rewind] = Field(
        None,
        description="Replays this many of the newest events instead of those after the cursor; absent: `after` decides.",
    )
    state: bool = Field(
        True, description="Includes the channel's state in the answer; after a gap it is always included."
    )
    presence: bool = Field(
        False, description="Asks for an event whenever somebody joins, leaves or changes their status."
    )


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

    after: IdOrZero = Field(description='ID of the last event that the client has; `"0"` if it has none.')
    seq: Maybe[Count] = Field(
        None,
        description="The `seq` of that event, by which the hub notices a missing event; absent if the client did not "
        "keep it.",
    )
    epoch: Maybe[Text64] = Field(
        None, description="The epoch of the stream that it came from; absent if the client did not keep it."
    )


class Mark(Payload):
    """A position in a stream: its head or its floor. An empty channel has "0" and 0."""

    id: IdOrZero = Field(description='ID of the event at this position; `"0"` before the first event.')
    seq: Count = Field(description="The `seq` of that event; 0 before the first event.")


class GapTold(Payload):
    """Events that the reader missed and that cannot be delivered. The range is null where it is unknown."""

    model_config = ConfigDict(title="Gap")

    reason: Literal["trimmed", "epoch_changed", "cursor_unknown", "too_far"] = Field(
        description="The cause: the events were removed from the log (`trimmed`), the stream is not the "
        "cursor's (`epoch_changed`), the log does not contain the cursor's event "
        "(`cursor_unknown`), or too many would have to be replayed (`too_far`)."
    )
    from_seq: Count | None = Field(description="The first `seq` that is missing; null if unknown.")
    to_seq: Count | None = Field(description="The last `seq` that is missing; null if unknown.")


class Presence(Payload):
    """One user's presence in a channel, over all devices."""

    user: str = Field(description="The user whose presence is described.")
    status: Literal["joined", "left", "active", "away", "dnd"] = Field(
        description="The status that the user set, or `joined` with the first device and `left` with the last one."
    )
    devices: Count = Field(description="Connections of this user that follow the channel, on all nodes; 0 with `left`.")


class StoredEvent(Payload):
    """A stored event in its wire form, for payloads that contain events."""

    id: EventId = Field(description="ID of the event; also the cursor after which a client resumes.")
    seq: Count = Field(description="Position of the event in its channel: 1, 2, 3 … without holes.")
    channel: str = Field(description="The channel that the event is in.")
    type: str = Field(description="The event type.")
    v: Count = Field(description="Version of the payload of this type.")
    actor: dict[str, str] = Field(
        description="The author: `kind` (`user`, `agent` or `system`), `id`, and `client` if the device gave its name."
    )
    payload: dict[str, object] = Field(description="The payload, as declared for this type.")
    meta: Maybe[dict[str, str]] = Field(
        None,
        description="Links to a command (`command`), to other events (`causation`, `correlation`) and to a trace "
        "(`traceparent`); absent if there are none.",
    )
    erased: Maybe[Literal[True]] = Field(
        None,
        description="True if a person was erased whose words it held; the payload is empty then. Absent otherwise.",
    )


class OpenState(Payload):
    """The state of one channel. The projections define its fields (`projections.channel_state`), so any field is allowed here."""

    model_config = ConfigDict(title="ChannelState", extra="allow")


class ChannelSubscribe(Payload):
    """Subscribes to channels; each gets an answer of its own."""

    channels: Annotated[list[SubscriptionItem], Field(min_length=1, max_length=100)] = Field(
        description="The channels to follow: names, or objects that say where to start."
    )


class ChannelSubscribed(Payload):
    """Announces the start of a subscription: a resume or a gap, the number of events replayed, and the state.

    The state is included if it was requested, or if a gap makes it necessary. The message is sent again, without `re`, if the log
    loses its continuity while the subscription is live.
    """

    epoch: Text64 = Field(
        description="Identity of the stream; it changes only if the log has lost events. Keep it with the cursor."
    )
    head: Mark = Field(description="The newest event.")
    floor: Mark = Field(description="The newest event that was removed from the log; replays start above it.")
    recovered: bool = Field(description="True if there is no gap: everything after the cursor follows.")
    replay: Count = Field(description="Number of events that follow before `channel.resumed`.")
    gap: GapTold | None = Field(description="The events that are missing; null if none are.")
    state: Maybe[OpenState] = Field(
        None, description="The channel's state; absent if it was not asked for and there is no gap."
    )
    state_scope: Maybe[Literal["live", "full"]] = Field(
        None,
        description="The part of the state that is included: only the live fields (`live`) or all fields "
        "(`full`); only for clients with the capability `live_state`.",
    )
    state_at: Count = Field(description="The `seq` of the last event contained in the state.")


class ChannelResumed(Payload):
    """The end of a replay: the range of events replayed, and any gap."""

    from_seq: Count | None = Field(description="The `seq` of the first replayed event; null if none was replayed.")
    to_seq: Count | None = Field(description="The `seq` of the last replayed event; null if none was replayed.")
    count: Count = Field(description="Number of events that were replayed.")
    gap: GapTold | None = Field(description="The events that are missing; null if none are.")


class ChannelUnsubscribe(Payload):
    """Unsubscribes from channels; each gets an answer of its own."""

    channels: Annotated[list[ChannelText], Field(min_length=1, max_length=100)] = Field(
        description="Names of the channels to leave."
    )


class ChannelUnsubscribed(Payload):
    """A subscription has ended, for the given reason."""

    channel: str = Field(description="The channel that is no longer followed.")
    reason: Literal["requested", "permission_denied", "too_far_behind", "deleted"] = Field(
        description="The cause: the client asked (`requested`), may no longer read it (`permission_denied`), "
        "reads too slowly (`too_far_behind`), or the channel was deleted (`deleted`)."
    )


class ChannelPresence(Payload):
    """The sender's status in this channel."""

    status: Literal["active", "away", "dnd"] = Field(
        description='The status to show to others: `dnd` is "do not disturb".'
    )


class ChannelHistory(Payload):
    """A page of the stored events: forwards from `after`, or backwards from `before`, within times and types."""

    after: Maybe[IdOrZero] = Field(
        None,
        description="Reads forwards: the events after this ID. Absent: from the beginning, unless `before` is given.",
    )
    before: Maybe[IdOrZero] = Field(
        None,
        description="Reads backwards: the nearest events before this ID; each page is still oldest first. Absent: reads "
        "forwards.",
    )
    from_time: Maybe[Time] = Field(None, description="Only events stored at or after this time; absent: no bound.")
    to_time: Maybe[Time] = Field(None, description="Only events stored at or before this time; absent: no bound.")
    types: Maybe[Annotated[list[Text128], Field(max_length=32)]] = Field(
        None, description="Only events of these types; a trailing `*` matches any ending. Absent: all types."
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(
        100, description="Maximum number of events to return; a page also ends at 4 MiB."
    )

    @model_validator(mode="after")
    def _one_direction(self) -> ChannelHistory:
        if self.after is not None and self.before is not None:
            raise broken("must have after or before, not both")
        return self


class HistoryPage(Payload):
    """Events in order, and the cursor for the next page; null on the last page."""

    events: list[StoredEvent] = Field(description="The events, oldest first.")
    next: EventId | None = Field(description="Cursor of the next page, for the same direction; null on the last page.")
    gap: GapTold | None = Field(description="The events that are missing before or between these; null if none are.")


class ChannelStateQuestion(Payload):
    """Asks for the channel's current state; the payload is empty."""


class ChannelStateAnswer(Payload):
    """The channel's state after the event with seq `state_at`, exactly."""

    epoch: Text64 = Field(description="Identity of the stream that the state was made from.")
    state: OpenState = Field(description="The channel's state, with its live fields as of now.")
    state_at: Count = Field(description="The `seq` of the last event contained in the state.")


class ChannelRead(Payload):
    """The sender has read everything up to this event."""

    up_to: EventId = Field(
        description="ID of the newest event that was read; an older one than before changes nothing."
    )


class ChannelReadDelivered(ChannelRead):
    """A read position as delivered: it includes the reader."""

    user: str = Field(description="The user who has read.")


class MembersChange(Payload):
    """Members to add and to remove; a user on both lists is removed."""

    add: Maybe[Annotated[list[Name], Field(max_length=1000)]] = Field(None, description="Users to add; absent: none.")
    remove: Maybe[Annotated[list[Name], Field(max_length=1000)]] = Field(
        None, description="Users to remove; absent: none."
    )


class AccessLists(Payload):
    """For each action, the users who may perform it if their tokens also allow it; null removes a list.

    Omitted actions keep theirs.
    """

    read: AccessList = Field(
        None, description="The users who may subscribe and read; null removes the list, absent keeps it."
    )
    write: AccessList = Field(None, description="The users who may write; null removes the list, absent keeps it.")
    invoke: AccessList = Field(
        None,
        description="The users who may start and steer runs and answer their questions; null removes the list, absent "
        "keeps it.",
    )
    upload: AccessList = Field(
        None, description="The users who may upload files; null removes the list, absent keeps it."
    )


class ChannelChanges(Payload):
    """Changes of a channel's settings. `metadata` is a merge patch (RFC 7396)."""

    metadata: Maybe[dict[Text128, Json8K]] = Field(
        None, description="Entries to set, or to remove with null; 8 KiB in all after the change. Absent: unchanged."
    )
    members: Maybe[MembersChange] = Field(
        None, description="Members to add and to remove, 1,000 at most after the change. Absent: unchanged."
    )
    access: Maybe[AccessLists] = Field(
        None, description="Access lists to set or to remove, 64 KiB in all. Absent: unchanged."
    )


class ChannelConfigure(ChannelChanges):
    """Changes the channel's settings, if they are still at `if_revision`."""

    if_revision: Maybe[Count] = Field(
        None,
        description="Makes the change only if the settings are at this revision, else it is refused with "
        "4021. Absent: always.",
    )

    @model_validator(mode="after")
    def _something(self) -> ChannelConfigure:
        if not self.model_fields_set - {"if_revision"}:
            raise broken("must have metadata, members or access")
        return self


class ChannelUpdated(Payload):
    """The channel after a change of its settings: the new revision and the changes."""

    revision: Count = Field(description="Revision of the settings after the change.")
    changes: ChannelChanges = Field(description="The changes, as requested.")
    by: Name = Field(description="The user who made the change.")


CONFIGURED = ALL_KINDS - {Kind.USER}
"""The kinds of channel that have settings: all but the inbox, which only its owner uses."""
_row = partial(EventType, rate="live", action=Action.READ)
_question = partial(_row, direction=Direction.IN, lane=Lane.CONNECTION, kinds=READABLE_KINDS)
_answer = partial(EventType, direction=Direction.OUT, lane=Lane.CONNECTION, kinds=READABLE_KINDS)

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
