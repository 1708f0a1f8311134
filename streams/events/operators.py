"""The payloads of operator.* (docs/events.md#operator): the uses of tokens with a scope, deleted channels, erasures. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import Direction, EventType, Payload
from streams.events.values import ChannelName, Count, Maybe, Name, Text64, Text128, Time

ERASED_KEYS_MAX = 100
"""Maximum keys in one record: a person gets another key only after an erasure."""
CHANNELS_MAX = 300
"""Maximum channels in one use: those of a handshake with 100 channels and 200 cursors."""


class OperatorCall(Payload):
    """A use of a token with a scope. It is stored before the call is answered."""

    scope: Literal["auditor", "operator"] = Field(description="The scope of the token.")
    call: Text128 = Field(
        description="The call: an HTTP method and the pattern of its path, or the type of a command.",
    )
    tenant: Maybe[Name] = Field(
        None, description="The tenant that the token belongs to; absent if it is the tenant of this channel."
    )
    channels: Maybe[Annotated[list[str], Field(max_length=CHANNELS_MAX)]] = Field(
        None, description="The channels that were asked for; absent if the call is about none."
    )


class ChannelDeletion(Payload):
    """A channel was deleted. It is stored before the last trace of the channel's events leaves Redis."""

    channel: ChannelName = Field(description="The channel that was deleted.")
    epoch: Text128 = Field(description="The epoch that ended with it.")
    seq: Count = Field(description="The seq of its newest event.")
    deleted_at: Time = Field(description="When subscribers lost it.")
    archived_to: Count = Field(description="The events up to this seq were archived; 0 if none were.")
    is_purged: bool = Field(description="The archived events were removed, too; their hashes stay in the archive.")
    files: Count = Field(description="Files that were deleted with it.")


class OperatorErasure(Payload):
    """A person was erased: the keys were destroyed by which the person's words were sealed."""

    subject: Text64 = Field(
        description="SHA-256 of the tenant, a line feed and the user, in hex: who knows the name can find the record."
    )
    keys: Annotated[list[Name], Field(max_length=ERASED_KEYS_MAX)] = Field(
        description="IDs of the destroyed keys, by which a restored backup of the store can be checked."
    )
    by: Text128 = Field(description="The operator who erased the person.")
    events: Count = Field(description="Events that can no longer be read.")
    channels: Count = Field(description="Channels that these events are in.")
    plain: Count = Field(description="Events of the person that are not sealed and can still be read.")


EVENTS: tuple[EventType, ...] = (
    EventType(
        name="operator.delete",
        model=ChannelDeletion,
        direction=Direction.OUT,
        lane=Lane.EVENTS,
        kinds=frozenset({Kind.SYSTEM}),
        summary="A channel was deleted.",
    ),
    EventType(
        name="operator.call",
        model=OperatorCall,
        direction=Direction.OUT,
        lane=Lane.EVENTS,
        kinds=frozenset({Kind.SYSTEM}),
        limit_bytes=65_536,
        summary="A token with a scope was used.",
    ),
    EventType(
        name="operator.erasure",
        model=OperatorErasure,
        direction=Direction.OUT,
        lane=Lane.EVENTS,
        kinds=frozenset({Kind.SYSTEM}),
        limit_bytes=16_384,
        summary="A person was erased.",
    ),
)
