"""Laws of the token buckets, over any order of takes, charges and waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.middleware.rate_classes import RateClass
from hub.middleware.rate_limit import RateLimiter

RATES = st.builds(RateClass, st.floats(0.1, 1000), st.integers(1, 500).map(float))
WAITS_S = st.lists(st.floats(0, 2, allow_subnormal=False), min_size=1, max_size=200)
KEY = ("acme", "alice")
STARTS = st.sampled_from([0.0, 1_000.5, 1_800_000_000.25])


def limiter(rate: RateClass) -> RateLimiter:
    return RateLimiter({"chat": rate})


@given(rate=RATES, waits_s=WAITS_S, start=STARTS)
def test_never_more_than_burst_plus_refill(rate: RateClass, waits_s: list[float], start: float) -> None:
    """Whatever the timing, in any stretch of time no more passes than the burst and what was refilled in it."""
    limits, now, passed = limiter(rate), start, list[float]()
    for wait_s in waits_s:
        now += wait_s
        if limits.take(KEY, "chat", now) is None:
            passed.append(now)

    for first in range(len(passed)):
        for last in range(first, len(passed)):
            allowed = rate.burst + (passed[last] - passed[first]) * rate.per_s
            assert last - first + 1 <= allowed + 0.1


@given(rate=RATES, waits_s=WAITS_S, start=STARTS)
def test_waiting_as_told_is_always_enough(rate: RateClass, waits_s: list[float], start: float) -> None:
    """However often a client was refused, the last advice is a promise."""
    limits, now = limiter(rate), start
    for wait_s in waits_s:
        now += wait_s
        advice_ms = limits.take(KEY, "chat", now)
        if advice_ms is not None:
            now += advice_ms / 1000
            assert limits.take(KEY, "chat", now) is None


@given(rate=RATES, count=st.integers(1, 50), start=STARTS)
def test_advice_never_falls_while_ignored(rate: RateClass, count: int, start: float) -> None:
    """A client that does not wait is never told a shorter wait, nor one above thirty seconds or the exact one."""
    limits = limiter(rate)
    limits.take(KEY, "chat", start, rate.burst)
    told = [limits.take(KEY, "chat", start) for _ in range(count)]
    advice = [ms for ms in told if ms is not None]

    assert len(advice) == count
    assert advice == sorted(advice)
    assert max(advice) <= max(30_000, advice[0])


@given(rate=RATES, costs=st.lists(st.integers(1, 20), max_size=40), split=st.integers(0, 40), start=STARTS)
def test_a_charge_weighs_what_a_take_weighs(rate: RateClass, costs: list[int], split: int, start: float) -> None:
    """Accepted here or told of by another node, the bucket ends the same: limits do not depend on the node."""
    here, elsewhere = limiter(rate), limiter(rate)
    taken = [cost for cost in costs if here.take(KEY, "chat", start, cost) is None]
    for number, cost in enumerate(taken):
        if number < split:
            assert elsewhere.take(KEY, "chat", start, cost) is None
        else:
            elsewhere.charge(KEY, "chat", start, min(cost, rate.burst))

    for ahead_s in (0.0, 0.5, 5.0):
        answers = [limits.take(KEY, "chat", start + ahead_s) is None for limits in (here, elsewhere)]
        assert answers[0] == answers[1]


@given(rate=RATES, costs=st.lists(st.integers(1, 20), max_size=40), start=STARTS)
def test_charges_commute(rate: RateClass, costs: list[int], start: float) -> None:
    """News from other nodes may arrive in any order."""
    forwards, backwards = limiter(rate), limiter(rate)
    for cost in costs:
        forwards.charge(KEY, "chat", start, cost)
    for cost in reversed(costs):
        backwards.charge(KEY, "chat", start, cost)

    a, b = forwards.take(KEY, "chat", start), backwards.take(KEY, "chat", start)
    assert (a is None) == (b is None)
    assert a is None or b is None or abs(a - b) <= 1
