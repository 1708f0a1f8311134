"""The demo agent: answers questions about the channel's own history, without a model. `hub dev` serves it as `demo`.

It is deterministic, so that tests can compare every word; it streams, searches with one tool and exports with another that asks
first. It is an example of an agent, and is used in the same way as one with a model.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from consumers.agents import demo_language as language
from consumers.agents.agent import (
    AgentInput,
    Back,
    Item,
    Output,
    PastMessage,
    Question,
    ToolCall,
    ToolContext,
    ToolOutcome,
)
from consumers.agents.context import Context
from consumers.agents.demo_language import Count, Export, Find, Help, Summary, read_question
from streams.json_bytes import Json, JsonObject

PACE_S: Final = 0.015
"""Between words, so that streaming can be seen: about 65 words a second."""
EXPORT_BYTES_MAX: Final = 48 * 1024
"""An output may have 64 KiB as JSON; quotes and line ends are escaped there."""


class DemoAgent:
    """Answers who wrote what, when and how often in this channel. Ask it for help."""

    description = "Answers questions about this channel's history: who wrote what, when, how often; summary and export."
    is_interactive = True

    def __init__(self, pace_s: float = PACE_S) -> None:
        self._pace_s = pace_s

    async def run(self, ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
        """Reads the question, searches, answers."""
        match read_question(given.text or str(given.value or ""), given.by):
            case Find(words, who, is_last):
                yield "Let me look. "
                outcome = yield _search(ctx, given, words, who)
                answer = _worded(outcome, words, who, is_last=is_last)
            case Count(who):
                answer = language.count_text(await _messages(ctx, given), who)
            case Summary():
                answer = language.summary_text(await _messages(ctx, given))
            case Export():
                messages = await _messages(ctx, given)
                yield f"That would show {len(messages)} messages as one table to everybody here. "
                outcome = yield _export(messages)
                answer = "Then I leave it."
                if isinstance(outcome, ToolOutcome) and outcome.is_ok:
                    yield Output("artifact", outcome.output, "history.csv")
                    answer = "Here it is, as the output history.csv."
            case Help():
                answer = language.HELP
        async for piece in self._streamed(answer):
            yield piece

    async def _streamed(self, text: str) -> AsyncIterator[str]:
        """The text word by word, blanks with the word before."""
        for piece in re.findall(r"\S+\s*|\s+", text):
            yield piece
            await asyncio.sleep(self._pace_s)


def _search(ctx: Context, given: AgentInput, words: str, who: str | None) -> ToolCall:
    async def search(args: JsonObject, tool: ToolContext) -> Json:
        messages = await _messages(ctx, given)
        tool.progress(len(messages), len(messages), "read")
        name = args.get("who")
        return language.found_json(language.find(messages, str(args["words"]), name if isinstance(name, str) else None))

    args: JsonObject = {"words": words}
    if who:
        args["who"] = who
    return ToolCall("search_history", args, search, title=f"Search for “{words}”"[:200], is_idempotent=True)


def _export(messages: list[PastMessage]) -> ToolCall:
    async def export(args: JsonObject, tool: ToolContext) -> Json:  # noqa: ARG001 - the table was made for the question
        text = language.table(messages)
        raw = text.encode()[:EXPORT_BYTES_MAX]
        return {"mime": "text/csv", "text": raw.decode("utf-8", "ignore"), "is_whole": len(raw) == len(text.encode())}

    ask = Question(f"Export {len(messages)} messages of this channel as a table?", "approval")
    return ToolCall("export_history", {"messages": len(messages)}, export, approval=ask, is_idempotent=True)


def _worded(outcome: Back, words: str, who: str | None, *, is_last: bool) -> str:
    if isinstance(outcome, ToolOutcome) and isinstance(outcome.output, dict):
        return language.hits_text(outcome.output, words, who, is_last=is_last)
    return "The search did not come to an end; ask me again."


async def _messages(ctx: Context, given: AgentInput) -> list[PastMessage]:
    """Every message before the question itself, also when it is asked again."""
    messages: list[PastMessage] = []
    async for one in ctx.all_messages():
        if one.message_id == given.parent:
            break
        messages.append(one)
    return messages


agent = DemoAgent()
