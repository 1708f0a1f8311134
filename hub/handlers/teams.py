"""team.*: activities of a team, the status of its members, and people's notices."""

from __future__ import annotations

from typing import cast

from hub.errors import HubError
from hub.handlers.conversations import Conversations
from hub.ports import ClientConnection, NodePort
from hub.protocol.commands import Append, Command, Outcome, Reply
from hub.protocol.replies import append_error, stored_payload
from projections.teams import NOTIFICATIONS
from streams.channel import Channel, Kind
from streams.errors import StreamsError
from streams.events.teams import TeamPresenceUpdate
from streams.json_bytes import to_json


class TeamCommands:
    """Teams and inboxes."""

    def __init__(self, node: NodePort) -> None:
        self._node = node
        self._conversations = Conversations(node)

    def store(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """An activity or a notice, as it was sent."""
        return Append(command.draft())

    def presence(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """A member's status; the invisible are told as offline."""
        payload, user = cast("TeamPresenceUpdate", command.payload), command.caller.principal.user
        data = payload.model_dump(mode="json", exclude_unset=True)
        if payload.status == "invisible":
            data["status"] = "offline"
        data |= {"user": user, "devices": self._node.devices_of(command.caller.principal)}
        return Append(command.draft(data=to_json(data)))

    async def read(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Notices in the caller's own inbox were read.

        Raises:
            HubError: 4003, somebody else's inbox.
        """
        principal, place = command.caller.principal, command.place
        if place != Channel(principal.tenant, Kind.USER, principal.user):
            raise HubError(4003, "only the owner of an inbox can mark its notifications as read")
        append = Append(command.draft())
        try:
            appended = await self._node.log.append(append.draft)
            state = await self._conversations.state(place)
        except StreamsError as error:
            raise append_error(append, error) from error
        unread = len(state.of(NOTIFICATIONS).unread)
        return Reply("ack", stored_payload(command.event, append._replace(results={"unread": unread}), appended))
