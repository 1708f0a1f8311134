"""A client that does not read: the log is its buffer, it gets everything once and in order, or a code and a cursor that works."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from typing import Any

import pytest

from hub.node.connection import Connection
from hub.protocol.subscription import Phase
from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft
from streams.errors import LogUnavailable
from streams.redis.log import Log
from support.nodes import Node, NodeProcess, running_node, token
from support.run_rig import POLL_S
from support.socket_client import SocketClient, client
from support.until import until

ROOM, OTHER = "conversation:1", "conversation:2"
BODY = "x" * 1_000
MANY = 25_000
"""Events of a kilobyte: several times what the kernel buffers of both ends hold."""


async def publish(log: Log, channel: Channel, count: int) -> None:
    """Append so many events of a kilobyte, a thousand at a time."""
    batch = uuid.uuid4().hex[:8]
    for start in range(0, count, 1_000):
        drafts = (
            Draft(
                channel,
                "chat.message",
                json.dumps({"text": f"{n} {BODY}"}).encode(),
                Actor("user", "loud"),
                command=f"{batch}.{n}",
            )
            for n in range(start, min(start + 1_000, count))
        )
        await asyncio.gather(*(stored(log, draft) for draft in drafts))


async def stored(log: Log, draft: Draft) -> None:
    """Append as a client would, again until it is confirmed: a starved Redis may be given up in between."""
    while True:
        try:
            await log.append(draft)
        except LogUnavailable:
            await asyncio.sleep(POLL_S)
        else:
            return


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MB (proc(5), statm: pages)."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def stop_reading(socket: SocketClient) -> None:
    socket.socket.transport.pause_reading()


def go_on_reading(socket: SocketClient) -> None:
    socket.socket.transport.resume_reading()


@pytest.mark.slow
async def test_a_reader_that_stops_costs_no_memory_and_gets_everything(redis_url: str, tenant: str) -> None:
    """20,000 events, 20 MB, while it does not read: the node grows by its write buffer, and then it reads them all."""
    node = NodeProcess(redis_url)
    log = await Log.open(redis_url)
    try:
        await node.wait_ready()
        assert node._process is not None
        async with client(node.ws_url, token("slow", tenant)) as slow, client(node.ws_url, token("ok", tenant)) as fast:
            await slow.subscribe(ROOM, state=False)
            await fast.subscribe(ROOM, state=False)
            await publish(log, parse_channel(tenant, ROOM), 1_000)  # so that what the node keeps anyway is there
            await slow.events(1_000)
            await fast.events(1_000)
            before_mb = rss_mb(node._process.pid)
            stop_reading(slow)
            await publish(log, parse_channel(tenant, ROOM), 20_000)
            await fast.events(20_000)
            grown_mb = rss_mb(node._process.pid) - before_mb
            go_on_reading(slow)
            events = await slow.events(20_000)
    finally:
        await log.close()
        node.close()

    assert [event["seq"] for event in events] == list(range(1_001, 21_001))
    assert grown_mb < 8


async def test_too_far_behind_is_told_with_a_cursor_that_still_works(redis_url: str, tenant: str) -> None:
    """Beyond the allowed lag it is closed with 4012; what it read last is a cursor from which it misses nothing."""
    async with running_node(redis_url, max_lag_events=500) as node:
        async with client(node.ws_url, token("slow", tenant)) as slow:
            answer = await slow.subscribe(ROOM, state=False)
            (there,) = node.hub.connections
            stop_reading(slow)
            publishing = asyncio.create_task(publish(node.hub.log, parse_channel(tenant, ROOM), 12_000))
            await until(lambda: there._closing is not None or publishing.done(), timeout_s=150)
            go_on_reading(slow)  # at once: after the time for a closing handshake the socket would be reset
            code = await slow.closed()
            await publishing
            told = slow.seen[-1]
            got = [frame for frame in slow.seen if "seq" in frame]
        cursor = {"after": got[-1]["id"], "seq": got[-1]["seq"], "epoch": answer["epoch"]}
        async with client(node.ws_url, token("slow", tenant)) as back:
            resumed = await back.subscribe(ROOM, state=False, **cursor)
            rest = await back.events(12_000 - len(got))

    assert (code, told["payload"]["code"], told["payload"]["retry"]) == (4012, 4012, "now")
    assert 0 < len(got) < 12_000
    assert resumed["recovered"] is True
    assert [event["seq"] for event in got + rest] == list(range(1, 12_001))


async def test_a_slow_reader_that_goes_leaves_nothing_behind(redis_url: str, tenant: str) -> None:
    """It is cut while a catch-up waits for its buffer: the task and the connection go with it."""
    async with running_node(redis_url) as node:
        async with client(node.ws_url, token("slow", tenant)) as slow:
            await slow.subscribe(ROOM, state=False)
            _, catching_up = await fall_behind(node, slow, tenant)
            slow.reset()
            await until(catching_up.done)
        hub = node.hub
        await until(lambda: not hub.connections)

        await until(lambda: parse_channel(tenant, ROOM) not in hub.fanouts)


async def fall_behind(node: Node, slow: SocketClient, tenant: str) -> tuple[Connection, asyncio.Task[None]]:
    """Publish far more than buffers hold, until a catch-up waits for the socket: the client's library reads no further."""
    stop_reading(slow)
    await publish(node.hub.log, parse_channel(tenant, ROOM), MANY)
    (connection,) = node.hub.connections
    go_on_reading(slow)
    while not node.hub.recovery.is_catching_up(connection):
        await slow.next()
    await until(lambda: not connection.is_writable)
    return connection, node.hub.recovery._tasks[connection]


def is_replaying(connection: Connection, wire: str) -> bool:
    sub = connection.subscriptions.get(wire)
    return sub is not None and sub.phase is Phase.REPLAYING


async def test_a_command_and_a_catch_up_may_wait_for_one_buffer(redis_url: str, tenant: str) -> None:
    """Behind in one channel, it subscribes to another from the start: both go on when it reads again."""
    async with running_node(redis_url) as node:
        await publish(node.hub.log, parse_channel(tenant, OTHER), 12_000)
        async with client(node.ws_url, token("slow", tenant)) as slow:
            await slow.subscribe(ROOM, state=False)
            connection, _ = await fall_behind(node, slow, tenant)
            await slow.send("channel.subscribe", {"channels": [{"channel": OTHER, "after": "0", "state": False}]})
            await until(lambda: is_replaying(connection, OTHER))  # both wait for the socket now
            while len(events := [frame for frame in slow.seen if "seq" in frame]) < MANY + 12_000:
                await slow.next()
                await slow.events(max(0, MANY + 12_000 - len(events) - 1))

    for channel, count in ((ROOM, MANY), (OTHER, 12_000)):
        assert [event["seq"] for event in events if event["channel"] == channel] == list(range(1, count + 1))


async def test_trimmed_under_a_slow_reader_is_a_gap_it_is_told(redis_url: str, tenant: str) -> None:
    """Events it has yet to read are trimmed away: it gets the missing range and the state, then live events."""
    channel = parse_channel(tenant, ROOM)
    async with running_node(redis_url) as node:
        async with client(node.ws_url, token("slow", tenant)) as slow:
            await slow.subscribe(ROOM, state=False)
            await fall_behind(node, slow, tenant)
            look = await node.hub.log.look(channel)
            await node.hub.log.replay.trim(channel, look.head.id)
            told = await slow.expect("channel.subscribed", channel=ROOM)
            got = [frame["seq"] for frame in slow.seen if "seq" in frame]
            await publish(node.hub.log, channel, 1)
            (after,) = await slow.events(1)

    assert got == list(range(1, len(got) + 1))
    assert told["payload"]["gap"] == {"reason": "trimmed", "from_seq": len(got) + 1, "to_seq": MANY}
    assert (told["payload"]["recovered"], told["payload"]["state_at"]) == (False, MANY)
    assert after["seq"] == MANY + 1


async def test_trimmed_under_a_replay_is_told_in_its_receipt(redis_url: str, tenant: str) -> None:
    """The replay is trimmed away under its reader: no receipt claims continuity, the gap is named, live events follow."""
    channel = parse_channel(tenant, ROOM)
    async with running_node(redis_url) as node:
        await publish(node.hub.log, channel, 12_000)
        async with client(node.ws_url, token("slow", tenant)) as slow:
            stop_reading(slow)
            await slow.send("channel.subscribe", {"channels": [{"channel": ROOM, "after": "0", "state": False}]})
            await until(lambda: any(not connection.is_writable for connection in node.hub.connections))
            look = await node.hub.log.look(channel)
            await node.hub.log.replay.trim(channel, look.head.id)
            go_on_reading(slow)
            first = await slow.expect("channel.subscribed", channel=ROOM)
            told = await slow.expect("channel.subscribed", channel=ROOM)
            receipt = await slow.expect("channel.resumed", channel=ROOM)
            got = [frame["seq"] for frame in slow.seen if "seq" in frame]
            await publish(node.hub.log, channel, 1)
            (after,) = await slow.events(1)

    gap: dict[str, Any] = {"reason": "trimmed", "from_seq": len(got) + 1, "to_seq": 12_000}
    assert (first["payload"]["recovered"], told["payload"]["gap"]) == (True, gap)
    assert receipt["payload"] == {"from_seq": None, "to_seq": None, "count": 0, "gap": gap}
    assert after["seq"] == 12_001
