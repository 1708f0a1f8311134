"""Histograms of durations: plain numbers on the hot path, which a scrape reads. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

BOUNDS_S: Final = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip # a table
"""Inclusive upper bounds of the buckets in seconds; every histogram has the same, so that they can be compared."""


class Bucket(NamedTuple):
    """A bucket as a scrape reports it.

    Attributes:
        bound: the upper bound in seconds as text; `+Inf` for the last.
        total: observations up to the bound.
        trace_id: the trace of the newest observation in this bucket that had one; "" for none.
        traced_s: the value of that observation.
    """

    bound: str
    total: int
    trace_id: str
    traced_s: float


class Histogram:
    """Counts durations by bucket, and keeps the newest trace of each bucket (its exemplar)."""

    __slots__ = ("counts", "sum_s", "traces")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        self.traces: dict[int, tuple[str, float]] = {}

    def observe(self, seconds: float, trace_id: str = "") -> None:
        """Counts one duration; a negative one, from a clock that was set back, counts as 0."""
        value_s = seconds if seconds > 0.0 else 0.0  # noqa: FURB136  # max() costs 80 ns
        at = bisect_left(BOUNDS_S, value_s)
        self.counts[at] += 1
        self.sum_s += value_s
        if trace_id:
            self.traces[at] = (trace_id, value_s)

    def add(self, other: Histogram) -> None:
        """Add the observations of another histogram."""
        self.counts = [own + more for own, more in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s
        self.traces |= other.traces

    @property
    def count(self) -> int:
        """The number of observations."""
        return sum(self.counts)

    def buckets(self) -> Iterator[Bucket]:
        """The buckets with cumulative counts, smallest bound first."""
        total = 0
        for at, count in enumerate(self.counts):
            total += count
            bound = str(BOUNDS_S[at]) if at < len(BOUNDS_S) else "+Inf"
            trace_id, traced_s = self.traces.get(at, ("", 0.0))
            yield Bucket(bound, total, trace_id, traced_s)


def joined(several: Iterable[Histogram]) -> Histogram:
    """One histogram of the observations of several."""
    found = Histogram()
    for one in several:
        found.add(one)
    return found
