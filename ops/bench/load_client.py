"""The load generator: bare sockets that count received events without parsing them. It runs in a separate process.

Events are counted by searching the received bytes for a string that occurs once in each event, which is fast enough for about
three million events a second. It only ever connects to 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, cast

MARK: Final = b'"v":1,"actor"'
"""A string that occurs once in every event and never in a reply."""
_UPGRADE: Final = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_SHORT: Final = 126


def masked(text: bytes) -> bytes:
    """A client text frame with an all-zero mask, which RFC 6455 allows and which costs nothing to apply."""
    size = len(text)
    head = bytes((0x81, 0x80 | size)) if size < _SHORT else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + text


class LoadSocket(asyncio.Protocol):
    """A socket that sends the given lines and counts events."""

    __slots__ = ("_is_open", "_lines", "_transport", "events", "on_data", "ready")

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines
        self._is_open = False
        self._transport: asyncio.Transport | None = None
        self.events = 0
        self.on_data: Callable[[LoadSocket, bytes], None] | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio when the connection is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_UPGRADE.encode())

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with received bytes; the first ones are the response to the upgrade request."""
        if not self._is_open:
            self._is_open = True
            for line in self._lines:
                self.send(line)
        self.events += data.count(MARK)
        if not self.ready.done() and b'"re":"last"' in data:
            self.ready.set_result(None)
        if self.on_data is not None:
            self.on_data(self, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """Called by asyncio when the connection is closed; fails `ready` if it is still pending."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the hub closed the socket"))

    def send(self, text: bytes) -> None:
        """Send a text message."""
        if self._transport is not None:
            self._transport.write(masked(text))

    def abort(self) -> None:
        """Close the socket at once."""
        if self._transport is not None:
            self._transport.abort()


def line(type_: str, id_: str, payload: dict[str, Any], channel: str | None = None) -> bytes:
    """The JSON of a message."""
    frame = {"type": type_, "id": id_, "payload": payload} | ({"channel": channel} if channel else {})
    return json.dumps(frame).encode()


async def connect(port: int, token: str, channels: list[str]) -> LoadSocket:
    """Open a socket that is subscribed to the channels."""
    lines = [line("connection.init", "init", {"token": token, "versions": [1]})]
    subscriptions = [{"channel": channel, "state": False} for channel in channels]
    lines.append(line("channel.subscribe", "first", {"channels": subscriptions}))
    lines.append(line("connection.heartbeat", "last", {}))
    _, protocol = await asyncio.get_running_loop().create_connection(lambda: LoadSocket(lines), "127.0.0.1", port)
    await protocol.ready
    return protocol


async def connect_many(port: int, token: str, channels: list[list[str]], at_once: int = 100) -> list[LoadSocket]:
    """Open many sockets, a hundred at a time."""
    found: list[LoadSocket] = []
    for start in range(0, len(channels), at_once):
        some = channels[start : start + at_once]
        found += await asyncio.gather(*(connect(port, token, wanted) for wanted in some))
    return found
