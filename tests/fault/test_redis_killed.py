"""Redis dies, hangs and comes back: sockets stay open, nothing acknowledged is lost, nothing is stored twice."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from typing import Any

import pytest

from streams.channel import parse_channel
from streams.errors import ConfigurationRefused
from streams.redis.log import Log
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.socket_client import SocketClient, client

CHANNEL = "conversation:1"


async def say_until_stored(socket: SocketClient, id_: str, counts: dict[str, int]) -> dict[str, Any]:
    """Send a command, and send it again under its id for as long as it is answered 4013."""
    while True:
        await socket.send("chat.message", {"text": id_}, CHANNEL, id_)
        while (frame := await socket.next()).get("re") != id_:
            pass
        if frame["type"] == "message.received":
            payload: dict[str, Any] = frame["payload"]
            return payload
        assert frame["payload"]["code"] == 4013, frame
        counts["unavailable"] = counts.get("unavailable", 0) + 1
        await asyncio.sleep(frame["payload"]["retry_after_ms"] / 1000)  # as it was told; nothing else tells a client


async def test_a_killed_redis_loses_nothing_that_was_acknowledged(own_redis: RedisServer, tenant: str) -> None:
    """SIGKILL twice under load with fsync always: every ack is in the stream once, the followers saw exactly the stream."""
    counts: dict[str, int] = {}
    acked: dict[str, dict[str, Any]] = {}
    grew = asyncio.Event()
    async with running_node(own_redis.url) as node, client(node.ws_url, token("reader", tenant)) as reader:
        await reader.subscribe(CHANNEL, after="0")

        async def write(name: str) -> None:
            async with client(node.ws_url, token(name, tenant)) as socket:
                for number in range(150):
                    id_ = f"{name}-{number}"
                    acked[id_] = await say_until_stored(socket, id_, counts)
                    grew.set()

        async def torment() -> None:
            for at in (100, 500):
                while len(acked) < at:
                    grew.clear()
                    await grew.wait()
                own_redis.kill()
                await asyncio.to_thread(own_redis.restart)

        await asyncio.gather(torment(), *(write(f"w{n}") for n in range(5)))
        seen = await reader.events(750)
        log = node.hub.log
        stored = await log.page(parse_channel(tenant, CHANNEL), "0", 1_000)

    assert {payload["durability"] for payload in acked.values()} == {"fsync"}
    assert [(e.seq, e.id.decode()) for e in stored] == [(e["seq"], e["id"]) for e in seen]
    assert [e.seq for e in stored] == list(range(1, 751))
    assert {e.id.decode(): e.payload["text"] for e in stored} == {p["id"]: id_ for id_, p in acked.items()}


async def test_a_hanging_redis_is_unready_and_heals(own_redis: RedisServer, tenant: str) -> None:
    """A stopped process refuses nothing and answers nothing: readiness fails, publishers get 4013, and it heals by itself."""
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe(CHANNEL)
        await a.say(CHANNEL, "before")
        (before,) = await a.events(1)
        own_redis.stop()
        try:
            status = await asyncio.to_thread(ready_status, node)
            await a.send("chat.message", {"text": "during"}, CHANNEL, "d1")
            refused = await a.expect("connection.error", re="d1")
        finally:
            own_redis.resume()
        again = await say_until_stored(a, "d1", {})
        await ready(node)
        (during,) = await a.events(1)

    assert status == 503
    assert refused["payload"]["code"] == 4013
    assert (before["seq"], during["seq"], during["id"]) == (1, 2, again["id"])


def ready_status(node: Node) -> int:
    """The present answer of /readyz."""
    try:
        with urllib.request.urlopen(f"{node.url}/readyz", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def ready(node: Node) -> None:
    """Until the node says that it is ready again."""
    async with asyncio.timeout(40):
        while await asyncio.to_thread(ready_status, node) != 200:
            continue  # the question itself waits, for up to a second, on a Redis that hangs


async def test_a_flushed_log_is_told_to_live_subscribers_even_when_nobody_writes(
    own_redis: RedisServer, tenant: str
) -> None:
    """FLUSHALL is another life of the log: within a second or so the subscriber is told, with the gap and the state."""
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", tenant)) as a:
        before = await a.subscribe(CHANNEL)
        await a.say(CHANNEL, "lost")
        await a.events(1)
        await node.hub.log.redis.flushall()
        told = await a.expect("channel.subscribed", channel=CHANNEL)
        said = await a.say(CHANNEL, "new life")
        (event,) = await a.events(1)

    assert told["payload"]["gap"]["reason"] == "epoch_changed"
    assert told["payload"]["epoch"] != before["epoch"]
    assert (said["payload"]["seq"], event["seq"]) == (1, 1)


async def test_a_restarted_node_refuses_another_number_of_partitions(own_redis: RedisServer) -> None:
    """The partitions are fixed at the first start; another number would hide every channel."""
    log = await Log.open(own_redis.url, partitions=8)
    await log.close()

    with pytest.raises(ConfigurationRefused, match="begun with 8"):
        await Log.open(own_redis.url, partitions=4)
