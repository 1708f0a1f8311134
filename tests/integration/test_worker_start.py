"""What is asked for as soon as an agent is listed is not lost, however long its partition has no worker yet."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.worker import running
from streams.records.leases import Leases
from streams.redis.log import Log
from support.redis_server import RedisServer
from support.run_rig import Client, check_rules, conversation, options

pytestmark = pytest.mark.slow


async def test_what_is_asked_before_the_first_lease_of_a_partition_is_done(tenant: str) -> None:
    """The first worker ever announces its agents, and others hold the partitions: the run waits and is not forgotten."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield given.text

    server = RedisServer()
    try:
        log = await Log.open(server.url)
        holder = Leases(log, "holder")
        for partition in range(log.keys.partitions):
            assert await holder.acquire_partition(partition, 60_000)
        client = Client(log, conversation(tenant))
        async with running(options(log.url, {"a": agent}), log):
            run_id = await client.ask("hello")
            for partition in range(log.keys.partitions):
                await holder.release_partition(partition)
            complete = await client.end(run_id)
        events = await client.events()
        await log.close()
    finally:
        server.close()

    assert complete["outcome"] == "success"
    check_rules(events)
