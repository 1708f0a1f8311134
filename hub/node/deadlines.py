"""What a connection must do by when: say who it is, give signs of life, renew its token. One timer for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from hub.errors import HubError
from hub.node.timers import DeadlineWheel
from hub.protocol.commands import Caller
from hub.protocol.messages import reply
from hub.websocket.codec import encode_text
from streams.json_bytes import to_json

if TYPE_CHECKING:
    from hub.node.connection import Connection
    from hub.node.hub import Hub

EXPIRY_NOTICE_S: Final = 60.0
"""`connection.expiring` is sent so long before the token ends."""


class Deadlines:
    """The deadlines of one node's connections."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        settings = hub.settings
        self._handshake_s, self._silence_s = settings.handshake_timeout_s, 2 * settings.heartbeat_interval_s
        tick_s = min(1.0, settings.heartbeat_interval_s / 4, settings.handshake_timeout_s / 4)
        self._wheel: DeadlineWheel[Connection] = DeadlineWheel(tick_s)

    def add(self, connection: Connection) -> None:
        """A new connection: it must say who it is in time."""
        self._look_at(connection, connection.opened_at + self._handshake_s)

    def _look_at(self, connection: Connection, at_s: float) -> None:
        """Look at it then, and not when it was to be looked at before: those entries are passed over as they come out.

        Without that each refresh would leave one more that is put again for ever.
        """
        connection.look_at = at_s
        self._wheel.put(connection, at_s)

    def look_soon(self, connection: Connection) -> None:
        """Its token has changed: look with the next tick."""
        connection.is_expiry_told = False
        if connection.look_at > (now := self._hub.monotonic()):
            self._look_at(connection, now)

    async def watch(self) -> None:
        """Look at each connection when its next deadline has come, for ever."""
        while True:
            await asyncio.sleep(self._wheel.tick_s)
            now = self._hub.monotonic()
            for connection in self._wheel.due(now):
                if connection.look_at <= now and connection in self._hub.connections:
                    self._check(connection, now)

    def _check(self, connection: Connection, now: float) -> None:
        caller = connection.session.caller
        if caller is None:
            if now >= connection.opened_at + self._handshake_s:
                connection.fail(HubError(4008, "no connection.init in time"))
            else:
                self.add(connection)
            return
        silent_at = connection.heard_at + self._silence_s
        if now >= silent_at:
            connection.fail(HubError(4016, "nothing was heard for two heartbeats"))
            return
        self._look_at(connection, min(silent_at, now + self._check_token(connection, caller)))

    def _check_token(self, connection: Connection, caller: Caller) -> float:
        """Warn or close for the token's end; returns the seconds until the next look."""
        services = self._hub.services
        now = services.now()
        try:
            services.verifier.recheck(caller.principal, now)
        except HubError as error:
            connection.fail(error)
            return 1.0
        left_s = caller.principal.expires_at - now
        if left_s > EXPIRY_NOTICE_S:
            return left_s - EXPIRY_NOTICE_S
        if not connection.is_expiry_told:
            connection.is_expiry_told = True
            payload = to_json({"in_ms": int(left_s * 1000)})
            connection.push(encode_text(reply("connection.expiring", None, None, payload)))
        return left_s
