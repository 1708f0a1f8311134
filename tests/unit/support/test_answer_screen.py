"""The screen that answers are held against: a checker that cannot fail proves nothing."""

from __future__ import annotations

from typing import Any

import pytest

from hub.client import Cursor, Event, Signal, Subscribed
from support.answer_screen import Screen

PLACE = "conversation:c"


def event(seq: int, type_: str, **payload: Any) -> Event:
    """An event of the run's only message."""
    of_run = {"message_id": "r.0", "run_id": "r", "attempt": 1} | payload
    return Event(f"{seq}-0", seq, PLACE, f"assistant.message.{type_}", 1, {}, {}, of_run, b"")


def delta(offset: int, text: str, attempt: int = 1) -> Signal:
    """A delta of it."""
    payload = {
        "message_id": "r.0", "run_id": "r", "attempt": attempt, "track": "text", "offset": offset,
        "end": offset + len(text), "delta": text,
    }  # fmt: skip # a table
    return Signal(PLACE, "assistant.message.delta", 1, {}, {}, payload, b"")


def snapshot(text: str, attempt: int = 1) -> Subscribed:
    """A subscription's answer in the middle of the message."""
    held = {"message_id": "r.0", "run_id": "r", "attempt": attempt, "text": text, "offset": len(text)}
    state = {"messages": [], "open_messages": [held]}
    head = Cursor("1-0", 1)
    return Subscribed(PLACE, "e", head, head, True, 0, None, state, 1)


def shown(*items: Any) -> Screen:
    """A screen after these."""
    screen = Screen()
    for item in items:
        screen.take(item)
    return screen


def test_deltas_are_applied_by_their_offset() -> None:
    """Repeated ones change nothing, of an older attempt either; a snapshot that is behind takes nothing away."""
    start = event(1, "start")
    screen = shown(start, delta(0, "a😀"), delta(0, "a😀"), snapshot("a"), delta(2, "b"), event(2, "end", text="a😀b"))

    assert (screen.faults, screen.texts("r"), screen.is_behind) == ([], ["a😀b"], False)


def test_a_reset_keeps_what_it_says() -> None:
    """After it deltas of the attempt before are passed over, those of the new one go on at the mark."""
    reset = event(2, "reset", attempt=2, keep=2)
    screen = shown(event(1, "start"), delta(0, "abc"), reset, delta(3, "x"), delta(2, "d", attempt=2))

    assert (screen.faults, screen.texts("r")) == ([], ["abd"])


@pytest.mark.parametrize(
    "items", [(delta(1, "b"),), (delta(0, "a", attempt=2),), (event(1, "reset", attempt=2, keep=1),)]
)
def test_what_is_ahead_asks_for_the_state(items: tuple[Any, ...]) -> None:
    """A hole is never shown over."""
    screen = shown(event(1, "start"), *items)

    assert screen.is_behind


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        ((delta(0, "ax"), event(2, "end", text="ab")), "not a beginning"),
        ((event(2, "end", text="ab"), delta(0, "b")), "late delta"),
        ((event(2, "end", text="a"), event(3, "end", text="b")), "two texts"),
        ((event(3, "end", text="a"),), "seq 3 after 1"),
    ],
)
def test_what_must_not_be_is_a_fault(items: tuple[Any, ...], fault: str) -> None:
    """Text that is not a beginning of the end, two ends, a hole in seq."""
    assert fault in shown(event(1, "start"), *items).faults[0]
