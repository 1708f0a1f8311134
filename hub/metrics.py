"""The metrics of a node: plain integers on the hot path, which Prometheus reads when it scrapes (`collect`).

Every metric is declared here with its unit and the moment at which it changes. No label contains a tenant, user or
channel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sized
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.redis.log import Log

LATENCY_BOUNDS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000)
"""Bucket limits of the latency histogram in seconds. Redis ids have whole milliseconds, so finer buckets would be meaningless."""


class NodeMetrics:
    """The counters of one node."""

    __slots__ = (
        "commands_in",
        "errors",
        "events_out",
        "gaps",
        "latency_counts",
        "latency_sum_ms",
        "resumes",
        "signals_out",
        "slow_closes",
    )

    def __init__(self) -> None:
        self.commands_in: Counter[str] = Counter()
        self.errors: Counter[int] = Counter()
        self.events_out = 0
        self.signals_out = 0
        self.resumes = 0
        self.gaps: Counter[str] = Counter()
        self.slow_closes = 0
        self.latency_counts = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        self.latency_sum_ms = 0.0

    def delivered(self, count: int, stored_ms: int, now_s: float) -> None:
        """Records `count` deliveries of a batch.

        The batch counts as one latency observation, measured from `stored_ms`, when its oldest event was
        stored.
        """
        self.events_out += count
        latency_ms = max(0.0, now_s * 1000 - stored_ms)
        self.latency_counts[bisect_left(LATENCY_BOUNDS_MS, latency_ms)] += 1
        self.latency_sum_ms += latency_ms


class StateCounts(Protocol):
    """The counters of the state reader."""

    @property
    def broken_count(self) -> int:
        """Stored events that could not be folded into a state."""
        ...


class WaitedFor(Protocol):
    """The queue of subscriptions and replays."""

    @property
    def waiting_count(self) -> int:
        """Subscriptions and pages of replays that wait for their turn."""
        ...


class MeasuredNode(Protocol):
    """The parts of a node that have metrics."""

    @property
    def turns(self) -> WaitedFor:
        """The queue of subscriptions and replays."""
        ...

    @property
    def connections(self) -> Sized:
        """Open connections."""
        ...

    @property
    def fanouts(self) -> Sized:
        """Channels followed on this node."""
        ...

    @property
    def log(self) -> Log:
        """The log."""
        ...

    @property
    def states(self) -> StateCounts:
        """The state reader."""
        ...

    @property
    def metrics(self) -> NodeMetrics:
        """The node's counters."""
        ...


class HubCollector(Collector):
    """Exports one node's metrics to Prometheus."""

    def __init__(self, hub: MeasuredNode) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        """Yields every metric of the node."""
        hub, metrics = self._hub, self._hub.metrics
        yield GaugeMetricFamily("hub_connections", "Open sockets.", len(hub.connections))
        yield GaugeMetricFamily("hub_channels", "Channels followed on this node.", len(hub.fanouts))
        yield GaugeMetricFamily(
            "hub_redis_up", "1 while Redis is reachable and accepts writes.", float(hub.log.is_available)
        )
        yield _counter("hub_commands", "Commands received, by event type.", "type", metrics.commands_in)
        yield _counter("hub_errors", "Errors sent to clients, by code.", "code", metrics.errors)
        yield _counter("hub_gaps", "Cursors that could not be resumed, by reason.", "reason", metrics.gaps)
        yield _counter("hub_loop_failures", "Failures of background loops.", "loop", hub.log.loops.failures)
        up = GaugeMetricFamily(
            "hub_loop_up", "1 while the background loop succeeds, 0 after a failure.", labels=["loop"]
        )
        for name, is_working in hub.log.loops.working.items():
            up.add_metric([name], float(is_working))
        yield up
        durability = GaugeMetricFamily(
            "hub_durability",
            "1 for the durability level that acknowledgements report, by kind of channel.",
            labels=["kind", "level"],
        )
        for kind, level in hub.log.durability.items():
            durability.add_metric([kind, level], 1)
        yield durability
        yield CounterMetricFamily("hub_events_appended", "Appends that have completed.", value=hub.log.appended_count)
        yield CounterMetricFamily(
            "hub_broken_events",
            "Stored events that were skipped because they could not be folded into a state.",
            value=hub.states.broken_count,
        )
        yield CounterMetricFamily(
            "hub_append_batches",
            "Calls of the append script; one call may carry several events.",
            value=hub.log.batch_count,
        )
        yield CounterMetricFamily("hub_tail_reads", "Reads of channels with new events.", value=hub.log.read_count)
        yield CounterMetricFamily("hub_events_delivered", "Events written to sockets.", value=metrics.events_out)
        yield CounterMetricFamily("hub_signals_delivered", "Signals written to sockets.", value=metrics.signals_out)
        yield CounterMetricFamily("hub_resumes", "Subscriptions that started from a cursor.", value=metrics.resumes)
        yield GaugeMetricFamily(
            "hub_turns_waited_for",
            "Subscriptions and pages of replays that wait for their turn.",
            hub.turns.waiting_count,
        )
        yield CounterMetricFamily(
            "hub_slow_closes", "Sockets closed because they were too far behind.", value=metrics.slow_closes
        )
        yield _latency(metrics)


def _counter(name: str, text: str, label: str, counts: Counter[str] | Counter[int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in counts.items():
        family.add_metric([str(key)], count)
    return family


def _latency(metrics: NodeMetrics) -> HistogramMetricFamily:
    total, buckets = 0, []
    for bound, count in zip((*LATENCY_BOUNDS_MS, None), metrics.latency_counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound is None else str(bound / 1000), total))
    text = "Time from storing an event (the time in its id) to writing it to the sockets; one observation per batch."
    return HistogramMetricFamily("hub_publish_to_deliver_seconds", text, buckets, metrics.latency_sum_ms / 1000)
