"""`document.*`: JSON patches against a version, opaque updates, and cursors."""

from __future__ import annotations

import json
from typing import Final, cast

from hub.errors import ErrorDetail, HubError
from hub.handlers.channels import require_followed
from hub.handlers.conversations import Conversations
from hub.ports import ClientConnection, NodePort
from hub.protocol.commands import Append, Command, Outcome
from projections.documents import DOCUMENTS, Document, preview
from projections.errors import PatchRefused
from projections.json_patch import WORK_MAX, PatchWork
from streams.envelope import Guard
from streams.errors import GuardRefused
from streams.events.documents import DocumentCursor, DocumentUpdate
from streams.json_bytes import to_json

WORK_PER_COST: Final = 4_000
"""Work of a patch, refused or not, that is charged like one more update. A user may send one of the largest patches per second."""


class DocumentCommands:
    """Commands on shared documents."""

    def __init__(self, node: NodePort) -> None:
        self._node = node
        self._conversations = Conversations(node)

    async def update(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Stores an update. The first one fixes the mode; the append script compares the version that a patch is for."""
        payload, place = cast("DocumentUpdate", command.payload), command.place
        mode = "opaque" if payload.patch is None else "json"
        checks = [("mode", "free_or", mode)]
        if payload.patch is not None:
            base = payload.base_version or 0
            document = (await self._conversations.state(place)).of(DOCUMENTS)
            if document.version == base and document.mode in {None, "json"}:
                self._try(document, command)
            checks.append(("version", "eq", str(base) if base else ""))
        guard = Guard(f"document:{place.wire}", tuple(checks), (("mode", mode),), ("version",))
        draft = command.draft(guards=(guard,))
        return Append(draft, lambda appended: {"version": appended.results[0]}, _stale)

    def _try(self, document: Document, command: Command) -> None:
        """Applies the patch on trial, and charges its work.

        Raises:
            HubError: 4005.
        """
        work = PatchWork(WORK_MAX)
        try:
            preview(document, json.loads(command.data)["patch"], work)
        except PatchRefused as error:
            details = (ErrorDetail("patch", str(error)),)
            raise HubError(4005, "the patch does not apply", details=details) from None
        finally:
            self._node.charge(command.caller.principal, "document", work.done / WORK_PER_COST)

    def cursor(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Sends a user's cursor to everybody who follows the document, until the user's connection leaves it.

        Raises:
            HubError: 4021: the caller does not follow the document.
        """
        require_followed(command, connection).cursor_moved(command.place.wire)
        payload, caller = cast("DocumentCursor", command.payload), command.caller
        data = payload.model_dump(mode="json", exclude_unset=True)
        data |= {"user": caller.principal.user, "client": caller.client_id or ""}
        return Append(command.draft(data=to_json(data)))


def _stale(error: GuardRefused) -> HubError:
    if error.field == "mode":
        return HubError(
            4021,
            "the document takes only updates of the other kind; details give its mode",
            details=(ErrorDetail("mode", f"is {error.present}"),),
        )
    problem = ErrorDetail("version", f"is {error.present or 0}")
    return HubError(
        4021, "the document has a newer version, given in details; rebase your patch on it", details=(problem,)
    )
