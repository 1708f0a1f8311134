"""The number of examples a property is tried with: all of them, or a few where the `quick` profile is on (`make quick`)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

QUICK_MAX = 3

# How long an example takes tells of the machine, not of the code. With `CI=true` Hypothesis draws the same examples every time.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("unhurried"), max_examples=QUICK_MAX)


def examples(most: int) -> settings:
    """The settings of a test that needs fewer or more examples than usual."""
    is_quick = settings.get_current_profile_name() == "quick"
    return settings(max_examples=min(most, QUICK_MAX) if is_quick else most)
