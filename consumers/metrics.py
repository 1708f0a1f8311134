"""The metrics of a worker. Code increments plain integers; they are converted to Prometheus metrics on each scrape.

Every metric is declared here with its unit and meaning. No label contains a tenant, user or channel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.loops import Loops

FIRST_DELTA_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)


class WorkerMetrics:
    """The counters of one worker."""

    def __init__(self) -> None:
        self.handled: Counter[tuple[str, str]] = Counter()
        """Number of events, by (handler, outcome); the outcome is done, retry or park."""
        self.backlog: dict[str, int] = {}
        """Number of unfinished events in this worker's partitions, by handler."""
        self.oldest_s: dict[str, float] = {}
        """Age of the oldest event that was read and is not finished, in seconds, by handler."""
        self.runs_ended: Counter[str] = Counter()
        self.runs_active = 0
        self.runs_lost: Counter[str] = Counter()
        """Runs that the reaper took over, by what it did: again, failed, expired or cancelled."""
        self.deltas = 0
        self.deltas_joined = 0
        self.fenced = 0
        self.first_delta_counts = [0] * (len(FIRST_DELTA_BOUNDS_S) + 1)
        self.first_delta_sum_s = 0.0

    def first_delta(self, after_s: float) -> None:
        """Count a first delta, stored `after_s` seconds after the agent yielded its text."""
        self.first_delta_counts[bisect_left(FIRST_DELTA_BOUNDS_S, after_s)] += 1
        self.first_delta_sum_s += after_s


class ConsumerCollector(Collector):
    """Converts one worker's metrics for Prometheus."""

    def __init__(self, metrics: WorkerMetrics, loops: Loops) -> None:
        self._metrics = metrics
        self._loops = loops

    def collect(self) -> Iterator[Metric]:
        """Every metric of the worker."""
        metrics = self._metrics
        yield from self._handlers()
        failures = CounterMetricFamily("hub_loop_failures", "Failures of background loops.", labels=["loop"])
        for name, count in list(self._loops.failures.items()):
            failures.add_metric([name], count)
        yield failures
        up = GaugeMetricFamily("hub_loop_up", "1 while the background loop works.", labels=["loop"])
        for name, is_working in self._loops.working.items():
            up.add_metric([name], float(is_working))
        yield up
        yield GaugeMetricFamily(
            "hub_runs_active", "Runs whose segments are under way on this worker.", metrics.runs_active
        )
        ended = CounterMetricFamily("hub_runs_ended", "Runs ended by this worker, by outcome.", labels=["outcome"])
        for outcome, count in metrics.runs_ended.items():
            ended.add_metric([outcome], count)
        yield ended
        lost = CounterMetricFamily("hub_runs_reaped", "Runs the reaper took over, by what it did.", labels=["did"])
        for did, count in metrics.runs_lost.items():
            lost.add_metric([did], count)
        yield lost
        yield CounterMetricFamily("hub_deltas", "Deltas appended.", metrics.deltas)
        yield CounterMetricFamily("hub_deltas_joined", "Pieces of text joined into deltas.", metrics.deltas_joined)
        yield CounterMetricFamily("hub_fenced", "Appends refused because the run had a new holder.", metrics.fenced)
        yield self._first_delta()

    def _handlers(self) -> Iterator[Metric]:
        handled = CounterMetricFamily("hub_handled", "Events handled.", labels=["handler", "outcome"])
        for (handler, outcome), count in self._metrics.handled.items():
            handled.add_metric([handler, outcome], count)
        yield handled
        backlog = GaugeMetricFamily("hub_handler_backlog", "Events a handler has not done yet.", labels=["handler"])
        for handler, count in self._metrics.backlog.items():
            backlog.add_metric([handler], count)
        yield backlog
        oldest = GaugeMetricFamily(
            "hub_handler_oldest_seconds",
            "Age of the oldest event that was read and is not finished, seconds.",
            labels=["handler"],
        )
        for handler, age_s in self._metrics.oldest_s.items():
            oldest.add_metric([handler], age_s)
        yield oldest

    def _first_delta(self) -> Metric:
        metrics, buckets, total = self._metrics, [], 0
        for bound, count in zip((*map(str, FIRST_DELTA_BOUNDS_S), "+Inf"), metrics.first_delta_counts, strict=True):
            total += count
            buckets.append((bound, total))
        text = "Seconds from the agent's first text until its delta is stored."
        return HistogramMetricFamily("hub_first_delta_seconds", text, buckets, metrics.first_delta_sum_s)
