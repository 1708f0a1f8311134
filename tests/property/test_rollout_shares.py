"""A user's place in a rollout: stable, and moved at most once while a percentage rises."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from projections.rollout import Rollout
from support.examples import examples

LAWS = examples(50)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
PERCENTS = st.lists(st.floats(0, 100), max_size=12)


@LAWS
@given(NAMES, NAMES, PERCENTS)
def test_a_rising_percentage_moves_each_user_once(tenant: str, user: str, percents: list[float]) -> None:
    """Off at 0, on at 100, and never off again once it was on."""
    steps = [Rollout(percent).is_websocket_on(tenant, user) for percent in [0.0, *sorted(percents), 100.0]]

    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (False, True)


@LAWS
@given(NAMES, NAMES, st.lists(st.floats(0, 100), min_size=2, max_size=12))
def test_a_variant_that_grows_into_the_rest_keeps_its_users(tenant: str, user: str, percents: list[float]) -> None:
    """A user with the variant still has it when its percentage is raised; the others get it at most once."""
    steps = [Rollout(variants=[("a", percent)]).variant_of(tenant, user) == "a" for percent in sorted(percents)]

    assert steps == sorted(steps)


@LAWS
@given(NAMES, NAMES, st.floats(0, 100))
def test_two_variants_that_share_everybody_leave_nobody_out(tenant: str, user: str, percent: float) -> None:
    """Every user has one of the two."""
    rollout = Rollout(variants=[("a", percent), ("b", 100 - percent)])

    assert rollout.variant_of(tenant, user) in {"a", "b"}


def test_a_percentage_takes_about_that_part_of_the_users() -> None:
    """Of 20,000 users a quarter has WebSocket, and half of those the variant: the two questions are independent."""
    rollout = Rollout(25.0, [("a", 50.0)])
    on = [user for user in map(str, range(20_000)) if rollout.is_websocket_on("acme", user)]
    variant = [user for user in on if rollout.variant_of("acme", user) == "a"]

    assert abs(len(on) / 20_000 - 0.25) < 0.02
    assert abs(len(variant) / len(on) - 0.5) < 0.04


def test_another_tenant_has_its_users_elsewhere() -> None:
    """The same names are not the first to be moved in each tenant."""
    half = Rollout(50.0)
    found = {half.is_websocket_on(f"tenant-{number}", "alice") for number in range(50)}

    assert found == {True, False}
