"""Redis killed and restarted under a worker in the middle of an answer: it goes on by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumers.worker import running
from streams.errors import LogUnavailable
from streams.redis.log import Log
from support.redis_server import RedisServer
from support.run_rig import Client, check_rules, conversation, options

pytestmark = pytest.mark.slow


async def test_an_answer_survives_a_restart_of_redis(own_redis: RedisServer, tenant: str) -> None:
    """The agent keeps speaking while Redis is away; afterwards text, tool and end are there, each once."""
    half, back = asyncio.Event(), asyncio.Event()
    calls: list[int] = []

    async def look(args: Any, tool: Any) -> Any:
        calls.append(1)
        return "seen"

    async def agent(ctx: Any, given: Any) -> Any:
        from consumers.agents import ToolCall

        yield "before "
        await ctx.step("s", _one)
        half.set()
        await asyncio.sleep(0)
        yield "during "
        found = yield ToolCall("look", {}, look)
        await back.wait()
        yield found.output

    log = await Log.open(own_redis.url)
    client = Client(log, conversation(tenant))
    async with running(options(own_redis.url, {"a": agent}), log):
        run_id = await client.ask("x")
        await half.wait()
        with own_redis.killed():
            pass
        back.set()
        complete = await client.end(run_id, within_s=40)
    events = await client.events()
    text = await client.text(run_id)
    await log.close()

    assert complete["outcome"] == "success"
    assert text == "before during |seen"
    assert 1 <= len(calls) <= complete["attempts"] <= 2  # a second attempt only if the run lost its lease meanwhile
    check_rules(events)


@pytest.mark.parametrize("is_flushed", [False, True], ids=["restarted", "flushed"])
async def test_new_questions_are_answered_after_a_loss(
    own_redis: RedisServer, tenant: str, *, is_flushed: bool
) -> None:
    """Groups, leases, the job queue and the hints come back without a restart of the worker, after FLUSHALL as well."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield given.text

    log = await Log.open(own_redis.url)
    client = Client(log, conversation(tenant))
    async with running(options(own_redis.url, {"a": agent}), log):
        await client.end(await client.ask("one"))
        if is_flushed:
            await log.redis.flushall()
        else:
            with own_redis.killed():
                pass
        async with asyncio.timeout(40):
            run_id = await _asked_at_last(client, "two")
        await client.end(run_id, within_s=40)
        text = await client.text(run_id)
    await log.close()

    assert text == "two"


async def _one() -> int:
    return 1


async def _asked_at_last(client: Client, text: str) -> str:
    """Ask as a client does that was told 4013: again, until it is stored."""
    while True:
        try:
            return await client.ask(text)
        except LogUnavailable:
            await asyncio.sleep(0)
