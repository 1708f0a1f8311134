"""The published schema of `ChannelState`, put together from what each projection and the live part say they show. Pure."""

from __future__ import annotations

from typing import Final

from pydantic import create_model

from projections.channel_state import PROJECTIONS
from projections.live import LiveStateFields
from streams.events.declaration import Payload
from streams.events.schemas import Schema, schema_of
from streams.events.values import Count, EventId, Maybe


class LeftOut(Payload):
    """The oldest items of a list are not shown: `channel.history` before this ID has them."""

    before: EventId


class CommonFields(Payload):
    """The fields that every state has."""

    metadata: dict[str, object]
    count: Count
    truncated: Maybe[dict[str, LeftOut]] = None


def _all_fields() -> type[Payload]:
    models = dict.fromkeys(projection.model for several in PROJECTIONS.values() for projection in several)
    bases: tuple[type[Payload], ...] = (CommonFields, *models, LiveStateFields)
    return create_model(
        "ChannelState",
        __base__=bases[::-1],  # pydantic lists the fields of the last base first
        __doc__="The state of one channel: facts exact at `state_at`, the live part as of now.",
    )


CHANNEL_STATE: Final = _all_fields()
"""One model for all kinds of channel; the fields of other kinds are absent."""


def state_schema() -> dict[str, Schema]:
    """`ChannelState` and the models inside it, by published name."""
    schema = schema_of(CHANNEL_STATE)
    inner = schema.pop("$defs")
    assert isinstance(inner, dict)  # noqa: S101 - tells the type checker what schema_of makes
    return {"ChannelState": schema, **inner}
