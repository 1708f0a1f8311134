"""Recovery of a run whose worker is gone, row by row."""

from __future__ import annotations

import pytest

from consumers.runs.journal import CallRecord, Journal, RequestRecord
from consumers.runs.transitions import Again, Lost, judge, requeue
from streams.records.runs import RunView


def with_call(call: CallRecord, *requests: RequestRecord) -> Journal:
    return Journal("r", calls={call.tool_call_id: call}, requests={one.request_id: one for one in requests})


@pytest.mark.parametrize(
    ("call", "is_again"),
    [
        (CallRecord("c", "n", "server", is_idempotent=False), False),
        (CallRecord("c", "n", "server", is_idempotent=True), True),
        (CallRecord("c", "n", "client", is_idempotent=False), True),
        (CallRecord("c", "n", "server", is_idempotent=False, outcome="ok"), True),
    ],
)
def test_a_call_in_flight_decides(call: CallRecord, is_again: bool) -> None:
    """Only what may be repeated, or is over, lets the run go on."""
    assert isinstance(judge(with_call(call), losses=1), Again) is is_again


def test_a_call_that_waits_for_approval_has_not_begun() -> None:
    """Nothing was run yet, so nothing is repeated; once approved and begun, it is."""
    call = CallRecord("c", "n", "server", is_idempotent=False)
    asked = RequestRecord("q", "approval", "c")

    assert judge(with_call(call, asked), losses=1) == Again()
    asked.resolution = "approved"
    assert isinstance(judge(with_call(call, asked), losses=1), Lost)


def test_two_lost_workers_are_enough() -> None:
    """Attempts are bounded; a hand-over costs none."""
    assert judge(Journal("r"), losses=0) == Again()
    assert judge(Journal("r"), losses=1) == Again()
    assert isinstance(judge(Journal("r"), losses=2), Lost)


def test_requeueing_compares_the_attempt_it_follows() -> None:
    """Two reapers, or a reaper and the worker, requeue once."""
    run = RunView("r", "running", "a", "u", "1-0", attempt=3)

    change = requeue(run, 5, is_loss=True)

    assert change.states == ("running",)
    assert change.checks == (("attempt", "eq", "3"),)
    assert dict(change.sets) == {"state": "queued", "attempt": "4", "holder": "", "since_ms": "5"}
    assert change.increments == ("losses",)
    assert requeue(run, 5, is_loss=False).increments == ()
