"""A run that waited and goes on is looked after like any other: its worker may be lost at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from consumers.worker import running
from streams.redis.log import Log
from support.run_rig import POLL_S, Client, conversation, options

SOON_S = 10.0
"""Well below the half minute between two looks at a run that waits for people."""


async def test_a_run_that_goes_on_is_looked_at_again_soon(redis_url: str, tenant: str) -> None:
    """Looked at rarely while it waits, it is due again when the lease of its next worker could be over."""

    async def agent(ctx: Any, given: Any) -> Any:
        await ctx.ask("?")
        yield "on"
        await asyncio.Event().wait()

    log = await Log.open(redis_url)
    client = Client(log, conversation(tenant))
    chosen = options(log.url, {"a": agent}, look_again_ms=60_000)

    async def due_in_ms() -> float:
        key = log.keys.runs(log.keys.of(client.channel).partition)
        found = await log.redis.zscore(key, f"{client.channel.path} {run_id}")
        assert found is not None
        return float(found) - time.time() * 1000

    async with running(chosen, log):
        run_id = await client.ask("x")
        request = await client.until("tool.call.request", run_id=run_id)
        await client.until("agent.status", run_id=run_id, state="waiting")
        await log.redis.zadd(
            log.keys.runs(log.keys.of(client.channel).partition),
            {f"{client.channel.path} {run_id}": time.time() * 1000 + 30_000},
        )  # as a reaper leaves it that has just looked
        await client.answer(request["request_id"], result="yes")
        await client.until("agent.status", run_id=run_id, state="running", segment=2)
        async with asyncio.timeout(SOON_S):
            while await due_in_ms() > chosen.lease_ms:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(POLL_S)
        await client.cancel(run_id, "force")
        await client.end(run_id)
    await log.close()
