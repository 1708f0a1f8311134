"""Sessions and cursors in the wrong hands, and old sockets of a session on another node."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.lived_time import lived_time
from support.nodes import Node, running_node, token
from support.socket_client import SocketClient, client, raw_client

CHANNEL = "conversation:1"


async def resume(
    stack: AsyncExitStack, node: Node, text: str, session: str, cursors: dict[str, Any] | None = None
) -> tuple[SocketClient, dict[str, Any]]:
    """A socket that says `connection.reconnect`, and the answer's payload."""
    a = await stack.enter_async_context(raw_client(node.ws_url))
    payload = {"token": text, "versions": [1], "session_id": session, "cursors": cursors or {}}
    answer = await a.answer("connection.reconnect", payload)
    return a, answer["payload"]


def session_of(a: SocketClient) -> str:
    """The session the hub named."""
    found: str = a.seen[0]["payload"]["session_id"]
    return found


async def nodes(stack: AsyncExitStack, redis_url: str, count: int = 2) -> list[Node]:
    """Nodes on one Redis."""
    return [await stack.enter_async_context(running_node(redis_url)) for _ in range(count)]


async def test_an_old_socket_is_fenced_on_whichever_node_it_hangs(redis_url: str, tenant: str) -> None:
    """Resumed elsewhere, the old socket is closed with 4020 within a second or so; the new one goes on."""
    async with AsyncExitStack() as stack:
        here, there = await nodes(stack, redis_url)
        old = await stack.enter_async_context(client(here.ws_url, token("a", tenant)))
        new, acknowledged = await resume(stack, there, token("a", tenant), session_of(old))
        async with lived_time() as since:
            code = await old.closed()
        served = await new.say(CHANNEL, "hi")

    assert acknowledged["session_id"] == session_of(old)
    assert code == 4020
    assert since.passed_s < 1.5
    assert served["type"] == "message.received"


async def test_coming_back_to_the_first_node_is_not_fenced_by_old_news(redis_url: str, tenant: str) -> None:
    """Here, there and here again before the news of "there" has arrived: only the newest socket lives."""
    async with AsyncExitStack() as stack:
        here, there = await nodes(stack, redis_url)
        first = await stack.enter_async_context(client(here.ws_url, token("a", tenant)))
        second, _ = await resume(stack, there, token("a", tenant), session_of(first))
        third, _ = await resume(stack, here, token("a", tenant), session_of(first))
        assert await first.closed() == 4020
        assert await second.closed() == 4020
        for _ in range(2):
            await asyncio.gather(*(node.hub.edge.store.wait_round() for node in (here, there)))
        served = await third.say(CHANNEL, "hi")

    assert served["type"] == "message.received"


@pytest.mark.parametrize("thief", ["other user", "other tenant"])
@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["same node", "other node"])
async def test_a_stolen_session_id_opens_and_closes_nothing(
    redis_url: str, tenant: str, thief: str, is_elsewhere: bool
) -> None:
    """Its owner stays connected and is served; the thief is themselves, with what their own token allows."""
    text = token("mallory", tenant, {}) if thief == "other user" else token("a", tenant + "x")
    async with AsyncExitStack() as stack:
        here, there = await nodes(stack, redis_url)
        owner = await stack.enter_async_context(client(here.ws_url, token("a", tenant)))
        said = await owner.say(CHANNEL, "private")
        cursor = {CHANNEL: {"after": said["payload"]["id"], "seq": 1}}
        stolen, answer = await resume(stack, there if is_elsewhere else here, text, session_of(owner), cursor)
        for _ in range(2):
            await asyncio.gather(*(node.hub.edge.store.wait_round() for node in (here, there)))
        served = await owner.say(CHANNEL, "still here")
        await stolen.answer("connection.heartbeat")

    assert served["type"] == "message.received"
    assert (answer["user"], answer["tenant"]) != ("a", tenant)
    assert is_elsewhere or answer["session_id"] != session_of(owner)
    assert "private" not in "".join(stolen.raw)
    assert "still here" not in "".join(stolen.raw)


async def test_a_session_id_nobody_had_is_no_way_into_one(redis_url: str, tenant: str) -> None:
    """Fixation: a name chosen by the attacker and then used by the victim gives the attacker nothing."""
    async with AsyncExitStack() as stack:
        (here,) = await nodes(stack, redis_url, 1)
        attacker, _ = await resume(stack, here, token("mallory", tenant, {}), "chosen")
        victim, answer = await resume(stack, here, token("a", tenant), "chosen")
        await victim.say("conversation:a", "private")
        again, second = await resume(stack, here, token("mallory", tenant, {}), answer["session_id"])
        served = await victim.say("conversation:a", "more")
        await again.answer("connection.heartbeat")
        await attacker.answer("connection.heartbeat")

    assert answer["session_id"] != "chosen"
    assert second["session_id"] != answer["session_id"]
    assert served["type"] == "message.received"
    assert "private" not in "".join([*attacker.raw, *again.raw])


async def test_a_session_needs_a_token_every_time(redis_url: str, tenant: str) -> None:
    """The session's name alone is 4001, and its owner is not disturbed."""
    async with AsyncExitStack() as stack:
        (here,) = await nodes(stack, redis_url, 1)
        owner = await stack.enter_async_context(client(here.ws_url, token("a", tenant)))
        a = await stack.enter_async_context(raw_client(here.ws_url))
        await a.send("connection.reconnect", {"versions": [1], "session_id": session_of(owner), "cursors": {}})
        assert await a.closed() == 4001
        served = await owner.say(CHANNEL, "hi")

    assert served["type"] == "message.received"


@pytest.mark.parametrize("path", ["reconnect", "subscribe", "history"])
async def test_a_cursor_of_another_tenant_tells_nothing(redis_url: str, tenant: str, path: str) -> None:
    """With it or with one that never was, the answers are the same but for names and times."""
    async with AsyncExitStack() as stack:
        (here,) = await nodes(stack, redis_url, 1)
        owner = await stack.enter_async_context(client(here.ws_url, token("a", tenant)))
        said = await owner.say(CHANNEL, "private")
        epoch = (await owner.subscribe(CHANNEL))["epoch"]
        real = {"after": said["payload"]["id"], "seq": 1, "epoch": epoch}
        made_up = {"after": "1700000000000-7", "seq": 1, "epoch": "never"}
        shapes = []
        for home, cursor in ((tenant + "x", real), (tenant + "y", made_up)):
            shapes.append(await told_about(stack, here, home, path, cursor))

    assert shapes[0] == shapes[1]


async def told_about(
    stack: AsyncExitStack, node: Node, home: str, path: str, cursor: dict[str, Any]
) -> list[dict[str, Any]]:
    """The hub's answer to a stranger's cursor, without the epoch of their own empty channel."""
    if path == "reconnect":
        b, _ = await resume(stack, node, token("b", home), "s", {CHANNEL: cursor})
        frames = [await b.expect("channel.subscribed", channel=CHANNEL)]
    else:
        b = await stack.enter_async_context(client(node.ws_url, token("b", home)))
        if path == "subscribe":
            frames = [await b.answer("channel.subscribe", {"channels": [{"channel": CHANNEL, **cursor}]})]
        else:
            frames = [await b.answer("channel.history", {"after": cursor["after"]}, CHANNEL)]
    for frame in frames:
        frame.pop("re", None)
        frame["payload"].pop("epoch", None)
    return frames


async def test_a_reconnect_storm_of_one_user_is_told_to_wait(redis_url: str, tenant: str) -> None:
    """Connects are limited by user; others of the same node and address are let in."""
    limits = {"connect": (0.01, 20)}
    async with running_node(redis_url, rate_limits=limits) as node:
        codes = []
        for _ in range(25):
            async with raw_client(node.ws_url) as a:
                payload = {"token": token("a", tenant), "versions": [1], "session_id": "s", "cursors": {}}
                answer = await a.answer("connection.reconnect", payload)
                codes.append(answer["payload"].get("code", 0))
        async with client(node.ws_url, token("b", tenant)) as b:
            served = await b.say(CHANNEL, "hi")

    assert codes == [0] * 20 + [4004] * 5
    assert served["type"] == "message.received"
