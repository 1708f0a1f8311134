"""The number of examples for property tests: all of them, or few with the `quick` profile (`make quick`)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

QUICK_MAX = 3

# The duration of an example depends on the machine, so there is no deadline. With `CI=true` Hypothesis always draws the same
# examples.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("unhurried"), max_examples=QUICK_MAX)


def examples(most: int) -> settings:
    """Settings for a test that needs a maximum number of examples other than the default."""
    is_quick = settings.get_current_profile_name() == "quick"
    return settings(max_examples=min(most, QUICK_MAX) if is_quick else most)
