"""The generator's histograms against an exact computation: they are kept in steps of a thousandth."""

from __future__ import annotations

import json
import math
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.generator import compiled

SHARES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999, "max": 1.0}
nanoseconds = st.one_of(st.integers(0, 5_000), st.integers(0, 10**9), st.integers(0, 60 * 10**9))


def printed(values: list[int]) -> dict[str, float]:
    """The histogram of these values, as the generator prints it."""
    text = "\n".join(map(str, values))
    done = subprocess.run([compiled(), "histogram"], input=text, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)["values"]
    return found


def exact(values: list[int], share: float) -> int:
    """The smallest value that this share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]


@given(st.lists(nanoseconds, min_size=1, max_size=2_000))
def test_quantiles_are_those_of_the_values_to_a_thousandth(values: list[int]) -> None:
    found = printed(values)

    assert found["count"] == len(values)
    assert found["mean"] == pytest.approx(sum(values) / len(values), rel=1e-5)
    for name, share in SHARES.items():
        assert found[name] == pytest.approx(exact(values, share), rel=1e-3, abs=0.5), name


def test_of_a_thousand_different_values_each_quantile_is_its_own() -> None:
    found = printed(list(range(1, 1_001)))

    assert [found[name] for name in SHARES] == [500, 990, 999, 1_000]


def test_nothing_has_no_quantiles() -> None:
    assert printed([]) == {"count": 0}
