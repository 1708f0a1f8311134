"""One WebSocket of the client, from its upgrade to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as sockets
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from hub.client.compression import OfferDeflate
from hub.client.errors import ConnectionRefused, Retry

_SUBPROTOCOL: Final = Subprotocol("hub.v1.json")
_OPEN_S: Final = 10.0
"""Seconds for TCP, TLS and the upgrade."""
_CLOSE_S: Final = 1.0
"""Seconds for the closing handshake; a socket with a full backlog may not get to it."""
_SERVER_FAULT: Final = 500
_TEMPORARY: Final = (408, 425, 429)
"""HTTP answers below 500 to an upgrade that are worth another try."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class WebSocket:
    """An open socket.

    Attributes:
        recv: takes the next message; raises `ConnectionClosed` at the end.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.recv: Callable[[], Awaitable[str]] = partial(connection.recv, decode=True)

    @classmethod
    async def open(cls, url: str) -> Self:
        """Opens a socket.

        Raises:
            ConnectionRefused: the upgrade was answered with an HTTP status that does not pass by itself.
            Exception: whatever a network or a proxy makes of it.
        """
        try:
            connection = await connect(
                url,
                subprotocols=[_SUBPROTOCOL],
                compression=None,
                extensions=[OfferDeflate()],
                max_size=None,
                open_timeout=_OPEN_S,
                close_timeout=_CLOSE_S,
                ping_interval=None,
            )
        except InvalidStatus as answer:
            status = answer.response.status_code
            if status >= _SERVER_FAULT or status in _TEMPORARY:
                raise
            message = f"{url} answered the upgrade with HTTP {status}"
            raise ConnectionRefused(
                {"code": status, "name": "upgrade_refused", "message": message, "retry": Retry.NO}
            ) from answer
        return cls(connection)

    @property
    def close_code(self) -> int | None:
        """The close code; None while it is open, 1006 if none was received."""
        return self._connection.close_code

    async def send(self, message: bytes) -> None:
        """Sends one message.

        Raises:
            ConnectionClosed: it has ended.
        """
        await self._connection.send(message, text=True)

    async def close(self) -> None:
        """Closes with a close frame, discarding messages that the hub sent before it saw it. Bounded by the close timeout."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connection.close())
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self._connection.recv(decode=False)

    def abort(self) -> None:
        """Drops the TCP connection."""
        self._connection.transport.abort()

    def cut(self) -> None:
        """Resets the TCP connection without a close frame."""
        transport = self._connection.transport
        number = int(transport.get_extra_info("socket").fileno())
        with contextlib.suppress(OSError), sockets.socket(fileno=os.dup(number)) as same:
            same.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    async def wait_closed(self) -> None:
        """Waits until nothing of it is left."""
        await self._connection.wait_closed()
