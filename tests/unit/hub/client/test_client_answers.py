"""`Answer`: pieces by offset, resets and states, in any order a channel may bring them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hub.client import Answer, AnswerFailed, Cursor, Event, Signal, Stored, Subscribed

CHANNEL = "conversation:c"
ASKED = Stored("1-0", 1, False, "memory", {"run_id": "r"})
_seqs = itertools.count(2)


def event(kind: str, **payload: Any) -> Event:
    number = next(_seqs)
    return Event(f"{number}-0", number, CHANNEL, kind, 1, {}, {}, {"run_id": "r"} | payload, b"")


def start(number: int = 0, attempt: int = 1) -> Event:
    return event("assistant.message.start", message_id=f"r.{number}", attempt=attempt, agent="a")


def end(text: str, number: int = 0) -> Event:
    return event("assistant.message.end", message_id=f"r.{number}", attempt=1, finish_reason="stop", text=text)


def reset(keep: int, attempt: int = 2) -> Event:
    return event("assistant.message.reset", message_id="r.0", attempt=attempt, keep=keep, reason="worker_lost")


def delta(offset: int, text: str, *, attempt: int = 1, number: int = 0, **more: Any) -> Signal:
    piece = {"offset": offset, "end": offset + len(text), "delta": text}
    payload = {"run_id": "r", "message_id": f"r.{number}", "attempt": attempt} | piece | more
    return Signal(CHANNEL, "assistant.message.delta", 1, {}, {}, payload, b"")


def held(text: str, *, attempt: int = 1, number: int = 0) -> dict[str, Any]:
    return {"run_id": "r", "message_id": f"r.{number}", "attempt": attempt, "text": text, "offset": len(text)}


def subscribed(*messages: dict[str, Any]) -> Subscribed:
    place = Cursor("1-0", 1)
    return Subscribed(CHANNEL, "e", place, place, True, 0, None, {"open_messages": list(messages)}, 1, "live")


def after(*items: Any) -> Answer:
    answer = Answer(ASKED)
    for item in items:
        answer.take(item)
    return answer


@pytest.mark.parametrize(
    ("items", "text", "is_behind"),
    [
        pytest.param([start(), delta(0, "ab"), delta(2, "c")], "abc", False, id="one after the other"),
        pytest.param([delta(0, "ab"), start(), delta(2, "c")], "abc", False, id="a delta before its start"),
        pytest.param([start(), delta(0, "ab"), delta(0, "ab"), delta(1, "b")], "ab", False, id="repeated"),
        pytest.param([start(), delta(0, "a"), delta(2, "c")], "a", True, id="ahead"),
        pytest.param([start(), delta(0, "a😀"), delta(2, "b")], "a😀b", False, id="code points"),
        pytest.param([subscribed(held("abc")), start(), delta(2, "c"), delta(3, "d")], "abcd", False, id="state first"),
        pytest.param([start(), delta(0, "abcd"), subscribed(held("abc"))], "abcd", False, id="an older state"),
        pytest.param([start(), delta(0, "abcd"), reset(2), delta(2, "x", attempt=2)], "abx", False, id="reset"),
        pytest.param([start(), delta(0, "ab"), reset(0), delta(2, "c")], "", False, id="a delta of the lost worker"),
        pytest.param([start(), delta(0, "a"), reset(3)], "a", True, id="reset beyond what is held"),
        pytest.param([start(), delta(0, "a"), delta(1, "b", attempt=2)], "a", True, id="a new attempt untold"),
        pytest.param([subscribed(held("ab", attempt=2)), start(), reset(1)], "ab", False, id="a reset known already"),
        pytest.param([start(), delta(0, "ab"), end("abc"), delta(2, "c")], "abc", False, id="the end counts"),
        pytest.param([subscribed(held("two", number=1)), start()], "", False, id="the second waits for the first"),
        pytest.param(
            [subscribed(held("two", number=1)), start(), end("one"), start(1)], "one\n\ntwo", False, id="in their order"
        ),
        pytest.param([delta(0, "ab")], "", False, id="nothing is shown before the start"),
        pytest.param([start(), delta(0, "why", track="reasoning")], "", False, id="reasoning is no text"),
    ],
)
def test_pieces_make_a_text(items: list[Any], text: str, is_behind: bool) -> None:
    """As docs/protocol.md#deltas says."""
    answer = after(*items)

    assert (answer.text, answer.is_behind) == (text, is_behind)


def test_a_state_mends_what_is_behind() -> None:
    """And the pieces that came meanwhile are known already."""
    answer = after(start(), delta(3, "d"))
    assert answer.is_behind

    answer.take_state({"open_messages": [held("abcd"), held("other") | {"run_id": "q", "message_id": "q.0"}]})

    assert (answer.text, answer.is_behind) == ("abcd", False)


def test_items_of_other_runs_are_not_taken() -> None:
    """A conversation may have several answers at once."""
    answer = after(start())

    assert answer.take(delta(0, "x", run_id="q", message_id="q.0")) is False
    assert answer.take(delta(0, "y")) is True
    assert answer.text == "y"


def test_the_outcome_is_raised_with_its_reason() -> None:
    """Success raises nothing."""
    error = {"code": "busy", "message": "try later", "retryable": True}
    fine = after(event("agent.complete", agent="a", outcome="success", message_ids=[]))
    failed = after(event("agent.complete", agent="a", outcome="failed", message_ids=[], error=error))
    late = after(event("agent.complete", agent="a", outcome="expired", message_ids=[]))

    fine.raise_for_outcome()
    with pytest.raises(AnswerFailed, match=r"a failed \(busy\): try later"):
        failed.raise_for_outcome()
    with pytest.raises(AnswerFailed, match="a expired"):
        late.raise_for_outcome()
