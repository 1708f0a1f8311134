"""The payloads of document.* (docs/events.md#document): shared documents, as JSON patches or opaque updates. Pure."""

from __future__ import annotations

from functools import partial

from pydantic import Field, model_validator

from streams.channel import Kind
from streams.envelope import Lane
from streams.events.declaration import Action, Direction, EventType, Payload, broken
from streams.events.json_limits import Patch
from streams.events.values import Bytes256K, Count, Json2K, Maybe, Text16


class DocumentUpdate(Payload):
    """A change of a document: a patch against `base_version`, or opaque bytes that are stored in order and never interpreted."""

    base_version: Maybe[Count] = Field(
        None,
        description="Version that the patch was made for; any other than the current one is refused with "
        "4021. Absent with `update`.",
    )
    patch: Maybe[Patch] = Field(None, description="JSON Patch (RFC 6902) of the document; absent with `update`.")
    update: Maybe[Bytes256K] = Field(
        None,
        description="Bytes of the application's own format, in base64, such as an update of Yjs; absent with `patch`.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> DocumentUpdate:
        given = self.model_fields_set
        if given not in ({"base_version", "patch"}, {"update"}):
            raise broken("must have either base_version and patch, or update")
        return self


class DocumentCursor(Payload):
    """The position of the sender's cursor; clients define the form of `selection`."""

    selection: Json2K = Field(
        description="The position or selection, in the application's own form; null removes the cursor."
    )
    colour: Maybe[Text16] = Field(
        None, description="Colour to show the cursor in, such as `#3b82f6`; absent: the reader's choice."
    )


class DocumentCursorDelivered(DocumentCursor):
    """A cursor position as delivered: it includes the user and the client."""

    user: str = Field(description="The user whose cursor it is.")
    client: str = Field(description="The device whose cursor it is: its `client_id`.")


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
