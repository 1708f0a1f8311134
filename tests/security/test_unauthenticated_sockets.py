"""Before it has said who it is, a socket may send one handshake of a bounded size, however it is cut into frames."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hub.websocket.upgrade import HANDSHAKE_SIZE_LIMIT_BYTES, MESSAGE_SIZE_LIMIT_BYTES
from support.client_frames import client_frame
from support.nodes import running_node, token
from support.raw_socket import RawSocket
from support.socket_client import raw_client

LONGEST_ID = "999999999999999-9999999999"


def longest_reconnect(text: str) -> dict[str, Any]:
    """A `connection.reconnect` with everything in it that its declaration allows, at the lengths of the grammar."""
    names = [f"conversation:{number:03}{'n' * 125}" for number in range(200)]
    cursor = {"after": LONGEST_ID, "seq": 2**53, "epoch": "e" * 64}
    channel = {"rewind": 1000, "state": False, "presence": False} | cursor
    return {
        "token": text, "client_id": "c" * 128, "versions": [1] * 8, "capabilities": ["c" * 32] * 32, "session_id": "s" * 64,
        "client": {"name": "n" * 64, "version": "v" * 32}, "cursors": dict.fromkeys(names, cursor),
        "channels": [{"channel": name} | channel for name in names[:100]],
    }  # fmt: skip # a table


async def test_the_longest_handshake_fits(redis_url: str, tenant: str) -> None:
    """200 cursors and 100 channels with the longest names, and a token of nearly 8 KiB: every channel is answered."""
    grants = {"*": ["*"]} | {f"conversation:{'g' * 100}{number}": ["read"] for number in range(44)}
    text = token("a", tenant, grants)
    assert 7_000 < len(text) <= 8_192
    frame = {"type": "connection.reconnect", "id": "i" * 64, "payload": longest_reconnect(text)}
    size = len(json.dumps(frame, separators=(",", ":")))
    assert size > 90_000

    async with running_node(redis_url) as node, raw_client(node.ws_url) as a:
        answer = await a.answer("connection.reconnect", longest_reconnect(text))
        told = [await a.next() for _ in range(201)]
        a.reset()

    assert answer["type"] == "connection.ack"
    assert {frame["type"] for frame in told} <= {"channel.subscribed", "connection.error", "channel.resumed"}


def test_the_declared_limit_leaves_room_for_it() -> None:
    """Also as Python writes JSON, with spaces."""
    frame = {"type": "connection.reconnect", "id": "i" * 64, "payload": longest_reconnect("t" * 8_192)}

    assert len(json.dumps(frame)) < HANDSHAKE_SIZE_LIMIT_BYTES


@pytest.mark.parametrize("before", [(), ("not json",), ("[]", "7")], ids=["first", "second", "third"])
async def test_a_stranger_sends_nothing_large(redis_url: str, before: tuple[str, ...]) -> None:
    """1009 from the head of the frame on, also behind messages that are no handshake: nothing of it is kept."""
    async with running_node(redis_url) as node, raw_client(node.ws_url) as a:
        for text in before:
            await a.send_raw(text)
        head = client_frame(0x1, b"", declared=HANDSHAKE_SIZE_LIMIT_BYTES + 1, length_bits=64)
        a.socket.transport.write(head)
        code = await a.closed()

    assert code == 1009


async def test_fragments_of_a_stranger_add_up(redis_url: str) -> None:
    """The limit is one of messages."""
    async with running_node(redis_url) as node, raw_client(node.ws_url) as a:
        half = b"x" * (HANDSHAKE_SIZE_LIMIT_BYTES // 2)
        pieces = [client_frame(0x1, half, is_final=False), client_frame(0x0, half, is_final=False)]
        a.socket.transport.write(b"".join([*pieces, client_frame(0x0, b"x")]))
        code = await a.closed()

    assert code == 1009


@pytest.mark.parametrize("is_one_write", [True, False], ids=["one write", "two writes"])
async def test_behind_a_handshake_messages_have_the_full_size(
    redis_url: str, tenant: str, *, is_one_write: bool
) -> None:
    """A client may pipeline, so what follows is judged by the limit that the handshake earned."""
    hello = {"type": "connection.init", "id": "i", "payload": {"token": token("a", tenant), "versions": [1]}}
    large = {"type": "nonsense", "id": "large", "payload": {"text": "x" * (MESSAGE_SIZE_LIMIT_BYTES - 100)}}
    frames = [
        client_frame(0x9, b"ping"),
        *(client_frame(0x1, json.dumps(one).encode()) for one in (hello, large, large)),
    ]
    async with running_node(redis_url) as node, raw_client(node.ws_url) as a:
        for part in [b"".join(frames)] if is_one_write else frames:
            a.socket.transport.write(part)
        await a.expect("connection.ack")
        answers = [await a.expect("connection.error") for _ in range(2)]

    assert [answer["re"] for answer in answers] == ["large", "large"]


async def test_what_follows_a_refused_handshake_is_passed_over(redis_url: str) -> None:
    """However much of it there is, the client sees its code."""
    bad = json.dumps({"type": "connection.init", "id": "i", "payload": {"token": "a.b.c", "versions": [1]}})
    async with running_node(redis_url) as node, raw_client(node.ws_url) as a:
        a.socket.transport.write(client_frame(0x1, bad.encode()) + client_frame(0x1, b"{}") * 20_000)
        code = await a.closed()

    assert code == 4001


async def test_a_stranger_who_pings_without_end_has_the_same_deadline(redis_url: str) -> None:
    """Signs of life are not a handshake: 4008."""
    async with running_node(redis_url, handshake_timeout_s=0.3) as node:
        with RawSocket(node.port) as _:
            async with raw_client(node.ws_url) as a:
                a.socket.transport.write(client_frame(0x9, b"x") * 10_000)
                code = await a.closed()

    assert code == 4008
