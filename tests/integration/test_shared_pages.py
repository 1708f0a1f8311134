"""Pages read once for all who continue from the same place, over real sockets and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import redis.asyncio

from hub.node.pages import SharedPage
from streams.channel import Channel, parse_channel
from streams.envelope import Actor, Draft
from support.nodes import Node, running_node, token
from support.redis_server import RedisServer
from support.socket_client import client
from support.until import until

ROOM = "conversation:1"
CLIENTS = 60
EVENTS = 200


async def fill(node: Node, channel: Channel) -> list[str]:
    """The IDs of the events written to the channel."""
    drafts = [Draft(channel, "chat.message", b'{"text":"old"}', Actor("user", "a")) for _ in range(EVENTS)]
    return [answer.id for answer in await asyncio.gather(*(node.hub.log.append(draft) for draft in drafts))]


async def range_reads(server: RedisServer) -> int:
    """XRANGE calls the server has seen."""
    async with redis.asyncio.Redis.from_url(server.url) as calls:
        found = (await calls.info("commandstats")).get("cmdstat_xrange", {"calls": 0})
        return int(found["calls"])


async def resume(node: Node, tenant: str, after: str) -> list[int]:
    """The numbers of all events a client is sent that comes back with this cursor."""
    async with client(node.ws_url, token("r", tenant), capabilities=["batch"]) as reader:
        await reader.subscribe(ROOM, after=after, state=False)
        await reader.expect("channel.resumed", channel=ROOM)
        return [frame["seq"] for frame in reader.seen if "seq" in frame]


async def test_equal_cursors_share_their_pages_and_each_gets_every_event(lone_redis: RedisServer, tenant: str) -> None:
    """As many clients with different cursors need a read each, and those with the same hardly any."""
    async with running_node(lone_redis.url) as node:
        ids = await fill(node, parse_channel(tenant, ROOM))
        begin = await range_reads(lone_redis)
        different = await asyncio.gather(*(resume(node, tenant, ids[place]) for place in range(CLIENTS)))
        between = await range_reads(lone_redis)
        equal = await asyncio.gather(*(resume(node, tenant, ids[9]) for _ in range(CLIENTS)))
        end = await range_reads(lone_redis)

        assert different == [list(range(place + 2, EVENTS + 1)) for place in range(CLIENTS)]
        assert equal == [list(range(11, EVENTS + 1))] * CLIENTS
        assert end - between <= (between - begin) / 4  # without sharing nine tenths


@pytest.mark.interpreted
async def test_readers_who_come_during_a_read_wait_for_it(
    lone_redis: RedisServer, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are all answered by the one read, or read for themselves where it was cancelled or its pages were to be forgotten."""
    monkeypatch.setattr("hub.limits.slices.SERVING_S", 3_600.0)  # all pages are of one size
    channel = parse_channel(tenant, ROOM)
    async with (
        running_node(lone_redis.url) as node,
        client(node.ws_url, token("a", tenant)) as first,
        client(node.ws_url, token("b", tenant)) as second,
    ):
        await fill(node, channel)
        await first.subscribe(ROOM)
        await second.subscribe(ROOM)
        pages, fanout = node.hub.recovery.pages, node.hub.fanouts[channel]
        head = fanout.position.id

        before = await range_reads(lone_redis)
        await pages.read(fanout, "0")
        one = await range_reads(lone_redis) - before

        async def together(after: str, interrupt: Callable[[asyncio.Task[SharedPage]], object]) -> tuple[int, int]:
            """Five readers, the first of which is interrupted while it reads: pages read, and different pages they have."""
            before = await range_reads(lone_redis)
            readers = [asyncio.create_task(pages.read(fanout, after, head)) for _ in range(5)]
            await asyncio.sleep(0)
            interrupt(readers[0])
            found = await asyncio.gather(*readers, return_exceptions=True)
            whole = [page for page in found if isinstance(page, SharedPage)]
            assert all(page.events == whole[0].events for page in whole)
            return (await range_reads(lone_redis) - before) // one, len(set(map(id, whole)))

        assert await together("0", lambda _: None) == (1, 1)
        reads, different = await together("0-1", lambda task: task.cancel())
        assert (reads >= 4, different) == (True, 4)
        assert await together("0-2", lambda _: pages.forget(fanout)) == (5, 5)
        assert not pages._under_way


async def test_a_shared_page_is_let_go(redis_url: str, tenant: str) -> None:
    """It is shared among several subscriptions, for a moment; and not after the log was found to have broken."""
    channel = parse_channel(tenant, ROOM)
    async with (
        running_node(redis_url) as node,
        client(node.ws_url, token("a", tenant)) as first,
        client(node.ws_url, token("b", tenant)) as second,
    ):
        await fill(node, channel)
        await first.subscribe(ROOM)
        pages = node.hub.recovery.pages
        fanout = node.hub.fanouts[channel]
        head = fanout.position.id
        assert await pages.read(fanout, "0", head) is not await pages.read(fanout, "0", head)

        await second.subscribe(ROOM)
        shared = await pages.read(fanout, "0", head)
        assert await pages.read(fanout, "0", head) is shared
        assert await pages.read(fanout, "0") is not await pages.read(fanout, "0")

        pages.forget(fanout)
        again = await pages.read(fanout, "0", head)
        assert again is not shared
        # a page ends early where the node has stood still
        lines = min(again.events.lines, shared.events.lines, key=len)
        assert lines == again.events.lines[: len(lines)] == shared.events.lines[: len(lines)] != []

        await until(lambda: not pages._shared)
        assert pages._bytes == 0
