"""`connection.*`: the handshake, resuming, heartbeats, and replacing the token."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, cast

from hub.auth.tokens import Principal
from hub.errors import ErrorDetail, HubError, RetryAdvice
from hub.handlers.channels import request_of
from hub.ports import ClientConnection, NodePort
from hub.protocol.commands import LEAF, Caller, Command, Nothing, Outcome, Reply
from hub.protocol.replies import unsubscribed
from hub.protocol.session import SessionState
from hub.protocol.subscription import RefusedChannel, SubscribeRequest
from hub.sockets import Upgrade
from streams.channel import Channel, Kind
from streams.cursor import LIVE, Cursor
from streams.events.channels import Subscription
from streams.events.connection import ConnectionInit, ConnectionReconnect, ConnectionRefresh
from streams.json_bytes import to_json
from streams.times import rfc3339

VERSION: Final = 1
CAPABILITIES: Final = frozenset({"batch", "reasoning", "binary_chunks", "live_state", LEAF})
"""The optional capabilities that this hub knows; others that a client announces are ignored."""
RECONNECT_MIN_MS: Final = 100
RECONNECT_MAX_MS: Final = 10_000
WEBSOCKET_OFF_RETRY_MS: Final = 60_000
"""Milliseconds after which a client without a fallback may try again."""


def origin_of(upgrade: Upgrade | None, *, is_proxied: bool) -> str:
    """Returns the origin under which the client reached this node, with the scheme from a trusted proxy that terminates TLS.

    The string is interned, since all sockets share a few.
    """
    if upgrade is None or b"host" not in upgrade.headers:
        return ""
    is_secure = is_proxied and upgrade.headers.get(b"x-forwarded-proto") in {b"https", b"wss"}
    host = upgrade.headers[b"host"].decode("latin-1")
    return sys.intern(f"http{'s' if is_secure else ''}://{host}{upgrade.prefix}")


class ConnectionCommands:
    """Commands that open, resume and keep alive a session."""

    def __init__(self, node: NodePort) -> None:
        self._node = node

    async def init(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Opens a new session."""
        socket, payload = _socket(connection), cast("ConnectionInit", command.payload)
        await self._open(command, payload, socket, None)
        return Nothing()

    async def reconnect(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Resumes a session in one round trip: authenticates, closes its old socket, and resumes every channel from its cursor."""
        socket, payload = _socket(connection), cast("ConnectionReconnect", command.payload)
        cursors = {name: Cursor(c.after, c.seq, c.epoch) for name, c in payload.cursors.items()}
        await self._open(command, payload, socket, payload.session_id, cursors)
        return Nothing()

    def heartbeat(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Answers a heartbeat."""
        return Reply("connection.heartbeat", to_json({"server_time": rfc3339(round(self._node.clock.now() * 1000))}))

    async def refresh(self, command: Command, connection: ClientConnection | None) -> Outcome:
        """Replaces the token by a newer one of the same user; channels that it no longer allows are unsubscribed.

        Raises:
            HubError: refused; whatever the code, the connection stays open with its old token.
        """
        socket, payload = _socket(connection), cast("ConnectionRefresh", command.payload)
        old = socket.session.principal
        try:
            new = await self._node.verifier.verify(payload.token, self._node.clock.now())
            if (new.user, new.tenant) != (old.user, old.tenant):
                raise HubError(4001, "the token belongs to another user or tenant; open another connection for it")
        except HubError as error:
            refusal = self._node.admission.refusal(socket.address, error)
            raise refusal.amended(closes=refusal is not error) from None
        caller = socket.session.caller
        socket.refresh(caller._replace(principal=new) if caller else Caller(new))
        self.leave_forbidden(socket, new)
        return Reply("connection.refreshed", to_json({"token_expires_at": rfc3339(round(new.expires_at * 1000))}))

    def leave_forbidden(self, socket: ClientConnection, principal: Principal) -> None:
        """Unsubscribes from the channels that the principal may not read."""
        for channel in socket.followed():
            if not principal.grants.allows(channel.wire, "read"):
                socket.unsubscribe(channel, is_asked=False)
                socket.send(unsubscribed(channel, "permission_denied"))

    async def _open(
        self,
        command: Command,
        payload: ConnectionInit,
        socket: ClientConnection,
        session_id: str | None,
        cursors: dict[str, Cursor] | None = None,
    ) -> None:
        if VERSION not in payload.versions:
            raise HubError(4014, "this hub supports version 1")
        await self._node.slices.turn()
        principal = await self._principal(payload, socket)
        if principal.scope is not None:
            channels = [*(item.channel for item in payload.channels or ()), *(cursors or {})]
            await self._node.operator_calls.record(principal, command.event.name, channels)
        rollout = await self._node.rollouts.decide(principal.tenant, principal.user)
        if socket.session.state is SessionState.CLOSED:
            return
        if not rollout.is_websocket_on:
            raise websocket_off()
        client_id = payload.client_id or f"c-{secrets.token_urlsafe(9)}"
        capabilities = _shared(CAPABILITIES.intersection(payload.capabilities or ()))
        is_proxied = socket.upgrade is not None and self._node.admission.trusts(socket.upgrade.client)
        origin = origin_of(socket.upgrade, is_proxied=is_proxied)
        caller = Caller(principal, client_id, capabilities, origin, rollout.variant)
        socket.establish(caller, session_id)
        socket.send(_ack(self._node, command.id, socket, caller))
        cursors = cursors or {}
        requests = [
            request_of(principal.tenant, item, None, _cursor_for(item, cursors)) for item in payload.channels or ()
        ]
        await self._subscribe_all(socket, principal, requests, cursors)

    async def _principal(self, payload: ConnectionInit, socket: ClientConnection) -> Principal:
        header = (socket.upgrade.headers.get(b"authorization", b"") if socket.upgrade else b"").decode("latin-1")
        token = payload.token or (header[7:] if header[:7].lower() == "bearer " else "")
        request = socket.upgrade.scope if socket.upgrade else None
        return await self._node.verifier.verify(token, self._node.clock.now(), request)

    async def _subscribe_all(
        self,
        socket: ClientConnection,
        principal: Principal,
        requests: Iterable[SubscribeRequest | RefusedChannel],
        cursors: dict[str, Cursor],
    ) -> None:
        inbox = Channel(principal.tenant, Kind.USER, principal.user)
        requests = list(requests)
        named = {request.channel.wire for request in requests if isinstance(request, SubscribeRequest)}
        resumed: list[SubscribeRequest | RefusedChannel] = [
            request_of(principal.tenant, name, None, cursor) for name, cursor in cursors.items() if name not in named
        ]
        if inbox.wire not in named and inbox.wire not in cursors:
            resumed.insert(0, SubscribeRequest(inbox, Cursor(LIVE)))
        several = [*resumed, *requests]
        self._node.charge(principal, "subscribe", len(several))
        await self._node.delay(principal, "subscribe")
        await socket.subscribe(several)


def websocket_off() -> HubError:
    """Builds the refusal of a user whom the rollout keeps off WebSocket; it names the ways that are open."""
    return HubError(
        4024,
        "WebSocket is off for you: read over Server-Sent Events or long polls, write with POST, and try WebSocket later",
        details=(
            ErrorDetail(
                "websocket", "off; GET /v1/channels/{channel}/stream streams, POST /v1/channels/{channel}/events writes"
            ),
            ErrorDetail("stream", "where none gets through, GET /v1/channels/{channel}/events?wait_ms=30000 polls"),
        ),
        retry_after_ms=WEBSOCKET_OFF_RETRY_MS,
        closes=True,
        retry=RetryAdvice.BACKOFF,
    )


@lru_cache(maxsize=64)
def _shared(capabilities: frozenset[str]) -> frozenset[str]:
    """Returns one object for equal sets, since each connection holds one, of 216 bytes or more."""
    return capabilities


def _cursor_for(item: Subscription, cursors: Mapping[str, Cursor]) -> Cursor | None:
    """Returns the cursor given for a channel that is also in the subscription list.

    An `after` or `rewind` in the list takes precedence: then the result is None.
    """
    return None if {"after", "rewind"} & item.model_fields_set else cursors.get(item.channel)


def _socket(connection: ClientConnection | None) -> ClientConnection:
    if connection is None:
        raise HubError(4005, "this command can only be sent over a WebSocket")
    return connection


def _ack(node: NodePort, re: str | None, socket: ClientConnection, caller: Caller) -> bytes:
    principal, settings = caller.principal, node.settings
    payload = {
        "session_id": socket.session.id,
        "client_id": caller.client_id,
        "user": principal.user,
        "tenant": principal.tenant,
        "version": VERSION,
        "capabilities": sorted(caller.capabilities),
        "heartbeat_interval_ms": int(settings.heartbeat_interval_s * 1000),
        "message_size_limit_bytes": settings.message_size_limit_bytes,
        "max_subscriptions": settings.max_subscriptions,
        "token_expires_at": rfc3339(round(principal.expires_at * 1000)),
        "node": node.name,
        "server_time": rfc3339(round(node.clock.now() * 1000)),
        "reconnect": {"min_ms": RECONNECT_MIN_MS, "max_ms": RECONNECT_MAX_MS},
    }
    if caller.variant:
        payload["variant"] = caller.variant
    return to_json({"type": "connection.ack", "re": re, "payload": payload})
