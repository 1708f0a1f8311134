"""The pydantic-ai adapter with its own test models: text, tools, approvals, cancel, a lost worker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed: pip install '.[pydantic-ai]'")

from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel as PydanticTestModel

from consumers.adapters.pydantic_ai import PydanticAgent
from consumers.worker import Worker, running
from streams.redis.log import Log
from support.fault_points import bury, killed_at
from support.lived_time import lived_time
from support.run_rig import Client, options


def returned(messages: list[ModelMessage]) -> dict[str, str]:
    """Tool call id → what the model was told, of the last message."""
    return {part.tool_call_id: str(part.content) for part in messages[-1].parts if isinstance(part, ToolReturnPart)}


async def act(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    """A model that calls two tools, of which one needs approval, and then tells their results."""
    if told := returned(messages):
        yield "Result: "
        yield ", ".join(sorted(told.values()))
        return
    yield "Let me. "
    yield {
        1: DeltaToolCall(name="double", json_args='{"x": 21}', tool_call_id="c1"),
        2: DeltaToolCall(name="delete", json_args='{"f": "a"}', tool_call_id="c2"),
    }


def acting(calls: Counter[str]) -> PydanticAgent:
    agent = Agent(FunctionModel(stream_function=act), output_type=[str, DeferredToolRequests])

    @agent.tool_plain
    def double(x: int) -> int:
        calls["double"] += 1
        return x * 2

    @agent.tool_plain(requires_approval=True)
    def delete(f: str) -> str:
        calls[f"delete {f}"] += 1
        return f"gone {f}"

    return PydanticAgent(agent)


async def test_text_is_streamed_with_history(log: Log, client: Client) -> None:
    """The branch so far is the message history, and what the model says is the answer."""
    seen: list[str] = []

    async def echo(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.append(" / ".join(str(part.content) for message in messages for part in message.parts))
        for word in ("one ", "two"):
            yield word

    agent = PydanticAgent(Agent(FunctionModel(stream_function=echo)))
    async with running(options(log.url, {"a": agent}), log):
        await client.end(await client.ask("hi"))
        run_id = await client.ask("again")
        complete = await client.end(run_id)

    assert await client.text(run_id) == "one two"
    assert seen == ["hi", "hi / one two / again"]
    assert complete["usage"][0]["output_tokens"] > 0


@pytest.mark.parametrize(
    ("response", "text", "deleted"),
    [
        ({"decision": "approve"}, "Let me. |Result: gone a", "delete a"),
        ({"decision": "approve", "edited_args": {"f": "b"}}, "Let me. |Result: gone b", "delete b"),
        ({"decision": "deny", "reason": "no!"}, "Let me. |Result: no!", None),
        ({}, "Let me. |Result: The tool call was denied.", None),
    ],
)
async def test_deferred_approvals_wait_for_a_person(
    log: Log, client: Client, response: dict[str, Any], text: str, deleted: str | None
) -> None:
    """A deferred call ends the segment; the answer resumes from the history, and no tool runs twice."""
    calls: Counter[str] = Counter()
    async with running(options(log.url, {"a": acting(calls)}), log):
        run_id = await client.ask("go")
        request = await client.until("tool.call.request", run_id=run_id)
        assert (request["kind"], request["name"], request["args"]) == ("approval", "delete", {"f": "a"})
        await client.answer(request["request_id"], **response)
        complete = await client.end(run_id)

    assert complete["outcome"] == "success"
    said = await client.text(run_id)
    assert said.startswith("Let me. |Result: ")
    assert text.removeprefix("Let me. |Result: ") in said
    assert calls == Counter({"double": 1} | ({deleted: 1} if deleted else {}))


async def test_the_test_model_calls_every_tool(log: Log, client: Client) -> None:
    """pydantic-ai's own TestModel, with a structured result: it is the run's result."""

    class City(BaseModel):
        name: str
        size: int

    agent = Agent(PydanticTestModel(), output_type=City)

    @agent.tool_plain
    def look(place: str) -> str:
        return f"{place} is nice"

    async with running(options(log.url, {"a": PydanticAgent(agent)}), log):
        complete = await client.end(await client.ask("go"))

    assert complete["outcome"] == "success"
    assert set(complete["result"]) == {"name", "size"}
    assert (await client.until("tool.call.complete"))["output"] == "a is nice"


async def test_cancel_stops_the_model(log: Log, client: Client) -> None:
    """A cancel reaches the model in the middle of a wait; the partial text is kept."""
    stopped = asyncio.Event()

    async def slow(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "wait "
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    agent = PydanticAgent(Agent(FunctionModel(stream_function=slow)))
    async with running(options(log.url, {"a": agent}), log):
        run_id = await client.ask("go")
        await client.until("assistant.message.start", run_id=run_id)
        async with lived_time() as since:
            await client.cancel(run_id)
            complete = await client.end(run_id)

    assert since.passed_s < 1.0
    assert complete["outcome"] == "cancelled"
    assert stopped.is_set()
    assert await client.text(run_id) == "wait "


async def test_a_lost_worker_repeats_no_finished_tool(log: Log, client: Client) -> None:
    """The history is kept before a result is told: the next attempt goes on from there."""
    calls: Counter[str] = Counter()
    hang = asyncio.Event()

    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if returned(messages):
            yield "Done: "
            await hang.wait()
            yield "once."
        else:
            yield {0: DeltaToolCall(name="effect", json_args="{}", tool_call_id="c1")}

    agent = Agent(FunctionModel(stream_function=model))

    @agent.tool_plain
    def effect() -> str:
        calls["effect"] += 1
        return "happened"

    chosen = options(log.url, {"a": PydanticAgent(agent)})
    doomed = Worker(chosen, log)
    await doomed.start()
    run_id = await client.ask("go")
    await client.until("assistant.message.start", message_id=f"{run_id}.1")
    await doomed.abandon()
    hang.set()
    async with running(chosen, log):
        complete = await client.end(run_id)

    assert (complete["outcome"], complete["attempts"]) == ("success", 2)
    assert calls["effect"] == 1
    assert await client.text(run_id) == "|Done: once."


async def test_a_worker_killed_before_the_result_is_told_ends_the_run(log: Log, client: Client) -> None:
    """The tool may have had its effect: the run fails rather than repeat it."""
    calls: Counter[str] = Counter()
    chosen = options(log.url, {"a": acting(calls)})

    doomed, fault = await killed_at("run_before_ask", chosen, log)
    run_id = await client.ask("go")
    await bury(doomed, fault)
    async with running(chosen, log):
        complete = await client.end(run_id)

    assert complete["error"]["code"] == "worker_lost"
    assert calls["double"] == 1
