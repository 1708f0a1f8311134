"""Laws of the token buckets, over any order of takes, charges and waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.limits.rates import RateClass, RateLimiter
from hub.limits.sharing import charge_report, decode_report, reports

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


@given(
    demands=st.lists(st.tuples(st.floats(0, 0.3, allow_subnormal=False), st.integers(0, 2)), min_size=1, max_size=150),
    rate=st.builds(RateClass, st.floats(0.5, 50), st.integers(1, 30).map(float)),
)
def test_three_nodes_let_through_no_more_than_one_and_what_news_was_late(
    demands: list[tuple[float, int]], rate: RateClass
) -> None:
    """Over any time a user on three nodes gets one refill; only the burst may be had once on each, before news arrives."""
    nodes, now, passed, last_round = _three(rate), 0.0, 0, 0.0
    for wait_s, number in demands:
        now += wait_s
        if now - last_round >= 0.4:
            _round(nodes, now - last_round, now)
            last_round = now
        passed += nodes[number].take(KEY, "chat", now) is None

    assert passed <= 3 * rate.burst + now * rate.per_s + 1


@given(
    demands=st.lists(st.tuples(st.floats(0, 1, allow_subnormal=False), st.integers(0, 2)), min_size=1, max_size=40),
    per_s=st.floats(0.5, 50),
)
def test_who_stays_within_the_burst_is_refused_on_no_node(demands: list[tuple[float, int]], per_s: float) -> None:
    """Sharing never takes more than was used: as many as the bucket holds pass, wherever they are sent."""
    nodes, now = _three(RateClass(per_s, float(len(demands)))), 0.0
    for wait_s, number in demands:
        now += wait_s
        _round(nodes, 0.0, now)
        assert nodes[number].take(KEY, "chat", now) is None


def _three(rate: RateClass) -> list[RateLimiter]:
    return [RateLimiter({"chat": rate}, is_shared=True) for _ in range(3)]


def _round(nodes: list[RateLimiter], age_s: float, now: float) -> None:
    """Each node's report, through its bytes, to all others."""
    told = [report.encode() for name, node in enumerate(nodes) for report in reports(str(name), node.drain())]
    for name, node in enumerate(nodes):
        for report in map(decode_report, told):
            if report.node != str(name):
                charge_report(node, report, now - age_s)
