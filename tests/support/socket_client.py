"""A minimal WebSocket client for tests: sends messages, waits for types, and keeps everything. It shares no code with the hub."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

TIMEOUT_S = 60.0
Json = dict[str, Any]


class SocketClient:
    """One socket.

    `seen` has all messages in order of arrival, `raw` the text frames in which they came, `sent` those sent by `send`.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen: list[Json] = []
        self.raw: list[str] = []
        self.sent: list[Json] = []
        self._at = 0
        self._ids = itertools.count(1)

    async def send(
        self, type_: str, payload: Json | None = None, channel: str | None = None, id_: str | None = "auto"
    ) -> str:
        """Send a message; returns its ID."""
        frame: Json = {"type": type_, "payload": payload or {}}
        if id_ == "auto":
            id_ = f"t{next(self._ids)}"
        if id_ is not None:
            frame["id"] = id_
        if channel is not None:
            frame["channel"] = channel
        self.sent.append(frame)
        await self.socket.send(json.dumps(frame))
        return id_ or ""

    async def send_raw(self, data: str | bytes) -> None:
        """Send text or bytes unchanged."""
        await self.socket.send(data)

    async def next(self, timeout_s: float = TIMEOUT_S) -> Json:
        """The next message that was not yet returned; arrays are split."""
        while self._at >= len(self.seen):
            async with asyncio.timeout(timeout_s):
                text = await self.socket.recv()
            value = json.loads(text)
            self.raw.append(text if isinstance(text, str) else text.decode())
            self.seen.extend(value if isinstance(value, list) else [value])
        self._at += 1
        return self.seen[self._at - 1]

    async def expect(self, type_: str, **fields: Any) -> Json:
        """The next message of this type with these fields; others are skipped (they stay in `seen`)."""
        while True:
            frame = await self.next()
            if frame["type"] == type_ and all(frame.get(name) == value for name, value in fields.items()):
                return frame

    async def event(self, type_: str, **fields: Any) -> Json:
        """The payload of the first event or signal of this type with these fields, among those received or still to come."""
        at = 0
        while True:
            for frame in self.seen[at:]:
                if frame["type"] == type_ and "re" not in frame and fields.items() <= frame["payload"].items():
                    found: Json = frame["payload"]
                    return found
            at = len(self.seen)
            await self.next()

    async def answer(self, type_: str, payload: Json | None = None, channel: str | None = None) -> Json:
        """Send a command and return its reply or error."""
        id_ = await self.send(type_, payload, channel)
        while True:
            frame = await self.next()
            if frame.get("re") == id_:
                return frame

    async def say(self, channel: str, text: str) -> Json:
        """Send a chat message and return its reply."""
        return await self.answer("chat.message", {"text": text}, channel)

    async def subscribe(self, channel: str, **wish: Any) -> Json:
        """Subscribe and return the payload of `channel.subscribed`."""
        frame = await self.answer("channel.subscribe", {"channels": [{"channel": channel, **wish}]})
        assert frame["type"] == "channel.subscribed", frame
        payload: Json = frame["payload"]
        return payload

    async def events(self, count: int) -> list[Json]:
        """The next `count` stored events; other messages are skipped."""
        found: list[Json] = []
        while len(found) < count:
            frame = await self.next()
            if "seq" in frame:
                found.append(frame)
        return found

    async def closed(self) -> int:
        """Read until the socket is closed; returns the close code."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006

    def reset(self) -> None:
        """Close with a TCP reset, without a Close frame."""
        self.socket.transport.abort()


@contextlib.asynccontextmanager
async def raw_client(ws_url: str, **options: Any) -> AsyncIterator[SocketClient]:
    """Open a socket without the hub's handshake."""
    options.setdefault("max_size", 2**26)
    options.setdefault("open_timeout", TIMEOUT_S)
    options.setdefault(
        "ping_interval", None
    )  # the node watches the connection; a client of its own mind would cut it under load
    async with connect(ws_url, subprotocols=["hub.v1.json"], compression=None, **options) as socket:
        yield SocketClient(socket)


@contextlib.asynccontextmanager
async def client(ws_url: str, token: str, **payload: Any) -> AsyncIterator[SocketClient]:
    """Open a socket and complete `connection.init`."""
    async with raw_client(ws_url) as found:
        ack = await found.answer("connection.init", {"token": token, "versions": [1], **payload})
        assert ack["type"] == "connection.ack", ack
        await found.expect("channel.subscribed")
        yield found


@contextlib.asynccontextmanager
async def devices(
    ws_url: str, tokens: Iterable[str], channel: str, **payload: Any
) -> AsyncIterator[list[SocketClient]]:
    """Open a socket for each token, each following the channel from its beginning; no two use the same command ID."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number, token in enumerate(tokens, 1):
            socket = await stack.enter_async_context(client(ws_url, token, **payload))
            socket._ids = itertools.count(1000 * number)
            await socket.subscribe(channel, after="0")
            found.append(socket)
        yield found
