"""Agents for tests that inject faults into answers: `HUB_AGENTS="slow=support.slow_agent:run"`.

Their text depends on the question alone. Their effects are lines in the file named by `SLOW_AGENT_EFFECTS`: one line per
execution, with its idempotency key, so that a receiver would act once per key. `allow` stops an answer from running ahead of
its test.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from consumers.agents import AgentInput, Back, Context, Item, ToolCall, ToolContext, ToolOutcome
from streams.json_bytes import Json, JsonObject

PACE_S = 0.025
"""Seconds between words. The worker joins the text of 40 ms: 110 words give about 60 deltas."""
PARTS = (40, 35, 35)
"""Number of words before the tool, before the step, and after it."""
TOOL_S = 0.1
_LETTERS = ("plain", "naïve", "a😀b", "日本", "e\N{COMBINING ACUTE ACCENT}")
"""Words to test offsets, which count code points: a visible character may be two, and a code point two UTF-16 units in JavaScript.
"""


def words(question: str, part: int) -> list[str]:
    """The words of one part of the answer to a question."""
    return [f"{question}.{part}.{number}{_LETTERS[number % len(_LETTERS)]} " for number in range(PARTS[part])]


def texts(question: str) -> list[str]:
    """The complete answer: the text of each of its messages."""
    return ["".join(words(question, 0)), "found " + "".join([*words(question, 1), *words(question, 2)])]


def allow(effects_path: Path, question: str, offset: int) -> None:
    """Let the answer to a question continue only up to this length. Without a call it never waits."""
    written = effects_path.with_name("gate-new")
    written.write_text(str(offset))
    written.rename(_gate(effects_path, question))


def _gate(effects_path: Path, question: str) -> Path:
    return effects_path.with_name(f"gate-{question}")


async def run(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    """Yields two messages with a tool between them and a step in the second; both have an effect and may be repeated."""
    gate, said = _gate(Path(os.environ["SLOW_AGENT_EFFECTS"]), given.text), 0
    for part in range(len(PARTS)):
        if part == 1:
            outcome = yield ToolCall("look", {}, _look, is_idempotent=True)
            yield f"{outcome.output} " if isinstance(outcome, ToolOutcome) else "?"
        if part == 2:
            await ctx.step("note", lambda: _effect(ctx.idempotency_key("note")))
        async for word in _paced(words(given.text, part)):
            while gate.exists() and said >= int(gate.read_text()):  # noqa: ASYNC110 - another process raises no event
                await asyncio.sleep(PACE_S)
            yield word
            said += len(word)


async def run_once(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    """Yields a few words before and after a tool that must never be repeated."""
    async for word in _paced(words(given.text, 0)[:10]):
        yield word
    yield ToolCall("pay", {}, _look, is_idempotent=False)
    async for word in _paced(words(given.text, 1)[:10]):
        yield word


async def run_endless(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    """Yields words until it is stopped."""
    while True:
        async for word in _paced(words(given.text, 0)):
            yield word


def effects(path: Path, run_id: str) -> list[str]:
    """The keys of the effects of a run, one for each execution."""
    return [line for line in path.read_text().splitlines() if line.startswith(f"{run_id}/")] if path.exists() else []


async def _look(args: JsonObject, tool: ToolContext) -> Json:
    await asyncio.sleep(TOOL_S / 2)
    await _effect(tool.idempotency_key)
    tool.progress(1, 1)
    await asyncio.sleep(TOOL_S / 2)
    return "found"


async def _effect(key: str) -> Json:
    with Path(os.environ["SLOW_AGENT_EFFECTS"]).open("a") as file:  # noqa: ASYNC230 - one short line, appended at once
        file.write(f"{key}\n")
    return key


async def _paced(said: list[str]) -> AsyncIterator[str]:
    for word in said:
        yield word
        await asyncio.sleep(PACE_S)
