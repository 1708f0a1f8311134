"""Reading as an attack: streams held open, and the distant past asked for again and again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx

from hub.transports.body import BODY_TIMEOUT_S
from streams.channel import parse_channel
from streams.envelope import Actor, Draft
from support.nodes import running_node, token
from support.until import until

STREAM = "/v1/channels/conversation:1/stream"
STATE = "/v1/channels/conversation:1/state"


async def test_a_user_holds_as_many_streams_as_a_socket_follows_channels(redis_url: str, tenant: str) -> None:
    """One more is 4015; a closed one makes room; another user is not concerned."""
    mine, other = ({"Authorization": f"Bearer {token(user, tenant)}"} for user in "ab")
    async with running_node(redis_url, max_subscriptions=3) as node, AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=node.url, timeout=BODY_TIMEOUT_S))
        async with AsyncExitStack() as held:
            opened = [await held.enter_async_context(http.stream("GET", STREAM, headers=mine)) for _ in range(3)]
            refused = await http.get(STREAM, headers=mine)
            waiting = await http.get(STREAM.replace("stream", "events"), params={"wait_ms": 1}, headers=mine)
            theirs = await held.enter_async_context(http.stream("GET", STREAM, headers=other))
            statuses = [answer.status_code for answer in (*opened, theirs)]
        await until(lambda: not node.hub.streams)
        again = await stack.enter_async_context(http.stream("GET", STREAM, headers=mine))

    assert statuses == [200] * 4
    assert (refused.status_code, refused.json()["code"]) == (429, 4015)
    assert (waiting.status_code, waiting.json()["code"]) == (429, 4015)
    assert again.status_code == 200


async def test_a_state_of_the_past_costs_what_it_reads(redis_url: str, tenant: str) -> None:
    """Folding 2,600 events is charged as the six pages they are: who asks again at once is told to wait."""
    headers = {"Authorization": f"Bearer {token('a', tenant)}"}
    channel = parse_channel(tenant, "conversation:1")
    async with (
        running_node(redis_url, rate_limits={"history": (0.01, 7)}) as node,
        httpx.AsyncClient(base_url=node.url, headers=headers, timeout=BODY_TIMEOUT_S) as http,
    ):
        drafts = [Draft(channel, "chat.message", b'{"text":"x"}', Actor("user", "a")) for _ in range(2_600)]
        await asyncio.gather(*(node.hub.log.append(draft) for draft in drafts))
        cheap = [await http.get(STATE, params={"at": "1-0"}) for _ in range(3)]
        dear = await http.get(STATE, params={"at": "9999-12-31T23:59:59Z"})
        refused = await http.get(STATE, params={"at": "9999-12-31T23:59:59Z"})

    assert [answer.status_code for answer in cheap] == [200] * 3
    assert (dear.status_code, dear.json()["state_at"]) == (200, 2_600)
    assert (refused.status_code, refused.json()["code"]) == (429, 4004)
    assert refused.json()["retry_after_ms"] > 100_000
