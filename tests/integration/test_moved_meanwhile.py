"""A channel whose log is replaced, or that is deleted, between the reading of a subscription and its announcement.

The channels of one request are read together and announced one after the other, each after the replay of those before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from hub.limits.slices import Slices
from streams.channel import parse_channel
from streams.redis.log import Log
from support.appending import fill
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.socket_client import client
from support.until import until

FIRST, SECOND = "conversation:first", "conversation:second"
FORMER, NOW = 100, 50
"""Events of the former log, and of the one that takes its place."""
CommandLine = Callable[..., tuple[int, str, str]]


class HeldAt(Slices):
    """Slices of which number `number` is granted once it may be."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number
        self.is_asked, self.may_go = asyncio.Event(), asyncio.Event()

    async def turn(self) -> None:
        """Waits for a slice."""
        self._left -= 1
        if self._left == 0:
            self.is_asked.set()
            await self.may_go.wait()
        await super().turn()


def delete(command_line: CommandLine, redis: RedisServer, tenant: str, data: Path) -> None:
    named = ("delete", SECOND, "--tenant", tenant, "--redis", redis.url, "--data", str(data))
    code, *told = command_line(*named, "--yes", "--without-archive")
    assert code == 0, told


async def test_a_log_that_is_replaced_meanwhile_is_announced_as_it_is(lone_redis: RedisServer, tenant: str) -> None:
    """Announced with the former head, the client would miss the new events up to that number."""
    first, second = parse_channel(tenant, FIRST), parse_channel(tenant, SECOND)
    async with running_node(lone_redis.url) as node, client(node.ws_url, token("r", tenant)) as reader:
        log = node.hub.log
        await fill(log, first, "former", FORMER)
        await fill(log, second, "former", FORMER)
        held = node.hub.subscriptions._slices = HeldAt(2)  # the first is that of the preparation
        channels = [{"channel": FIRST, "after": "0", "state": False}, {"channel": SECOND, "state": False}]
        await reader.send("channel.subscribe", {"channels": channels})
        await held.is_asked.wait()
        fanout = node.hub.fanouts[second]
        await log.calls_of(second).call("FLUSHALL")
        other = await Log.open(lone_redis.url)
        await fill(other, second, "now", NOW)
        await until(lambda: fanout.move_count == 1 and fanout.position.seq == NOW)
        held.may_go.set()
        told = (await reader.expect("channel.subscribed", channel=SECOND))["payload"]
        await fill(other, second, "now", NOW)
        found = [await reader.expect("chat.message", channel=SECOND) for _ in range(NOW)]
        await other.close()

    assert (told["epoch"], told["head"]["seq"]) == (fanout.epoch, NOW)
    assert [event["seq"] for event in found] == list(range(NOW + 1, 2 * NOW + 1))


async def test_a_channel_that_is_deleted_meanwhile_is_announced_as_it_is(
    lone_redis: RedisServer, tenant: str, command_line: CommandLine, tmp_path: Path
) -> None:
    """Nothing is told before the announcement, which is of the empty channel; others who come meanwhile do not wait for it."""
    first, second = parse_channel(tenant, FIRST), parse_channel(tenant, SECOND)
    async with (
        running_node(lone_redis.url) as node,
        client(node.ws_url, token("r", tenant)) as reader,
        client(node.ws_url, token("o", tenant)) as other,
    ):
        await fill(node.hub.log, first, "former", FORMER)
        await fill(node.hub.log, second, "former", FORMER)
        held = node.hub.subscriptions._slices = HeldAt(2)
        channels = [{"channel": FIRST, "after": "0", "state": False}, {"channel": SECOND}]
        await reader.send("channel.subscribe", {"channels": channels})
        await held.is_asked.wait()
        await asyncio.to_thread(delete, command_line, lone_redis, tenant, tmp_path)
        async with asyncio.timeout(30):
            assert (await other.subscribe(SECOND))["head"]["seq"] == 0
        held.may_go.set()
        told = (await reader.expect("channel.subscribed", channel=SECOND))["payload"]
        await fill(node.hub.log, second, "now", 1)
        seqs = [(await one.expect("chat.message", channel=SECOND))["seq"] for one in (reader, other)]

    assert (told["head"]["seq"], told["state"]["messages"]) == (0, [])
    assert seqs == [1, 1]
    assert "channel.unsubscribed" not in [frame["type"] for frame in reader.seen]


async def test_a_channel_that_is_deleted_before_it_is_followed_is_unsubscribed(
    lone_redis: RedisServer, tenant: str, command_line: CommandLine, tmp_path: Path
) -> None:
    """While the subscription waits for its slice, nobody follows the channel yet, and the bell has rung."""
    async with running_node(lone_redis.url) as node, client(node.ws_url, token("r", tenant)) as reader:
        second = parse_channel(tenant, SECOND)
        await fill(node.hub.log, second, "former", FORMER)
        path, begun = node.hub.log.keys.of(second).path, node.hub.log.tail_of(second)._begun
        await until(lambda: path in begun)
        held, epoch = HeldAt(1), begun[path]
        node.hub.subscriptions._slices = held
        await reader.send("channel.subscribe", {"channels": [{"channel": SECOND, "state": False}]})
        await held.is_asked.wait()
        await asyncio.to_thread(delete, command_line, lone_redis, tenant, tmp_path)
        await until(lambda: begun[path] != epoch)
        held.may_go.set()
        async with asyncio.timeout(30):
            told = await reader.expect("channel.unsubscribed", channel=SECOND)

    assert told["payload"]["reason"] == "deleted"


async def test_a_socket_that_leaves_while_owed_channels_are_announced_is_forgotten(
    own_redis: RedisServer, tenant: str
) -> None:
    """Its owed subscriptions are announced after an outage by a task of the node; it ends with the socket, also in the middle."""
    first, second = parse_channel(tenant, FIRST), parse_channel(tenant, SECOND)
    async with running_node(own_redis.url) as node:
        await fill(node.hub.log, first, "old", FORMER)
        async with client(node.ws_url, token("r", tenant)) as reader:
            (connection,) = node.hub.connections
            with own_redis.killed():
                await until(lambda: not node.hub.log.is_available)
                channels = [{"channel": FIRST, "after": "0", "state": False}, {"channel": SECOND, "state": False}]
                await reader.send("channel.subscribe", {"channels": channels})
                await reader.expect("connection.error", channel=SECOND)
                connection.writable(False)  # it reads no more
            await until(lambda: {first, second} <= node.hub.fanouts.keys() and FIRST in connection.subscriptions)
            reader.reset()
        await until(lambda: not node.hub.connections)
        await until(lambda: not {first, second} & node.hub.fanouts.keys(), timeout_s=10)
