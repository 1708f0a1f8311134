"""The least pace of a body holds over the last seconds, however fast it began."""

from __future__ import annotations

import pytest

from hub.storage.local import MinimumPace

RATE, GRACE_S = 1_000.0, 10.0


@pytest.mark.parametrize("begun_bytes", [0, 5_000, 2_000_000])
def test_a_stall_has_the_grace_and_no_more_however_much_came_before(begun_bytes: int) -> None:
    """1.9 MB at once bought 75 seconds and more of silence."""
    pace = MinimumPace(RATE, GRACE_S, now=100.0)
    assert pace.came(begun_bytes, 101.0) <= 101.0 + GRACE_S


def test_a_body_at_the_pace_is_never_too_slow_and_one_below_it_runs_out() -> None:
    """A second's bytes a second keep the credit; half of them use it up in twice the grace."""
    steady, slow = MinimumPace(RATE, GRACE_S, 0.0), MinimumPace(RATE, GRACE_S, 0.0)
    assert all(steady.came(1_000, float(second)) > second + 1 for second in range(1, 1_000))
    ends = [second for second in range(1, 100) if slow.came(500, float(second)) <= second + 1]
    assert ends[0] == pytest.approx(2 * GRACE_S, abs=2)


def test_the_time_of_writing_here_is_not_the_senders() -> None:
    """A slow disk uses up no credit."""
    pace = MinimumPace(RATE, GRACE_S, 0.0)
    pace.came(0, 4.0)
    assert pace.rest_until(50.0) == 56.0
