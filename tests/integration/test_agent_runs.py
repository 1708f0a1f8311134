"""Runs from question to end, on a real Redis with arq: streaming, tools, people, cancel, turns, deadlines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumers.agents import AgentFailed, EndMessage, Output, Question, Reasoning, Result, ToolCall
from consumers.worker import running
from streams.errors import GuardRefused
from streams.records.run_store import RunStore
from streams.records.runs import cancel_unbegun, is_unbegun, run_guard_name, steering
from streams.redis.log import Log
from support.lived_time import lived_time
from support.run_rig import POLL_S, Client, conversation, options, wait_until


async def parrot(ctx: Any, given: Any) -> Any:
    """Says it back."""
    for word in given.text.split(" "):
        yield word + " "
        await asyncio.sleep(0)


async def test_an_answer_is_streamed_and_ends_once(log: Log, client: Client) -> None:
    """start, deltas that add up to the end's text, end, complete; the message hangs below the question."""
    complete = await client.served(parrot, "one two three")
    run_id = complete["run_id"]

    assert complete["outcome"] == "success"
    assert complete["message_ids"] == [f"{run_id}.0"]
    assert await client.text(run_id) == "one two three "
    assert await client.types(of=run_id) == [
        "agent.status", "agent.status", "assistant.message.start", "assistant.message.end", "agent.complete",
    ]  # fmt: skip # a table
    start = await client.until("assistant.message.start", run_id=run_id)
    assert start["parent_id"] == (await client.events())[0].id.decode()
    deltas = [entry.payload for entry in await log.replay.live_entries(client.channel)]
    text = ""
    for delta in deltas:
        assert (delta["offset"], delta["end"]) == (len(text), len(text) + len(delta["delta"]))
        text += delta["delta"]
    assert text == "one two three "
    assert await log.replay.open_texts(client.channel) == {}


async def test_everything_an_agent_may_yield(log: Log, client: Client) -> None:
    """Reasoning, outputs, several messages, a tool and a result come out as their events, in their order."""

    async def double(args: Any, tool: Any) -> Any:
        tool.progress(1, 2, "half")
        return args["x"] * 2

    async def agent(ctx: Any, given: Any) -> Any:
        yield Reasoning("hm")
        yield "first"
        yield EndMessage("stop", {"output_tokens": 3})
        yield Output("json", {"a": 1}, "thing")
        found = yield ToolCall("double", {"x": 21}, double)
        yield f"it is {found.output}"
        noted = await ctx.step("note", _forty_two)
        yield Result({"noted": noted})

    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.invoke("go")
        complete = await client.end(run_id)

    assert complete["result"] == {"noted": 42}
    assert complete["usage"] == [{"output_tokens": 3}]
    assert await client.text(run_id) == "first||it is 42"
    assert (await client.until("assistant.message.end", message_id=f"{run_id}.0"))["reasoning"] == "hm"
    assert (await client.until("assistant.message.end", message_id=f"{run_id}.1"))["finish_reason"] == "tool_calls"
    assert (await client.until("tool.call.complete", run_id=run_id))["output"] == 42


async def _forty_two() -> int:
    return 42


async def test_an_agent_that_fails_ends_its_run(log: Log, client: Client) -> None:
    """An error raised on purpose is told; one raised by accident is not shown to anybody."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield "so "
        if given.text == "on purpose":
            raise AgentFailed("quota", "the provider's quota is used up", is_retryable=True)
        raise RuntimeError("secret")

    async with running(options(log.url, {"a": agent}), log):
        meant = await client.end(await client.ask("on purpose"))
        hidden = await client.end(await client.ask("by accident"))

    assert (meant["outcome"], meant["error"]["code"], meant["error"]["retryable"]) == ("failed", "quota", True)
    assert "secret" not in str(hidden)
    assert (await client.until("assistant.message.end", run_id=meant["run_id"]))["finish_reason"] == "error"


async def test_a_question_ends_the_job_and_the_answer_resumes_the_run(log: Log, client: Client) -> None:
    """Waiting gives the worker back; the first answer counts, and the replayed agent says nothing twice."""
    calls: list[str] = []

    async def delete(args: Any, tool: Any) -> Any:
        calls.append(args["file"])
        return "gone"

    async def agent(ctx: Any, given: Any) -> Any:
        yield "I can delete it. "
        call = ToolCall("delete", {"file": "a"}, delete, approval=Question("Delete a?", "approval", allow_edit=True))
        found = yield call
        yield "denied" if found.is_denied else f"done: {found.output}"

    async with running(options(log.url, {"a": agent}), log) as worker:
        run_id = await client.ask("delete a")
        request = await client.until("tool.call.request", run_id=run_id)
        await client.until("agent.status", run_id=run_id, state="waiting")
        assert worker.metrics.runs_active == 0
        await client.answer(request["request_id"], decision="approve", edited_args={"file": "b"})
        with pytest.raises(GuardRefused):
            await client.answer(request["request_id"], decision="deny")
        await client.end(run_id)

    assert calls == ["b"]
    assert await client.text(run_id) == "I can delete it. |done: gone"
    resolved = await client.until("tool.call.resolved", run_id=run_id)
    assert (resolved["resolution"], resolved["by"], resolved["edited"]) == ("approved", "alice", True)
    assert (await client.types()).count("tool.call.start") == 1


async def test_a_batch_of_questions_resumes_after_the_last_answer(log: Log, client: Client) -> None:
    """Two calls that need approval wait together; one denied and one approved, each gets its own outcome."""

    async def act(args: Any, tool: Any) -> Any:
        return args["n"]

    async def agent(ctx: Any, given: Any) -> Any:
        calls = [ToolCall("act", {"n": n}, act, approval=Question(f"{n}?", "approval")) for n in (1, 2)]
        outcomes = yield calls
        yield ",".join("no" if outcome.is_denied else str(outcome.output) for outcome in outcomes)

    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.ask("both")
        waiting = await client.until("agent.status", run_id=run_id, state="waiting")
        first, second = waiting["pending_requests"]
        await client.answer(second, decision="approve")
        await client.until("tool.call.resolved", request_id=second)
        states = [e.payload["state"] for e in await client.events() if e.type == b"agent.status"]
        assert states == ["queued", "running", "waiting"]
        await client.answer(first)
        await client.end(run_id)

    assert await client.text(run_id) == "|no,2"


async def test_input_and_client_tools_bring_values(log: Log, client: Client) -> None:
    """`ctx.ask` gets what a person wrote, a client's tool what the client found, or its error."""

    async def agent(ctx: Any, given: Any) -> Any:
        name = await ctx.ask("Your name?")
        yield f"hello {name.value}"
        found = yield ToolCall("geo", {}, executor="client")
        yield f" at {found.output}" if found.is_ok else f" nowhere: {found.error}"

    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.ask("hi")
        asked = await client.until("tool.call.request", kind="input")
        await client.answer(asked["request_id"], result="Bob")
        tool = await client.until("tool.call.request", kind="client_tool")
        await client.answer(tool["request_id"], error="no permission")
        await client.end(run_id)

    assert await client.text(run_id) == "hello Bob| nowhere: failed"


@pytest.mark.parametrize("mode", ["graceful", "force"])
async def test_a_running_answer_is_cancelled_within_a_second(log: Log, client: Client, mode: str) -> None:
    """The partial text is kept, the message ends as cancelled, and then the run."""

    async def agent(ctx: Any, given: Any) -> Any:
        while True:
            yield "word "
            await asyncio.sleep(POLL_S)

    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.ask("talk")
        await client.until("assistant.message.start", run_id=run_id)
        async with lived_time() as since:
            await client.cancel(run_id, mode)
            complete = await client.end(run_id)

    assert since.passed_s < 1.0
    assert complete["outcome"] == "cancelled"
    end = await client.until("assistant.message.end", run_id=run_id)
    assert end["finish_reason"] == "cancelled"
    assert end["text"].startswith("word ")


async def test_a_stuck_agent_is_stopped_after_the_grace(log: Log, client: Client) -> None:
    """An agent that does not look up is stopped hard; its open tool call ends as cancelled."""

    async def sleep(args: Any, tool: Any) -> Any:
        await asyncio.Event().wait()

    async def agent(ctx: Any, given: Any) -> Any:
        yield ToolCall("sleep", {}, sleep)

    async with running(options(log.url, {"a": agent}, grace_s=0.2), log):
        run_id = await client.ask("sleep")
        await client.until("tool.call.start", run_id=run_id)
        await client.cancel(run_id)
        await client.end(run_id)

    assert (await client.until("tool.call.error", run_id=run_id))["reason"] == "cancelled"


async def test_a_waiting_run_is_cancelled_with_its_questions(log: Log, client: Client) -> None:
    """Open questions are resolved as cancelled, and a later answer is refused."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield str((await ctx.ask("?")).value)

    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.ask("x")
        waiting = await client.until("agent.status", state="waiting")
        await client.cancel(run_id)
        complete = await client.end(run_id)
        with pytest.raises(GuardRefused):
            await client.answer(waiting["pending_requests"][0], result="late")

    assert complete["outcome"] == "cancelled"
    assert (await client.until("tool.call.resolved", run_id=run_id))["resolution"] == "cancelled"


async def test_runs_of_a_channel_take_turns(log: Log, client: Client) -> None:
    """One at a time, in the order they were asked for; a queued one can be cancelled; `reject` is refused meanwhile."""
    go = asyncio.Event()

    async def agent(ctx: Any, given: Any) -> Any:
        if given.text == "first":
            await go.wait()
        yield given.text

    async with running(options(log.url, {"a": agent}), log):
        first = await client.ask("first")
        await client.until("agent.status", run_id=first, state="running")
        second, third = await client.ask("second"), await client.ask("third")
        with pytest.raises(GuardRefused) as refused:
            await client.ask("never", on_busy="reject")
        await client.until("agent.status", run_id=third, state="queued")
        await client.cancel(second)
        await client.end(second)
        elsewhere = Client(log, conversation(client.channel.tenant, "elsewhere"))
        await elsewhere.end(
            await elsewhere.ask("hi")
        )  # jobs are taken in order: one of `third` would be running by now
        assert "running" not in {
            e.payload["state"]
            for e in await client.events()
            if e.type == b"agent.status" and e.payload["run_id"] != first
        }
        go.set()
        await client.end(third)

    assert refused.value.field == "open"
    moves = [
        (e.payload["run_id"], e.payload.get("state", "complete"))
        for e in await client.events()
        if e.type in {b"agent.status", b"agent.complete"}
    ]
    assert moves.index((first, "complete")) < moves.index((third, "running"))
    assert (await client.text(first), await client.text(third)) == ("first", "third")


async def test_interrupt_cancels_the_run_before(log: Log, client: Client) -> None:
    """`on_busy: interrupt` stops what runs and then answers."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield given.text
        if given.text == "old":
            await asyncio.Event().wait()

    async with running(options(log.url, {"a": agent}, grace_s=0.1), log):
        old = await client.ask("old")
        await client.until("assistant.message.start", run_id=old)
        new = await client.ask("new", on_busy="interrupt")
        await client.end(new)

    assert (await client.end(old))["outcome"] == "cancelled"


async def test_regenerate_answers_the_same_question_as_a_sibling(log: Log, client: Client) -> None:
    """The new answer hangs below the same message; nothing is deleted. It can be regenerated again."""
    async with running(options(log.url, {"a": parrot}), log):
        first = await client.ask("echo")
        await client.end(first)
        second = await client.regenerate(f"{first}.0")
        await client.end(second)
        third = await client.regenerate(f"{second}.0")
        await client.end(third)

    assert await client.text(third) == "echo "
    parents = [e.payload["parent_id"] for e in await client.events() if e.type == b"assistant.message.start"]
    assert len(parents) == 3
    assert len(set(parents)) == 1


async def test_a_deadline_ends_the_run(log: Log, client: Client) -> None:
    """A run that takes longer than its deadline expires, with what it said."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield "soon"
        await asyncio.Event().wait()

    complete = await client.served(agent, "x", deadline_ms=300)

    assert complete["outcome"] == "expired"
    assert await client.text(complete["run_id"]) == "soon"


async def test_an_unanswered_question_expires_the_run(log: Log, client: Client) -> None:
    """The earliest `expires_at` ends the run; the question closes on every device."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield str((await ctx.ask("?", expires_in_s=0.2)).value)

    complete = await client.served(agent)

    assert complete["outcome"] == "expired"
    assert (await client.until("tool.call.resolved"))["resolution"] == "expired"


async def test_an_invoker_may_choose_the_run_id_once(log: Log, client: Client) -> None:
    """The chosen id names the run; choosing it again in this channel is refused."""
    async with running(options(log.url, {"a": parrot}), log):
        await client.invoke("x", run_id="mine")
        complete = await client.end("mine")
        with pytest.raises(GuardRefused) as refused:
            await client.invoke("y", run_id="mine")

    assert complete["message_ids"] == ["mine.0"]
    assert refused.value.field == "state"


async def test_steering_words_are_taken_or_turned_down(log: Log, client: Client) -> None:
    """A word to a running run reaches it and its sender is told; one it never takes is turned down at its end."""
    go = asyncio.Event()

    async def agent(ctx: Any, given: Any) -> Any:
        yield "so "
        words: list[str] = []
        while not words:
            words = await ctx.steering()
            await asyncio.sleep(POLL_S)
        yield words[0]
        await go.wait()

    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.ask("x")
        await client.until("assistant.message.start", run_id=run_id)
        taken = await client.command(
            "agent.steer", {"run_id": run_id, "text": "left"}, steering(client.channel, run_id)
        )
        await client.until("message.status", message_id=taken, status="applied")
        late = await client.command(
            "agent.steer", {"run_id": run_id, "text": "right"}, steering(client.channel, run_id)
        )
        await wait_until(lambda: log.redis.hexists(run_key(log, client, run_id), "steer:2"))
        go.set()
        await client.end(run_id)

    assert await client.text(run_id) == "so left"
    assert (await client.until("message.status", message_id=late))["status"] == "rejected"


def run_key(log: Log, client: Client, run_id: str) -> bytes:
    return log.keys.guard(client.channel, run_guard_name(client.channel, run_id))


async def test_a_queued_run_is_cancelled_with_no_worker_alive(log: Log, client: Client) -> None:
    """The edge ends it; a worker that comes later adds nothing, and gives the channel's turn to the next run."""
    async with running(options(log.url, {"a": parrot}), log):
        pass  # its groups are there from now on, whichever test comes first
    run_id = await client.ask("x")
    await client.cancel(run_id)
    run = await RunStore(log).run(client.channel, run_id)
    assert run is not None
    assert is_unbegun(run)
    for draft in cancel_unbegun(client.channel, run, run.cause):
        await log.append(draft)
    before = await client.types(of=run_id)
    second = await client.ask("y")

    async with running(options(log.url, {"a": parrot}), log):
        await client.end(second)

    assert before == ["agent.cancel", "agent.status", "agent.complete"]
    assert await client.types(of=run_id) == before
    assert await client.text(second) == "y "
