"""Debts for new channels: noted, told, and forgotten when they are over."""

from __future__ import annotations

from hub.auth.permissions import compile_grants
from hub.auth.tokens import Principal
from hub.limits.new_channels import NewChannels
from hub.limits.rates import RateClass, RateLimiter

ALICE, BOB = (Principal(name, "acme", compile_grants({}, name), 1e12) for name in ("alice", "bob"))


def test_a_debt_is_of_its_user_and_ends() -> None:
    """Nobody else is looked at, and once it is over nobody is."""
    now = [100.0]
    channels = NewChannels(RateLimiter({"channel": RateClass(1, 3)}), lambda: now[0])
    for _ in range(3):
        channels.note(ALICE)
    before = channels.has_debtors
    channels.note(ALICE)
    refused = channels.refusal(ALICE)
    owed = channels.owes(ALICE), channels.owes(BOB), channels.refusal(BOB)
    now[0] += 1.5
    channels.forget_paid()

    assert not before
    assert refused is not None
    assert (refused.row.code, refused.retry_after_ms) == (4004, 1_001)
    assert owed == (True, False, None)
    assert (channels.has_debtors, channels.owes(ALICE), channels.refusal(ALICE)) == (False, False, None)


def test_without_limits_nobody_is_in_debt() -> None:
    """`HUB_RATE_LIMITS=off`."""
    channels = NewChannels(RateLimiter(None), lambda: 1.0)
    for _ in range(1_000):
        channels.note(ALICE)

    assert not channels.has_debtors
