"""Cursors in a document go with the connection they belong to."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from streams.channel import parse_channel
from streams.envelope import Actor, Draft, Lane
from streams.events import CATALOGUE, EventType
from streams.events.validation import InvalidPayload
from streams.redis.replay import PAGE_EVENTS
from support.event_cases import CASES
from support.nodes import NodeProcess, running_node, token
from support.redis_server import RedisServer
from support.socket_client import SocketClient, client
from support.until import until

PAGE = "document:1"
BOUND = [pytest.param(row, id=row.name) for row in CATALOGUE.values() if row.needs_subscription]
ENDING_BY_ITSELF = {"chat.typing", "channel.read", "file.upload.progress"}
"""Typing ends after its `ttl_ms`, progress with its upload; a read mark is a fact."""
SENT_TO_DELIVERED = {"user": "a", "client": "tab", "devices": 1}


async def cursors(socket: SocketClient) -> list[tuple[str, Any]]:
    """Client and selection of each cursor that the document's state shows now."""
    state = (await socket.answer("channel.state", {}, PAGE))["payload"]["state"]
    return [(cursor["client"], cursor["selection"]) for cursor in state["cursors"]]


async def test_a_cursor_goes_when_its_tab_leaves_and_the_other_tabs_stays(redis_url: str, tenant: str) -> None:
    """Everybody is told that nothing is selected there any more, also on another node."""
    async with running_node(redis_url) as one, running_node(redis_url) as two:
        async with client(one.ws_url, token("watcher", tenant)) as watcher:
            await watcher.subscribe(PAGE)
            async with (
                client(one.ws_url, token("a", tenant), client_id="tab-1") as first,
                client(two.ws_url, token("a", tenant), client_id="tab-2") as second,
            ):
                for number, tab in enumerate((first, second)):
                    await tab.subscribe(PAGE)
                    await tab.answer("document.cursor", {"selection": {"at": number}}, PAGE)
                await watcher.event("document.cursor", client="tab-2")
                both = sorted(await cursors(watcher))
                await first.answer("channel.unsubscribe", {"channels": [PAGE]})
                gone = await watcher.event("document.cursor", client="tab-1", selection=None)
                shown = [await cursors(watcher), await cursors(second)]

    assert both == [("tab-1", {"at": 0}), ("tab-2", {"at": 1})]
    assert gone == {"selection": None, "user": "a", "client": "tab-1"}
    assert shown == [[("tab-2", {"at": 1})]] * 2


@pytest.mark.slow
async def test_a_page_reloaded_five_times_has_one_cursor(redis_url: str, tenant: str) -> None:
    """Each load is another client whose socket is cut; when their time of grace is over the last one's cursor is left."""
    async with running_node(redis_url) as node, client(node.ws_url, token("watcher", tenant)) as watcher:
        await watcher.subscribe(PAGE)
        for number in range(5):
            async with client(node.ws_url, token("a", tenant), client_id=f"load-{number}") as page:
                await page.subscribe(PAGE)
                await page.answer("document.cursor", {"selection": [number]}, PAGE)
                page.reset()
        async with client(node.ws_url, token("a", tenant), client_id="load-5") as page:
            await page.subscribe(PAGE)
            await page.answer("document.cursor", {"selection": [5]}, PAGE)
            for number in range(5):
                await watcher.event("document.cursor", client=f"load-{number}", selection=None)
            left = await cursors(watcher)

    assert left == [("load-5", [5])]


@pytest.mark.slow
async def test_the_cursors_of_a_killed_node_go_with_its_devices(redis_url: str, tenant: str) -> None:
    """Another node finds the lease ended and takes them away."""
    doomed = NodeProcess(redis_url)
    try:
        await doomed.wait_ready()
        async with running_node(redis_url) as node, client(node.ws_url, token("watcher", tenant)) as watcher:
            await watcher.subscribe(PAGE, presence=True)
            async with client(doomed.ws_url, token("a", tenant), client_id="tab") as a:
                await a.subscribe(PAGE)
                await watcher.event("channel.presence", user="a", status="joined")
                await a.answer("document.cursor", {"selection": [1]}, PAGE)
                await watcher.event("document.cursor", client="tab", selection=[1])
                doomed.kill()
                await watcher.event("document.cursor", client="tab", selection=None)
            left = await cursors(watcher)
    finally:
        doomed.close()

    assert left == []


async def test_a_node_that_had_folded_a_lane_that_ended_begins_anew(redis_url: str, tenant: str) -> None:
    """The last one leaves and the lane goes: nobody finds the cursor later, on the node that knew it least of all."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe(PAGE)
        await a.answer("document.cursor", {"selection": [1]}, PAGE)
        before = await cursors(a)
        await a.answer("channel.unsubscribe", {"channels": [PAGE]})
        await until(lambda: not node.hub.presence._changes)
        await a.subscribe(PAGE)
        after = await cursors(a)

    assert (len(before), after) == (1, [])


async def test_a_late_cursor_waits_for_the_command_in_progress(lone_redis: RedisServer, tenant: str) -> None:
    """The access lists of the document must be read for it; messages behind the command do not overtake it meanwhile.

    Otherwise the cursor's end would count as the command's, and a socket that closes then would leave the command running.
    """
    async with (
        running_node(lone_redis.url, rate_limits={"cursor": (20.0, 1.0)}) as node,
        client(node.ws_url, token("a", tenant)) as a,
    ):
        channel = parse_channel(tenant, "conversation:long")
        draft = Draft(channel, "chat.message", b'{"text":"old"}', Actor("user", "b"))
        await asyncio.gather(*(node.hub.log.append(draft) for _ in range(3 * PAGE_EVENTS)))
        await a.subscribe(PAGE)
        await a.answer("document.cursor", {"selection": [1]}, PAGE)
        (connection,) = node.hub.connections
        node.hub.access.forget(parse_channel(tenant, PAGE))  # as after a change of its settings
        with lone_redis.stopped():
            await a.send("document.cursor", {"selection": [2]}, PAGE)
            await a.send("channel.subscribe", {"channels": [{"channel": channel.wire, "after": "0", "state": False}]})
            late = node.hub.late_cursors
            await until(lambda: connection in late._kept and connection.is_busy)
            timer = late._timer
            await until(lambda: late._timer is not timer)
            await a.send("connection.heartbeat")
        heartbeat = await a.expect("connection.heartbeat")
        await a.event("document.cursor", selection=[2])

    before = [frame["type"] for frame in a.seen[: a.seen.index(heartbeat)]]
    assert "channel.resumed" in before


def test_every_signal_of_a_client_goes_with_its_connection_or_ends_by_itself() -> None:
    """Whoever declares another one says here how it ends."""
    signals = {row.name for row in CATALOGUE.values() if row.is_inbound and row.lane is Lane.LIVE}
    assert signals - {row.values[0].name for row in BOUND} == ENDING_BY_ITSELF  # type: ignore[attr-defined]


@pytest.mark.parametrize("row", BOUND)
async def test_a_signal_without_a_connection_to_end_it_is_refused(redis_url: str, tenant: str, row: EventType) -> None:
    """Over a socket that does not follow, over HTTP and by broadcast; it stayed for ten minutes, or for ever."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        case = CASES[row.name]
        wire, payload = case.channel or "", {"selection": [1]} if row.name == "document.cursor" else {"status": "away"}
        unfollowed = await a.answer(row.name, payload, wire)
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token('a', tenant)}"}) as http:
            body = {"type": row.name, "payload": payload}
            over_http = (await http.post(f"{node.url}/v1/channels/{wire}/events", json=body)).json()
        fields = (row.delivered or row.model).model_fields
        told = payload | {name: value for name, value in SENT_TO_DELIVERED.items() if name in fields}
        channel = parse_channel(tenant, wire)
        with pytest.raises(InvalidPayload):
            await node.hub.broadcast(channel, row.name, told)
        lane = await node.hub.log.replay.live_page(channel)

    assert unfollowed["payload"]["code"] == 4021
    assert over_http["code"] == (4005 if row.name == "team.presence.update" else 4021)  # a status may name its end
    assert lane == []
