"""A page that was read before its reader was moved to another place of the log: nothing of it is sent."""

from __future__ import annotations

import asyncio

from hub.limits.slices import Slices
from streams.channel import parse_channel
from streams.redis.log import Log
from support.appending import fill
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.socket_client import client
from support.until import until

NAME = "conversation:1"
SEEN, FORMER, NOW = 10, 300, 50
"""Events that the reader has, those of the former log, and those of the log that takes its place."""


class Held(Slices):
    """Slices that are granted once they may be."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.may_go = asyncio.Event(), asyncio.Event()

    async def turn(self) -> None:
        """Waits for the slice."""
        self.is_asked.set()
        await self.may_go.wait()
        await super().turn()


async def test_a_page_of_a_former_log_is_not_sent_behind_the_gap(lone_redis: RedisServer, tenant: str) -> None:
    """While the page waits for its slice the log is replaced, and the head of the new one is in the middle of the page.

    Were it sent, the client would take the former events for new ones, and miss as many of the new ones.
    """
    channel = parse_channel(tenant, NAME)
    async with running_node(lone_redis.url) as node, client(node.ws_url, token("r", tenant)) as reader:
        log = node.hub.log
        await reader.subscribe(NAME, state=False)
        await fill(log, channel, "former", SEEN)
        await reader.events(SEEN)
        (connection,) = node.hub.connections
        fanout = node.hub.fanouts[channel]
        held = node.hub.recovery._slices = Held()

        connection.writable(False)
        await fill(log, channel, "former", FORMER - SEEN)
        await until(lambda: fanout.position.seq == FORMER)
        connection.writable(True)
        await held.is_asked.wait()  # the page is there
        await log.calls_of(channel).call("FLUSHALL")
        other = await Log.open(lone_redis.url)
        await fill(other, channel, "now", NOW)
        await until(lambda: fanout.move_count == 1)
        moved_to = fanout.position.seq
        held.may_go.set()
        await until(lambda: not node.hub.recovery.is_catching_up(connection))
        await fill(other, channel, "now", NOW)
        found = await reader.events(NOW)
        await other.close()

    assert {event["payload"]["text"] for event in found} == {"now"}
    assert [event["seq"] for event in found] == list(range(moved_to + 1, moved_to + NOW + 1))
