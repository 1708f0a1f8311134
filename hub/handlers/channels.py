"""channel.*: following channels, reading their history and state, saying how one is."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hub.errors import HubError, Problem
from hub.handlers.history import HistoryQuery, read_history
from hub.node.subscribing import RefusedChannel, Wish, connection_left
from hub.protocol.commands import Answer, Append, Command, Nothing, Outcome
from hub.protocol.messages import reply_frame
from hub.protocol.session import channel_of
from streams.cursor import LIVE, Cursor
from streams.events.channels import ChannelHistory, ChannelPresence, ChannelRead, ChannelSubscribe, ChannelUnsubscribe
from streams.events.subscription import Subscription
from streams.ids import id_order
from streams.json_bytes import to_json
from streams.records.read_marks import marking, marks_guard_name

if TYPE_CHECKING:
    from hub.node.connection import Connection
    from hub.node.hub import Hub


def wish_of(
    tenant: str, item: Subscription | str, re: str | None, cursor: Cursor | None = None
) -> Wish | RefusedChannel:
    """What one entry of a list of subscriptions asks for, or why it is refused."""
    name = item if isinstance(item, str) else item.channel
    try:
        channel = channel_of(tenant, name)
    except HubError as error:
        return RefusedChannel(name, error, re)
    if isinstance(item, str):
        return Wish(channel, cursor or Cursor(LIVE), re=re)
    wanted = cursor or Cursor(item.after, item.seq, item.epoch)
    return Wish(channel, wanted, item.rewind, item.state, item.presence, re)


class ChannelHandler:
    """Subscriptions and questions about channels."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def subscribe(self, command: Command, connection: Connection | None) -> Outcome:
        """Follow channels; one answer for each."""
        if connection is None:
            raise HubError(4005, "subscribing is for sockets; use GET …/events or …/stream")
        payload = cast("ChannelSubscribe", command.payload)
        tenant = command.caller.principal.tenant
        await self._hub.subscribe_all(connection, [wish_of(tenant, item, command.id) for item in payload.channels])
        return Nothing()

    def unsubscribe(self, command: Command, connection: Connection | None) -> Outcome:
        """Leave channels; one answer for each, also for those that were not followed."""
        if connection is None:
            raise HubError(4005, "unsubscribing is for sockets")
        for name in cast("ChannelUnsubscribe", command.payload).channels:
            try:
                channel = channel_of(command.caller.principal.tenant, name)
            except HubError as error:
                connection.refuse(error, command.id, name)
                continue
            if connection_left(connection, channel):
                self._hub.presence.left(connection, channel)
            answer = {"channel": channel.wire, "reason": "requested"}
            connection.push(reply_frame("channel.unsubscribed", command.id, channel.wire, answer))
        return Nothing()

    def presence(self, command: Command, connection: Connection | None) -> Outcome:
        """How the caller is, told to those who follow with presence.

        Raises:
            HubError: 4021, the caller does not follow the channel.
        """
        if connection is None or command.place.wire not in connection.subscriptions:
            details = (Problem("channel", "is not subscribed"),)
            raise HubError(4021, "subscribe to the channel first", details=details)
        status = cast("ChannelPresence", command.payload).status
        self._hub.presence.changed(connection, command.place, status)
        return Answer("ack", b"{}")

    async def read(self, command: Command, connection: Connection | None) -> Outcome:
        """How far the caller has read. The mark never moves back; an older one is passed over."""
        up_to, user, place = cast("ChannelRead", command.payload).up_to, command.caller.principal.user, command.place
        log = self._hub.log
        held = await log.replay.command(b"HGET", log.keys.guard(place, marks_guard_name(place)), user.encode())
        if held is not None and id_order(held.decode()) >= id_order(up_to):
            return Answer("ack", b"{}")
        data = to_json({"up_to": up_to, "user": user})
        return Append(command.draft(data=data, guards=(marking(place, user, up_to),)))

    async def history(self, command: Command, connection: Connection | None) -> Outcome:
        """A page of what is kept."""
        query = HistoryQuery.of(cast("ChannelHistory", command.payload))
        page = await read_history(self._hub.log.replay, command.place, query)
        return Answer("channel.history", page.to_json(command.place))

    async def state(self, command: Command, connection: Connection | None) -> Outcome:
        """The state as it is now."""
        look = await self._hub.log.look(command.place)
        state = await self._hub.states.read(command.place, look)
        head = to_json({"epoch": look.epoch, "state_at": state.position.seq})
        return Answer("channel.state", b'%b,"state":%b}' % (head[:-1], state.json))
