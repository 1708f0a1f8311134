"""The payloads of document.* (docs/events.md#document): shared documents, as JSON patches or opaque updates. Pure."""

from __future__ import annotations

from functools import partial

from pydantic import model_validator

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import Action, Direction, EventType, Payload, broken
from streams.events.json_limits import Patch
from streams.events.values import Bytes256K, Count, Json2K, Maybe, Text16


class DocumentUpdate(Payload):
    """A change of a document: a patch against `base_version`, or opaque bytes that are stored in order and never interpreted."""

    base_version: Maybe[Count] = None
    patch: Maybe[Patch] = None
    update: Maybe[Bytes256K] = None

    @model_validator(mode="after")
    def _one_way(self) -> DocumentUpdate:
        given = self.model_fields_set
        if given not in ({"base_version", "patch"}, {"update"}):
            raise broken("must have either base_version and patch, or update")
        return self


class DocumentCursor(Payload):
    """The position of the sender's cursor; clients define the form of `selection`."""

    selection: Json2K
    colour: Maybe[Text16] = None


class DocumentCursorDelivered(DocumentCursor):
    """A cursor position as delivered: it includes the user and the client."""

    user: str
    client: str


_row = partial(EventType, direction=Direction.BOTH, kinds=frozenset({Kind.DOCUMENT}), reply="ack", action=Action.WRITE)

EVENTS: tuple[EventType, ...] = (
    _row(
        name="document.update",
        model=DocumentUpdate,
        lane=Lane.EVENTS,
        results=("version",),
        rate="document",
        errors=(4021,),
        ag_ui="STATE_DELTA",
        summary="Changes a document.",
    ),
    _row(
        name="document.cursor",
        model=DocumentCursor,
        delivered=DocumentCursorDelivered,
        lane=Lane.LIVE,
        rate="cursor",
        errors=(4021,),
        is_id_required=False,
        needs_subscription=True,
        limit_bytes=16_384,
        summary="The position of a person's cursor.",
    ),
)
