"""A node's counters."""

from __future__ import annotations

import pytest

from hub.metrics import LATENCY_BOUNDS_MS, NodeMetrics


@pytest.mark.parametrize(("latency_ms", "bucket"), [(0, 0), (1, 0), (1.5, 1), (5_000, 10), (5_001, 11), (-40, 0)])
def test_a_latency_falls_into_the_bucket_that_bounds_it(latency_ms: float, bucket: int) -> None:
    """Bounds are inclusive, beyond the last is +Inf, and a clock that is behind counts as nothing."""
    meters = NodeMetrics()

    meters.delivered(3, 1_000_000, (1_000_000 + latency_ms) / 1000)

    assert meters.latency_counts.index(1) == bucket
    assert sum(meters.latency_counts) == 1
    assert len(meters.latency_counts) == len(LATENCY_BOUNDS_MS) + 1
    assert meters.events_out == 3
    assert meters.latency_sum_ms >= 0
