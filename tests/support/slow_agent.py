"""Agents for answers that are torn at: `HUB_AGENTS="slow=support.slow_agent:run"`. What they say follows from the question alone.

Their effects are lines in the file `SLOW_AGENT_EFFECTS` names, one for each time an effect was carried out, with the key that
was given for it: an idempotent receiver would act on each key once. `allow` keeps an answer from running ahead of its test.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from consumers.agents import AgentInput, Back, Context, Item, ToolCall, ToolContext, ToolOutcome
from streams.json_bytes import Json, JsonObject

PACE_S = 0.025
"""Between words. The worker joins what comes within 40 ms: 110 words are about 60 deltas."""
PARTS = (40, 35, 35)
"""Words before the tool, before the step, and after it."""
TOOL_S = 0.1
_LETTERS = ("plain", "naïve", "a😀b", "日本", "e\N{COMBINING ACUTE ACCENT}")
"""Offsets count code points: what is one to a person may be two of them, and one of them two to JavaScript."""


def words(question: str, part: int) -> list[str]:
    """The words of one part of the answer to a question."""
    return [f"{question}.{part}.{number}{_LETTERS[number % len(_LETTERS)]} " for number in range(PARTS[part])]


def texts(question: str) -> list[str]:
    """The whole answer: the text of each of its messages."""
    return ["".join(words(question, 0)), "found " + "".join([*words(question, 1), *words(question, 2)])]


def allow(effects_path: Path, question: str, offset: int) -> None:
    """From now on the answer to a question waits where it is so long; without a word of this it never waits."""
    written = effects_path.with_name("gate-new")
    written.write_text(str(offset))
    written.rename(_gate(effects_path, question))


def _gate(effects_path: Path, question: str) -> Path:
    return effects_path.with_name(f"gate-{question}")


async def run(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    """Two messages with a tool between them and a step in the second; both have an effect and may be tried again."""
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
    """A few words around a tool that must never be tried again."""
    async for word in _paced(words(given.text, 0)[:10]):
        yield word
    yield ToolCall("pay", {}, _look, is_idempotent=False)
    async for word in _paced(words(given.text, 1)[:10]):
        yield word


async def run_endless(ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
    """Words until it is stopped."""
    while True:
        async for word in _paced(words(given.text, 0)):
            yield word


def effects(path: Path, run_id: str) -> list[str]:
    """The keys under which effects of a run were carried out, once for each time."""
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
