"""A node that goes down: it says when to come back, answers what it accepted, and closes with 1012."""

from __future__ import annotations

import asyncio
import signal

import pytest

from streams.channel import parse_channel
from support.nodes import NodeProcess, running_node, token
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
