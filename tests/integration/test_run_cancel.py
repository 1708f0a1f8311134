"""A cancel stops the run it was meant for, however late it is carried out."""

from __future__ import annotations

import asyncio
from typing import Any

from consumers.worker import running
from streams.envelope import Guard
from streams.records.runs import run_guard_name
from streams.redis.log import Log
from support.run_rig import Client, conversation, options


async def test_a_late_cancel_does_not_stop_the_next_run(redis_url: str, tenant: str) -> None:
    """The edge marked the first run, which ended before a worker came to the cancel; the second one had its turn by then."""
    go = asyncio.Event()

    async def agent(ctx: Any, given: Any) -> Any:
        if given.text == "second":
            await go.wait()
        yield given.text

    log = await Log.open(redis_url)
    client = Client(log, conversation(tenant))
    async with running(options(redis_url, {"a": agent}), log):
        first = await client.ask("first")
        second = await client.ask("second")
        await client.end(first)
        await client.until("agent.status", run_id=second, state="running")
        await client.command(
            "chat.cancel", {}, Guard(run_guard_name(client.channel, first), sets=(("cancel", "graceful"),))
        )
        third = await client.ask("third")
        await client.until("agent.status", run_id=third, state="queued")  # the same handler, so the cancel is behind it
        go.set()
        complete = await client.end(second)
        await client.end(third)
        states = [e.payload["state"] for e in await client.events() if e.type == b"agent.status"]
    await log.close()

    assert complete["outcome"] == "success"
    assert "cancelling" not in states
