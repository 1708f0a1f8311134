"""A worker killed at every named place of the runtime: effects are counted once and the run comes to one end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from consumers.agents import Output, Result, ToolCall
from consumers.faults import POINTS
from consumers.worker import running
from streams.redis.log import Log
from support.fault_points import bury, killed_at
from support.run_rig import POLL_S, Client, check_rules, conversation, options

RUN_POINTS = [point for point in POINTS if point.startswith("run_")]
TEXT = "Thinking. |It is 42. Done: yes."

pytestmark = pytest.mark.slow


class Worldly:
    """An agent that does one of everything; its effects are counted outside of it, by the key each is given."""

    def __init__(self, *, is_idempotent: bool = True) -> None:
        self.effects: Counter[str] = Counter()
        self.keys: set[str] = set()
        self._is_idempotent = is_idempotent

    async def run(self, ctx: Any, given: Any) -> Any:
        yield "Thinking. "
        found = yield ToolCall("double", {"x": 21}, self._double, is_idempotent=self._is_idempotent)
        yield f"It is {found.output}. "
        await ctx.step("note", lambda: self._effect(ctx.idempotency_key("note")))
        yield Output("json", {"n": 1})
        answer = await ctx.ask("Done?", kind="confirmation")
        yield "Done: yes." if answer.is_approved else "Done: no."
        yield Result("ok")

    async def _double(self, args: Any, tool: Any) -> Any:
        await self._effect(tool.idempotency_key)
        return args["x"] * 2

    async def _effect(self, key: str) -> Any:
        self.effects[key] += 1
        self.keys.add(key)
        return len(key)


async def _answer_when_asked(client: Client) -> None:
    request = await client.until("tool.call.request")
    await client.answer(request["request_id"], decision="approve")


@pytest.mark.parametrize("point", RUN_POINTS)
async def test_a_run_survives_a_death_at_every_point(log: Log, tenant: str, point: str) -> None:
    """The next worker brings the run to the same text, the same result and one end, whatever the first one was at."""
    agent = Worldly()
    client = Client(log, conversation(tenant))
    chosen = options(log.url, {"a": agent})

    doomed, fault = await killed_at(point, chosen, log)
    run_id = await client.ask("go")
    answering = asyncio.create_task(_answer_when_asked(client))
    await bury(doomed, fault)
    async with running(chosen, log):
        complete = await client.end(run_id, within_s=30)
        await answering

    assert complete["outcome"] == "success"
    assert complete["result"] == "ok"
    texts = await client.text(run_id)
    assert texts.replace("|", "") == TEXT.replace("|", "")
    check_rules(await client.events())
    steps = [e.payload for e in await client.events() if e.type == b"agent.output"]
    assert [step["kind"] for step in steps] == ["log", "json"]
    assert len(agent.keys) == 2  # two effects, each always under its one key: whoever keeps keys counts each once
    assert not await log.replay.open_texts(client.channel)


async def test_a_tool_that_may_not_be_repeated_is_not(log: Log, tenant: str) -> None:
    """Its worker lost in the middle, the call ends in worker_lost and the run fails, retryable; the effect happened once."""
    agent = Worldly(is_idempotent=False)
    client = Client(log, conversation(tenant))
    chosen = options(log.url, {"a": agent})

    doomed, fault = await killed_at("run_after_tool", chosen, log)
    run_id = await client.ask("go")
    await bury(doomed, fault)
    async with running(chosen, log):
        complete = await client.end(run_id, within_s=30)

    assert (complete["outcome"], complete["error"]["code"], complete["error"]["retryable"]) == (
        "failed",
        "worker_lost",
        True,
    )
    assert (await client.until("tool.call.error", run_id=run_id))["reason"] == "worker_lost"
    assert list(agent.effects.values()) == [1]
    check_rules(await client.events())


async def test_a_run_that_costs_two_workers_fails(log: Log, tenant: str) -> None:
    """Attempts are used up after the second lost worker."""
    client = Client(log, conversation(tenant))
    chosen = options(log.url, {"a": Worldly()})

    for _ in range(2):
        doomed, fault = await killed_at("run_after_start", chosen, log)
        if _ == 0:
            run_id = await client.ask("go")
        await bury(doomed, fault)
    async with running(chosen, log):
        complete = await client.end(run_id, within_s=30)

    assert (complete["outcome"], complete["attempts"]) == ("failed", 2)
    check_rules(await client.events())


async def test_a_zombie_is_refused(log: Log, tenant: str) -> None:
    """A worker whose lease ended while it was away appends nothing any more; the text is the new attempt's alone."""
    go = asyncio.Event()
    seen: list[int] = []

    async def agent(ctx: Any, given: Any) -> Any:
        seen.append(ctx.attempt)
        if ctx.attempt == 1:
            yield "old "
            await go.wait()
            yield "zombie"
        else:
            yield "new"

    client = Client(log, conversation(tenant))
    chosen = options(log.url, {"a": agent})
    async with running(chosen, log) as first:
        run_id = await client.ask("x")
        await client.until("assistant.message.start", run_id=run_id)
        for loop in first._loops:  # it stands still: no renewing, no polling, no reaper
            if loop.task and loop.name in {"run_flags", "run_hints", "reaper", "partitions", "jobs"}:
                loop.task.cancel()
        await first._renewal.stop()
        async with running(chosen, log):
            await client.end(run_id, within_s=30)
            go.set()
            while first.metrics.runs_active:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(POLL_S)

    assert seen == [1, 2]
    assert await client.text(run_id) == "new"
    assert "zombie" not in [entry.payload["delta"] for entry in await log.replay.live_entries(client.channel)]
    reset = await client.until("assistant.message.reset", run_id=run_id)
    assert (reset["keep"], reset["attempt"], reset["reason"]) == (0, 2, "worker_lost")
    check_rules(await client.events())


async def test_a_stopping_worker_hands_its_runs_over(log: Log, tenant: str) -> None:
    """Drained, a worker gives what it has not finished to another one: a new attempt, no failure, one text."""
    both = asyncio.Event()

    async def agent(ctx: Any, given: Any) -> Any:
        yield "one "
        await ctx.step("s", _nothing)
        yield "two "
        if ctx.attempt == 1:
            both.set()
            await asyncio.Event().wait()
        yield "three"

    client = Client(log, conversation(tenant))
    chosen = options(log.url, {"a": agent})
    async with running(chosen, log) as second:
        second.allow_jobs(is_allowed=False)
        async with running(chosen, log):
            run_id = await client.ask("x")
            await both.wait()
        second.allow_jobs(is_allowed=True)
        complete = await client.end(run_id)

    assert (complete["outcome"], complete["attempts"]) == ("success", 2)
    assert await client.text(run_id) == "one two three"
    reset = await client.until("assistant.message.reset", run_id=run_id)
    assert reset["keep"] == len("one ")
    check_rules(await client.events())


async def _nothing() -> None:
    return None
