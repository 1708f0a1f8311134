"""Compression as clients see it: agreed on by default, for the contents of channels from 1 KiB on, made once for all."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.extensions import ClientExtensionFactory, Extension
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.typing import ExtensionParameter

from hub.client import Event, HubClient
from hub.client.compression import LongTextDeflate
from hub.ports import Encoding
from hub.sockets import Upgrade
from hub.websocket.codec import TEXT, inflate, split_frames
from support.nodes import Node, running_node, token
from support.socket_client import SocketClient, client
from support.until import until

TALK = "conversation:talk"
LONG = "all the same words " * 100
FOLLOWERS = 1_000


class Watching(PerMessageDeflate):
    """The extension of `websockets`, which keeps for each text that came: compressed or not, its bytes there, and what it says."""

    came: list[tuple[bool, int, Any]]

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        plain = super().decode(frame, max_size=max_size)
        if frame.opcode is Opcode.TEXT:
            self.came.append((frame.rsv1, len(frame.data), json.loads(bytes(plain.data))))
        return plain

    @classmethod
    def like(cls, other: PerMessageDeflate) -> Watching:
        """One with what was agreed on."""
        made = cls(
            other.remote_no_context_takeover,
            other.local_no_context_takeover,
            other.remote_max_window_bits,
            other.local_max_window_bits,
        )
        made.came = []
        return made


class WatchingFactory(ClientPerMessageDeflateFactory):
    """Offers what it is told to."""

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> PerMessageDeflate:
        self.params = list(params)
        return Watching.like(super().process_response_params(params, accepted_extensions))


@asynccontextmanager
async def compressed(
    node: Node, tenant: str, user: str, **capabilities: Any
) -> AsyncIterator[tuple[SocketClient, Watching]]:
    """A client that agreed on compression and is ready."""
    factory: ClientExtensionFactory = WatchingFactory()
    async with connect(
        node.ws_url, subprotocols=["hub.v1.json"], compression=None, extensions=[factory], max_size=None
    ) as socket:
        found = SocketClient(socket)
        ack = await found.answer("connection.init", {"token": token(user, tenant), "versions": [1], **capabilities})
        assert ack["type"] == "connection.ack"
        await found.expect("channel.subscribed")
        [extension] = socket.protocol.extensions
        assert isinstance(extension, Watching)
        yield found, extension


@pytest.mark.parametrize(
    "offer",
    [
        {},
        {"client_max_window_bits": None},
        {"client_max_window_bits": 10},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 15},
    ],
)
async def test_offers_are_accepted_without_context_takeover(redis_url: str, offer: dict[str, Any]) -> None:
    """An independent client offers to keep contexts: both are declined in the answer, and it goes on."""
    factory = WatchingFactory(**offer)
    async with running_node(redis_url) as node, connect(node.ws_url, compression=None, extensions=[factory]) as socket:
        [extension] = socket.protocol.extensions
        assert isinstance(extension, PerMessageDeflate)
        assert (extension.remote_no_context_takeover, extension.local_no_context_takeover) == (True, True)


@pytest.mark.parametrize(
    ("extensions", "changes"),
    [
        ([ClientPerMessageDeflateFactory(server_max_window_bits=10)], {}),
        ([WatchingFactory()], {"compression": "off"}),
    ],
    ids=["a window of another size", "switched off"],
)
async def test_other_offers_are_declined_and_the_socket_works(
    redis_url: str, tenant: str, extensions: list[ClientExtensionFactory], changes: dict[str, Any]
) -> None:
    """Without an answer there is no extension, as RFC 6455 section 9.1 has it."""
    async with (
        running_node(redis_url, **changes) as node,
        connect(node.ws_url, compression=None, extensions=extensions, subprotocols=["hub.v1.json"]) as socket,
    ):
        assert socket.protocol.extensions == []
        answer = await SocketClient(socket).answer("connection.init", {"token": token("ann", tenant), "versions": [1]})
        assert answer["type"] == "connection.ack"


async def test_contents_of_a_kibibyte_are_compressed_and_nothing_else(redis_url: str, tenant: str) -> None:
    """Events, states and pages of history; short ones and answers go as they are. Every reader gets the same."""
    async with running_node(redis_url) as node, compressed(node, tenant, "ann") as (ann, wire):
        await ann.subscribe(TALK)
        for number in range(3):
            await ann.say(TALK, f"{number} {LONG}")
            await ann.say(TALK, f"{number} short")
        while len(events := [frame for frame in ann.seen if "seq" in frame]) < 6:
            await ann.next()
        page = await ann.answer("channel.history", {"limit": 10}, TALK)
        async with (
            compressed(node, tenant, "bob") as (bob, second),
            compressed(node, tenant, "eve", capabilities=["batch"]) as (
                eve,
                third,
            ),
        ):
            state = await bob.subscribe(TALK)
            await eve.subscribe(TALK, after=events[0]["id"], epoch=state["epoch"])
            again = await eve.events(5)
        plain_bytes = [len(json.dumps(value, separators=(",", ":"))) for _, _, value in wire.came]

    assert again == events[1:]
    assert [event["payload"]["text"] for event in page["payload"]["events"]] == [
        event["payload"]["text"] for event in events
    ]
    assert [is_deflate for is_deflate, _, _ in wire.came] == [
        size >= 1_024 and value["type"] in {"chat.message", "channel.history"}
        for size, (_, _, value) in zip(plain_bytes, wire.came, strict=True)
    ]
    assert all(
        size < plain / 4 for (is_deflate, size, _), plain in zip(wire.came, plain_bytes, strict=True) if is_deflate
    )
    assert [value["type"] for is_it, _, value in second.came if is_it] == ["channel.subscribed"]
    assert any(is_it and isinstance(value, list) for is_it, _, value in third.came)


async def test_an_inbox_is_not_compressed(redis_url: str, tenant: str) -> None:
    """Others write to it who cannot read it: its sizes must not tell them of the rest."""
    async with running_node(redis_url) as node, compressed(node, tenant, "ann") as (ann, wire):
        async with node.http(token("boss", tenant)) as http:
            payload = {"kind": "task", "title": "news", "body": LONG[:990]}
            stored = await http.post("/v1/users/ann/events", json={"type": "team.notification", "payload": payload})
            assert stored.status_code == 201, stored.text
        await ann.expect("team.notification")

    assert max(size for _, size, _ in wire.came) > 1_024
    assert not any(is_deflate for is_deflate, _, _ in wire.came)


async def test_our_python_client_offers_it(redis_url: str, tenant: str) -> None:
    """It reads what is long compressed, and compresses no short message and no file of its own."""
    async with running_node(redis_url) as node, HubClient(node.url, token("ann", tenant)) as ann:
        assert [connection.encoding for connection in node.hub.connections] == [Encoding.DEFLATE | Encoding.BATCH]
        await ann.send(TALK, LONG)
        async for event in ann.subscribe(TALK, after="0"):
            if isinstance(event, Event):
                assert event.payload["text"] == LONG
                break

    extension = LongTextDeflate(True, True, 15, 15)
    for opcode, size, is_deflate in [
        (Opcode.TEXT, 1_023, False),
        (Opcode.TEXT, 1_024, True),
        (Opcode.BINARY, 9_999, False),
    ]:
        assert extension.encode(Frame(opcode, b"x" * size)).rsv1 is is_deflate


class Kept:
    """A socket in memory, for a thousand of them: what was written to it last."""

    is_writable = True

    def __init__(self, *, is_deflate: bool) -> None:
        self.is_deflate = is_deflate
        self.last = b""

    def write(self, frames: bytes, /) -> None:
        self.last = frames

    def close(self, code: int = 1000, reason: str = "") -> None:
        raise AssertionError(f"closed with {code} {reason}")

    def abort(self) -> None:
        raise AssertionError("aborted")

    def trust(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@contextmanager
def compressions() -> Iterator[list[FrameType]]:
    """The callers of `zlib.compressobj` while the block runs."""
    callers: list[FrameType] = []

    def look(frame: FrameType, event: str, called: object) -> None:
        if event == "c_call" and called is zlib.compressobj:
            callers.append(frame)

    sys.setprofile(look)
    try:
        yield callers
    finally:
        sys.setprofile(None)


@pytest.mark.interpreted
@pytest.mark.parametrize("capabilities", [["batch"], []])
@pytest.mark.parametrize("is_deflate", [True, False])
async def test_an_event_is_compressed_once_for_a_thousand(
    redis_url: str, tenant: str, capabilities: list[str], is_deflate: bool
) -> None:
    """All who agreed on it are given the same bytes, those who did not the plain ones; for these alone nothing is compressed."""
    async with running_node(redis_url) as node, client(node.ws_url, token("ann", tenant)) as ann:
        await ann.subscribe(TALK)
        sockets = [Kept(is_deflate=is_deflate and number > 0) for number in range(FOLLOWERS)]
        for number, socket in enumerate(sockets):
            connection = node.hub.connect()
            connection.opened(socket, Upgrade("/ws", "", {}, ("127.0.0.1", 1), None))
            hello = {"token": token(f"u{number}", tenant), "versions": [1], "capabilities": capabilities}
            connection.text(json.dumps({"type": "connection.init", "id": "1", "payload": hello}).encode())
            wanted = {"channels": [{"channel": TALK, "presence": False}]}
            connection.text(json.dumps({"type": "channel.subscribe", "id": "2", "payload": wanted}).encode())
        await until(lambda: all(TALK in connection.subscriptions for connection in node.hub.connections))
        with compressions() as made:
            await ann.say(TALK, LONG)
            await until(
                lambda: all(b'"chat.message"' in socket.last or b"\xc1" in socket.last[:1] for socket in sockets)
            )

    assert len(made) == (1 if is_deflate else 0)
    plain, *others = [socket.last for socket in sockets]
    [(opcode, text)] = split_frames(plain)
    assert opcode == TEXT
    [(_, wire)] = split_frames(others[-1])
    assert json.loads(inflate(wire, 10_000) if is_deflate else wire) == json.loads(text)
    assert len({id(frames) for frames in others}) == 1
