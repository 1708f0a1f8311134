"""Fifty node processes on one Redis: leases, presence, limits, revocations and hints hold as with two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from consumers.worker import running
from ops.children import NodeProcess
from streams.redis.keys import NODES
from streams.redis.log import Log
from support.nodes import SECRET, token
from support.redis_server import RedisServer
from support.run_rig import options
from support.socket_client import SocketClient, client

COUNT, AT_ONCE, KILLED = 50, 5, 3
ROOM, BURST = "conversation:1", 20
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1_200)]


@pytest.fixture
async def nodes(lone_redis: RedisServer, tmp_path: Path) -> AsyncIterator[list[NodeProcess]]:
    """The nodes; a few start at a time, because each takes a core for a second or two."""
    rates = f"chat=0.001/{BURST}"
    found = [NodeProcess(lone_redis.url, SECRET, HUB_RATE_LIMITS=rates, HUB_DATA=str(tmp_path)) for _ in range(COUNT)]
    try:
        for at in range(0, COUNT, AT_ONCE):
            for node in found[at : at + AT_ONCE]:
                node.start()
            await asyncio.gather(*(node.ready() for node in found[at : at + AT_ONCE]))
        yield found
    finally:
        for node in found:
            node.kill()


def ws_url(node: NodeProcess) -> str:
    return node.url.replace("http", "ws") + "/ws"


async def told_of(follower: SocketClient, status: str, users: set[str]) -> None:
    """Wait until a follower was told that each of these users joined or left, and nobody else."""
    left = set(users)
    while left:
        change = (await follower.expect("channel.presence"))["payload"]
        if change["status"] == status:
            left.remove(change["user"])


async def people(node: NodeProcess, bearer: str) -> set[str]:
    """The people in ROOM, as this node tells them."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {bearer}"}, timeout=60) as http:
        answer = await http.get(f"{node.url}/v1/channels/{ROOM}/state")
    return {one["user"] for one in answer.raise_for_status().json()["state"]["presence"]}


async def spent(node: NodeProcess, bearer: str, number: int) -> int:
    """Write until the rate is spent; returns the number of messages that were stored."""
    async with client(ws_url(node), bearer) as socket:
        for count in range(2 * BURST):
            command = await socket.send("chat.message", {"text": f"{number} {count}"}, ROOM, f"{number}-{count}")
            while (answer := await socket.next()).get("re") != command:
                pass
            if answer["type"] == "connection.error":
                assert answer["payload"]["code"] == 4004, answer
                return count
    return 2 * BURST


async def waiting(ctx: Any, given: Any) -> Any:
    """An agent that goes on until it is cancelled."""
    yield "So far "
    await asyncio.Event().wait()


async def test_fifty_nodes_are_one_hub(nodes: list[NodeProcess], lone_redis: RedisServer, tenant: str) -> None:
    """With a person at each, a run that one node begins and another one cancels, and three nodes that are killed."""
    log = await Log.open(lone_redis.url)
    async with (
        Redis.from_url(lone_redis.url) as redis,
        running(options(lone_redis.url, {"a": waiting}), log),
        AsyncExitStack() as opened,
    ):
        users = [f"user-{number}" for number in range(COUNT)]
        sockets: list[SocketClient] = []
        for node, user in zip(nodes, users, strict=True):
            sockets.append(await opened.enter_async_context(client(ws_url(node), token(user, tenant))))
            await sockets[-1].subscribe(ROOM, presence=len(sockets) == 1)
        await told_of(sockets[0], "joined", set(users))
        assert await redis.zcount(NODES, log.now_ms(), "+inf") == COUNT
        assert await people(nodes[-1], token("reader", tenant)) == set(users)

        # A run that another node than the one that began it cancels: its worker is told by a hint.
        begun = await sockets[3].answer("chat.message", {"text": "go on", "agent": "a"}, ROOM)
        run_id = begun["payload"]["run_id"]
        await sockets[-4].event("assistant.message.start", run_id=run_id)
        await sockets[-4].answer("agent.cancel", {"run_id": run_id}, ROOM)
        assert (await sockets[COUNT // 2].event("agent.complete", run_id=run_id))["outcome"] == "cancelled"

        # A rate that is spent at one node is spent at all: another bucket at each would let `BURST` more through.
        busy = token("busy", tenant)
        passed = [await spent(node, busy, number) for number, node in enumerate(nodes[5:7])]
        assert passed[0] == BURST
        assert passed[1] < BURST

        # A revocation at one node closes the socket at another.
        operator = {"Authorization": f"Bearer {token('root', tenant, {'*': ['*']})}"}
        async with httpx.AsyncClient(headers=operator, timeout=60) as http:
            (await http.post(f"{nodes[7].url}/v1/revocations", json={"sub": users[4]})).raise_for_status()
        assert await sockets[4].closed() == 4019

        # Three nodes die; their people leave, and nobody else.
        for node in nodes[-KILLED:]:
            node.kill()
        gone = {*users[-KILLED:], users[4]}
        await told_of(sockets[0], "left", gone)
        assert await people(nodes[0], token("reader", tenant)) == set(users) - gone
    await log.close()
