"""The counters of a node and the histograms of both processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streams.exposition import OPENMETRICS, exposed, histogram
from streams.histogram import BOUNDS_S, Histogram


@pytest.mark.parametrize(("seconds", "bucket"), [(0, 0), (0.00005, 0), (0.00006, 1), (30, 17), (30.1, 18), (-0.04, 0)])
def test_a_duration_falls_into_the_bucket_that_bounds_it(seconds: float, bucket: int) -> None:
    """Bounds are inclusive, beyond the last is +Inf, and a clock that is behind counts as nothing."""
    found = Histogram()

    found.observe(seconds)

    assert found.counts.index(1) == bucket
    assert found.count == 1
    assert len(found.counts) == len(BOUNDS_S) + 1
    assert found.sum_s >= 0


@given(st.lists(st.floats(0, 100)))
def test_buckets_are_cumulative_and_the_last_has_all(durations: list[float]) -> None:
    found = Histogram()
    for seconds in durations:
        found.observe(seconds)

    totals = [bucket.total for bucket in found.buckets()]

    assert totals == sorted(totals)
    assert totals[-1] == len(durations)
    assert totals[:-1] == [sum(seconds <= bound for seconds in durations) for bound in BOUNDS_S]


class _One(Collector):
    def __init__(self, found: Histogram) -> None:
        self._found = found

    def collect(self):
        yield histogram("hub_test_seconds", "A test, seconds.", self._found)


def test_the_newest_trace_of_a_bucket_is_its_exemplar_where_the_format_has_them() -> None:
    found = Histogram()
    for trace in ("a" * 32, "b" * 32):
        found.observe(0.003, trace)
    found.observe(0.004)

    body, content_type = exposed(_One(found), f"{OPENMETRICS};version=1.0.0,text/plain;q=0.5")
    [family] = text_string_to_metric_families(body.decode())
    told = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}

    assert content_type.startswith(OPENMETRICS)
    assert {bound: one.labels for bound, one in told.items()} == {"0.005": {"trace_id": "b" * 32}}
    assert b"trace_id" not in exposed(_One(found), "text/plain")[0]
