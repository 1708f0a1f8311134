"""The OpenAI-compatible adapter against a real local server that streams, calls tools, stalls and breaks off."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.adapters.openai import OpenAIAgent, Tool
from consumers.worker import running
from streams.redis.log import Log
from support.model_server import BREAK, STALL, ModelServer, Status, call, finish, text
from support.run_rig import Client, options

DONE = "data: [DONE]\n\n"


def agent(server: ModelServer, **more: Any) -> OpenAIAgent:
    return OpenAIAgent(base_url=server.url, model="m", api_key="sk-secret", retry_s=0.01, **more)


async def test_a_response_is_streamed_with_usage(log: Log, client: Client) -> None:
    """Pieces become the answer, reasoning its own track, usage the message's; the branch so far is what the model sees."""
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}
    thought = {"choices": [{"delta": {"reasoning_content": "hm"}}]}

    async with ModelServer(lambda _: [": hi\n\n", thought, text("Hel"), text("lo"), finish(), usage, DONE]) as server:
        async with running(options(log.url, {"a": agent(server, instructions="Be kind.")}), log):
            await client.end(await client.ask("hi"))
            run_id = await client.ask("again")
            complete = await client.end(run_id)

    assert await client.text(run_id) == "Hello"
    assert complete["usage"] == [{"model": "m", "input_tokens": 7, "output_tokens": 2, "total_tokens": 9}]
    assert [(m["role"], m["content"]) for m in server.requests[1]["messages"]] == [
        ("system", "Be kind."), ("user", "hi"), ("assistant", "Hello"), ("user", "again"),
    ]  # fmt: skip # a table
    assert server.authorizations == ["Bearer sk-secret"] * 2


async def test_tools_are_called_and_their_results_shown_to_the_model(log: Log, client: Client) -> None:
    """Arguments in pieces, one tool that asks first, one that does not exist: the model is told what came of each."""

    async def double(args: Any, tool: Any) -> Any:
        return args["x"] * 2

    def script(body: dict[str, Any]) -> list[Any]:
        if body["messages"][-1]["role"] == "user":
            pieces = [call(0, "c1", "double", '{"x":'), call(0, None, None, " 21}"), call(1, "c2", "nothing", "{}")]
            return [text("Let me see. "), *pieces, finish("tool_calls"), DONE]
        return [text("It is 42."), finish(), DONE]

    tool = Tool("double", "Doubles.", {"type": "object"}, double, prompt="Double it?")
    async with ModelServer(script) as server:
        async with running(options(log.url, {"a": agent(server, tools=[tool])}), log):
            run_id = await client.ask("double 21")
            request = await client.until("tool.call.request", run_id=run_id)
            await client.answer(request["request_id"], decision="approve")
            await client.end(run_id)

    assert len(server.requests) == 2  # the replayed segment did not ask the model again
    assert await client.text(run_id) == "Let me see. |It is 42."
    told = [m for m in server.requests[1]["messages"] if m["role"] == "tool"]
    assert [(m["tool_call_id"], m["content"]) for m in told] == [
        ("c1", "42"),
        ("c2", "error: there is no tool nothing"),
    ]


@pytest.mark.parametrize(
    ("script", "code", "is_retryable", "tries"),
    [
        ([text("so "), STALL], "provider_stalled", True, 1),
        ([text("so "), BREAK], "provider_broke_off", True, 1),
        ([text("so ")], "provider_broke_off", True, 1),
        ([BREAK], "provider_broke_off", True, 3),
        ([STALL], "provider_stalled", True, 3),
        (["data: {nonsense\n\n"], "provider_garbled", False, 1),
        (503, "provider_unavailable", True, 3),
        (401, "provider_refused", False, 1),
    ],
)
async def test_a_failing_server_fails_the_run_in_words(
    log: Log, client: Client, script: Any, code: str, is_retryable: bool, tries: int
) -> None:
    """Tried again only before the first piece; what was said stays; neither key nor address is told."""

    def play(_: dict[str, Any]) -> Any:
        if isinstance(script, int):
            raise Status(script)
        return script

    stall_s = 0.2 if isinstance(script, list) and STALL in script else 30.0
    async with ModelServer(play) as server:
        async with running(options(log.url, {"a": agent(server, stall_s=stall_s)}), log):
            complete = await client.end(await client.ask("hi"))

    assert complete["outcome"] == "failed"
    assert (complete["error"]["code"], complete["error"]["retryable"]) == (code, is_retryable)
    assert len(server.requests) == tries
    assert "sk-secret" not in str(complete)
    assert server.url not in str(complete)
    said = [e.payload["text"] for e in await client.events() if e.type == b"assistant.message.end"]
    assert said == (["so "] if tries == 1 and isinstance(script, list) and isinstance(script[0], dict) else [])


async def test_a_busy_server_is_asked_again(log: Log, client: Client) -> None:
    """429 before the first piece is no failure."""
    answers = iter([429, 503])

    def script(_: dict[str, Any]) -> list[Any]:
        if (status := next(answers, None)) is not None:
            raise Status(status)
        return [text("now"), finish(), DONE]

    async with ModelServer(script) as server:
        async with running(options(log.url, {"a": agent(server)}), log):
            run_id = await client.ask("hi")
            await client.end(run_id)

    assert await client.text(run_id) == "now"
