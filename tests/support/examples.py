"""The number of examples for property tests: all of them, some with `same` (in CI), few with `quick` (`make quick`)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

QUICK_MAX = 3
SAME_MAX = 15

# The duration of an example depends on the machine, so there is no deadline. With `CI=true` Hypothesis always draws the same
# examples, and so needs fewer of them than somebody who draws others each time.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("unhurried"), max_examples=SAME_MAX)
settings.register_profile("quick", settings.get_profile("unhurried"), max_examples=QUICK_MAX)


def examples(most: int) -> settings:
    """Settings for a test that needs a maximum number of examples other than the default."""
    limits = {"quick": QUICK_MAX, "same": SAME_MAX}
    return settings(max_examples=min(most, limits.get(settings.get_current_profile_name(), most)))
