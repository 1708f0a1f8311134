"""A subscription, a cursor and a gap: the values that connection.* and channel.* share (PROTOCOL 2 and 3). Pure.

The channel of a subscription is any text here: a malformed one is refused alone, with 4006, and not the whole command.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from streams.events.declaration import Payload
from streams.events.types import Count, EventId, Maybe, Position, Start, Text64

ChannelText = Annotated[str, Field(max_length=1024, examples=["conversation:42"])]
"""What a client calls a channel, before it is checked against the grammar."""
Rewind = Annotated[int, Field(ge=0, le=1000)]


class Subscription(Payload):
    """One channel to follow, and from where.

    Attributes:
        after: the cursor: everything after it is replayed; "0" replays all, "$" (the default) nothing.
        rewind: replay so many of the newest events instead.
        state: include the channel's state in the answer.
        presence: receive who joins and leaves.
    """

    channel: ChannelText
    after: Start = "$"
    seq: Maybe[Count] = None
    epoch: Maybe[Text64] = None
    rewind: Maybe[Rewind] = None
    state: bool = True
    presence: bool = False


class OpeningSubscription(Subscription):
    """A subscription within `connection.init`, where unknown fields are passed over."""

    model_config = ConfigDict(extra="ignore")


def _spelled_out(value: object) -> object:
    """A bare channel name is a subscription with every default."""
    return {"channel": value} if isinstance(value, str) else value


SubscriptionItem = Annotated[
    Subscription, BeforeValidator(_spelled_out, json_schema_input_type=Subscription | ChannelText)
]  # fmt: skip
"""A subscription, or only the channel's name. It is stored and read spelled out."""
OpeningItem = Annotated[
    OpeningSubscription, BeforeValidator(_spelled_out, json_schema_input_type=OpeningSubscription | ChannelText)
]  # fmt: skip


class Cursor(Payload):
    """Where a client stands in one channel. `seq` proves that nothing is missing, `epoch` the same stream."""

    model_config = ConfigDict(extra="ignore")

    after: Position
    seq: Maybe[Count] = None
    epoch: Maybe[Text64] = None


class Mark(Payload):
    """A place in a stream: the head, or the floor. Of an empty channel: "0" and 0."""

    id: Position
    seq: Count


class Gap(Payload):
    """What a reader misses and cannot be given. The range is null where it cannot be known."""

    reason: Literal["trimmed", "epoch_changed", "cursor_unknown", "too_far"]
    from_seq: Count | None
    to_seq: Count | None


class Presence(Payload):
    """One person in a channel, however many devices."""

    user: str
    status: Literal["joined", "left", "active", "away", "dnd"]
    devices: Count


class StoredEvent(Payload):
    """An event as it is on the wire, where a payload carries events (PROTOCOL 1)."""

    id: EventId
    seq: Count
    channel: str
    type: str
    v: Count
    actor: dict[str, str]
    payload: dict[str, object]
    meta: Maybe[dict[str, str]] = None
