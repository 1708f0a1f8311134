"""The demo agent's understanding and answers."""

from __future__ import annotations

import time

import pytest

from consumers.agents import PastMessage
from consumers.agents.demo import (
    Asked,
    Count,
    Explain,
    Export,
    Find,
    Help,
    Summary,
    count_text,
    find,
    found_json,
    hits_text,
    read_question,
    summary_text,
    table,
)

MINUTE = 60_000
SAID = [
    PastMessage("1-0", "user", "alice", "The redis deadline is Friday", 0),
    PastMessage("r.0", "assistant", "demo", "redis redis", 1 * MINUTE),
    PastMessage("2-0", "user", "bob", 'I like "streams"', 5 * MINUTE),
    PastMessage("3-0", "user", "alice", "Redis is up again", 65 * MINUTE),
]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ('Who said "redis"?', Find("redis")),
        ("who mentioned the deadline", Find("the deadline")),
        ("what did alice say about the deadline?", Find("the deadline", "alice")),
        ("what did I say?", Find("", "zoe")),
        ("when did bob last write?", Find("", "bob", is_last=True)),
        ("when did bob last say about streams", Find("streams", "bob", is_last=True)),
        ("search for upgrade path!", Find("upgrade path")),
        ("how many messages did carol write?", Count("carol")),
        ("How many messages are there?", Count()),
        ("how many did everyone write", Count()),
        ("please summarise", Summary()),
        ("what happened here?", Summary()),
        ("explain this hub", Explain()),
        ("How does it work?", Explain()),
        ("export it", Export()),
        ("hello", Help()),
        ("", Help()),
    ],
)
def test_questions_are_read(text: str, asked: Asked) -> None:
    """Each kind of question has a few wordings; anything else is answered with help."""
    assert read_question(text, by="zoe") == asked


def test_finding_looks_at_what_people_said() -> None:
    """Whatever the case; not at answers of agents."""
    hits = find(SAID, "REDIS", None)

    assert [hit.message_id for hit in hits] == ["1-0", "3-0"]
    assert [hit.message_id for hit in find(SAID, "redis", "Bob")] == []


def test_hits_are_told_with_time_and_author() -> None:
    """The newest few by name, the rest as a number; nothing found is said, not left out."""
    found = found_json(find(SAID, "redis", None))

    assert hits_text(found, "redis", None, is_last=False) == (
        "2 messages about “redis”:\n- 1970-01-01 00:00 alice: The redis deadline is Friday\n"
        "- 1970-01-01 01:05 alice: Redis is up again"
    )
    assert hits_text(found, "redis", "alice", is_last=True).endswith("1970-01-01 01:05 UTC: Redis is up again")
    assert hits_text(found_json([]), "x", None, is_last=False) == "Nobody has said anything about “x” here."
    assert hits_text(found_json([]), "", "bob", is_last=True) == "bob has said nothing here."


def test_counts_and_summary_are_counted() -> None:
    """Messages, people, the busiest hour, the longest silence, the words used most."""
    assert count_text(SAID[:1], None) == "1 message by one person. Most of them: alice (1)."
    assert count_text(SAID, "Alice") == "Alice has written 2 messages, 66.7 % of 3."
    summary = summary_text(SAID)
    assert "3 messages by 2 people. Most of them: alice (2), bob (1)." in summary
    assert "the busiest hour began 1970-01-01 00:00 with 2 messages" in summary
    assert "The longest silence lasted 60 minutes, from 1970-01-01 00:05." in summary
    assert "redis (2)" in summary
    assert summary_text([]) == "Nothing has been said here yet."


def test_the_table_doubles_quotes() -> None:
    """A message cannot break out of its cell."""
    assert table(SAID).splitlines()[3] == '1970-01-01 00:05,bob,"I like ""streams"""'


def _seconds(text: str) -> float:
    """Processor time of reading a question, the best of three."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        read_question(text, by="zoe")
        times.append(time.process_time() - begun)
    return min(times)


@pytest.mark.parametrize(
    "piece", ["how many ", "how often did ", "when did ", "what did ", "who said", "find \n", "summar", "did "]
)
def test_no_text_takes_long_to_read(piece: str) -> None:
    """A message of 32 KiB that repeats the beginning of a question held the worker's loop for seconds."""
    assert _seconds(piece * (32_768 // len(piece))) < 0.05
