"""Statuses of a team's members: they go with their devices, are one value on every node, and outlive the live lane."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from streams.channel import parse_channel
from streams.envelope import Actor, Draft, Lane
from streams.times import rfc3339
from support.nodes import Node, NodeProcess, running_node, token
from support.socket_client import SocketClient, client

TEAM = "team:1"


async def members(socket: SocketClient) -> list[dict[str, Any]]:
    """The members that the team's state shows now."""
    found: list[dict[str, Any]] = (await socket.answer("channel.state", {}, TEAM))["payload"]["state"]["members"]
    return found


async def post(node: Node, who: str, payload: dict[str, Any]) -> httpx.Response:
    """A status said over HTTP."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {who}"}) as http:
        return await http.post(
            f"{node.url}/v1/channels/{TEAM}/events", json={"type": "team.presence.update", "payload": payload}
        )


@pytest.mark.slow
async def test_a_members_status_ends_with_the_last_device(redis_url: str, tenant: str) -> None:
    """Two tabs on two nodes are two devices for everybody; when both are closed nobody is shown, and the others are told."""
    async with running_node(redis_url) as one, running_node(redis_url) as two:
        async with client(one.ws_url, token("watcher", tenant)) as watcher:
            await watcher.subscribe(TEAM)
            async with client(two.ws_url, token("a", tenant)) as second:
                async with client(one.ws_url, token("a", tenant)) as first:
                    await first.subscribe(TEAM)
                    await second.subscribe(TEAM)
                    await second.answer("team.presence.update", {"status": "busy", "message": "lunch"}, TEAM)
                    both = await members(watcher)
                left_one = await watcher.event("team.presence.update", devices=1)
                alone = await members(second)
                await second.answer("channel.unsubscribe", {"channels": [TEAM]})
            gone = await watcher.event("team.presence.update", devices=0)
            nobody = await members(watcher)

    assert both == [{"user": "a", "status": "busy", "message": "lunch", "devices": 2}]
    assert (left_one["status"], alone) == ("busy", [{**both[0], "devices": 1}])
    assert gone == {"user": "a", "status": "offline", "devices": 0}
    assert nobody == []


async def test_without_a_subscription_a_status_is_refused(redis_url: str, tenant: str) -> None:
    """4021 over a socket that does not follow the team; over HTTP it needs an end within five minutes."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        now_ms = int(node.hub.clock.now() * 1000)
        refused = await a.answer("team.presence.update", {"status": "online"}, TEAM)
        endless = await post(node, token("b", tenant), {"status": "away"})
        long = await post(node, token("b", tenant), {"status": "away", "until": rfc3339(now_ms + 600_000)})
        short = await post(node, token("b", tenant), {"status": "away", "until": rfc3339(now_ms + 240_000)})
        over = await post(node, token("c", tenant), {"status": "away", "until": rfc3339(now_ms - 1)})
        shown = await members(a)
        key = node.hub.log.keys.statuses(parse_channel(tenant, TEAM))
        life_s = await node.hub.log.redis.ttl(key)

    assert refused["payload"]["code"] == 4021
    assert [answer.json()["code"] for answer in (endless, long)] == [4005, 4005]
    assert (short.status_code, over.status_code) == (200, 200)
    assert shown == [{"user": "b", "status": "away", "devices": 0}]
    assert 0 < life_s <= 300


async def test_a_status_outlives_the_live_lane_and_a_restart(redis_url: str, tenant: str) -> None:
    """2,500 other entries later, a node that has just started shows it; when its time is over the member is online."""
    place = parse_channel(tenant, TEAM)
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await a.subscribe(TEAM, state=False)
        await a.answer("team.presence.update", {"status": "busy", "message": "m"}, TEAM)
        for _ in range(2_500):
            node.hub.log.submit(Draft(place, "x.y", b"{}", Actor("user", "x"), lane=Lane.LIVE), lambda _: None)
        await node.hub.log.append(Draft(place, "x.y", b"{}", Actor("user", "x"), lane=Lane.LIVE))
        async with running_node(redis_url) as cold, client(cold.ws_url, token("b", tenant)) as b:
            shown = await members(b)
            until = rfc3339(int(node.hub.clock.now() * 1000) + 1)
            await a.answer("team.presence.update", {"status": "away", "until": until}, TEAM)
            over = await members(b)

    assert shown == [{"user": "a", "status": "busy", "message": "m", "devices": 1}]
    assert over == [{"user": "a", "status": "online", "devices": 1}]


async def test_the_invisible_are_gone_for_everybody_else(redis_url: str, tenant: str) -> None:
    """Neither members nor presence show them, over sockets and HTTP; who follows is told they left, and later that they joined."""
    async with running_node(redis_url) as node, client(node.ws_url, token("watcher", tenant)) as watcher:
        await watcher.subscribe(TEAM, presence=True)
        async with client(node.ws_url, token("a", tenant)) as a:
            await a.subscribe(TEAM)
            await watcher.event("channel.presence", user="a", status="joined")
            await a.answer("team.presence.update", {"status": "invisible"}, TEAM)
            told = await watcher.event("team.presence.update", user="a")
            left = await watcher.event("channel.presence", user="a", status="left")
            await a.answer("channel.presence", {"status": "dnd"}, TEAM)
            state = (await watcher.answer("channel.state", {}, TEAM))["payload"]["state"]
            headers = {"Authorization": f"Bearer {token('watcher', tenant)}"}
            async with httpx.AsyncClient(headers=headers) as http:
                listed = (await http.get(f"{node.url}/v1/channels/{TEAM}/presence")).json()["presence"]
            await a.answer("team.presence.update", {"status": "online"}, TEAM)
            back = await watcher.event("team.presence.update", status="online")
            dnd = [f["payload"] for f in watcher.seen if f["payload"].get("status") == "dnd"]

    assert (told["status"], left["devices"], back["devices"]) == ("offline", 0, 1)
    assert [p["user"] for p in state["presence"]] == [p["user"] for p in listed] == ["watcher"]
    assert state["members"] == []
    assert len(dnd) == 1  # told with the return, not before


@pytest.mark.parametrize("status", ["invisible", "busy"])
async def test_the_end_of_a_status_is_told(redis_url: str, tenant: str, status: str) -> None:
    """Everybody sees who was invisible come back, on another node too; nobody was told, and the state alone said it."""
    async with running_node(redis_url) as one, running_node(redis_url) as two:
        async with client(two.ws_url, token("watcher", tenant)) as watcher, client(one.ws_url, token("a", tenant)) as a:
            await watcher.subscribe(TEAM, presence=True)
            await a.subscribe(TEAM)
            await watcher.event("channel.presence", user="a", status="joined")
            await a.answer("channel.presence", {"status": "dnd"}, TEAM)
            await watcher.event("channel.presence", user="a", status="dnd")
            until = rfc3339(int(one.hub.clock.now() * 1000) + 1_000)
            await a.answer("team.presence.update", {"status": status, "until": until}, TEAM)
            await watcher.event("team.presence.update", user="a", status="offline" if status == "invisible" else status)
            seen = len(watcher.seen)
            back = await watcher.event("team.presence.update", user="a", status="online")
            told = [f["payload"]["status"] for f in watcher.seen[seen:] if f["type"] == "channel.presence"]
            keys = one.hub.log.keys
            ends = await one.hub.log.redis.zrange(
                keys.status_ends(keys.of(parse_channel(tenant, TEAM)).partition), 0, -1
            )
            listed = await members(watcher)

    assert back == {"user": "a", "status": "online", "devices": 1}
    assert told == (["joined", "dnd"] if status == "invisible" else [])
    assert [end for end in ends if tenant.encode() in end] == []
    assert listed == [back]


async def test_the_end_of_a_status_is_told_after_the_death_of_the_node_it_was_set_on(
    redis_url: str, tenant: str
) -> None:
    """It is kept in Redis, and any node tells it: the person's other device stays."""
    async with running_node(redis_url) as node, client(node.ws_url, token("watcher", tenant)) as watcher:
        await watcher.subscribe(TEAM, presence=True)
        async with client(node.ws_url, token("a", tenant)) as other:
            await other.subscribe(TEAM)
            doomed = NodeProcess(redis_url)
            try:
                await doomed.wait_ready()
                async with client(doomed.ws_url, token("a", tenant)) as a:
                    await a.subscribe(TEAM)
                    await watcher.event("channel.presence", user="a", devices=2)
                    until = rfc3339(int(node.hub.clock.now() * 1000) + 2_000)
                    await a.answer("team.presence.update", {"status": "invisible", "until": until}, TEAM)
                    await watcher.event("channel.presence", user="a", status="left")
                    doomed.kill()
                    while len(joins := [f for f in watcher.seen if f["payload"].get("status") == "joined"]) < 3:
                        await watcher.next()
            finally:
                doomed.close()

    assert [join["payload"]["user"] for join in joins] == ["watcher", "a", "a"]


async def test_a_status_ends_by_the_clock_of_redis(
    redis_url: str, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the node is a quarter of an hour slow, by which the end was told as much too late."""
    slow_s = time.time() - 900
    monkeypatch.setattr(time, "time", lambda: slow_s)
    async with (
        running_node(redis_url) as node,
        client(node.ws_url, token("watcher", tenant)) as watcher,
        client(node.ws_url, token("a", tenant)) as a,
    ):
        await watcher.subscribe(TEAM)
        await a.subscribe(TEAM)
        until = rfc3339(node.hub.log.now_ms() + 500)
        await a.answer("team.presence.update", {"status": "busy", "until": until}, TEAM)
        await watcher.event("team.presence.update", user="a", status="busy")
        over = await watcher.event("team.presence.update", user="a", status="online")

    assert over["devices"] == 1


@pytest.mark.parametrize("up_to", ["999999999999999-0", "1-1"])
async def test_a_read_mark_lies_in_the_log(redis_url: str, tenant: str, up_to: str) -> None:
    """Above the newest event it is 4018, in an empty channel too, and nothing is kept; below the oldest it is taken."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        empty = await a.answer("channel.read", {"up_to": up_to}, "conversation:1")
        nothing = await a.answer("channel.read", {"up_to": "0-0"}, "conversation:1")
        keys = await node.hub.log.redis.keys(f"*{tenant}:guard:marks*")
        said = [(await a.say("conversation:1", "hi"))["payload"]["id"] for _ in range(2)]
        place = parse_channel(tenant, "conversation:1")
        await node.hub.log.replay.trim(place, said[0])
        later = await a.answer("channel.read", {"up_to": up_to}, "conversation:1")
        trimmed = await a.answer("channel.read", {"up_to": said[0]}, "conversation:1")
        newest = await a.answer("channel.read", {"up_to": said[1]}, "conversation:1")
        marks = (await a.answer("channel.state", {}, "conversation:1"))["payload"]["state"]["read_markers"]

    assert (empty["payload"]["code"], nothing["type"], keys) == (4018, "ack", [])
    assert (later["payload"].get("code") == 4018) == (up_to > said[1])
    assert (trimmed["type"], newest["type"], marks) == ("ack", "ack", {"a": said[1]})
