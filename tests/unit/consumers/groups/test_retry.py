"""Retries of a handler, and the parking of work."""

from __future__ import annotations

from consumers.groups.handler import FailureContext, Park, Retry, RetryPolicy

POLICY = RetryPolicy(attempts_max=4, first_s=1.0, factor=3.0, longest_s=5.0)


def test_delays_grow_to_their_bound() -> None:
    """1, 3, 5, 5 … seconds at full jitter, half of it at none."""
    assert [POLICY.delay_s(attempt, 1.0) for attempt in (1, 2, 3, 4)] == [1.0, 3.0, 5.0, 5.0]
    assert POLICY.delay_s(1, 0.0) == 0.5


def test_the_last_attempt_parks_with_the_reason() -> None:
    """Before it a delay is decided; a handler's own delay is taken as it is."""
    assert POLICY.decide(FailureContext(3, "why"), 1.0) == Retry("why", 5.0)
    assert POLICY.decide(FailureContext(3, "why"), 1.0, after_s=9.0) == Retry("why", 9.0)
    assert POLICY.decide(FailureContext(4, "why"), 1.0) == Park("why (attempt 4 of 4)")
