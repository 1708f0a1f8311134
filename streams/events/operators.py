"""The payload of operator.* (docs/events.md#operator): the uses of tokens with a scope. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import Direction, EventType, Payload
from streams.events.values import Maybe, Name, Text128

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


EVENTS: tuple[EventType, ...] = (
    EventType(
        name="operator.call",
        model=OperatorCall,
        direction=Direction.OUT,
        lane=Lane.EVENTS,
        kinds=frozenset({Kind.SYSTEM}),
        limit_bytes=65_536,
        summary="A token with a scope was used.",
    ),
)
