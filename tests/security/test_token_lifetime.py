"""The end, narrowing and revocation of a token, seen by connections that use it, over the wire."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack

import httpx
import pytest

from hub.auth.signing import sign
from support.lived_time import lived_time
from support.node_clock import NodeClock
from support.nodes import ALL, SECRET, Node, running_node, token
from support.redis_server import RedisServer
from support.socket_client import client, raw_client

CHANNEL = "conversation:1"
WITHIN_S = 1.0


async def revoke(node: Node, tenant: str, **what: str) -> httpx.Response:
    """Ask a node to revoke."""
    async with node.http(token("root", tenant, {"*": ["*"]})) as http:
        return await http.post("/v1/revocations", json=what)


async def refused_code(node: Node, text: str) -> int:
    """The close code of a handshake with this token."""
    async with raw_client(node.ws_url) as a:
        await a.send("connection.init", {"token": text, "versions": [1]})
        return await a.closed()


@pytest.mark.parametrize("what", [{"jti": "j1"}, {"sub": "a"}], ids=["jti", "sub"])
async def test_a_revoked_token_is_gone_from_two_nodes_within_a_second(
    redis_url: str, tenant: str, what: dict[str, str]
) -> None:
    """Its sockets close with 4019 on both, SSE ends, and nothing opens with it, also on a node started later."""
    text = token("a", tenant, jti="j1")
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(running_node(redis_url)) for _ in "ab"]
        sockets = [await stack.enter_async_context(client(node.ws_url, text)) for node in (here, there)]
        other = await stack.enter_async_context(client(there.ws_url, token("b", tenant, jti="j2")))
        neighbour = await stack.enter_async_context(client(there.ws_url, token("a", tenant + "x", jti="j1")))
        async with lived_time() as since:
            answer = await revoke(here, tenant, **what)
            codes = [await socket.closed() for socket in sockets]
        late = [await refused_code(node, text) for node in (here, there)]
        served = [(await socket.say(CHANNEL, "hi"))["type"] for socket in (other, neighbour)]
        async with running_node(redis_url) as restarted:
            late.append(await refused_code(restarted, text))

    assert answer.status_code == 201
    assert codes == [4019, 4019]
    assert since.passed_s < WITHIN_S
    assert late == [4019] * 3
    assert served == ["message.received"] * 2


async def test_a_revocation_survives_redis_and_all_nodes(own_redis: RedisServer, tenant: str) -> None:
    """It is in the append-only file, not in anybody's memory."""
    text = token("a", tenant, jti="j1")
    async with running_node(own_redis.url) as node:
        await revoke(node, tenant, jti="j1")
    own_redis.kill()
    own_redis.restart()
    async with running_node(own_redis.url) as node:
        assert await refused_code(node, text) == 4019


async def test_a_node_without_redis_says_that_it_could_not_revoke(own_redis: RedisServer, tenant: str) -> None:
    """503 with 4013: whoever asked knows that it must ask again."""
    async with running_node(own_redis.url) as node:
        own_redis.kill()
        answer = await revoke(node, tenant, jti="j1")

    assert (answer.status_code, answer.json()["code"]) == (503, 4013)


@pytest.mark.parametrize("grants", [{"*": ["read", "write", "manage"]}, {"conversation:*": ["*"]}, {}])
async def test_only_everything_on_everything_may_revoke(
    redis_url: str, tenant: str, grants: dict[str, list[str]]
) -> None:
    """403, and the token goes on."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant, jti="j1")) as a:
        async with node.http(token("b", tenant, grants)) as http:
            answer = await http.post("/v1/revocations", json={"jti": "j1"})
        served = await a.say(CHANNEL, "hi")

    assert (answer.status_code, answer.json()["code"]) == (403, 4003)
    assert served["type"] == "message.received"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"jti":""}', b'{"sub":"a b"}', b'{"jti":"a","sub":"b"}', b"\xff"])
async def test_a_malformed_revocation_is_4005(redis_url: str, tenant: str, body: bytes) -> None:
    """Nothing is revoked by accident."""
    async with running_node(redis_url) as node:
        async with node.http(token("root", tenant, {"*": ["*"]})) as http:
            answer = await http.post("/v1/revocations", content=body)

    assert (answer.status_code, answer.json()["code"]) == (422, 4005)


async def test_narrowed_grants_end_subscriptions_with_a_reason(redis_url: str, tenant: str) -> None:
    """Channels that the new token does not allow are left before the answer; the rest goes on without a hole."""
    narrow = token("a", tenant, {"team:*": ["read"]})
    async with (
        running_node(redis_url) as node,
        client(node.ws_url, token("a", tenant)) as a,
        client(node.ws_url, token("b", tenant)) as b,
    ):
        await a.subscribe(CHANNEL, presence=True)
        await a.subscribe("team:1")
        id_ = await a.send("connection.refresh", {"token": narrow})
        left = await a.expect("channel.unsubscribed")
        await a.expect("connection.refreshed", re=id_)
        at = len(a.seen)
        await b.say(CHANNEL, "not for a")
        activity = {"verb": "v", "object": {"type": "t", "id": "1"}, "summary": "s"}
        await b.answer("team.activity", activity, "team:1")
        (event,) = await a.events(1)
        after = [
            await a.answer("channel.subscribe", {"channels": [CHANNEL]}),
            await a.answer("channel.history", {}, CHANNEL),
            await a.answer("channel.state", {}, CHANNEL),
            await a.say(CHANNEL, "x"),
        ]

    assert left["payload"] == {"channel": CHANNEL, "reason": "permission_denied"}
    assert "re" not in left
    assert (event["channel"], event["seq"]) == ("team:1", 1)
    assert [frame["payload"].get("code") for frame in after] == [4003] * 4
    assert not [frame for frame in a.seen[at:] if frame.get("channel") == CHANNEL and "re" not in frame]


async def test_a_refused_refresh_leaves_the_connection_on_its_old_token(redis_url: str, tenant: str) -> None:
    """4001, 4002 and 4019 with `re`; somebody else's token is 4001."""
    async with running_node(redis_url) as node, client(node.ws_url, token("a", tenant)) as a:
        await revoke(node, tenant, jti="gone")
        texts = ["a.b.c", token("a", tenant, ttl_s=-100), token("a", tenant, jti="gone"), token("b", tenant)]
        refused = [await a.answer("connection.refresh", {"token": text}) for text in texts]
        served = await a.say(CHANNEL, "still here")

    assert [frame["payload"]["code"] for frame in refused] == [4001, 4002, 4019, 4001]
    assert served["type"] == "message.received"


async def test_a_token_that_ends_is_announced_and_then_closes_with_4002(redis_url: str, tenant: str) -> None:
    """`connection.expiring` first; a refresh in time keeps the socket, whatever the old token said."""
    async with running_node(redis_url) as node:
        clock = NodeClock(node)
        async with (
            client(node.ws_url, token("a", tenant, ttl_s=30)) as a,
            client(node.ws_url, token("b", tenant, ttl_s=30)) as b,
        ):
            clock.pass_s(12)  # the first look is the handshake's
            told = await a.expect("connection.expiring")
            await b.expect("connection.expiring")
            refreshed = await b.answer("connection.refresh", {"token": token("b", tenant)})
            clock.pass_s(20)
            code = await a.closed()
            served = await b.say(CHANNEL, "hi")

    assert 0 < told["payload"]["in_ms"] <= 18_000
    assert refreshed["type"] == "connection.refreshed"
    assert code == 4002
    assert served["type"] == "message.received"


async def test_a_maximum_age_ends_connections_too(redis_url: str, tenant: str) -> None:
    """HUB_JWT_MAX_AGE wins over a later `exp`, at the handshake and for who is connected."""
    async with running_node(redis_url, jwt_max_age_s=30.0) as node:
        clock = NodeClock(node)
        async with client(node.ws_url, token("a", tenant)) as a:
            clock.pass_s(45)
            assert await a.closed() == 4002
        old = sign(SECRET, "a", tenant, ALL, 3_600, time.time() - 100)
        assert await refused_code(node, old) == 4002


async def lines_until_end(node: Node, text: str, opened: asyncio.Event) -> str:
    """Everything a stream says until it ends."""
    said = ""
    async with node.http(text) as http, http.stream("GET", f"/v1/channels/{CHANNEL}/stream") as answer:
        assert answer.status_code == 200
        async for part in answer.aiter_text():
            said += part
            opened.set()
    return said


async def test_a_stream_ends_with_its_token(redis_url: str, tenant: str) -> None:
    """Server-Sent Events are no way around revocation or expiry: the reason is the last thing said."""
    async with running_node(redis_url) as node:
        clock = NodeClock(node)
        are_open = [asyncio.Event() for _ in "ab"]
        revoked = asyncio.create_task(lines_until_end(node, token("a", tenant, jti="j1"), are_open[0]))
        expired = asyncio.create_task(lines_until_end(node, token("b", tenant, ttl_s=30), are_open[1]))
        for opened in are_open:
            await opened.wait()
        await revoke(node, tenant, jti="j1")
        clock.pass_s(45)
        last = [json.loads(text.rpartition("data: ")[2]) for text in await asyncio.gather(revoked, expired)]

    assert [frame["type"] for frame in last] == ["connection.error"] * 2
    assert [frame["payload"]["code"] for frame in last] == [4019, 4002]
