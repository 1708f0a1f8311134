"""Rate limits by example: the defaults, the advice, the ceiling, what is forgotten."""

from __future__ import annotations

import pytest

from hub.limits.rates import DEFAULT_RATES, UNMETERED, RateClass, RateLimiter, RefusalWindow, over_defaults

ALICE, BOB = ("acme", "alice"), ("acme", "bob")
NOW = 1_800_000_000.0


def limiter(per_s: float = 5, burst: float = 5, tenant_users: int = 50) -> RateLimiter:
    return RateLimiter({"chat": RateClass(per_s, burst)}, tenant_users=tenant_users)


@pytest.mark.parametrize("name", sorted(DEFAULT_RATES))
def test_burst_passes_and_the_next_is_refused(name: str) -> None:
    """A full bucket holds exactly its burst, for every class of the table."""
    limits, burst = RateLimiter(), int(DEFAULT_RATES[name].burst)

    answers = [limits.take(ALICE, name, NOW) for _ in range(burst + 1)]

    assert answers[:-1] == [None] * burst
    assert isinstance(answers[-1], int)


def test_first_advice_is_exact() -> None:
    """Five a second means 200 ms until the next; who waits that long is let through."""
    limits = limiter()
    for _ in range(5):
        limits.take(ALICE, "chat", NOW)

    advice_ms = limits.take(ALICE, "chat", NOW)

    assert advice_ms == 200
    assert limits.take(ALICE, "chat", NOW + advice_ms / 1000) is None


def test_advice_doubles_with_each_repeat_up_to_thirty_seconds() -> None:
    """A client that keeps coming too early is told longer and longer waits."""
    limits = limiter(1, 1)
    limits.take(ALICE, "chat", NOW)

    told = [limits.take(ALICE, "chat", NOW) for _ in range(8)]

    assert told == [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]


def test_who_waits_as_told_starts_over_with_exact_advice() -> None:
    """Obeying clears the past."""
    limits = limiter(1, 1)
    limits.take(ALICE, "chat", NOW)
    limits.take(ALICE, "chat", NOW)
    told = limits.take(ALICE, "chat", NOW)
    assert told is not None
    later = NOW + told / 1000

    assert limits.take(ALICE, "chat", later) is None
    assert limits.take(ALICE, "chat", later) == 1000


def test_users_and_classes_do_not_share_buckets() -> None:
    """One user's flood takes nothing from another, nor from the user's other classes."""
    limits = RateLimiter({"chat": RateClass(1, 1), "agent": RateClass(1, 1)})
    limits.take(ALICE, "chat", NOW)

    assert limits.take(ALICE, "chat", NOW) is not None
    assert limits.take(BOB, "chat", NOW) is None
    assert limits.take(ALICE, "agent", NOW) is None


def test_tenant_ceiling_stops_many_users_and_no_other_tenant() -> None:
    """A tenant gets what its ceiling of users may do; a refusal by the ceiling costs the user nothing."""
    limits = limiter(1, 2, tenant_users=3)
    for number in range(6):
        assert limits.take(("acme", f"u{number}"), "chat", NOW) is None

    assert limits.take(ALICE, "chat", NOW) is not None
    assert limits.take(("other", "alice"), "chat", NOW) is None
    assert [limits.take(ALICE, "chat", NOW + 1) for _ in range(3)] == [None, None, 1000]


def test_cost_above_the_burst_needs_a_full_bucket() -> None:
    """A command that names more channels than the bucket holds is still possible, and pays with all of it."""
    limits = limiter(5, 5)

    assert limits.take(ALICE, "chat", NOW, cost=100) is None
    assert limits.take(ALICE, "chat", NOW) is not None
    assert limits.take(ALICE, "chat", NOW + 1, cost=100) is None


def test_charge_from_another_node_can_empty_a_bucket_below_zero() -> None:
    """Commands that another node let through are paid back here before anything more passes."""
    limits = limiter(5, 5)

    limits.charge(ALICE, "chat", NOW, 10)

    assert limits.take(ALICE, "chat", NOW) in range(1200, 1202)
    assert limits.take(ALICE, "chat", NOW + 1.2) is None


def test_off_limits_nothing() -> None:
    """`off` is off, for every class and also for charges."""
    limits = RateLimiter(None)
    limits.charge(ALICE, "chat", NOW, 10_000)

    assert limits.is_off
    assert not any(limits.take(ALICE, "agent", NOW) for _ in range(1000))


def test_chunks_are_bounded_by_their_window_not_here() -> None:
    """The class of chunks is known and never refused."""
    assert {"chunk"} == UNMETERED
    assert RateLimiter().take(ALICE, "chunk", NOW, cost=1e9) is None


def test_unknown_class_is_our_mistake() -> None:
    """A class nobody declared must not mean unlimited."""
    with pytest.raises(KeyError):
        RateLimiter().take(ALICE, "chatt", NOW)


def test_full_buckets_are_forgotten() -> None:
    """Thirty thousand users in a row leave only those whose bucket is not full yet."""
    limits = RateLimiter({"chat": RateClass(50, 500, has_tenant_ceiling=False)})

    for number in range(30_000):
        limits.take(("acme", str(number)), "chat", NOW + number * 0.001)

    assert limits.bucket_count() <= 2048


def test_twenty_refusals_in_ten_seconds_close_and_slower_ones_do_not() -> None:
    """The window counts refusals of one socket within ten seconds."""
    fast, slow = RefusalWindow(), RefusalWindow()

    assert [fast.note(NOW + n * 0.5) for n in range(20)] == [False] * 19 + [True]
    assert not any(slow.note(NOW + n * 0.6) for n in range(100))


def test_overrides_replace_only_what_they_name() -> None:
    """`chat=200/2000` changes chat and leaves the rest as it is."""
    rates = over_defaults({"chat": (200, 2000), "chunk": (1, 1)})

    assert rates is not None
    assert rates["chat"] == RateClass(200, 2000)
    assert {name: rates[name] for name in rates if name != "chat"} == {
        name: rate for name, rate in DEFAULT_RATES.items() if name != "chat"
    }
    assert over_defaults(None) is None


@pytest.mark.parametrize("override", [{"chatt": (1.0, 1.0)}, {"chat": (0.0, 5.0)}, {"chat": (1.0, 0.0)}])
def test_wrong_override_says_what_is_allowed(override: dict[str, tuple[float, float]]) -> None:
    """A rate of nothing, or a class nobody knows, is refused at start."""
    with pytest.raises(ValueError, match=r"HUB_RATE_LIMITS is `off` or class=rate/burst.*classes are control"):
        over_defaults(override)
