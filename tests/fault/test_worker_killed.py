"""Worker processes killed with SIGKILL, and stopped with SIGTERM, in the middle of an answer."""

from __future__ import annotations

import asyncio
import random
import signal

import pytest

from streams.redis.log import Log
from support.redis_server import RedisServer
from support.run_rig import Client, check_rules, conversation
from support.worker_process import SAID, end_worker, start_worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
KILLS = 6


@pytest.fixture
def redis_url(lone_redis: RedisServer) -> str:
    """A Redis of this test alone: no other test's workers take its jobs."""
    return lone_redis.url


async def _until_offset(log: Log, client: Client, offset: int) -> None:
    async with asyncio.timeout(40):
        while True:
            live = await log.replay.live_entries(client.channel)
            if any(entry.payload.get("end", 0) >= offset for entry in live):
                return
            await asyncio.sleep(0)


async def test_a_killed_worker_changes_nothing_of_the_answer(log: Log, tenant: str) -> None:
    """SIGKILL at random places: a new attempt follows, exactly one end, and the text is what it always is."""
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    for number in range(KILLS):
        client = Client(log, conversation(tenant, f"k{number}"))
        first, second = start_worker(log.url), start_worker(log.url)
        try:
            run_id = await client.ask("talk")
            await _until_offset(log, client, chance.randrange(1, 250))
            running = await client.until("agent.status", run_id=run_id, state="running")
            assert running["attempt"] == 1
            holder = await _holder(log, client, run_id)
            doomed = first if f"-{first.pid}-" in holder else second
            end_worker(doomed)
            complete = await client.end(run_id, within_s=60)
        finally:
            for process in (first, second):
                if process.poll() is None:
                    end_worker(process)

        assert (complete["outcome"], complete["attempts"]) == ("success", 2), f"seed {seed}"
        assert await client.text(run_id) == SAID, f"seed {seed}"
        check_rules(await client.events())


async def test_sigterm_hands_the_answer_over(log: Log, tenant: str) -> None:
    """A worker told to stop gives its answer to another one; it costs no attempt of the two a run has."""
    client = Client(log, conversation(tenant))
    first, second = start_worker(log.url), start_worker(log.url)
    try:
        run_id = await client.ask("talk")
        await _until_offset(log, client, 20)
        holder = await _holder(log, client, run_id)
        end_worker(first if f"-{first.pid}-" in holder else second, signal.SIGTERM)
        complete = await client.end(run_id)
        fields = await log.redis.hgetall(log.keys.guard(client.channel, f"run:{client.channel.wire}:{run_id}"))
    finally:
        for process in (first, second):
            if process.poll() is None:
                end_worker(process)

    assert complete["outcome"] == "success"
    assert b"losses" not in fields
    assert await client.text(run_id) == SAID
    check_rules(await client.events())


async def _holder(log: Log, client: Client, run_id: str) -> str:
    key = log.keys.guard(client.channel, f"run:{client.channel.wire}:{run_id}")
    async with asyncio.timeout(40):
        while True:
            if holder := (await log.redis.hget(key, "holder") or b"").decode():
                return holder
            await asyncio.sleep(0)
