"""Channels asked for while Redis is away are refused, owed, and subscribed by the hub itself when Redis is back."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from redis import Redis

from hub.node import subscribing
from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.socket_client import SocketClient, client, raw_client
from support.until import until

ROOMS = ("conversation:1", "conversation:2")


async def written(node: Node, tenant: str) -> dict[str, dict[str, Any]]:
    """Three messages in each room; returns the cursor after the first one of each."""
    cursors: dict[str, dict[str, Any]] = {}
    async with client(node.ws_url, token("writer", tenant)) as writer:
        for room in ROOMS:
            for number in range(3):
                said = (await writer.say(room, f"{room} {number}"))["payload"]
                cursors.setdefault(room, {"after": said["id"], "seq": said["seq"]})
    return cursors


async def refusals(socket: SocketClient, count: int) -> list[tuple[int, str, str | None]]:
    """Code, channel and `re` of the next errors."""
    found = []
    while len(found) < count:
        frame = await socket.expect("connection.error")
        found.append((frame["payload"]["code"], frame["channel"], frame.get("re")))
    return sorted(found)


def room_of(tenant: str, number: int) -> Channel:
    """A conversation."""
    return parse_channel(tenant, f"conversation:{number}")


async def test_redis_away_during_a_reconnect_is_made_up_for(own_redis: RedisServer, tenant: str) -> None:
    """4013 for each channel, then, on the same socket, the replay that was asked for, the receipt and live events."""
    async with running_node(own_redis.url) as node:
        cursors = await written(node, tenant)
        async with raw_client(node.ws_url) as back:
            with own_redis.killed():
                await back.send(
                    "connection.reconnect",
                    {"token": token("a", tenant), "versions": [1], "session_id": "s-none", "cursors": cursors},
                )
                told = await refusals(back, 3)
            while {f["channel"] for f in back.seen if f["type"] == "channel.resumed"} != set(ROOMS):
                await back.next()
            seqs = {room: [f["seq"] for f in back.seen if f.get("channel") == room and "seq" in f] for room in ROOMS}
            openings = [f for f in back.seen if f["type"] == "channel.subscribed" and f["channel"] in ROOMS]
            async with client(node.ws_url, token("later", tenant)) as writer:
                await writer.say(ROOMS[0], "live")
            (live,) = await back.events(1)

    assert [(code, channel) for code, channel, _ in told] == [
        (4013, "conversation:1"),
        (4013, "conversation:2"),
        (4013, "user:a"),
    ]
    assert seqs == {room: [2, 3] for room in ROOMS}
    assert all("re" not in frame and frame["payload"]["recovered"] for frame in openings)
    assert (live["channel"], live["seq"]) == (ROOMS[0], 4)


async def test_asking_again_meanwhile_replaces_and_leaving_ends_it(own_redis: RedisServer, tenant: str) -> None:
    """Of two requests for one channel the later one counts; a channel that was left meanwhile is not subscribed."""
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", tenant)) as a:
        cursors = await written(node, tenant)
        with own_redis.killed():
            for wish in ({"after": "0"}, cursors[ROOMS[0]]):
                channels = [{"channel": ROOMS[0], **wish}, {"channel": ROOMS[1], "after": "0"}]
                id_ = await a.send("channel.subscribe", {"channels": channels})
                assert await refusals(a, 2) == [(4013, room, id_) for room in ROOMS]
            await a.answer("channel.unsubscribe", {"channels": [ROOMS[1]]})
        told = await a.expect("channel.subscribed", channel=ROOMS[0])
        await a.expect("channel.resumed", channel=ROOMS[0])
        seqs = [frame["seq"] for frame in a.seen if "seq" in frame]
        async with client(node.ws_url, token("later", tenant)) as writer:
            for room in reversed(ROOMS):
                await writer.say(room, "live")
        (live,) = await a.events(1)

    assert "re" not in told
    assert seqs == [2, 3]
    assert (live["channel"], live["seq"]) == (ROOMS[0], 4)
    assert not [f for f in a.seen if f.get("channel") == ROOMS[1] and f["type"] == "channel.subscribed"]


MANY, BIG = 600, "x" * 30_000
"""18 MB: several times what the kernel buffers of both ends hold."""


@pytest.mark.slow
@pytest.mark.parametrize("wish", [{"after": "0"}, {"rewind": MANY - 1}], ids=["after", "rewind"])
async def test_redis_away_during_a_replay_is_made_up_for(
    own_redis: RedisServer, tenant: str, wish: dict[str, Any]
) -> None:
    """The replay goes on behind the last event that was sent: none is left out, none is sent again."""
    room = parse_channel(tenant, ROOMS[0])
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", tenant)) as a:
        for start in range(0, MANY, 50):
            data = b'{"text":"%b"}' % BIG.encode()
            drafts = [Draft(room, "chat.message", data, Actor("user", "b"), command=f"{start}.{n}") for n in range(50)]
            await asyncio.gather(*map(node.hub.log.append, drafts))
        a.socket.transport.pause_reading()
        id_ = await a.send("channel.subscribe", {"channels": [{"channel": ROOMS[0], "state": False, **wish}]})
        (connection,) = node.hub.connections
        await until(lambda: not connection.is_writable)
        with own_redis.killed():
            await until(lambda: not node.hub.log.is_available)
            a.socket.transport.resume_reading()
            first = await a.expect("channel.subscribed", channel=ROOMS[0])
            refused = await a.expect("connection.error", channel=ROOMS[0])
            sent = [frame["seq"] for frame in a.seen if "seq" in frame]
        again = await a.expect("channel.subscribed", channel=ROOMS[0])
        receipt = await a.expect("channel.resumed", channel=ROOMS[0])
        seqs = [frame["seq"] for frame in a.seen if "seq" in frame]

    assert first["re"] == id_
    assert (refused["payload"]["code"], "re" in refused, "re" in again) == (4013, False, False)
    assert 0 < len(sent) < MANY - 1
    assert seqs == list(range(MANY - first["payload"]["replay"] + 1, MANY + 1))
    assert (again["payload"]["recovered"], again["payload"]["replay"]) == (True, MANY - sent[-1])
    assert receipt["payload"] == {"from_seq": sent[-1] + 1, "to_seq": MANY, "count": MANY - sent[-1], "gap": None}


@pytest.mark.slow
async def test_presence_ends_with_a_subscription_that_could_not_be_replaced(
    own_redis: RedisServer, tenant: str
) -> None:
    """The channel is subscribed, subscribed again, and Redis is lost during that replay; then the socket is closed.

    Nothing of it is left in the node's presence, which would fail on it for ever.
    """
    room = parse_channel(tenant, ROOMS[0])
    async with running_node(own_redis.url) as node:
        for start in range(0, MANY, 50):
            data = b'{"text":"%b"}' % BIG.encode()
            drafts = [Draft(room, "chat.message", data, Actor("user", "b"), command=f"{start}.{n}") for n in range(50)]
            await asyncio.gather(*map(node.hub.log.append, drafts))
        async with client(node.ws_url, token("a", tenant)) as a:
            await a.subscribe(ROOMS[0])
            a.socket.transport.pause_reading()
            await a.send("channel.subscribe", {"channels": [{"channel": ROOMS[0], "state": False, "after": "0"}]})
            (connection,) = node.hub.connections
            await until(lambda: not connection.is_writable)
            with own_redis.killed():
                await until(lambda: not node.hub.log.is_available)
                a.socket.transport.resume_reading()
                await a.expect("connection.error", channel=ROOMS[0])
                await a.socket.close()
                await until(lambda: not list(node.hub.connections))
        here = dict(node.hub.presence._here)

    assert here == {}


async def test_a_partition_that_refuses_holds_up_no_other(
    own_redis: RedisServer, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there are more owed subscriptions than one round takes, and those refused were owed first."""
    monkeypatch.setattr(subscribing, "OWED_AT_ONCE", 1)
    async with running_node(own_redis.url) as node, client(node.ws_url, token("a", tenant)) as a:
        keys = node.hub.log.keys
        by_tag = {keys.tags[keys.of(room).partition]: room.wire for room in map(partial(room_of, tenant), range(50))}
        (first_tag, first), (second_tag, second), *_ = by_tag.items()
        served = [f"~hub:{{{tag}}}*" for tag in (*keys.tags, "edge") if tag not in {first_tag, second_tag}]
        with Redis.from_url(own_redis.url) as redis:
            redis.execute_command("ACL", "SETUSER", "default", "resetkeys", *served)
            for room in (first, second):
                await a.send("channel.subscribe", {"channels": [{"channel": room}]})
            told = await refusals(a, 2)
            redis.execute_command("ACL", "SETUSER", "default", f"~hub:{{{second_tag}}}*")
            answer = await a.expect("channel.subscribed", channel=second)
            redis.execute_command("ACL", "SETUSER", "default", "allkeys")
            await a.expect("channel.subscribed", channel=first)

    assert [code for code, _, _ in told] == [4013, 4013]
    assert answer["payload"]["recovered"]
