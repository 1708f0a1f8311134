"""Redis refuses writes for some seconds (full, read-only, a key that is not ours): every loop of a node goes on afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from streams.redis.keys import NODES
from support.asking import question, until_ready, until_told
from support.lived_time import lived_time
from support.nodes import running_node, token
from support.redis_server import RedisServer, server_binary
from support.replica import command
from support.socket_client import client

CHANNEL = "team:1"


@pytest.fixture(params=[None, "6.2"], ids=["default", "6.2"])
def refusing_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of this test alone, of the version it names."""
    binary = request.param and server_binary(request.param)
    if request.param and binary is None:
        pytest.skip(f"no server {request.param} here")
    server = RedisServer(binary=binary)
    yield server
    server.close()


@contextlib.asynccontextmanager
async def full(redis: Any) -> AsyncIterator[None]:
    """Redis has no room inside the block."""
    await redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        await redis.config_set("maxmemory", 0)


@contextlib.asynccontextmanager
async def read_only(redis: Any) -> AsyncIterator[None]:
    """Redis is a replica of nobody inside the block."""
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        await redis.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refusing", "part"), [(full, "presence fails"), (read_only, "presence_lease")], ids=["full", "read-only"]
)
async def test_presence_lives_on_after_redis_refused_writes(
    refusing_redis: RedisServer, refusing: Any, part: str
) -> None:
    """A join is told within a lease afterwards, and the leave after it; readiness names the part meanwhile, and it is counted.

    Leases are renewed in a full Redis, too.
    """
    async with command(refusing_redis) as redis, running_node(refusing_redis.url) as node:
        async with client(node.ws_url, token("watcher", "t")) as watcher, client(node.ws_url, token("a", "t")) as a:
            await watcher.subscribe(CHANNEL, presence=True)
            async with refusing(redis):
                await a.send("channel.subscribe", {"channels": [CHANNEL]})
                async with asyncio.timeout(30):
                    await until_told(node, part)
            async with lived_time() as since:
                await watcher.event("channel.presence", user="a", status="joined")
            await a.send("channel.unsubscribe", {"channels": [CHANNEL]})
            await watcher.event("channel.presence", user="a", status="left")
            async with asyncio.timeout(30):
                await until_ready(node)
            metrics = (await asyncio.to_thread(question, node, "/metrics"))[1]

    assert since.passed_s < 8
    counted = [line for line in metrics.splitlines() if line.startswith('hub_loop_failures_total{loop="presence')]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) >= 1


@pytest.mark.slow
async def test_a_loop_that_meets_what_is_not_ours_is_told_and_heals(lone_redis: RedisServer) -> None:
    """Under the key of the nodes' leases lies a text: readiness names the loop, and it heals when the key is free again."""
    async with command(lone_redis) as redis, running_node(lone_redis.url) as node:
        await redis.set(NODES, "not ours")
        async with asyncio.timeout(30):
            missing = await until_told(node, "presence_lease")
        await redis.delete(NODES)
        async with asyncio.timeout(30):
            await until_ready(node)
        assert await redis.zscore(NODES, node.hub.name) is not None

    assert any("WRONGTYPE" in text for text in missing)
