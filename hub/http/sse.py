"""Server-Sent Events: one channel for a browser's EventSource, with our cursor as `Last-Event-ID`.

Streams and long polls read through a `Connection` without a socket: it is authenticated by the request's token and
subscribed to one channel. So live events, replay, limits and gaps work as on a socket; only the output differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from hub.errors import HubError
from hub.http.requests import ChannelPath, caller_of, readable_channel
from hub.node.hub import Hub
from hub.protocol.commands import Caller
from hub.protocol.subscription import RefusedChannel, SubscribeRequest
from hub.websocket.codec import TEXT, split_frames
from streams.cursor import LIVE, Cursor, id_order
from streams.errors import MalformedCursor

HIGH_BYTES: Final = 262_144
"""High-water mark: with more bytes waiting to be sent, further events stay in the log, as with a socket's write buffer."""


class StreamTransport:
    """Buffers the messages that a connection writes until the response sends them."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size_bytes = 0
        self._has_news = asyncio.Event()
        self._on_writable: Callable[[bool], None] = lambda _is_writable: None
        self.is_writable = True
        self.is_deflate = False
        self.is_closed = False

    def tell_writable(self, on_writable: Callable[[bool], None]) -> None:
        """Registers a callback: it is called with False when too much is buffered, and with True once that was taken."""
        self._on_writable = on_writable

    def write(self, frames: bytes, /) -> None:
        """Buffers complete frames."""
        self._waiting.append(frames)
        self._size_bytes += len(frames)
        self._has_news.set()
        if self.is_writable and self._size_bytes > HIGH_BYTES:
            self.is_writable = False
            self._on_writable(False)

    def close(self, code: int = 1000, reason: str = "") -> None:  # noqa: ARG002  # the port's signature
        """Records that nothing more will be written."""
        self.is_closed = True
        self._has_news.set()

    def abort(self) -> None:
        """Records that nothing more will be written."""
        self.close()

    def trust(self) -> None:
        """Does nothing: a stream receives no messages, so there is no size limit to raise."""

    def pause_reading(self) -> None:
        """Does nothing: a stream receives no messages."""

    def resume_reading(self) -> None:
        """Does nothing: a stream receives no messages."""

    async def messages(self, timeout_s: float) -> list[bytes] | None:
        """Takes the messages buffered so far, as JSON; an empty list after `timeout_s` without any, None after the end."""
        if not self._waiting and not self.is_closed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._has_news.wait()
            except TimeoutError:
                return []
        self._has_news.clear()
        frames, self._waiting, self._size_bytes = b"".join(self._waiting), [], 0
        if not self.is_writable:
            self.is_writable = True
            self._on_writable(True)
        if not frames and self.is_closed:
            return None
        return [payload for opcode, payload in split_frames(frames) if opcode == TEXT]


@asynccontextmanager
async def open_stream(
    hub: Hub, caller: Caller, wanted: SubscribeRequest | RefusedChannel
) -> AsyncIterator[StreamTransport]:
    """Opens a connection that follows one channel until the context exits or the caller's token expires.

    Raises:
        HubError: 4004 or 4010: too many connections; 4015: the user has as many streams as a socket may follow channels.
    """
    whose = caller.principal.payer
    if hub.streams[whose] >= hub.settings.max_subscriptions:
        raise HubError(4015, "you have reached your limit of streams; use a WebSocket, which can follow many channels")
    transport = StreamTransport()
    connection = hub.open_stream(transport, caller)
    transport.tell_writable(connection.writable)
    hub.streams[whose] += 1
    task = hub.spawn(connection.subscribe([wanted]))
    try:
        yield transport
    finally:
        task.cancel()
        connection.closed(1000)
        hub.streams[whose] -= 1
        if not hub.streams[whose]:
            del hub.streams[whose]


def event_id(message: bytes) -> str | None:
    """Returns the id of a stored event; None for replies and signals."""
    if not message.startswith(b'{"id":"'):
        return None
    return message[7 : message.index(b'"', 7)].decode()


router = APIRouter()


@router.get("/v1/channels/{channel}/stream")
async def stream(
    request: Request,
    channel: ChannelPath,
    after: Annotated[
        str | None, Query(description="the id of the last event seen; new events only if left out")
    ] = None,
    last_event_id: Annotated[str | None, Header(description="as `after`, for browsers that reconnect")] = None,
) -> StreamingResponse:
    """Streams events after a cursor. `Last-Event-ID` takes precedence over `after`, since browsers send it on reconnect."""
    hub, caller = await caller_of(request)
    place = await readable_channel(hub, caller, channel)
    cursor = last_event_id or after or LIVE
    if cursor != LIVE:
        try:
            id_order(cursor)
        except MalformedCursor as error:
            raise HubError(4005, str(error)) from None
    wanted = SubscribeRequest(place, Cursor(cursor), wants_state=False)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    lines = _lines(hub, caller, wanted)
    first = await anext(lines)  # until here a refusal can still be answered with its own status
    return StreamingResponse(_go_on(first, lines), media_type="text/event-stream", headers=headers)


async def _go_on(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for line in rest:
            yield line


async def _lines(hub: Hub, caller: Caller, wanted: SubscribeRequest) -> AsyncGenerator[bytes, None]:
    async with open_stream(hub, caller, wanted) as transport:
        yield b": open\n\n"
        while (messages := await transport.messages(hub.settings.heartbeat_interval_s)) is not None:
            yield b"".join(map(_line, messages)) if messages else b": still here\n\n"


def _line(message: bytes) -> bytes:
    known_id = event_id(message)
    head = b"id: " + known_id.encode() + b"\n" if known_id else _name(message)
    return head + b"data: " + message + b"\n\n"


def _name(message: bytes) -> bytes:
    """Returns the SSE event name of a reply. Events and signals have none, so that `onmessage` receives only those."""
    if not message.startswith(b'{"type":"c'):
        return b""
    name = message[9 : message.index(b'"', 9)]
    return (
        b"event: " + name + b"\n"
        if name in {b"channel.subscribed", b"channel.resumed", b"connection.error", b"connection.drain"}
        else b""
    )
