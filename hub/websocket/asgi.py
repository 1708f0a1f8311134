"""Serves sockets on any ASGI server: an endpoint that adapts Starlette's WebSocket to a `SocketReceiver`.

It costs one task and one queue per socket, which the protocol class for uvicorn avoids. Clients see no difference.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from hub.sockets import ReceiverFactory, SocketReceiver, Upgrade, UpgradeRefused
from hub.websocket.codec import TEXT, TOO_LARGE, split_frames
from hub.websocket.upgrade import MESSAGE_SIZE_LIMIT_BYTES, SUBPROTOCOL

_QUEUE_HIGH_BYTES = 262_144
"""High-water mark in bytes, as in the protocol class: beyond it events stay in the log."""


class AsgiTransport:
    """Writes frames through Starlette: one task sends them, everything else only queues."""

    def __init__(self, socket: WebSocket, message_size_limit_bytes: int = MESSAGE_SIZE_LIMIT_BYTES) -> None:
        self._socket = socket
        self._limit_bytes = message_size_limit_bytes
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._has_work = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._receiver: SocketReceiver | None = None
        self.is_writable = True
        self.close_code = 1006

    is_deflate = False
    """Always False: compression is left to the ASGI server."""

    def write(self, frames: bytes, /) -> None:
        """Queues complete frames."""
        if self._closing is not None:
            return
        self._waiting.append(frames)
        self._waiting_bytes += len(frames)
        self._has_work.set()
        self._tell()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes after what was written."""
        if self._closing is None:
            self._closing = (code, reason)
            self._may_read.set()
            self._has_work.set()

    def abort(self) -> None:
        """Closes without waiting for queued frames: the closest to a reset that ASGI allows."""
        self._waiting.clear()
        self.close(1011)

    def trust(self) -> None:
        """Does nothing: the ASGI server has one limit for all messages."""

    def pause_reading(self) -> None:
        """Stops receiving messages."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Receives messages again."""
        self._may_read.set()

    async def serve(self, receiver: SocketReceiver, upgrade: Upgrade) -> None:
        """Runs the socket until it has closed."""
        self._receiver = receiver
        sender = asyncio.create_task(self._send())
        try:
            receiver.opened(self, upgrade)
            await self._receive(receiver)
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError):
                await sender
            receiver.closed(self.close_code)

    async def _receive(self, receiver: SocketReceiver) -> None:
        while True:
            await self._may_read.wait()
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                self.close_code = message.get("code") or 1005
                return
            text = message.get("text")
            data = message["bytes"] if text is None else text.encode()
            if self._closing is not None:
                continue
            if len(data) > self._limit_bytes:  # the ASGI server may have a higher limit
                self.close(TOO_LARGE, f"a message may have at most {self._limit_bytes} bytes")
            elif text is None:
                receiver.binary(data)
            else:
                receiver.text(data)

    async def _send(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            frames, self._waiting = b"".join(self._waiting), []
            with suppress(WebSocketDisconnect, RuntimeError):  # the peer has left, which the receiving task sees too
                for opcode, payload in split_frames(frames):
                    if opcode == TEXT:
                        await self._socket.send_text(payload.decode())
                    else:
                        await self._socket.send_bytes(payload)
                if self._closing is not None and not self._waiting:
                    await self._socket.close(*self._closing)
            self._waiting_bytes = sum(map(len, self._waiting))
            self._tell()

    def _tell(self) -> None:
        is_writable = self._waiting_bytes < _QUEUE_HIGH_BYTES
        if is_writable is not self.is_writable and self._receiver is not None:
            self.is_writable = is_writable
            self._receiver.writable(is_writable)


async def serve_websocket(
    socket: WebSocket, factory: ReceiverFactory, message_size_limit_bytes: int = MESSAGE_SIZE_LIMIT_BYTES
) -> None:
    """Accepts a socket and passes its events to a receiver from `factory`."""
    offered = socket.scope.get("subprotocols", [])
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
    headers = {name.lower().encode(): value.encode("latin-1") for name, value in socket.headers.items()}
    client = (socket.client.host, socket.client.port) if socket.client else None
    prefix = socket.scope.get("root_path", "").rstrip("/")
    path = socket.url.path.removeprefix(prefix)
    _, port = socket.scope.get("server") or ("", None)
    upgrade = Upgrade(path, socket.url.query, headers, client, subprotocol, prefix, socket.scope, port)
    try:
        receiver = factory(upgrade)
    except UpgradeRefused:
        await socket.close()
        return
    await socket.accept(subprotocol)
    transport = AsgiTransport(socket, message_size_limit_bytes)
    await transport.serve(receiver, upgrade)
    if socket.application_state is not WebSocketState.DISCONNECTED and transport.close_code == 1006:  # noqa: PLR2004
        await socket.close(1011)
