"""document.*: patches on the version they were made for, opaque updates, cursors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from hub.errors import HubError, Problem
from hub.handlers.conversations import Conversations
from hub.protocol.commands import Append, Command, Outcome
from projections.documents import DOCUMENTS, preview
from projections.errors import PatchRefused
from streams.envelope import Guard
from streams.errors import GuardRefused
from streams.events.documents import DocumentCursor, DocumentUpdate
from streams.json_bytes import to_json

if TYPE_CHECKING:
    from hub.node.connection import Connection
    from hub.node.hub import Hub


class DocumentHandler:
    """Shared documents."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._conversations = Conversations(hub)

    async def update(self, command: Command, connection: Connection | None) -> Outcome:
        """The first update fixes the mode; a patch applies to the version it names, compared in the append script."""
        payload, place = cast("DocumentUpdate", command.payload), command.place
        mode = "opaque" if payload.patch is None else "json"
        checks = [("mode", "free_or", mode)]
        if payload.patch is not None:
            base = payload.base_version or 0
            document = (await self._conversations.state(place)).of(DOCUMENTS)
            if document.version == base and document.mode in {None, "json"}:
                try:
                    preview(document, json.loads(command.data)["patch"])
                except PatchRefused as error:
                    raise HubError(4005, "the patch does not apply", details=(Problem("patch", str(error)),)) from None
            checks.append(("version", "eq", str(base) if base else ""))
        guard = Guard(f"document:{place.wire}", tuple(checks), (("mode", mode),), ("version",))
        draft = command.draft(guards=(guard,))
        return Append(draft, lambda appended: {"version": appended.results[0]}, _stale)

    def cursor(self, command: Command, connection: Connection | None) -> Outcome:
        """Told to whoever has the document open."""
        if connection is not None:
            self._hub.late_cursors.outdated(connection, command.place.wire)
        payload, caller = cast("DocumentCursor", command.payload), command.caller
        data = payload.model_dump(mode="json", exclude_unset=True)
        data |= {"user": caller.principal.user, "client": caller.client_id or ""}
        return Append(command.draft(data=to_json(data)))


def _stale(error: GuardRefused) -> HubError:
    if error.field == "mode":
        return HubError(4021, "the document is of the other mode", details=(Problem("mode", f"is {error.present}"),))
    problem = Problem("version", f"is {error.present or 0}")
    return HubError(4021, "the document has moved on: rebase on the version in details", details=(problem,))
