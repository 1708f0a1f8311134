"""Redis's clock is set back a quarter of an hour while processes are killed: no lease outlives its life, no run is forgotten."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from consumers.worker import running
from streams.channel import Channel, parse_channel
from streams.records.agents import AgentDirectory, AgentNotice
from streams.records.leases import Leases
from streams.redis.keys import AGENTS, WORKERS
from streams.redis.log import Log
from support.asking import until_present
from support.lived_time import lived_time
from support.nodes import NodeProcess, running_node, token
from support.redis_server import RedisServer
from support.replica import command
from support.run_rig import Client, conversation, options
from support.socket_client import client
from support.worker_process import Talker, end_worker, start_worker

BACK_MS = 900_000
LIFE_MS = 2_000


@pytest.fixture
def redis_url(lone_redis: RedisServer) -> str:
    """A Redis of this test alone."""
    return lone_redis.url


async def set_clock_back(redis: Any) -> None:
    """Every moment that is kept lies a quarter of an hour further ahead, as when Redis's clock was set back by as much."""
    async for key in redis.scan_iter(count=1_000):
        kind = (await redis.type(key)).decode()
        if (left_ms := await redis.pttl(key)) > 0:
            await redis.pexpire(key, left_ms + BACK_MS)
        if kind == "zset" and key.endswith((b":nodes", b":workers", b":runs")):
            for member in await redis.zrange(key, 0, -1):
                await redis.zincrby(key, BACK_MS, member)
        if kind == "hash":
            for field in {b"until", b"since_ms", b"deadline_ms", b"began_ms"} & set(await redis.hkeys(key)):
                if int(await redis.hget(key, field) or 0) > 0:
                    await redis.hincrby(key, field, BACK_MS)


async def test_a_lease_never_lasts_longer_than_its_life(lone_redis: RedisServer, log: Log, tenant: str) -> None:
    """The next who comes cuts it: of a partition, of a run, of a worker; a holder that lives keeps it."""
    channel = Channel(tenant, conversation(tenant).kind, "1")
    dead, other = Leases(log, "dead"), Leases(log, "other")
    await dead.acquire_partition(0, LIFE_MS)
    await dead.acquire_run(channel, "r-1", "dead/1", LIFE_MS)
    await dead.sign_in(LIFE_MS)
    async with command(lone_redis) as redis:
        await set_clock_back(redis)
        first = await other.acquire_partition(0, LIFE_MS)
        was_alive = await other.is_run_alive(channel, "r-1")
        workers = await other.sign_in(LIFE_MS)
        lives_ms = [
            int(await redis.hget(log.keys.lease(0), "until")) - log.now_ms(),
            int(await redis.hget(log.keys.run_lease(channel, "r-1"), "until")) - log.now_ms(),
            int(await redis.zscore(WORKERS, "dead")) - log.now_ms(),
            await redis.pttl(log.keys.run_lease(channel, "r-1")),
        ]
        kept = await dead.renew_partition(0, LIFE_MS)

    assert (first, was_alive, workers) == (0, True, 2)
    assert all(life_ms <= LIFE_MS + 50 for life_ms in lives_ms)  # two readings of one clock
    assert kept == 1


async def test_an_agent_is_not_served_for_ever_by_a_dead_worker(log: Log) -> None:
    """A notice that ends too far ahead is cut, so that it ends if nobody tells it again."""
    await AgentDirectory(log).announce("dead", [AgentNotice("a", "", True)])
    told = await log.redis.hget(AGENTS, "a dead")
    await log.redis.hset(AGENTS, "a dead", told.replace(told[1:5], b"9999", 1))
    served = await AgentDirectory(log).is_available("a")
    cut = await log.redis.hget(AGENTS, "a dead")

    assert served
    assert abs(int(cut[1:].partition(b",")[0]) - log.now_ms()) < 20_000


@pytest.mark.slow
async def test_a_killed_workers_run_is_taken_over(lone_redis: RedisServer, log: Log, tenant: str) -> None:
    """Its lease, its job and its place in the list of runs all lie ahead; another worker begins it again all the same."""
    asker = Client(log, conversation(tenant))
    doomed = start_worker(log.url)
    try:
        run_id = await asker.ask("talk")
        await asker.until("agent.status", run_id=run_id, state="running")
    finally:
        end_worker(doomed)
    async with command(lone_redis) as redis:
        await set_clock_back(redis)
    async with running(options(log.url, {"a": Talker()})), lived_time() as since:
        complete = await asker.end(run_id, within_s=60)

    assert (complete["outcome"], complete["attempts"]) == ("success", 2)
    assert since.passed_s < 40


@pytest.mark.slow
async def test_a_killed_nodes_people_leave(lone_redis: RedisServer, log: Log, tenant: str) -> None:
    """The dead node's lease lies ahead; another node cuts it, and its people are gone within 15 s."""
    doomed = NodeProcess(log.url)
    try:
        async with running_node(log.url) as node, AsyncExitStack() as stack:
            await doomed.wait_ready()
            gone = await stack.enter_async_context(client(doomed.ws_url, token("gone", tenant)))
            await gone.subscribe("team:1")
            room = parse_channel(tenant, "team:1")
            await until_present(node, room, {"gone": 1})
            doomed.kill()
            async with command(lone_redis) as redis:
                await set_clock_back(redis)
            async with lived_time() as since, asyncio.timeout(60):
                await until_present(node, room, {})
    finally:
        doomed.close()

    assert since.passed_s < 15
