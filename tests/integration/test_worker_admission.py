"""Work that a worker takes or leaves to others: before its first lease, while it stops, and while it is full."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumers.jobs import queue_of
from consumers.worker import Worker, running
from streams.records.leases import Leases
from streams.redis.log import Log
from support.redis_server import RedisServer
from support.run_rig import POLL_S, Client, check_rules, conversation, options

pytestmark = pytest.mark.slow


@pytest.fixture
def redis_url(lone_redis: RedisServer) -> str:
    """A Redis of this test alone: no other test's workers take its jobs."""
    return lone_redis.url


class Named:
    """Says its worker's name when its question's turn has come."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.may_end = {"one": asyncio.Event(), "two": asyncio.Event()}

    async def run(self, ctx: Any, given: Any) -> Any:
        if given.text in self.may_end:
            await self.may_end[given.text].wait()
        yield self.name


async def test_a_segment_that_ends_does_not_open_the_door_again(log: Log, tenant: str) -> None:
    """With room again, a stopping worker would take a job that it could only drop; it is the other worker's."""
    agents = Named("first"), Named("second")
    first, second = (Worker(options(log.url, {"a": agent}, drain_s=20), log) for agent in agents)
    one, two, three = (Client(log, conversation(tenant, name)) for name in ("one", "two", "three"))
    await first.start()
    for client in (one, two):
        await client.until("agent.status", run_id=await client.ask(client.channel.name), state="running")
    await second.start()
    second.allow_jobs(is_allowed=False)
    stopping = asyncio.create_task(first.stop())
    try:
        run_id = await three.ask("three")
        await three.until("agent.status", run_id=run_id, state="queued")
        agents[0].may_end["one"].set()
        async with asyncio.timeout(40):
            while len(first._segments) > 1:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(POLL_S)
        assert not any(taker.is_allowed for taker in first._takers)
        agents[0].may_end["two"].set()
        await stopping
        second.allow_jobs(is_allowed=True)
        complete = await three.end(run_id)
    finally:
        await asyncio.gather(stopping, return_exceptions=True)
        await second.stop()

    assert (complete["outcome"], complete["attempts"]) == ("success", 1)
    assert await three.text(run_id) == "second"


async def test_what_a_full_worker_cannot_take_waits_in_the_queue(log: Log, tenant: str) -> None:
    """With room it takes a run without a job; without, the run is an arq job that whoever has room takes."""
    agent = Named("only")
    worker = Worker(options(log.url, {"a": agent}, segments_max=1), log)
    one, two = (Client(log, conversation(tenant, name)) for name in ("one", "two"))
    await worker.start()
    try:
        first = await one.ask("one")
        await one.until("agent.status", run_id=first, state="running")
        jobs_before = await log.redis.zcard(queue_of("a"))
        second = await two.ask("two")
        agent.may_end["two"].set()
        async with asyncio.timeout(40):
            while not (jobs := await log.redis.zrange(queue_of("a"), 0, -1)):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(POLL_S)
        states = [e.payload["state"] for e in await two.events() if e.type == b"agent.status"]
        agent.may_end["one"].set()
        completes = [await one.end(first), await two.end(second)]
    finally:
        await worker.stop()

    assert jobs_before == 0
    assert jobs == [f"{two.channel.path}:{second}:1:1".encode()]
    assert states == ["queued"]
    assert [(complete["outcome"], complete["attempts"]) for complete in completes] == [("success", 1)] * 2


async def test_what_is_asked_before_the_first_lease_of_a_partition_is_done(log: Log, client: Client) -> None:
    """The first worker ever announces its agents, and others hold the partitions: the run waits and is not forgotten."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield given.text

    holder = Leases(log, "holder")
    for partition in range(log.keys.partitions):
        assert await holder.acquire_partition(partition, 60_000)
    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.ask("hello")
        for partition in range(log.keys.partitions):
            await holder.release_partition(partition)
        complete = await client.end(run_id)
    events = await client.events()

    assert complete["outcome"] == "success"
    check_rules(events)
