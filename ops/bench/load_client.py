"""Clients that only store what they receive: bare sockets to a node on 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, cast

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
    """A socket that sends the given lines once it is open, and passes what it receives afterwards to `listen`'s callback."""

    __slots__ = ("_is_open", "_lines", "_on_data", "_transport", "ready")

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines
        self._is_open = False
        self._transport: asyncio.Transport | None = None
        self._on_data: Callable[[bytes], None] | None = None
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
        if not self.ready.done() and b'"re":"last"' in data:
            self.ready.set_result(None)
        if self._on_data is not None:
            self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """Called by asyncio when the connection is closed; fails `ready` if it is still pending."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the hub closed the socket"))

    def listen(self, on_data: Callable[[bytes], None]) -> None:
        """Call `on_data` with all bytes received from now on."""
        self._on_data = on_data

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


async def connect(port: int, token: str, channel: str) -> LoadSocket:
    """Open a socket that is subscribed to the channel."""
    lines = [
        line("connection.init", "init", {"token": token, "versions": [1]}),
        line("channel.subscribe", "first", {"channels": [{"channel": channel, "state": False}]}),
        line("connection.heartbeat", "last", {}),
    ]
    _, protocol = await asyncio.get_running_loop().create_connection(lambda: LoadSocket(lines), "127.0.0.1", port)
    await protocol.ready
    return protocol


async def connect_many(port: int, token: str, channels: list[str], at_once: int = 100) -> list[LoadSocket]:
    """Open a socket for each channel, a hundred at a time."""
    found: list[LoadSocket] = []
    for start in range(0, len(channels), at_once):
        found += await asyncio.gather(*(connect(port, token, one) for one in channels[start : start + at_once]))
    return found
