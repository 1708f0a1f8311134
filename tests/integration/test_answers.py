"""`hub.client.answers` against a real node and worker: the text grows, outlives cuts, and a run that fails says its reason."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from consumers.agents import AgentFailed, AgentInput, Back, Context, Item, Reasoning, ToolCall
from consumers.worker import running
from hub.client import Answer, AnswerFailed, HubClient, Stored, answers, follow
from streams.redis.log import Log
from support.nodes import Node, token
from support.run_rig import options

CHANNEL = "conversation:c"
WORDS = [f"{number}naïve😀日本 " for number in range(60)]
PACE_S = 0.02
TEXT = "".join(WORDS[:30]) + "\n\n" + "".join(WORDS[30:])


async def _looked(_args: object, _tool: object) -> str:
    return "found"


async def talk(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    """Two messages of thirty words with a tool between them."""
    yield Reasoning("Let me think.")
    for number, word in enumerate(WORDS):
        if number == 30:
            yield ToolCall("look", {}, _looked)
        yield word
        await asyncio.sleep(PACE_S)


async def fail(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    """A few words, then an error."""
    yield "I was about to "
    raise AgentFailed("no_budget", "the month's budget is spent", is_retryable=True)


@pytest.fixture
async def _worker(log: Log):
    async with running(options(log.url, {"talk": talk, "fail": fail}), log):
        yield


async def heard(
    hub: HubClient, asked: Stored, *, cut_at: frozenset[int] = frozenset(), growing: AsyncGenerator[str] | None = None
) -> list[str]:
    """Every text in turn; the connection is reset behind some of them."""
    texts: list[str] = []
    async with asyncio.timeout(50):
        async for text in growing or answers(hub, CHANNEL, asked):
            texts.append(text)
            if len(texts) in cut_at:
                hub.cut()
    return texts


@pytest.mark.usefixtures("_worker")
async def test_an_answer_grows_to_its_end(node: Node, tenant: str) -> None:
    """Each text begins like the one before; the last is the whole, both messages of it."""
    async with HubClient(node.url, token("a", tenant)) as hub:
        texts = await heard(hub, await hub.send(CHANNEL, "go", agent="talk"))

    assert len(texts) > 10
    assert [later.startswith(text) for text, later in itertools.pairwise(texts)] == [True] * (len(texts) - 1)
    assert texts[-1] == TEXT


@pytest.mark.usefixtures("_worker")
async def test_an_answer_outlives_its_connections(node: Node, tenant: str) -> None:
    """Reset at random in mid-answer, the sentence goes on where it stood."""
    cuts = frozenset(random.Random(3).sample(range(1, 25), 6))
    async with HubClient(node.url, token("a", tenant), jitter=lambda: 0.0) as hub:
        texts = await heard(hub, await hub.send(CHANNEL, "go", agent="talk"), cut_at=cuts)

    assert [later.startswith(text) for text, later in itertools.pairwise(texts)] == [True] * (len(texts) - 1)
    assert texts[-1] == TEXT


@pytest.mark.usefixtures("_worker")
async def test_another_client_takes_up_the_answer_in_the_middle_and_afterwards(node: Node, tenant: str) -> None:
    """The receipt of the question is all that has to be kept."""
    async with HubClient(node.url, token("a", tenant)) as first, HubClient(node.url, token("a", tenant)) as second:
        asked = await first.send(CHANNEL, "go", agent="talk")
        async with aclosing(answers(first, CHANNEL, asked)) as growing:
            async for text in growing:
                if len(text) > 100:
                    break
        in_the_middle = await heard(second, asked)
        afterwards = await heard(first, asked)

    assert in_the_middle[0].startswith(WORDS[0])
    assert (in_the_middle[-1], afterwards[-1]) == (TEXT, TEXT)


@pytest.mark.usefixtures("_worker")
async def test_a_run_that_fails_raises_its_reason(node: Node, tenant: str) -> None:
    """The text so far was told before."""
    async with HubClient(node.url, token("a", tenant)) as hub:
        asked = await hub.send(CHANNEL, "go", agent="fail")
        growing = answers(hub, CHANNEL, asked)
        text = await anext(growing)
        with pytest.raises(AnswerFailed, match=r"fail failed \(no_budget\): the month's budget is spent") as failed:
            await anext(growing)

    assert text == "I was about to "
    assert (failed.value.outcome, failed.value.code, failed.value.is_retryable) == ("failed", "no_budget", True)


@pytest.mark.usefixtures("_worker")
async def test_a_cancelled_run_raises(node: Node, tenant: str) -> None:
    """A stop from anywhere ends the iteration."""
    async with HubClient(node.url, token("a", tenant)) as hub:
        asked = await hub.send(CHANNEL, "go", agent="talk")
        growing = answers(hub, CHANNEL, asked)
        await anext(growing)
        await hub.command("agent.cancel", CHANNEL, {"run_id": asked.payload["run_id"]})
        with pytest.raises(AnswerFailed, match="talk was cancelled"):
            await heard(hub, asked, growing=growing)


@pytest.mark.usefixtures("_worker")
async def test_reasoning_and_calls_are_there_for_who_wants_them(node: Node, tenant: str) -> None:
    """`follow` yields the run's own items, its fold holds both tracks."""
    async with HubClient(node.url, token("a", tenant), capabilities=("batch", "live_state", "reasoning")) as hub:
        asked = await hub.send(CHANNEL, "go", agent="talk")
        answer, types = Answer(asked), []
        async for item in follow(hub, CHANNEL, answer):
            types.append(item.type)
            assert item.payload["run_id"] == asked.payload["run_id"]

    assert answer.reasoning == "Let me think."
    assert answer.text == TEXT
    assert {"tool.call.start", "tool.call.complete", "agent.complete"} <= set(types)


async def test_a_message_to_nobody_has_no_answer(node: Node, tenant: str) -> None:
    """The error says how to ask somebody."""
    async with HubClient(node.url, token("a", tenant)) as hub:
        told = await hub.send(CHANNEL, "hello")
        with pytest.raises(ValueError, match="no agent was asked"):
            await anext(answers(hub, CHANNEL, told))
