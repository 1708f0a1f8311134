"""Document cursors that exceed their rate: the newest one of each client is sent a moment later (docs/protocol.md#rates).

So a user who moves fast and then stops is shown at the right place; only positions in between are skipped. This is no
queue: it holds one cursor per client and document, and a newer one replaces it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hub.limits.rates import RateLimiter
from hub.node.connection import Connection
from hub.ports import Clock
from hub.protocol.commands import Command
from hub.protocol.session import SessionState

RETRY_S: Final = 0.05
"""Seconds until delayed cursors are tried again: one interval of the class's rate. The bucket has nothing new before."""
DOCUMENTS_MAX: Final = 16
"""Maximum documents per client with a delayed cursor; cursors in further documents are dropped. A cursor has up to 3 KB."""


class LateCursors:
    """The delayed cursors of one node, with one timer that runs only while there are any."""

    def __init__(self, limiter: RateLimiter, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock
        self._is_closed = False
        self._kept: dict[Connection, dict[str, Command]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, connection: Connection, command: Command) -> None:
        """Keeps a cursor that exceeded its rate, to be sent later unless a newer one is sent before."""
        kept = self._kept.setdefault(connection, {})
        if command.place.wire in kept or len(kept) < DOCUMENTS_MAX:
            kept[command.place.wire] = command
        self._start()

    def outdated(self, connection: Connection, wire: str) -> None:
        """Discards a client's delayed cursor in a document: a newer one was sent, or the client no longer follows the document."""
        if self._kept and (kept := self._kept.get(connection)) is not None:
            kept.pop(wire, None)

    def drop(self, connection: Connection) -> None:
        """Discards all delayed cursors of a client that has disconnected."""
        self._kept.pop(connection, None)

    def close(self) -> None:
        """Stops sending."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        if self._timer is None and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._send)

    def _send(self) -> None:
        self._timer = None
        for connection, kept in list(self._kept.items()):
            for wire, command in list(kept.items()):
                if not self._send_one(connection, command):
                    break
                kept.pop(wire, None)
            if not kept:
                self._kept.pop(connection, None)
        if self._kept:
            self._start()

    def _send_one(self, connection: Connection, command: Command) -> bool:
        """Tries to send a cursor; returns True if it was sent or must not be sent any more."""
        caller = connection.session.caller
        if caller is None or connection.session.state is not SessionState.READY:
            return True
        if connection.is_busy:  # it may need the log, and of a socket's commands one does at a time
            return False
        principal = caller.principal
        if not principal.grants.allows(command.place.wire, "write"):
            return True
        if self._limiter.take((principal.tenant, principal.user), "cursor", self._clock.monotonic()) is not None:
            return False
        connection.route(command._replace(caller=caller))
        return True
