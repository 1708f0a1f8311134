"""Presence after Redis lost what it had acknowledged: every node replaces what it had told by who is here."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from streams.channel import parse_channel
from streams.records.presence import PresenceChange, PresenceStore
from streams.redis.log import Log
from support.asking import until_present
from support.lived_time import lived_time
from support.nodes import running_node, token
from support.redis_server import RedisServer
from support.replica import command, replicated
from support.socket_client import client

ROOM = "conversation:1"
TEAM = "team:1"


@pytest.mark.slow
async def test_joins_and_leaves_lost_by_a_failover_are_told_again(tenant: str) -> None:
    """The promoted replica knows one who left and not one who joined; 15 s later both nodes show who is there."""
    async with replicated() as pair, running_node(pair.front.url) as one, running_node(pair.front.url) as two:
        async with AsyncExitStack() as stack:
            leaver = await stack.enter_async_context(client(one.ws_url, token("leaver", tenant)))
            stays = await stack.enter_async_context(client(two.ws_url, token("stays", tenant)))
            joiner = await stack.enter_async_context(client(two.ws_url, token("joiner", tenant)))
            await leaver.subscribe(ROOM)
            await stays.subscribe(ROOM)
            await until_present(one, parse_channel(tenant, ROOM), {"leaver": 1, "stays": 1})
            await pair.catch_up()
            pair.lag()
            await leaver.answer("channel.unsubscribe", {"channels": [ROOM]})
            await joiner.subscribe(ROOM)
            await until_present(one, parse_channel(tenant, ROOM), {"joiner": 1, "stays": 1})
            await pair.fail_over()
            async with lived_time() as since, asyncio.timeout(60):
                for node in (one, two):
                    await until_present(node, parse_channel(tenant, ROOM), {"joiner": 1, "stays": 1})

    assert since.passed_s < 15


@pytest.mark.slow
async def test_devices_of_one_person_are_counted_anew_after_a_flush(tenant: str) -> None:
    """Nothing is left of what was told: two devices on two nodes are two again, told once each."""
    async with replicated() as pair, running_node(pair.front.url) as one, running_node(pair.front.url) as two:
        async with AsyncExitStack() as stack:
            for node in (one, two):
                socket = await stack.enter_async_context(client(node.ws_url, token("a", tenant)))
                await socket.subscribe(ROOM)
            await until_present(one, parse_channel(tenant, ROOM), {"a": 2})
            async with asyncio.timeout(60):
                async with command(pair.master) as redis:
                    await redis.flushall()
                await until_present(one, parse_channel(tenant, ROOM), {"a": 2})


@pytest.mark.slow
async def test_the_status_that_was_set_last_holds_after_a_flush(own_redis: RedisServer, tenant: str) -> None:
    """It was set on the device that had come first; told again in the order of the devices, the older one replaced it."""
    team = parse_channel(tenant, TEAM)
    async with (
        running_node(own_redis.url) as node,
        client(node.ws_url, token("a", tenant)) as desk,
        client(node.ws_url, token("a", tenant)) as phone,
        client(node.ws_url, token("b", tenant)) as other,
    ):
        await desk.subscribe(TEAM)
        await phone.subscribe(TEAM)
        await phone.answer("team.presence.update", {"status": "busy"}, TEAM)
        await desk.answer("team.presence.update", {"status": "away"}, TEAM)
        await until_present(node, team, {"a": 2})
        await node.hub.log.redis.flushall()
        async with asyncio.timeout(60):
            await until_present(node, team, {"a": 2})
        found = (await other.answer("channel.state", {}, TEAM))["payload"]["state"]["members"]

    assert found == [{"user": "a", "status": "away", "devices": 2}]


@pytest.mark.slow
async def test_devices_of_a_node_that_died_without_a_lease_leave(redis_url: str, tenant: str) -> None:
    """A FLUSHALL took its lease, people joined there, and it was killed before it could renew: no lease of it will ever end."""
    room = parse_channel(tenant, ROOM)
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as here:
        await here.subscribe(ROOM)
        log = await Log.open(redis_url)
        await PresenceStore(log).apply("killed", [PresenceChange("join", room, "killed.1", "a", "")])
        await until_present(node, room, {"a": 2})
        async with lived_time() as since, asyncio.timeout(60):
            await until_present(node, room, {"a": 1})
        await log.close()

    assert since.passed_s < 15
