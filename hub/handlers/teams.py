"""team.*: what a team does, how its members are, and people's notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hub.errors import HubError
from hub.handlers.conversations import Conversations
from hub.protocol.commands import Answer, Append, Command, Outcome
from hub.protocol.replies import append_error, stored_payload
from projections.notifications import NOTIFICATIONS
from streams.channel import Channel, Kind
from streams.errors import StreamsError
from streams.events.teams import TeamPresenceUpdate
from streams.json_bytes import to_json

if TYPE_CHECKING:
    from hub.node.connection import Connection
    from hub.node.hub import Hub


class TeamHandler:
    """Teams and inboxes."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._conversations = Conversations(hub)

    def store(self, command: Command, connection: Connection | None) -> Outcome:
        """An activity or a notice, as it was sent."""
        return Append(command.draft())

    def presence(self, command: Command, connection: Connection | None) -> Outcome:
        """How a member is. Who is invisible is told as offline."""
        payload, user = cast("TeamPresenceUpdate", command.payload), command.caller.principal.user
        data = payload.model_dump(mode="json", exclude_unset=True)
        if payload.status == "invisible":
            data["status"] = "offline"
        data |= {"user": user, "devices": self._hub.devices_of(command.caller.principal)}
        return Append(command.draft(data=to_json(data)))

    async def read(self, command: Command, connection: Connection | None) -> Outcome:
        """Notices in the caller's own inbox were read.

        Raises:
            HubError: 4003, somebody else's inbox.
        """
        principal, place = command.caller.principal, command.place
        if place != Channel(principal.tenant, Kind.USER, principal.user):
            raise HubError(4003, "only its owner reads an inbox")
        append = Append(command.draft())
        try:
            appended = await self._hub.log.append(append.draft)
            state = await self._conversations.state(place)
        except StreamsError as error:
            raise append_error(append, error) from error
        unread = len(state.of(NOTIFICATIONS).unread)
        return Answer("ack", stored_payload(command.event, append._replace(results={"unread": unread}), appended))
