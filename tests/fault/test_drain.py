"""A node that goes down: it says when to come back, answers what it accepted, and closes with 1012."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time

import httpx
import pytest

from streams.channel import parse_channel
from support.nodes import Node, NodeProcess, running_node, token
from support.redis_server import RedisServer
from support.socket_client import client
from support.until import until

ROOM = "conversation:1"


@pytest.mark.slow
async def test_sigterm_drains_and_loses_no_reply(redis_url: str, tenant: str) -> None:
    """Under load: every command that was stored was answered before the close, and the drain came before it."""
    node = NodeProcess(redis_url, HUB_DRAIN_SECONDS="1")
    try:
        await node.wait_ready()
        async with client(node.ws_url, token("a", tenant)) as a:
            answer = await a.subscribe(ROOM)
            for number in range(200):
                await a.send("chat.message", {"text": "x"}, ROOM, f"m-{number}")
            await a.expect("message.received", re="m-20")
            assert node._process is not None
            node._process.send_signal(signal.SIGTERM)
            code = await a.closed()
            frames = a.seen
        await asyncio.to_thread(node._process.wait, 40)
        node.start()
        await node.wait_ready()
        async with client(node.ws_url, token("b", tenant)) as b:
            again = await b.subscribe(ROOM, after="0", epoch=answer["epoch"])
            stored = await b.events(again["replay"])
    finally:
        node.close()

    drains = [frame for frame in frames if frame["type"] == "connection.drain"]
    replied = {frame["re"] for frame in frames if frame["type"] == "message.received"}
    assert code == 1012
    assert len(drains) == 1
    assert 0 <= drains[0]["payload"]["reconnect_after_ms"] <= 1_000
    assert {event["meta"]["command"] for event in stored} == replied


async def test_a_command_under_way_is_answered_before_the_close(own_redis: RedisServer, tenant: str) -> None:
    """A question to the log that was accepted gets its answer, although the drain came meanwhile; what came later gets none."""
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.say(ROOM, "x")
        (connection,) = node.hub.connections
        own_redis.stop()
        asked = await a.send("channel.history", {}, ROOM)
        await until(lambda: connection._task is not None)
        connection.draining()
        late = await a.send("channel.history", {}, ROOM)
        own_redis.resume()
        code = await a.closed()

    answered = [frame["re"] for frame in a.seen if frame["type"] == "channel.history"]
    assert code == 1012
    assert answered == [asked]
    assert late not in [frame.get("re") for frame in a.seen]
    assert [frame["type"] for frame in a.seen][-2:] == ["connection.drain", "channel.history"]


async def test_what_is_on_its_way_to_the_log_is_answered_before_the_close(own_redis: RedisServer, tenant: str) -> None:
    """An append was sent when the drain came: its reply precedes the close, and the event is there."""
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe(ROOM)
        await a.say(ROOM, "so that nothing is left to be looked up")
        (connection,) = node.hub.connections
        own_redis.stop()
        sent = await a.send("chat.message", {"text": "x"}, ROOM)
        await until(lambda: connection._unsettled_count == 1)
        connection.draining()
        own_redis.resume()
        code = await a.closed()
        entries = await node.hub.log.page(parse_channel(tenant, ROOM))

    received = [frame for frame in a.seen if frame["type"] == "message.received"]
    assert code == 1012
    assert [frame["re"] for frame in received][1:] == [sent]
    assert [entry.id.decode() for entry in entries] == [frame["payload"]["id"] for frame in received]


async def stream_to_its_end(node: Node, headers: dict[str, str], opened: asyncio.Event) -> str:
    """Read a stream until its body ends properly; a body that is cut off raises."""
    told = ""
    async with (
        httpx.AsyncClient(base_url=node.url, headers=headers, timeout=30) as http,
        http.stream("GET", f"/v1/channels/{ROOM}/stream") as answer,
    ):
        async for text in answer.aiter_text():
            told += text
            if "channel.subscribed" in told:
                opened.set()
    return told


async def test_streams_and_long_polls_end_as_sockets_do(
    redis_url: str, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are told when to come back, their bodies end properly, and no line is logged, though one reader has stalled."""
    headers = {"Authorization": f"Bearer {token('a', tenant)}"}
    opened = asyncio.Event()
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        async with running_node(redis_url, drain_s=5.0) as node:
            stream = asyncio.create_task(stream_to_its_end(node, headers, opened))
            poll = asyncio.create_task(
                http.get(f"{node.url}/v1/channels/{ROOM}/events", params={"after": "0", "wait_ms": 30_000})
            )
            await opened.wait()
            await until(lambda: len(node.hub.connections) == 2)
            begun = time.monotonic()
        took_s = time.monotonic() - begun
        told, page = await stream, await poll

    assert "event: connection.drain" in told
    assert (page.status_code, page.json()["events"]) == (200, [])
    assert took_s < 5.0
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_stalled_reader_of_a_stream_is_cut_at_the_end_of_the_drain(
    redis_url: str, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes none of what is told: the node ends within the drain all the same, without an error line."""
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        async with running_node(redis_url, drain_s=0.5) as node, client(node.ws_url, token("b", tenant)) as b:
            reader.connect(("127.0.0.1", node.port))
            head = f"GET /v1/channels/{ROOM}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('a', tenant)}\r\n\r\n"
            reader.sendall(head.encode())
            await until(lambda: len(node.hub.connections) == 2)
            for _ in range(60):
                await b.say(ROOM, "x" * 30_000)
            begun = time.monotonic()

    assert time.monotonic() - begun < 5.0
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
