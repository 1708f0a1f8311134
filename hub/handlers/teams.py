"""`team.*` and `user.*`: activities and members' status of a team, and notices in a user's inbox."""

from __future__ import annotations

from typing import Final, cast

from hub.errors import ErrorDetail, HubError
from hub.handlers.channels import require_followed
from hub.handlers.conversations import Conversations
from hub.ports import ClientConnection, NodePort
from hub.protocol.commands import Append, Command, Outcome, Reply
from hub.protocol.replies import append_error, stored_payload
from projections.teams import NOTIFICATIONS
from streams.channel import Channel, Kind
from streams.errors import StreamsError
from streams.events.teams import TeamPresenceUpdate
from streams.records.presence import VISIT_S, MemberStatus, PresenceChange, PresenceStore
from streams.times import milliseconds_of_text

CLOCK_SLACK_MS: Final = 5_000
"""Tolerance in milliseconds for `until`, since a client's clock may be slightly ahead of ours."""


class TeamCommands:
    """Commands on teams and inboxes."""

    def __init__(self, node: NodePort) -> None:
        self._node = node
        self._conversations = Conversations(node)

    def store(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Stores an activity or a notice as it was sent."""
        return Append(command.draft())

    async def presence(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Sets a member's status: until their last device leaves the team or, if set over HTTP, until the given time.

        Raises:
            HubError: 4021: the caller does not follow the channel; 4005: over HTTP, `until` is missing or too late; 4013.
        """
        rest = cast("TeamPresenceUpdate", command.payload).model_dump(mode="json", exclude_unset=True)
        until_ms = milliseconds_of_text(rest["until"]) if rest.get("until") else 0
        status = MemberStatus(rest.pop("status"), until_ms, rest)
        if connection is not None:
            require_followed(command, connection)
            await connection.tell_member(command.place, status)
            return Reply("ack", b"{}")
        now_ms = int(self._node.clock.now() * 1000)
        if not 0 < until_ms <= now_ms + VISIT_S * 1000 + CLOCK_SLACK_MS:
            details = (ErrorDetail("until", f"must be a time in the next {VISIT_S // 60} minutes"),)
            raise HubError(4005, "a status set over HTTP needs a time at which it ends; see details", details=details)
        visit = PresenceChange("visit", command.place, "", command.caller.principal.user, status.kept)
        await PresenceStore(self._node.log).apply(self._node.name, [visit])
        return Reply("ack", b"{}")

    async def read(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Marks notices in the caller's own inbox as read.

        Raises:
            HubError: 4003: the inbox of another user.
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
