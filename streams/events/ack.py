"""The hub's answers once a command is in the stream: `Stored` and `ack` (docs/protocol.md#values). Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from streams.envelope import Lane
from streams.events.declaration import NO_CHANNEL, Direction, EventType, Payload, broken
from streams.events.values import ChannelName, Count, EventId, Maybe, Ordinal, RunId
from streams.run_states import RunState

Level = Literal["memory", "fsync", "replicated"]
_STORED = frozenset({"id", "seq", "duplicate", "durability"})


class Stored(Payload):
    """The place of a command in its channel, and the failures it would survive."""

    id: EventId
    seq: Ordinal
    duplicate: bool
    durability: Level


class Ack(Payload):
    """The reply without a name: `Stored` if something was stored, and the results that the command's row names."""

    id: Maybe[EventId] = None
    seq: Maybe[Ordinal] = None
    duplicate: Maybe[bool] = None
    durability: Maybe[Level] = None
    dropped: Maybe[bool] = None
    revision: Maybe[Count] = None
    run_id: Maybe[RunId] = None
    state: Maybe[RunState] = None
    channel: Maybe[ChannelName] = None
    disposition: Maybe[Literal["stored", "queued", "steering"]] = None
    unread: Maybe[Count] = None
    version: Maybe[Count] = None

    @model_validator(mode="after")
    def _stored_whole(self) -> Ack:
        """The four fields of `Stored` come together or not at all."""
        if len(_STORED & self.model_fields_set) not in (0, len(_STORED)):
            raise broken("must have id, seq, duplicate and durability, or none of them")
        return self


EVENTS: tuple[EventType, ...] = (
    EventType(
        name="ack",
        model=Ack,
        direction=Direction.OUT,
        lane=Lane.CONNECTION,
        kinds=NO_CHANNEL,
        summary="A command was accepted; with the fields of Stored, it is in the stream.",
    ),
)
