"""A client as one writes it in an hour: it follows, reconnects and sends again, and keeps no promise. No case may pass with it."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

PAUSE_S = 0.05  # before it connects again


def tell(**what: Any) -> None:
    """Tells one thing."""
    print(json.dumps(what), flush=True)


def show(frame: dict[str, Any]) -> None:
    """Tells what comes, as it comes."""
    payload = frame.get("payload", {})
    if "seq" in frame:
        tell(saw="event", seq=frame["seq"], text=payload["text"], way="websocket")
    elif frame["type"] == "channel.subscribed":
        tell(saw="subscribed")
    elif frame["type"] == "message.received":
        tell(saw="stored", id=frame["re"], seq=payload["seq"])


class Naive:
    """Holds one socket at a time."""

    def __init__(self, url: str, token: str, *, returns: bool) -> None:
        self._returns = returns
        self._url, self._token = f"{url.replace('http', 'ws')}/ws", token
        self._numbers = itertools.count(1)
        self._wanted: list[dict[str, Any]] = []
        self._socket: ClientConnection | None = None
        self._connected = asyncio.Event()

    async def listen(self) -> None:
        """Connects again and again."""
        while self._socket is None or self._returns:
            try:
                async with connect(self._url) as socket:
                    who = {"token": self._token, "versions": [1], "capabilities": ["batch"]}
                    await self._send(socket, "connection.init", payload=who | {"channels": self._wanted})
                    self._socket = socket
                    self._connected.set()
                    async for text in socket:
                        found = json.loads(text)
                        for frame in found if isinstance(found, list) else [found]:
                            show(frame)
            except (OSError, EOFError, WebSocketException):
                await asyncio.sleep(PAUSE_S)

    async def do(self, told: dict[str, str]) -> None:
        """Does what a line says; what cannot be sent is lost."""
        await self._connected.wait()
        assert self._socket is not None
        channel = told["channel"]
        try:
            if told["do"] == "follow":
                self._wanted.append({"channel": channel, "after": told["after"]})
                await self._send(self._socket, "channel.subscribe", payload={"channels": self._wanted})
            else:
                text = {"text": told["text"]}
                await self._send(self._socket, "chat.message", id=told["id"], channel=channel, payload=text)
        except WebSocketException:
            return

    async def _send(self, socket: ClientConnection, kind: str, **fields: Any) -> None:
        await socket.send(json.dumps({"type": kind, "id": f"n{next(self._numbers)}", **fields}))


async def main(url: str, token: str, returns: bool) -> None:
    """Runs until standard input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    naive = Naive(url, token, returns=returns)
    listening = asyncio.create_task(naive.listen())
    while line := await reader.readline():
        await naive.do(json.loads(line))
    listening.cancel()


asyncio.run(main(sys.argv[1], sys.argv[2].split(",")[0], sys.argv[3] == "returns"))
