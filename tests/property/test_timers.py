"""The timer wheel: nothing early, nothing later than a tick, nothing twice, nothing lost, whatever the clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.node.deadlines import DeadlineWheel

STEPS = st.lists(st.tuples(st.floats(0.001, 50), st.lists(st.floats(-5, 100), max_size=3)), max_size=40)


@given(tick_s=st.sampled_from([0.1, 0.25, 1.0]), steps=STEPS)
def test_each_item_comes_out_once_in_its_tick(tick_s: float, steps: list[tuple[float, list[float]]]) -> None:
    """At each look everything that was due a tick ago has come out, nothing that is not yet due has, and nothing twice."""
    wheel: DeadlineWheel[int] = DeadlineWheel(tick_s)
    now, number, waiting = 0.0, 0, dict[int, float]()
    for step_s, delays in [*steps, (1_000.0, [])]:
        now += step_s
        for item in wheel.due(now):
            assert waiting.pop(item) <= now
        assert [at for at in waiting.values() if at + tick_s < now - 1e-6] == []
        for delay_s in delays:
            number += 1
            waiting[number] = now + delay_s if delay_s > 0 else now  # what is past comes out with the next tick
            wheel.put(number, now + delay_s)

    assert waiting == {}


@given(st.lists(st.floats(0, 500), max_size=30), st.floats(1e4, 1e9))
def test_a_clock_that_jumps_walks_what_is_there(ats: list[float], jump_s: float) -> None:
    """After a suspend of years everything is due at once, in order of time, without a step for each tick between."""
    wheel: DeadlineWheel[float] = DeadlineWheel(0.1)
    assert wheel.due(0.0) == []
    for at in ats:
        wheel.put(at, at)

    came = wheel.due(500 + jump_s)

    assert sorted(came) == sorted(ats)
    assert [int(at / 0.1) for at in came] == sorted(int(at / 0.1) for at in ats)
    assert wheel.due(600 + jump_s) == []
