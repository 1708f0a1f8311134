"""The payload of rollout.* (docs/events.md#rollout): the part of a tenant's users that get WebSocket, and its variants. Pure."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import Direction, EventType, Payload
from streams.events.values import Maybe, Text500

VARIANTS_MAX: Final = 8
"""Maximum variants of a tenant."""
VARIANT_CHARS_MAX: Final = 32
VARIANT_PATTERN: Final = r"^[A-Za-z0-9_.-]+$"
ALL_PERCENT: Final = 100.0

Percent = Annotated[float, Field(ge=0, le=ALL_PERCENT)]


class VariantShare(Payload):
    """A variant, and the part of the tenant's users that get it."""

    name: Annotated[str, Field(min_length=1, max_length=VARIANT_CHARS_MAX, pattern=VARIANT_PATTERN)] = Field(
        description="Name of the variant: 1 to 32 of `A-Z a-z 0-9 _ . -`."
    )
    percent: Percent = Field(description="Percentage of the users.")


class RolloutChanged(Payload):
    """A change of the tenant's rollout. A field that is absent stays as it was."""

    websocket_percent: Maybe[Percent] = Field(
        None, description="Percentage of the tenant's users that may use WebSocket; the others are refused with 4024."
    )
    variants: Maybe[Annotated[list[VariantShare], Field(max_length=VARIANTS_MAX)]] = Field(
        None,
        description="All variants, in the order in which they share the users; together at most 100 %. "
        "The rest of the users have no variant.",
    )
    note: Maybe[Text500] = Field(None, description="The reason of the change, for people.")


EVENTS: tuple[EventType, ...] = (
    EventType(
        name="rollout.changed",
        model=RolloutChanged,
        direction=Direction.OUT,
        lane=Lane.EVENTS,
        kinds=frozenset({Kind.SYSTEM}),
        limit_bytes=4_096,
        summary="An operator changed who may use WebSocket, or the variants.",
    ),
)
