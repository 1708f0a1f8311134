"""A connection without a socket: the reader behind Server-Sent Events and long polls.

It is a `Connection` like any other, established by an HTTP request's token and subscribed to one channel, so live and replay,
limits and gaps are the same; only the bytes go elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from hub.errors import HubError
from hub.node.connection import Connection
from hub.node.hub import Hub
from hub.node.subscribing import RefusedChannel, Wish
from hub.protocol.commands import Caller
from hub.websocket.codec import TEXT, split_frames

HIGH_BYTES: Final = 262_144
"""Waiting bytes beyond which events stay in the log, as the write mark of a socket."""


class StreamTransport:
    """Keeps what a connection writes until somebody takes it."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size_bytes = 0
        self._has_news = asyncio.Event()
        self.connection: Connection | None = None
        self.is_writable = True
        self.is_closed = False

    def write(self, frames: bytes, /) -> None:
        """Keep whole frames."""
        self._waiting.append(frames)
        self._size_bytes += len(frames)
        self._has_news.set()
        if self.is_writable and self._size_bytes > HIGH_BYTES and self.connection is not None:
            self.is_writable = False
            self.connection.writable(False)

    def close(self, code: int = 1000, reason: str = "") -> None:  # noqa: ARG002  # the port's signature
        """No more will come."""
        self.is_closed = True
        self._has_news.set()

    def abort(self) -> None:
        """No more will come."""
        self.close()

    def trust(self) -> None:
        """Nothing is read here."""

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""

    async def messages(self, timeout_s: float) -> list[bytes] | None:
        """What was written since, as JSON texts; none after `timeout_s` of silence, None after the end."""
        if not self._waiting and not self.is_closed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._has_news.wait()
            except TimeoutError:
                return []
        self._has_news.clear()
        frames, self._waiting, self._size_bytes = b"".join(self._waiting), [], 0
        if not self.is_writable and self.connection is not None:
            self.is_writable = True
            self.connection.writable(True)
        if not frames and self.is_closed:
            return None
        return [payload for opcode, payload in split_frames(frames) if opcode == TEXT]


@asynccontextmanager
async def open_stream(hub: Hub, caller: Caller, wish: Wish | RefusedChannel) -> AsyncIterator[StreamTransport]:
    """A connection that follows one channel for as long as the context lasts, or the caller's token.

    Raises:
        HubError: 4004 or 4010, too many connections; 4015, as many streams of one user as a socket may follow channels.
    """
    whose = (caller.principal.tenant, caller.principal.user)
    if hub.streams[whose] >= hub.settings.max_subscriptions:
        raise HubError(4015, "you have as many streams open as you may; a socket follows many channels at once")
    connection, transport = hub.connect(), StreamTransport()
    transport.connection = connection
    connection.attach(transport)
    hub.opened_stream(connection, caller)
    hub.streams[whose] += 1
    task = hub.spawn(hub.subscribe_all(connection, [wish]))
    try:
        yield transport
    finally:
        task.cancel()
        connection.closed(1000)
        hub.streams[whose] -= 1
        if not hub.streams[whose]:
            del hub.streams[whose]


def event_id(message: bytes) -> str | None:
    """The ID of a stored event; None for replies and signals."""
    if not message.startswith(b'{"id":"'):
        return None
    return message[7 : message.index(b'"', 7)].decode()
