"""Presence across nodes and devices: nobody who is gone stays, nobody who is there leaves."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Any

import pytest

from streams.channel import parse_channel
from support.lived_time import lived_time
from support.nodes import NodeProcess, running_node, token
from support.socket_client import SocketClient, client

CHANNEL = "team:1"
SOAK_S = 60.0
"""Long enough for the leaves of devices left behind on the other node, 10 s after each cut, to be told many times over."""
BEAT_S = 5.0


async def statuses(watcher: SocketClient, user: str, last: str) -> list[tuple[str, int]]:
    """The watcher's news of a user, up to and with `last`."""
    found: list[tuple[str, int]] = []
    while not found or found[-1][0] != last:
        frame = await watcher.expect("channel.presence")
        if frame["payload"]["user"] == user:
            found.append((frame["payload"]["status"], frame["payload"]["devices"]))
    return found


async def test_devices_join_change_and_leave_as_one_person(redis_url: str, tenant: str) -> None:
    """Two devices on two nodes are one presence with a count; the last one to leave is the leave."""
    async with running_node(redis_url) as one, running_node(redis_url) as two:
        async with client(one.ws_url, token("watcher", tenant)) as watcher:
            await watcher.subscribe(CHANNEL, presence=True)
            async with (
                client(one.ws_url, token("a", tenant)) as first,
                client(two.ws_url, token("a", tenant)) as second,
            ):
                await first.subscribe(CHANNEL)
                await statuses(watcher, "a", "joined")
                await second.subscribe(CHANNEL)
                assert await statuses(watcher, "a", "active") == [("active", 2)]
                await first.answer("channel.presence", {"status": "dnd"}, CHANNEL)
                assert await statuses(watcher, "a", "dnd") == [("dnd", 2)]
                await first.answer("channel.unsubscribe", {"channels": [CHANNEL]})
                assert await statuses(watcher, "a", "dnd") == [("dnd", 1)]
                await second.answer("channel.unsubscribe", {"channels": [CHANNEL]})
                assert await statuses(watcher, "a", "left") == [("left", 0)]
                refused = await first.answer("channel.presence", {"status": "away"}, CHANNEL)

    assert refused["payload"]["code"] == 4021


async def test_a_reconnect_within_the_grace_does_not_flap(redis_url: str, tenant: str) -> None:
    """A socket that is cut and comes back as the same client is told to nobody."""
    async with running_node(redis_url) as node, client(node.ws_url, token("watcher", tenant)) as watcher:
        await watcher.subscribe(CHANNEL, presence=True)
        async with client(node.ws_url, token("a", tenant), client_id="phone") as first:
            await first.subscribe(CHANNEL)
            await statuses(watcher, "a", "joined")
            first.reset()
        async with client(node.ws_url, token("a", tenant), client_id="phone") as again:
            await again.subscribe(CHANNEL)
            await again.answer("channel.presence", {"status": "away"}, CHANNEL)
            told = await statuses(watcher, "a", "away")

    assert told == [("away", 1)]


@pytest.mark.slow
async def test_a_killed_nodes_people_are_gone_everywhere_within_15_s(redis_url: str, tenant: str) -> None:
    """SIGKILL: the lease ends and another node makes its devices leave."""
    doomed = NodeProcess(redis_url)
    try:
        await doomed.wait_ready()
        async with running_node(redis_url) as node, client(node.ws_url, token("watcher", tenant)) as watcher:
            await watcher.subscribe(CHANNEL, presence=True)
            async with contextlib.AsyncExitStack() as stack:
                for number in range(5):
                    a = await stack.enter_async_context(client(doomed.ws_url, token(f"u{number}", tenant)))
                    await a.subscribe(CHANNEL)
                    await statuses(watcher, f"u{number}", "joined")
                doomed.kill()
                left: set[str] = set()
                async with lived_time() as since:
                    while len(left) < 5:
                        frame: dict[str, Any] = await watcher.next()
                        if frame["type"] == "channel.presence" and frame["payload"]["status"] == "left":
                            left.add(frame["payload"]["user"])
    finally:
        doomed.close()

    assert since.passed_s < 15


@pytest.mark.slow
async def test_a_thousand_joins_and_leaves_on_two_nodes_converge_to_the_truth(redis_url: str, tenant: str) -> None:
    """At random, by several devices of each person: in the end the store, and what a watcher was told, is who is there."""
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    people = [f"u{number}" for number in range(20)]
    async with running_node(redis_url) as one, running_node(redis_url) as two:
        async with contextlib.AsyncExitStack() as stack, client(one.ws_url, token("watcher", tenant)) as watcher:
            await watcher.subscribe(CHANNEL, presence=True)
            sockets = [
                (user, await stack.enter_async_context(client(node.ws_url, token(user, tenant))))
                for user in people
                for node in (one, two)
            ]
            here: set[int] = set()
            for _ in range(1_000):
                at = chance.randrange(len(sockets))
                if at in here:
                    await sockets[at][1].answer("channel.unsubscribe", {"channels": [CHANNEL]})
                    here.discard(at)
                else:
                    await sockets[at][1].subscribe(CHANNEL, state=False)
                    here.add(at)
            expected: dict[str, int] = {}
            for at in here:
                expected[sockets[at][0]] = expected.get(sockets[at][0], 0) + 1
            told = await told_until(watcher, expected)
            stored = await one.hub.presence.store.people(parse_channel(tenant, CHANNEL), 0)

    assert isinstance(stored, list), f"seed {seed}"
    assert {p.user: p.devices for p in stored if p.user != "watcher"} == expected == told, f"seed {seed}"


async def told_until(watcher: SocketClient, expected: dict[str, int]) -> dict[str, int]:
    """The watcher's news, folded, once they are as expected, or as they are when nothing more comes."""
    told: dict[str, int] = {}
    while told != expected:
        try:
            frame = await watcher.next()
        except TimeoutError:
            return told
        if frame["type"] == "channel.presence" and frame["payload"]["user"] != "watcher":
            told[frame["payload"]["user"]] = frame["payload"]["devices"]
            if not frame["payload"]["devices"]:
                del told[frame["payload"]["user"]]
    return told


async def test_a_channel_of_more_than_200_people_shows_their_number(redis_url: str, tenant: str) -> None:
    """Names would cost more than they are worth."""
    from streams.records.presence import PresenceChange

    async with running_node(redis_url) as node:
        place = parse_channel(tenant, CHANNEL)
        await node.hub.presence.store.apply(
            node.hub.name, [PresenceChange("join", place, f"d{n}", f"u{n}") for n in range(201)]
        )
        async with client(node.ws_url, token("a", tenant)) as a:
            state = (await a.subscribe(CHANNEL))["state"]

    assert state["presence_count"] == 201
    assert "presence" not in state


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_no_false_leave_while_clients_come_and_go(redis_url: str, tenant: str) -> None:
    """Sockets cut and back within the grace, on two nodes, for a minute: nobody is told that anybody left."""
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    told: list[dict[str, Any]] = []
    async with running_node(redis_url) as one, running_node(redis_url) as two:
        async with client(one.ws_url, token("watcher", tenant)) as watcher:
            await watcher.subscribe(CHANNEL, presence=True)

            async def watch(until: float) -> None:
                while (left_s := until - time.monotonic()) > 0:
                    await watcher.send("connection.heartbeat", id_=None)
                    with contextlib.suppress(TimeoutError):
                        told.append(await watcher.next(min(BEAT_S, left_s)))

            async def restless(user: str, until: float) -> None:
                while time.monotonic() < until:
                    node = chance.choice((one, two))
                    async with client(node.ws_url, token(user, tenant), client_id=f"{user}-phone") as socket:
                        await socket.subscribe(CHANNEL, state=False)
                        await asyncio.sleep(chance.random())  # a client's own pace, not a wait for something
                        socket.reset()

            end = time.monotonic() + SOAK_S
            await asyncio.gather(watch(end), *(restless(f"u{n}", end) for n in range(10)))

    changes = [frame["payload"] for frame in told if frame["type"] == "channel.presence"]
    assert [change for change in changes if change["status"] == "left"] == [], f"seed {seed}"
    assert {change["user"] for change in changes if change["status"] == "joined"} >= {f"u{n}" for n in range(10)}
    assert max(change["devices"] for change in changes) > 1, "nobody was on two nodes: the soak tried nothing"
