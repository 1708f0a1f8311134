"""An agent's items are held against the catalogue before they are stored: no reader ever meets one that it could not read."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

import pytest

from consumers.agents import AgentFailed, EndMessage, Output, Question, Result, ToolCall
from consumers.worker import running
from streams.redis.log import Log
from support.run_rig import Client, options


async def nothing(args: Any, tool: Any) -> Any:
    return None


DEEP: Any = 1
for _ in range(20):
    DEEP = [DEEP]

BAD_ITEMS: dict[str, Any] = {
    "an output of no kind": Output("drawing", 1),  # type: ignore[arg-type]
    "an output with a long name": Output("json", 1, "n" * 129),
    "an output that is too large": Output("json", "x" * 65_536),
    "an output that is too deep": Output("json", DEEP),
    "an output that is no number": Output("json", math.nan),
    "an output that is no JSON": Output("json", object()),  # type: ignore[arg-type]
    "a patch that is none": Output("state_delta", {"op": "add"}),
    "a reason nobody knows": EndMessage("bored"),  # type: ignore[arg-type]
    "a part nobody knows": EndMessage(parts=({"type": "song"},)),
    "a file that is not there": EndMessage(parts=({"type": "file", "file_id": "0" * 32, "mime": "text/plain", "name": "n"},)),
    "a source that is not there": EndMessage(parts=({"type": "source", "file_id": "0" * 32, "title": "t"},)),
    "too many parts": EndMessage(parts=tuple({"type": "refusal", "text": "no"} for _ in range(65))),
    "usage below nothing": EndMessage(usage={"input_tokens": -1}),
    "a result that is too large": Result("x" * 262_144),
    "a result that is no number": Result(math.inf),
    "a result that is no JSON": Result(object()),  # type: ignore[arg-type]
    "a call with a long name": ToolCall("n" * 129, {}, nothing),
    "a call with a long title": ToolCall("n", {}, nothing, title="t" * 201),
    "a call whose id is not ASCII": ToolCall("n", {}, nothing, tool_call_id="é"),
    "more calls than a message names": [ToolCall("n", {}, nothing)] * 65,
    "a question to too many": ToolCall("n", {}, nothing, approval=Question("?", assignees=tuple(f"u{n}" for n in range(21)))),
    "a question to no name": ToolCall("n", {}, nothing, approval=Question("?", assignees=("a,b",))),
    "a question with a large schema": ToolCall("n", {}, nothing, approval=Question("?", response_schema={"x": "y" * 16_384})),
}  # fmt: skip # a table


async def test_what_cannot_be_stored_ends_the_run_and_is_not_stored(log: Log, client: Client) -> None:
    """Each is refused with `bad_item` and what it must be, at the first attempt."""

    async def agent(ctx: Any, given: Any) -> Any:
        yield "x"
        yield BAD_ITEMS[given.text]

    async with running(options(log.url, {"a": agent}), log):
        ends = {name: await client.end(await client.ask(name)) for name in BAD_ITEMS}

    for name, end in ends.items():
        assert (end["outcome"], end["attempts"], end["error"]["code"]) == ("failed", 1, "bad_item"), name


async def test_a_step_whose_name_cannot_be_stored_has_no_effect(log: Log, client: Client) -> None:
    """It is refused before it is done: afterwards nobody could know that it was."""
    done: list[str] = []

    async def agent(ctx: Any, given: Any) -> Any:
        async def act() -> Any:
            done.append("done")

        await ctx.step("k" * 200, act)
        yield "never"

    end = await client.served(agent)

    assert (end["error"]["code"], done) == ("bad_item", [])


@pytest.mark.parametrize(
    "output", [math.nan, object(), "x" * 65_536, DEEP, "\ud800"], ids=lambda value: type(value).__name__
)
async def test_an_output_that_cannot_be_told_fails_its_call_alone(log: Log, client: Client, output: Any) -> None:
    """The agent is told why and goes on."""

    async def tool(args: Any, context: Any) -> Any:
        return output

    async def agent(ctx: Any, given: Any) -> Any:
        found = yield ToolCall("t", {}, tool)
        yield f"{found.error}: {found.message}"

    end = await client.served(agent)
    run_id = end["run_id"]

    assert end["outcome"] == "success"
    assert "failed: the output cannot be stored" in await client.text(run_id)


async def test_a_tool_gets_arguments_that_are_too_large_to_be_told(log: Log, client: Client) -> None:
    """They are left out of the event, which says so."""
    got: list[int] = []

    async def tool(args: Any, context: Any) -> Any:
        got.append(len(args["text"]))

    async def agent(ctx: Any, given: Any) -> Any:
        yield ToolCall("write", {"text": "x" * 70_000}, tool)

    run_id = (await client.served(agent))["run_id"]

    start = await client.until("tool.call.start", run_id=run_id)
    assert (start["redacted"], "args" in start, got) == (True, False, [70_000])


async def test_words_of_failures_are_mended(log: Log, client: Client) -> None:
    """NUL and lone surrogates in a failure, of a tool, of its progress or of the agent, do not reach the log."""

    async def tool(args: Any, context: Any) -> Any:
        context.progress(math.nan)
        context.progress(1, math.inf, "a\x00\ud800")
        raise RuntimeError("b\x00\ud800")

    async def agent(ctx: Any, given: Any) -> Any:
        yield ToolCall("t", {}, tool)
        raise AgentFailed("c\x00", "d\x00\ud800")

    end = await client.served(agent)
    run_id = end["run_id"]

    assert end["error"] == {"code": "c\ufffd", "message": "d\ufffd\ufffd", "retryable": False}
    assert (await client.until("tool.call.error", run_id=run_id))["message"] == "RuntimeError: b\ufffd\ufffd"
    live = [e.payload for e in await log.replay.live_entries(client.channel) if e.type == b"tool.call.progress"]
    assert [(p["progress"], p.get("total"), p["message"]) for p in live] == [(1, None, "a\ufffd\ufffd")]


async def test_an_agent_that_exits_ends_its_run_and_not_the_worker(log: Log, client: Client) -> None:
    """`sys.exit` in an agent, in a tool of it, or a stray GeneratorExit is its failure; the next run goes on."""

    async def leave(args: Any, context: Any) -> Any:
        raise SystemExit(1)

    async def agent(ctx: Any, given: Any) -> Any:
        if given.text == "tool":
            found = yield ToolCall("t", {}, leave)
            yield str(found.error)
        elif given.text != "well":
            raise SystemExit(1) if given.text == "exit" else GeneratorExit
        yield "well"

    async with running(options(log.url, {"a": agent}), log):
        ends = [await client.end(await client.ask(how)) for how in ("exit", "generator", "tool", "well")]

    assert [(end["outcome"], end["attempts"]) for end in ends] == [("failed", 1)] * 2 + [("success", 1)] * 2


async def test_a_message_that_just_fits_is_whole(log: Log, client: Client) -> None:
    """512 KiB exactly are nothing cut: it ends with `stop`."""

    async def agent(ctx: Any, given: Any) -> Any:
        for _ in range(512):
            yield "x" * 1024
            await asyncio.sleep(0)

    run_id = (await client.served(agent))["run_id"]

    end = await client.until("assistant.message.end", run_id=run_id)
    assert (end["finish_reason"], len(end["text"])) == ("stop", 512 * 1024)


async def test_an_id_that_a_provider_uses_again_is_another_call(log: Log, client: Client) -> None:
    """The second call runs and has its own result, under the id the agent gave; also when the run is replayed."""
    ran: list[int] = []

    async def tool(args: Any, context: Any) -> Any:
        ran.append(args["n"])
        return args["n"]

    async def agent(ctx: Any, given: Any) -> Any:
        first = yield ToolCall("t", {"n": 1}, tool, tool_call_id="call_0")
        second = yield ToolCall("t", {"n": 2}, tool, tool_call_id="call_0")
        answer = await ctx.ask("?")
        yield f"{first.output} {second.output} {first.tool_call_id} {second.tool_call_id} {answer.value}"

    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.ask("x")
        request = await client.until("tool.call.request", run_id=run_id)
        await client.answer(request["request_id"], result="yes")
        await client.end(run_id)

    assert (await client.text(run_id)).split("|")[-1] == "1 2 call_0 call_0 yes"
    assert ran == [1, 2]


@pytest.mark.parametrize("who", ["agent", "tool"])
async def test_nothing_is_left_of_who_ignores_a_cancellation(log: Log, client: Client, who: str) -> None:
    """Its run ends, and its task with it: a worker whose loop has a task that never ends could not be stopped."""
    released = asyncio.Event()

    async def stay(args: Any, context: Any) -> Any:
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    async def agent(ctx: Any, given: Any) -> Any:
        yield "x"
        if who == "tool":
            yield ToolCall("stay", {}, stay)
        await stay({}, None)

    before = asyncio.all_tasks()
    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.ask("x")
        await client.until("tool.call.start" if who == "tool" else "assistant.message.start", run_id=run_id)
        await client.cancel(run_id, "force")
        end = await client.end(run_id)
    left = {task.get_name() for task in asyncio.all_tasks() - before}
    released.set()

    assert end["outcome"] == "cancelled"
    assert left == set()


async def test_halves_of_a_character_are_joined_across_pieces(log: Log, client: Client) -> None:
    """An emoji in two pieces was stored as "??"; a half that stays alone is U+FFFD, in the deltas as in the whole."""

    async def run(ctx: Any, given: Any) -> Any:
        for piece in ("hi \ud83d", "\ude00 ok ", "\ud83d", "x\ude00", "\ud83d"):
            yield piece

    run_id = (await client.served(run, "?"))["run_id"]

    assert await client.text(run_id) == "hi \U0001f600 ok \ufffdx\ufffd\ufffd"
