"""`channel.*`: subscriptions, history, state, status and read markers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from hub.errors import ErrorDetail, HubError
from hub.handlers.history import HistoryQuery, read_history
from hub.ports import ClientConnection, NodePort
from hub.protocol.commands import Append, Command, Nothing, Outcome, Reply
from hub.protocol.replies import unsubscribed
from hub.protocol.session import channel_of
from hub.protocol.subscription import RefusedChannel, SubscribeRequest
from projections.channel_settings import (
    ACCESS_BYTES_MAX,
    CHANNEL_SETTINGS,
    MEMBERS_MAX,
    METADATA_BYTES_MAX,
    changed_access,
    changed_members,
    merged,
)
from streams.cursor import LIVE, Cursor, id_order
from streams.envelope import Appended, Guard
from streams.events.channels import (
    ChannelConfigure,
    ChannelHistory,
    ChannelPresence,
    ChannelRead,
    ChannelSubscribe,
    ChannelUnsubscribe,
    Subscription,
)
from streams.json_bytes import to_json
from streams.records.presence import marking
from streams.records.settings import access_sets, members_guard_name, settings_guard_name
from streams.redis.replay import PAGE_BYTES


def request_of(
    tenant: str, item: Subscription | str, re: str | None, cursor: Cursor | None = None
) -> SubscribeRequest | RefusedChannel:
    """Turns one entry of a subscription list into a request, or into a refusal if its channel is invalid.

    `cursor`, if given, replaces the entry's own position.
    """
    name = item if isinstance(item, str) else item.channel
    try:
        channel = channel_of(tenant, name)
    except HubError as error:
        return RefusedChannel(name, error, re)
    if isinstance(item, str):
        return SubscribeRequest(channel, cursor or Cursor(LIVE), re=re)
    wanted = cursor or Cursor(item.after, item.seq, item.epoch)
    return SubscribeRequest(channel, wanted, item.rewind, item.state, item.presence, re)


def require_followed(command: Command, connection: ClientConnection | None) -> ClientConnection:
    """Returns the connection, which must follow the command's channel.

    Raises:
        HubError: 4021: it does not.
    """
    if connection is None or command.place not in connection.followed():
        details = (ErrorDetail("channel", "is not subscribed"),)
        raise HubError(4021, "subscribe to the channel first", details=details)
    return connection


class ChannelCommands:
    """Commands that subscribe to channels, read them, or set their metadata."""

    def __init__(self, node: NodePort) -> None:
        self._node = node

    async def subscribe(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Subscribes to channels, with one answer for each."""
        if connection is None:
            raise HubError(4005, "subscribing needs a WebSocket; over HTTP use GET …/events or …/stream")
        payload = cast("ChannelSubscribe", command.payload)
        tenant = command.caller.principal.tenant
        await connection.subscribe([request_of(tenant, item, command.id) for item in payload.channels])
        return Nothing()

    def unsubscribe(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Unsubscribes from channels, with one answer for each, including channels that were not followed."""
        if connection is None:
            raise HubError(4005, "unsubscribing needs a WebSocket")
        for name in cast("ChannelUnsubscribe", command.payload).channels:
            try:
                channel = channel_of(command.caller.principal.tenant, name)
            except HubError as error:
                connection.refuse(error, command.id, name)
                continue
            connection.unsubscribe(channel)
            connection.send(unsubscribed(channel, "requested", command.id))
        return Nothing()

    def store(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Stores an event of a custom type, as it was sent."""
        return Append(command.draft())

    def presence(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Sets the caller's status and sends it to the subscribers that asked for presence.

        Raises:
            HubError: 4021: the caller does not follow the channel.
        """
        socket = require_followed(command, connection)
        socket.tell_status(command.place, cast("ChannelPresence", command.payload).status)
        return Reply("ack", b"{}")

    async def read(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Moves the caller's read marker forwards; an older position is ignored.

        Raises:
            HubError: 4018: the position is after the newest event.
        """
        up_to, user, place = cast("ChannelRead", command.payload).up_to, command.caller.principal.user, command.place
        head = (await self._node.log.look(place)).head.id
        if id_order(up_to) > id_order(head):
            details = (ErrorDetail("up_to", f"is after the newest event, which is {head}"),)
            raise HubError(4018, "the position is after the channel's newest event; see details", details=details)
        data = to_json({"up_to": up_to, "user": user})
        return Append(command.draft(data=data, guards=(marking(place, user, up_to),)), passes_over=True)

    async def configure(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Sets the channel's metadata, members and access lists; the reply has the new revision.

        Raises:
            HubError: 4021: the revision is no longer current; 4011: too much metadata or too many members.
        """
        place, wanted = command.place, cast("ChannelConfigure", command.payload)
        given = wanted.model_dump(mode="json", exclude_unset=True)
        state = await self._node.states.fold(place, await self._node.log.look(place))
        held = state.of(CHANNEL_SETTINGS)
        if merged(held.metadata, given.get("metadata", {})) is None:
            raise HubError(4011, f"metadata may have at most {METADATA_BYTES_MAX} bytes in total")
        members = given.get("members", {})
        if changed_members(held.members, members) is None:
            raise HubError(4011, f"a channel may have at most {MEMBERS_MAX} members")
        if changed_access(held.access, given.get("access", {})) is None:
            raise HubError(4011, f"a channel's access lists may have at most {ACCESS_BYTES_MAX} bytes in total")
        expected = wanted.if_revision
        checks = () if expected is None else (("revision", "eq", str(expected) if expected else ""),)
        guards = [Guard(settings_guard_name(place), checks, access_sets(given.get("access", {})), ("revision",))]
        if members:
            removed = tuple(members.get("remove", ()))
            added = tuple((name, "1") for name in members.get("add", ()) if name not in removed)
            guards.append(Guard(members_guard_name(place), sets=added, removes=removed))

        def configured(appended: Appended) -> Mapping[str, Any]:
            self._node.access.forget(place)
            return {"revision": appended.results[0]}

        return Append(command.draft(guards=tuple(guards)), configured)

    async def history(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Returns a page of stored events."""
        query = HistoryQuery.of(cast("ChannelHistory", command.payload))
        page = await read_history(self._node.log.replay, command.place, query)
        self._node.charge(command.caller.principal, "history", page.excess)
        return Reply("channel.history", page.to_json(command.place))

    async def state(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Returns the channel's current state."""
        look = await self._node.log.look(command.place)
        state = await self._node.states.read(command.place, look)
        self._node.charge(command.caller.principal, "history", len(state.json) / PAGE_BYTES)
        head = to_json({"epoch": look.epoch, "state_at": state.position.seq})
        return Reply("channel.state", b'%b,"state":%b}' % (head[:-1], state.json))
