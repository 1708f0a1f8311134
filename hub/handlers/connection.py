"""connection.*: the handshake, resuming, heartbeats, a fresh token."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from hub.auth.tokens import Principal
from hub.errors import HubError
from hub.handlers.channels import wish_of
from hub.node.subscribing import RefusedChannel, Wish, connection_left
from hub.ports import Upgrade
from hub.protocol.commands import Answer, Caller, Command, Nothing, Outcome
from hub.protocol.session import State
from hub.websocket.codec import encode_text
from streams.channel import Channel, Kind
from streams.cursor import LIVE, Cursor
from streams.events.connection import ConnectionInit, ConnectionReconnect, ConnectionRefresh
from streams.events.subscription import Subscription
from streams.json_bytes import to_json
from streams.times import rfc3339

if TYPE_CHECKING:
    from hub.node.connection import Connection
    from hub.node.hub import Hub

VERSION: Final = 1
CAPABILITIES: Final = frozenset({"batch", "reasoning", "binary_chunks"})
"""What this hub can do beyond the minimum; others a client announces are passed over."""
RECONNECT_MIN_MS: Final = 100
RECONNECT_MAX_MS: Final = 10_000


def origin_of(upgrade: Upgrade | None) -> str:
    """What the client reached this node by; a proxy that ends TLS says so. Interned: all sockets share a few."""
    if upgrade is None or b"host" not in upgrade.headers:
        return ""
    is_secure = upgrade.headers.get(b"x-forwarded-proto") in {b"https", b"wss"}
    return sys.intern(f"http{'s' if is_secure else ''}://{upgrade.headers[b'host'].decode('latin-1')}")


class ConnectionHandler:
    """Opens sessions and keeps them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def init(self, command: Command, connection: Connection | None) -> Outcome:
        """A new session."""
        socket, payload = _socket(connection), cast("ConnectionInit", command.payload)
        await self._open(command, payload, socket, None)
        return Nothing()

    async def reconnect(self, command: Command, connection: Connection | None) -> Outcome:
        """A session with cursors: authenticate, fence the old socket, resume every channel, in one round trip."""
        socket, payload = _socket(connection), cast("ConnectionReconnect", command.payload)
        cursors = {name: Cursor(c.after, c.seq, c.epoch) for name, c in payload.cursors.items()}
        await self._open(command, payload, socket, payload.session_id, cursors)
        return Nothing()

    def heartbeat(self, command: Command, connection: Connection | None) -> Outcome:
        """A sign of life."""
        return Answer(
            "connection.heartbeat",
            to_json({"server_time": rfc3339(round(self._hub.services.now() * 1000))}),
        )

    async def refresh(self, command: Command, connection: Connection | None) -> Outcome:
        """A newer token for the same person: channels it no longer allows are left, nothing else changes.

        Raises:
            HubError: refused; the connection stays on the token it has, whatever the code.
        """
        socket, payload = _socket(connection), cast("ConnectionRefresh", command.payload)
        old = socket.session.principal
        try:
            new = await self._hub.services.verifier.verify(payload.token, self._hub.services.now())
            if (new.user, new.tenant) != (old.user, old.tenant):
                raise HubError(4001, "the token is for somebody else; open another connection for them")
        except HubError as error:
            refusal = self._hub.door.refusal(socket.address, error)
            refusal.closes = refusal is not error
            raise refusal from None
        caller = socket.session.caller
        socket.session.refreshed(
            Caller(new, caller.client_id, caller.capabilities, caller.origin) if caller else Caller(new)
        )
        self._hub.watch(socket)
        self.leave_forbidden(socket, new)
        return Answer("connection.refreshed", to_json({"token_expires_at": rfc3339(round(new.expires_at * 1000))}))

    def leave_forbidden(self, socket: Connection, principal: Principal) -> None:
        """Unsubscribe from what a principal may not read."""
        for fanout, _ in list(socket.subscriptions.values()):
            wire = fanout.channel.wire
            if not principal.grants.allows(wire, "read"):
                connection_left(socket, fanout.channel)
                self._hub.presence.vanished(socket, fanout.channel)
                socket.push(_signal("channel.unsubscribed", wire, {"channel": wire, "reason": "permission_denied"}))

    async def _open(
        self, command: Command, payload: ConnectionInit, socket: Connection, session_id: str | None,
        cursors: dict[str, Cursor] | None = None,
    ) -> None:  # fmt: skip
        if VERSION not in payload.versions:
            raise HubError(4014, "this hub speaks version 1")
        principal = await self._principal(payload, socket)
        if socket.session.state is State.CLOSED:
            return
        self._hub.door.entered(socket, principal)
        client_id = payload.client_id or f"c-{secrets.token_urlsafe(9)}"
        capabilities = CAPABILITIES.intersection(payload.capabilities or ())
        caller = Caller(principal, client_id, capabilities, origin_of(socket.upgrade))
        socket.established(self._hub.sessions.name_for(session_id, principal), caller)
        self._hub.sessions.adopt(socket, session_id)
        self._hub.watch(socket)
        socket.push(encode_text(_ack(self._hub, command.id, socket, caller)))
        cursors = cursors or {}
        wishes = [wish_of(principal.tenant, item, None, _cursor_for(item, cursors)) for item in payload.channels or ()]
        await self._subscribe_all(socket, principal, wishes, cursors)

    async def _principal(self, payload: ConnectionInit, socket: Connection) -> Principal:
        header = (socket.upgrade.headers.get(b"authorization", b"") if socket.upgrade else b"").decode("latin-1")
        token = payload.token or (header[7:] if header[:7].lower() == "bearer " else "")
        if not token:
            raise HubError(4001, "send a token in connection.init or as Authorization: Bearer")
        return await self._hub.services.verifier.verify(token, self._hub.services.now())

    async def _subscribe_all(
        self,
        socket: Connection,
        principal: Principal,
        wishes: Iterable[Wish | RefusedChannel],
        cursors: dict[str, Cursor],
    ) -> None:
        inbox = Channel(principal.tenant, Kind.USER, principal.user)
        wishes = list(wishes)
        named = {wish.channel.wire for wish in wishes if isinstance(wish, Wish)}
        resumed: list[Wish | RefusedChannel] = [
            wish_of(principal.tenant, name, None, cursor) for name, cursor in cursors.items() if name not in named
        ]
        if inbox.wire not in named and inbox.wire not in cursors:
            resumed.insert(0, Wish(inbox, Cursor(LIVE)))
        await self._hub.subscribe_all(socket, [*resumed, *wishes])


def _cursor_for(item: Subscription, cursors: Mapping[str, Cursor]) -> Cursor | None:
    """Where a channel goes on that is named with its cursor and among the channels: at the cursor, unless it says itself."""
    return None if {"after", "rewind"} & item.model_fields_set else cursors.get(item.channel)


def _socket(connection: Connection | None) -> Connection:
    if connection is None:
        raise HubError(4005, "this is only for sockets")
    return connection


def _ack(hub: Hub, re: str | None, socket: Connection, caller: Caller) -> bytes:
    principal, settings = caller.principal, hub.settings
    payload = {
        "session_id": socket.session.id, "client_id": caller.client_id, "user": principal.user, "tenant": principal.tenant,
        "version": VERSION, "capabilities": sorted(caller.capabilities),
        "heartbeat_interval_ms": int(settings.heartbeat_interval_s * 1000),
        "message_size_limit_bytes": settings.message_size_limit_bytes, "max_subscriptions": settings.max_subscriptions,
        "token_expires_at": rfc3339(round(principal.expires_at * 1000)), "node": hub.node,
        "server_time": rfc3339(round(hub.services.now() * 1000)),
        "reconnect": {"min_ms": RECONNECT_MIN_MS, "max_ms": RECONNECT_MAX_MS},
    }  # fmt: skip
    return to_json({"type": "connection.ack", "re": re, "payload": payload})


def _signal(type_: str, channel: str, payload: dict[str, Any]) -> bytes:
    return encode_text(to_json({"type": type_, "channel": channel, "payload": payload}))
