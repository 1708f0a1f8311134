"""The table of a run's states (docs/protocol.md#runs)."""

from __future__ import annotations

from typing import get_args

import pytest

from streams.run_states import FINAL_STATES, OPEN_STATES, OUTCOMES, TRANSITIONS, RunState, sources


@pytest.mark.parametrize(
    ("previous", "following"),
    [
        ("queued", "running cancelled expired"),
        ("running", "waiting cancelling completed failed expired queued"),
        ("waiting", "queued cancelled expired"),
        ("cancelling", "cancelled completed failed"),
        ("completed", ""),
        ("failed", ""),
        ("cancelled", ""),
        ("expired", ""),
    ],
)  # fmt: skip - a table
def test_a_state_leads_where_the_table_says(previous: RunState, following: str) -> None:
    """And nowhere else."""
    assert TRANSITIONS[previous] == set(following.split())


def test_every_state_is_in_the_table() -> None:
    """The type that payloads use and the table name the same states, each of them open or final."""
    assert set(get_args(RunState)) == set(TRANSITIONS) == {*OPEN_STATES, *FINAL_STATES}


def test_every_final_state_has_an_outcome() -> None:
    """Each outcome of `agent.complete` brings a state that leads nowhere."""
    assert set(OUTCOMES.values()) == set(FINAL_STATES)


def test_sources_are_the_table_read_backwards() -> None:
    """The states that a guard compares with before it sets one."""
    assert sources("queued") == ("running", "waiting")
    assert all(following in TRANSITIONS[source] for following in TRANSITIONS for source in sources(following))
