"""Server-Sent Events: a channel as any browser's EventSource reads it, with our cursor as `Last-Event-ID`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from hub.errors import HubError
from hub.http.api import readable_channel
from hub.http.bearer import caller_of
from hub.http.stream import event_id, open_stream
from hub.node.hub import Hub
from hub.node.subscribing import Wish
from hub.protocol.commands import Caller
from streams.cursor import LIVE, Cursor
from streams.errors import MalformedCursor
from streams.ids import id_order

router = APIRouter()


@router.get("/v1/channels/{channel}/stream")
async def stream(
    request: Request, channel: str, after: str | None = None, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    """Events as they come, after the cursor given. `Last-Event-ID` wins over `after`: the browser sends it on reconnect."""
    hub, caller = await caller_of(request)
    place = readable_channel(hub, caller, channel)
    cursor = last_event_id or after or LIVE
    if cursor != LIVE:
        try:
            id_order(cursor)
        except MalformedCursor as error:
            raise HubError(4005, str(error)) from None
    wish = Wish(place, Cursor(cursor), wants_state=False)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    lines = _lines(hub, caller, wish)
    first = await anext(lines)  # a refusal is still an answer of its own here
    return StreamingResponse(_go_on(first, lines), media_type="text/event-stream", headers=headers)


async def _go_on(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for line in rest:
            yield line


async def _lines(hub: Hub, caller: Caller, wish: Wish) -> AsyncGenerator[bytes, None]:
    async with open_stream(hub, caller, wish) as transport:
        yield b": open\n\n"
        while (messages := await transport.messages(hub.settings.heartbeat_interval_s)) is not None:
            yield b"".join(map(_line, messages)) if messages else b": still here\n\n"


def _line(message: bytes) -> bytes:
    known_id = event_id(message)
    head = b"id: " + known_id.encode() + b"\n" if known_id else _name(message)
    return head + b"data: " + message + b"\n\n"


def _name(message: bytes) -> bytes:
    """Replies get an SSE event name, so that a plain `onmessage` hears stored events and signals only."""
    if not message.startswith(b'{"type":"c'):
        return b""
    name = message[9 : message.index(b'"', 9)]
    return (
        b"event: " + name + b"\n"
        if name in {b"channel.subscribed", b"channel.resumed", b"connection.error", b"connection.drain"}
        else b""
    )
