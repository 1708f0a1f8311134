"""Limits on connecting: by address, by user, failures, and sockets that never say who they are."""

from __future__ import annotations

import pytest

from hub.errors import HubError
from hub.limits.admission import ConnectLimits
from hub.limits.rates import RateClass, RateLimiter

NOW = 1000.0


def limits(pending_max: int = 3, connects: float = 5) -> ConnectLimits:
    rate = RateClass(1, connects, has_tenant_ceiling=False)
    auth = RateClass(10 / 60, 10, has_tenant_ceiling=False)
    return ConnectLimits(RateLimiter({"address": rate, "connect": rate, "auth": auth}), pending_max)


def test_ten_failures_are_free_and_the_eleventh_is_4004() -> None:
    """Guessing tokens is slowed down to ten a minute, by address."""
    guard = limits()
    for _ in range(10):
        guard.fail("192.0.2.1", NOW)

    with pytest.raises(HubError) as refused:
        guard.fail("192.0.2.1", NOW)

    assert (refused.value.row.code, refused.value.closes, refused.value.retry_after_ms) == (4004, True, 6000)
    guard.fail("192.0.2.2", NOW)
    guard.fail("192.0.2.1", NOW + 6)


def test_failures_of_a_neighbour_keep_nobody_out() -> None:
    """Behind one address a good token gets in whatever others try."""
    guard = limits()
    for _ in range(10):
        guard.fail("192.0.2.1", NOW)

    guard.open("192.0.2.1", NOW)
    guard.admit("acme", "alice", NOW)


def test_user_who_reconnects_in_a_storm_is_told_to_wait() -> None:
    """One user's loop of reconnects is bounded; another user is not touched."""
    guard = limits()
    for _ in range(5):
        guard.admit("acme", "alice", NOW)

    with pytest.raises(HubError) as refused:
        guard.admit("acme", "alice", NOW)

    assert (refused.value.row.code, refused.value.closes) == (4004, True)
    guard.admit("acme", "bob", NOW)


def test_address_that_connects_too_often_is_refused_before_anything_is_read() -> None:
    """Connects by address have a bound of their own."""
    guard = limits(pending_max=100)
    for _ in range(5):
        guard.open("192.0.2.1", NOW)

    with pytest.raises(HubError) as refused:
        guard.open("192.0.2.1", NOW)

    assert refused.value.row.code == 4004


def test_sockets_that_hang_before_the_handshake_are_bounded_by_address() -> None:
    """Slow handshakes fill only their own address's places, and a place is free again when its socket is settled."""
    guard = limits()
    for _ in range(3):
        guard.open("192.0.2.1", NOW)

    with pytest.raises(HubError) as refused:
        guard.open("192.0.2.1", NOW)
    assert refused.value.row.code == 4010

    guard.open("192.0.2.2", NOW)
    guard.identified("192.0.2.1")
    guard.open("192.0.2.1", NOW)
    assert guard.pending_count() == 4


def test_settled_addresses_are_forgotten() -> None:
    """A million addresses that came and went leave nothing."""
    guard = limits(connects=1000)
    for number in range(1000):
        guard.open(str(number), NOW)
        guard.identified(str(number))

    assert guard.pending_count() == 0
    assert not guard._pending


def test_off_is_off_here_too() -> None:
    """With limits off a load test may connect as it likes."""
    guard = ConnectLimits(RateLimiter(None), 1)
    for _ in range(100):
        guard.open("192.0.2.1", NOW)
        guard.fail("192.0.2.1", NOW)
        guard.admit("acme", "alice", NOW)

    assert guard.pending_count() == 100
