"""docs/a-message.md names the files that a chat.message runs through: counted here during real publishes, and compared."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from websockets.sync.client import ClientConnection, connect

from support.nodes import Node, running_node, token

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "a-message.md"
CHANNEL: Final = "conversation:42"
PUBLISHES: Final = 9
"""A file that few of them run through, such as that of a timer that was due just then, is not part of the way."""
SOCKET_TO_STREAM_MAX: Final = 16
STREAM_TO_SUBSCRIBER_MAX: Final = 9


class Way:
    """The repository's files that run between bytes that come in and bytes that go out, in order.

    Args:
        enters: the folder of the protocol whose `data_received` begins it; a later one begins it anew.
        carries: what is in the bytes whose `write` ends it.
        peer_port: of the connection they are written to; None for any.
    """

    def __init__(self, enters: str, carries: bytes, peer_port: int | None = None) -> None:
        self._enters, self._carries, self._peer_port = enters, carries, peer_port
        self._seen: dict[str, None] | None = None
        self.files: list[str] = []

    def call(self, file: str, frame: FrameType) -> None:
        """A Python function is called. asyncio's own transports are Python, so their `write` shows what is written."""
        name = frame.f_code.co_name
        if name == "data_received" and file.startswith(self._enters):
            self._seen = {}
        if self._seen is None or self.files:
            return
        if name == "write" and file.endswith("asyncio/selector_events.py"):
            if self._is_end(frame.f_locals["self"], bytes(frame.f_locals["data"])):
                self.files = list(self._seen)
        elif not file.startswith(("/", "<")):
            self._seen[file] = None

    def _is_end(self, transport: asyncio.Transport, data: bytes) -> bool:
        if self._carries not in data:
            return False
        return self._peer_port is None or self._peer_port == transport.get_extra_info("peername")[1]


class Client:
    """A client in threads of its own, whose code is no part of the way."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.port: int = socket.local_address[1]

    async def send(self, id_: str, type_: str, payload: dict[str, Any], channel: str | None = None) -> None:
        """Send a command."""
        message = {"type": type_, "id": id_, "payload": payload} | ({"channel": channel} if channel else {})
        await asyncio.to_thread(self._socket.send, json.dumps(message))

    async def until(self, type_: str) -> None:
        """Read until a message of a type."""
        while json.loads(await asyncio.to_thread(self._socket.recv, 20))["type"] != type_:
            pass


@asynccontextmanager
async def connected(node: Node, tenant: str, user: str, *channels: str) -> AsyncIterator[Client]:
    """A client that follows these channels."""
    opening = await asyncio.to_thread(connect, node.ws_url)
    socket = await asyncio.to_thread(opening.__enter__)
    client = Client(socket)
    await client.send("1", "connection.init", {"token": token(user, tenant), "versions": [1], "channels": channels})
    for _ in ("inbox", *channels):
        await client.until("channel.subscribed")
    yield client
    await asyncio.to_thread(socket.close)


async def ways(redis_url: str, tenant: str) -> list[tuple[list[str], list[str]]]:
    """Of each publish, once everything is warm: the files from socket to stream, and from stream to another's socket."""
    found = []
    async with (
        running_node(redis_url, compression="off") as here,
        running_node(redis_url, compression="off") as there,
        connected(here, tenant, "alice", CHANNEL) as writer,
        connected(there, tenant, "bob", CHANNEL) as reader,
    ):
        for number in range(PUBLISHES + 1):
            text = f"the-way-of-{number}"
            to_stream = Way("hub/websocket/", b"EVALSHA")
            to_subscriber = Way("streams/redis/", text.encode(), reader.port)

            def see(frame: FrameType, event: str, _: object, to: Way = to_stream, back: Way = to_subscriber) -> None:
                file = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
                if event == "call" and not file.startswith(("tests/", ".venv/")):
                    (back if to.files else to).call(file, frame)

            sys.setprofile(see)
            try:
                await writer.send(f"c{number}", "chat.message", {"text": text}, CHANNEL)
                await reader.until("chat.message")
            finally:
                sys.setprofile(None)
            await writer.until("message.received")
            found.append((to_stream.files, to_subscriber.files))
    return found[1:]


def listed(heading: str) -> list[str]:
    """The files of one section of the page, in order."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    return re.findall(r"^\d+\. `([^`]+)`", rest.partition("\n## ")[0], re.MULTILINE)


def usual(lists: Sequence[list[str]]) -> set[str]:
    """The files that most publishes ran through: both nodes share a loop, so a callback may come in between, or begin it anew."""
    counts = Counter(file for files in lists for file in set(files))
    return {file for file, count in counts.items() if count > len(lists) / 2}


@pytest.mark.interpreted
async def test_the_page_names_the_files_a_message_runs_through(redis_url: str, tenant: str) -> None:
    """All of them, and no more than were aimed at."""
    to_stream, to_subscriber = map(usual, zip(*await ways(redis_url, tenant), strict=True))

    assert set(listed("From the socket to the stream")) == to_stream
    assert set(listed("From the stream to a subscriber")) == to_subscriber
    assert len(to_stream) <= SOCKET_TO_STREAM_MAX
    assert len(to_subscriber) <= STREAM_TO_SUBSCRIBER_MAX
