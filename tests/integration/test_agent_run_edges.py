"""Edges of runs: limits of size and time, agents that do not behave, channels of agents, workers that do not serve."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from consumers.agents import Output, ToolCall
from consumers.worker import Worker, running
from streams.channel import parse_channel
from streams.envelope import Actor, Draft, Guard
from streams.records.agents import AgentDirectory
from streams.records.run_store import RunStore
from streams.records.runs import Invitation, opening, run_guard_name, run_id_of
from streams.redis.log import Log
from support.run_rig import POLL_S, Client, check_rules, conversation, options, wait_until

MINUTE_MS = 60_000
SOON_S = 10.0
"""Well below the half minute between two looks at a run that waits for people."""


async def parrot(ctx: Any, given: Any) -> Any:
    yield given.text


async def test_a_message_ends_at_its_limit(log: Log, client: Client) -> None:
    """512 KiB as UTF-8, cut between code points; deltas of at most 8,192 add up to it."""

    async def agent(ctx: Any, given: Any) -> Any:
        for _ in range(40):
            yield "é" * 10_000

    run_id = (await client.served(agent))["run_id"]

    end = await client.until("assistant.message.end", run_id=run_id)
    assert (end["finish_reason"], end["text"]) == ("length", "é" * (256 * 1024))
    assert max(len(e.payload["delta"]) for e in await log.replay.live_entries(client.channel)) <= 8_192


async def test_text_that_cannot_be_stored_is_mended(log: Log, client: Client) -> None:
    """NUL and lone surrogates, which models do produce, do not break the run."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield "a\x00b"
        yield "c\ud83dd"

    run_id = (await client.served(agent))["run_id"]

    assert await client.text(run_id) == "a\ufffdbc\ufffdd"


async def test_an_agent_that_never_awaits_can_be_cancelled(log: Log, client: Client) -> None:
    """It breathes between its items, so others are served and the cancel arrives."""

    async def agent(ctx: Any, given: Any) -> Any:
        while True:
            yield "."

    async with running(options(log.url, {"a": agent, "b": parrot}), log):
        run_id = await client.ask("x")
        await client.until("assistant.message.start", run_id=run_id)
        other = Client(log, conversation(client.channel.tenant, "other"))
        await other.end(await other.ask("hi", "b"))
        await client.cancel(run_id)
        complete = await client.end(run_id)

    assert complete["outcome"] == "cancelled"


@pytest.mark.parametrize("item", [42, None, Output("json", "x" * 70_000)])
async def test_what_an_agent_must_not_yield_fails_the_run(log: Log, client: Client, item: Any) -> None:
    """Something else than items, or an output that is too large."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield item

    complete = await client.served(agent)

    assert complete["error"]["code"] in {"bad_item", "output_too_large"}


async def test_tools_fail_in_words(log: Log, client: Client) -> None:
    """Raised, too slow, refused arguments, too large: each is the outcome of its call, and the agent goes on."""

    async def bad(args: Any, tool: Any) -> Any:
        raise KeyError("x")

    async def slow(args: Any, tool: Any) -> Any:
        await asyncio.Event().wait()

    async def large(args: Any, tool: Any) -> Any:
        return "x" * 70_000

    def refuse(args: Any) -> Any:
        raise ValueError("not these")

    async def agent(ctx: Any, given: Any) -> Any:
        outcomes = yield [
            ToolCall("bad", {}, bad), ToolCall("slow", {}, slow, timeout_s=0.05), ToolCall("large", {}, large),
            ToolCall("refused", {}, bad, validate=refuse),
        ]  # fmt: skip # a table
        yield ",".join(str(outcome.error) for outcome in outcomes)

    run_id = (await client.served(agent))["run_id"]

    assert await client.text(run_id) == "|failed,timeout,failed,invalid_args"


async def test_an_agent_channel_is_a_home_too(log: Log, tenant: str) -> None:
    """`agent.invoke` on `agent:` channels, with JSON input."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield json.dumps(given.value)

    client = Client(log, parse_channel(tenant, "agent:a.job-1"))
    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.invoke({"n": 1})
        await client.end(run_id)

    assert await client.text(run_id) == '{"n": 1}'
    check_rules(await client.events())


async def test_a_run_nobody_serves_expires(log: Log, client: Client) -> None:
    """Queued for more than ten minutes, it ends by itself; the next in line gets its turn."""
    guards_ms = -11 * MINUTE_MS
    async with running(options(log.url, {"a": parrot}), log):
        lost = await client.ask("x", "nobody", shift_ms=guards_ms)
        found = await client.ask("y")
        complete = await client.end(lost)
        await client.end(found)

    assert complete["outcome"] == "expired"
    assert await client.text(found) == "y"


async def test_a_run_that_was_listed_and_never_announced_begins_as_queued(log: Log, client: Client) -> None:
    """Its worker was stopped between the two; another one finds it in the list. Its first status says `queued` nevertheless."""
    guards = opening(client.channel, Invitation("a", client.user, int(time.time() * 1000)))
    draft = Draft(
        client.channel, "chat.message", b'{"text":"x"}', Actor("user", client.user), command="t", guards=guards
    )
    run_id = run_id_of(client.channel, (await log.append(draft)).id)  # no handler is told of it

    async with running(options(log.url, {"a": parrot}), log):
        await RunStore(log).register(client.channel, run_id, 0)
        await client.end(run_id)

    statuses = [e.payload["state"] for e in await client.events() if e.type == b"agent.status"]
    assert statuses == ["queued", "running"]


async def test_a_worker_leaves_the_jobs_of_other_agents(log: Log, client: Client) -> None:
    """Two workers with different agents: each run finds the one that serves its agent."""
    async with running(options(log.url, {"a": parrot}), log), running(options(log.url, {"b": parrot}), log):
        for name in ("a", "b", "a", "b"):
            complete = await client.end(await client.ask(name, name))
            assert complete["outcome"] == "success"


async def test_a_cancel_whose_worker_dies_is_carried_out(log: Log, client: Client) -> None:
    """Accepted while it ran, the cancel holds after the worker is gone: the reaper ends the run as cancelled."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield "so far"
        await asyncio.Event().wait()

    chosen = options(log.url, {"a": agent}, grace_s=60.0)
    doomed = Worker(chosen, log)
    await doomed.start()
    run_id = await client.ask("x")
    await client.until("assistant.message.start", run_id=run_id)
    await wait_until(lambda: log.replay.live_entries(client.channel))
    await client.cancel(run_id)
    await client.until("agent.status", run_id=run_id, state="cancelling")
    await doomed.abandon()
    async with running(chosen, log):
        complete = await client.end(run_id)

    assert complete["outcome"] == "cancelled"
    assert await client.text(run_id) == "so far"


async def test_mentions_and_important_activity_reach_people(log: Log, client: Client) -> None:
    """A mentioned person gets one notification in the inbox; a team's important activity one in the team."""
    inbox, team = (parse_channel(client.channel.tenant, name) for name in ("user:bob", "team:blue"))
    parts = [{"type": "mention", "kind": "user", "id": name} for name in ("bob", "bob", "alice")]
    activity = {"verb": "deployed", "object": {"type": "app", "id": "x"}, "summary": "v2 is out", "importance": "high"}

    async with running(options(log.url, {}), log):
        await client.command("chat.message", {"text": "look @bob", "parts": parts})
        actor = Actor("user", "alice")
        told = await log.append(Draft(team, "team.activity", json.dumps(activity).encode(), actor, is_wanted=True))
        await wait_until(lambda: log.page(inbox))
        await wait_until(lambda: log.page(team, after=told.id))

    assert [entry.payload["kind"] for entry in await log.page(inbox)] == ["mention"]
    assert (await log.page(team))[1].payload["body"] == "v2 is out"
    assert await log.page(parse_channel(client.channel.tenant, "user:alice")) == []


async def test_served_agents_are_announced_and_withdrawn(log: Log) -> None:
    """The directory that nodes ask before they accept a command (4007), and that agent.list shows."""

    def directory() -> AgentDirectory:
        return AgentDirectory(log)  # a new one each time: it caches for a second

    async with running(options(log.url, {"parrot-x": parrot}), log):
        assert await directory().is_available("parrot-x")
        assert "parrot-x" in [card.name for card in await directory().cards()]
    assert not await directory().is_available("parrot-x")


async def test_a_late_cancel_does_not_stop_the_next_run(log: Log, client: Client) -> None:
    """The edge marked the first run, which ended before a worker came to the cancel; the second one had its turn by then."""
    go = asyncio.Event()

    async def agent(ctx: Any, given: Any) -> Any:
        if given.text == "second":
            await go.wait()
        yield given.text

    async with running(options(log.url, {"a": agent}), log):
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

    assert complete["outcome"] == "success"
    assert "cancelling" not in states


async def test_a_run_that_goes_on_is_looked_at_again_soon(log: Log, client: Client) -> None:
    """Looked at rarely while it waits, it is due again when the lease of its next worker could be over."""

    async def agent(ctx: Any, given: Any) -> Any:
        await ctx.ask("?")
        yield "on"
        await asyncio.Event().wait()

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
