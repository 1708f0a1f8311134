"""The demo agent: answers questions about the channel's own history, without a model. `hub dev` serves it as `demo`.

It is deterministic, so that tests can compare every word. It streams text, searches with one tool, and exports with another
that requires an approval. To the hub it is an agent like one with a model.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from consumers.agents.agent import (
    AgentInput,
    Back,
    Context,
    Item,
    Output,
    PastMessage,
    Question,
    ToolCall,
    ToolContext,
    ToolOutcome,
)
from streams.json_bytes import Json, JsonObject

SHOWN_MAX: Final = 5
"""Maximum number of hits listed individually; the others are only counted."""
EXCERPT_CHARACTERS: Final = 160
QUESTION_CHARACTERS: Final = 2_000
"""Number of characters of a message that are searched for a question."""
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_COMMON: Final = frozenset(
    _WORD.findall(
        "that this with have what your just like from they there when would about then know dont them some will here want "
        "which been does should could into"
    )
)

_NAME: Final = r"(?P<who>[\w.@|+~-]+)"
_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"\b(export|csv|download)\b", "export"),
        (r"\b(summar\w*|overview|what happened|what is going on)\b", "summary"),
        (r"\bhow (many|often|much)\b", "count"),
        (rf"\bwhen did\s+{_NAME}\s+(last\s+)?(say|write|mention)\s+(about\s+)?(?P<words>.+)", "last"),
        (rf"\b(when did|when was)\s+{_NAME}\s+(last\s+)?(here|around|seen|write|say|speak)", "last_any"),
        (rf"\bwhat did\s+{_NAME}\s+(say|write)\s+about\s+(?P<words>.+)", "find_who"),
        (rf"\bwhat did\s+{_NAME}\s+(say|write)", "find_any"),
        (r"\bwho (said|wrote|mentioned|talked about)\s+(?P<words>.+)", "find"),
        (r"\b(search|find|look for|grep)\s+(for\s+)?(?P<words>.+)", "find"),
        (r"\b(explain|how does (this|it|the hub) work)\b", "explain"),
    )
)
_COUNTED: Final = re.compile(rf"\b(did|has|have|does|from|by|of)\s+{_NAME}", re.IGNORECASE)
"""Matches the person after "how many". It is applied once, from there on; as part of the pattern it would be tried again at
each "how many".
"""
_NOBODY: Final = frozenset(
    {"anyone", "anybody", "everyone", "everybody", "people", "messages", "we", "you", "there", "i"}
)


def time_text(at_ms: int) -> str:
    """A time in UTC, formatted for people."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def find(messages: Iterable[PastMessage], words: str, who: str | None) -> list[PastMessage]:
    """People's messages that contain the words, ignoring case; only those of `who` if given."""
    wanted = words.lower()
    name = who.lower() if who else None
    return [
        one
        for one in messages
        if one.role == "user" and wanted in one.text.lower() and (name is None or one.by.lower() == name)
    ]


def found_json(hits: Sequence[PastMessage]) -> JsonObject:
    """The result of the search tool: the number of hits, and the newest few of them."""
    rows: list[Json] = [
        {"by": hit.by, "at_ms": hit.at_ms, "text": hit.text[:EXCERPT_CHARACTERS], "message_id": hit.message_id}
        for hit in hits[-SHOWN_MAX:]
    ]
    return {"count": len(hits), "newest": rows}


def hits_text(found: JsonObject, words: str, who: str | None, *, is_last: bool) -> str:
    """The search's result as sentences."""
    count, rows = found["count"], found["newest"]
    about = f" about “{words}”" if words else ""
    name = who or "Nobody"
    if not count or not isinstance(rows, list):
        return f"{name} has said nothing{about} here." if who else f"Nobody has said anything{about} here."
    hits = [row for row in rows if isinstance(row, dict)]
    if is_last:
        last = hits[-1]
        return f"{last['by']} last said something{about} on {_at(last)} UTC: {last['text']}"
    lines = [f"- {_at(row)} {row['by']}: {row['text']}" for row in hits]
    head = f"{count} message{'s' if count != 1 else ''}{about}"
    more = f", the newest {len(hits)}:" if isinstance(count, int) and count > len(hits) else ":"
    return "\n".join([head + more, *lines])


def _at(row: JsonObject) -> str:
    at_ms = row["at_ms"]
    return time_text(at_ms) if isinstance(at_ms, int) else ""


def count_text(messages: Iterable[PastMessage], who: str | None) -> str:
    """The number of messages written by `who`, or by each author if `who` is None, as text."""
    by_author = Counter(one.by for one in messages if one.role == "user")
    total = sum(by_author.values())
    if who is not None:
        own = sum(count for name, count in by_author.items() if name.lower() == who.lower())
        share = f", {100 * own / total:.1f} % of {total}" if total else ""
        return f"{who} has written {own} message{'s' if own != 1 else ''}{share}."
    first = ", ".join(f"{name} ({count})" for name, count in by_author.most_common(SHOWN_MAX))
    people = f"{len(by_author)} people" if len(by_author) != 1 else "one person"
    return f"{total} message{'s' if total != 1 else ''} by {people}. Most of them: {first}."


def summary_text(messages: Sequence[PastMessage]) -> str:
    """The channel in numbers, as text: period, authors, frequent words, the busiest hour, the longest silence."""
    people = [one for one in messages if one.role == "user"]
    if not people:
        return "Nothing has been said here yet."
    times = [one.at_ms for one in people]
    hours = Counter(at_ms // 3_600_000 for at_ms in times)
    busiest, most = hours.most_common(1)[0]
    silence_ms, since_ms = max(
        ((later - earlier, earlier) for earlier, later in itertools.pairwise(times)), default=(0, times[0])
    )
    words = Counter(word for one in people for word in _WORD.findall(one.text.lower()) if word not in _COMMON)
    about = ", ".join(f"{word} ({count})" for word, count in words.most_common(6))
    busiest_text = time_text(busiest * 3_600_000)
    lines = (
        count_text(people, None),
        f"From {time_text(times[0])} to {time_text(times[-1])} UTC; the busiest hour began {busiest_text} with {most} messages.",
        f"The longest silence lasted {silence_ms // 60_000} minutes, from {time_text(since_ms)}.",
        f"Words used most: {about or 'none of four letters'}.",
    )
    return "\n".join(lines)


def table(messages: Sequence[PastMessage]) -> str:
    """The history as comma-separated lines, with doubled quotes."""
    rows = [f'{time_text(one.at_ms)},{one.by},"{one.text.replace(chr(34), chr(34) * 2)}"' for one in messages]
    return "\n".join(["time,by,text", *rows])


HELP: Final = """I answer questions about this channel, by searching and counting. Try:
- who said “redis”?
- what did alice say about the deadline?
- when did bob last write?
- how many messages did carol write?
- explain this hub (ten seconds long: pull the plug meanwhile)
- summary
- export (asks you first)"""

EXPLANATION: Final = (
    "You are reading a stream. This question is an event in it, and my answer will be one when it is complete; until then my "
    "words go through the stream one after the other, each with its place in the text. Your browser is only a reader with a "
    "cursor. Pull the plug now: I go on writing, because I do not know about your socket, and neither does the stream. When "
    "you come back, the hub reads on from your cursor: you get what others have written meanwhile, in order and each once, "
    "and the part of this sentence that you have missed. It makes no difference if you come back to another node, on another "
    "device, or an hour later; nor if the worker that runs me is killed: another one takes over, and the answer goes on."
)


@dataclass(frozen=True, slots=True)
class Count:
    """Asks for the number of messages, of one person or of all."""

    who: str | None = None


@dataclass(frozen=True, slots=True)
class Find:
    """Asks for messages with `words`; `who` restricts it to one person, `is_last` to the most recent message."""

    words: str
    who: str | None = None
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """Asks for the channel in numbers."""


@dataclass(frozen=True, slots=True)
class Explain:
    """Asks for a long answer, slow enough to lose the connection in the middle of it."""


@dataclass(frozen=True, slots=True)
class Export:
    """Asks for the history as a table, which requires an approval, because everybody who can read the channel will see it."""


@dataclass(frozen=True, slots=True)
class Help:
    """Any other message; the answer is a help text."""


Asked: TypeAlias = Count | Find | Summary | Explain | Export | Help


def read_question(text: str, by: str) -> Asked:
    """Recognise the kind of question; the first that matches counts. "I" and "me" stand for `by`.

    Only the beginning of a long text is read.
    """
    text = text[:QUESTION_CHARACTERS]
    for pattern, kind in _PATTERNS:
        if (found := pattern.search(text)) is not None:
            given = found.groupdict()
            if kind == "count" and (counted := _COUNTED.search(text, found.end(), _line_end(text, found.end()))):
                given = counted.groupdict()
            return _made(kind, _person(given.get("who"), by), _words(given.get("words")))
    return Help()


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _made(kind: str, who: str | None, words: str) -> Asked:
    match kind:
        case "export":
            return Export()
        case "summary":
            return Summary()
        case "explain":
            return Explain()
        case "count":
            return Count(who)
        case "last" | "last_any":
            return Find(words, who, is_last=True)
        case _:
            return Find(words, who)


def _person(name: str | None, by: str) -> str | None:
    if name is None:
        return None
    if name.lower() in {"i", "me"}:
        return by
    return None if name.lower() in _NOBODY else name.rstrip(".?!")


def _words(text: str | None) -> str:
    return (text or "").strip().strip("\"'`“”").rstrip("?!. ").strip("\"'`“”")


PACE_S: Final = 0.015
"""Pause between words, in seconds, so that streaming is visible: about 65 words a second."""
SLOW_PACE_S: Final = 0.075
"""The same for an explanation, as slow as a large model."""
EXPORT_BYTES_MAX: Final = 48 * 1024
"""Maximum size of an export: below the 64 KiB of JSON that an output may have, because quotes and line ends are escaped."""


class DemoAgent:
    """Answers questions about who wrote what, when and how often in this channel; `help` lists examples."""

    description = "Answers questions about this channel's history: who wrote what, when, how often; summary and export."
    is_interactive = True

    def __init__(self, pace_s: float = PACE_S) -> None:
        self._pace_s = pace_s

    async def run(self, ctx: Context, given: AgentInput) -> AsyncGenerator[Item, Back]:
        """Reads the question, runs a tool and streams the answer."""
        pace_s = self._pace_s
        match read_question(given.text or str(given.value or ""), given.by):
            case Find(words, who, is_last):
                yield "Let me look. "
                outcome = yield _search(ctx, given, words, who)
                answer = _worded(outcome, words, who, is_last=is_last)
            case Count(who):
                answer = count_text(await _messages(ctx, given), who)
            case Summary():
                answer = summary_text(await _messages(ctx, given))
            case Explain():
                answer, pace_s = EXPLANATION, SLOW_PACE_S
            case Export():
                messages = await _messages(ctx, given)
                yield f"That would show {len(messages)} messages as one table to everybody here. "
                outcome = yield _export(messages)
                answer = "Then I leave it."
                if isinstance(outcome, ToolOutcome) and outcome.is_ok:
                    yield Output("artifact", outcome.output, "history.csv")
                    answer = "Here it is, as the output history.csv."
            case Help():
                answer = HELP
        async for piece in _streamed(answer, pace_s):
            yield piece


async def _streamed(text: str, pace_s: float) -> AsyncIterator[str]:
    """Yields the text word by word; each word includes the following space."""
    for piece in re.findall(r"\S+\s*|\s+", text):
        yield piece
        await asyncio.sleep(pace_s)


def _search(ctx: Context, given: AgentInput, words: str, who: str | None) -> ToolCall:
    async def search(args: JsonObject, tool: ToolContext) -> Json:
        messages = await _messages(ctx, given)
        tool.progress(len(messages), len(messages), "read")
        name = args.get("who")
        return found_json(find(messages, str(args["words"]), name if isinstance(name, str) else None))

    args: JsonObject = {"words": words}
    if who:
        args["who"] = who
    return ToolCall("search_history", args, search, title=f"Search for “{words}”"[:200], is_idempotent=True)


def _export(messages: list[PastMessage]) -> ToolCall:
    async def export(args: JsonObject, tool: ToolContext) -> Json:  # noqa: ARG001 - the table was made for the question
        text = table(messages)
        raw = text.encode()[:EXPORT_BYTES_MAX]
        return {"mime": "text/csv", "text": raw.decode("utf-8", "ignore"), "is_whole": len(raw) == len(text.encode())}

    ask = Question(f"Export {len(messages)} messages of this channel as a table?", "approval")
    return ToolCall("export_history", {"messages": len(messages)}, export, approval=ask, is_idempotent=True)


def _worded(outcome: Back, words: str, who: str | None, *, is_last: bool) -> str:
    if isinstance(outcome, ToolOutcome) and isinstance(outcome.output, dict):
        return hits_text(outcome.output, words, who, is_last=is_last)
    return "The search did not come to an end; ask me again."


async def _messages(ctx: Context, given: AgentInput) -> list[PastMessage]:
    """All messages before the question itself, even when the question is being answered again."""
    messages: list[PastMessage] = []
    async for one in ctx.all_messages():
        if one.message_id == given.parent:
            break
        messages.append(one)
    return messages


agent = DemoAgent()
