"""Metrics for Prometheus that nodes and workers have alike, and the conversion of our counters into its families.

Every metric is declared where it is yielded, with its unit and meaning. No label contains a tenant, user or channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from streams.histogram import Histogram
from streams.redis.log import Log

OPENMETRICS: Final = "application/openmetrics-text"
"""The format that has exemplars; Prometheus asks for it in `Accept`."""


def exposed(collector: Collector, accept: str = "") -> tuple[bytes, str]:
    """The metrics of a collector and their content type: OpenMetrics where `Accept` names it, otherwise Prometheus's text."""
    registry = CollectorRegistry()
    registry.register(collector)
    if OPENMETRICS in accept:
        body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]  # the library left it bare
        return body, openmetrics.CONTENT_TYPE_LATEST
    return exposition.generate_latest(registry), exposition.CONTENT_TYPE_LATEST


def counters(name: str, text: str, label: str, counts: Mapping[str, int] | Mapping[int, int]) -> CounterMetricFamily:
    """A counter for each value of one label."""
    family = CounterMetricFamily(name, text, labels=[label])
    for key, count in list(counts.items()):
        family.add_metric([str(key)], count)
    return family


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """A gauge for each value of one label."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in list(values.items()):
        family.add_metric([key], value)
    return family


def histogram(name: str, text: str, found: Histogram) -> HistogramMetricFamily:
    """A histogram without labels."""
    return HistogramMetricFamily(name, text, _buckets(found), found.sum_s)


def histograms(
    name: str, text: str, labels: tuple[str, ...], found: Mapping[tuple[str, ...], Histogram]
) -> HistogramMetricFamily:
    """A histogram for each combination of values of the labels."""
    family = HistogramMetricFamily(name, text, labels=list(labels))
    for values, one in list(found.items()):
        family.add_metric(list(values), _buckets(one), one.sum_s)
    return family


def _buckets(found: Histogram) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    for bound, total, trace_id, traced_s in found.buckets():
        if trace_id:
            buckets.append((bound, total, Exemplar({"trace_id": trace_id}, traced_s)))
        else:
            buckets.append((bound, total))
    return buckets


def log_metrics(log: Log) -> Iterator[Metric]:
    """The metrics of a process's log and of its background loops."""
    yield GaugeMetricFamily("hub_redis_up", "1 while Redis is reachable and accepts writes.", float(log.is_available))
    text = "Partitions whose Redis server is unreachable; the channels of the others are served."
    yield GaugeMetricFamily("hub_partitions_away", text, log.away_count)
    used_bytes, max_bytes = log.memory
    yield GaugeMetricFamily("hub_redis_memory_bytes", "Memory that Redis uses, bytes.", used_bytes)
    yield GaugeMetricFamily("hub_redis_memory_limit_bytes", "Redis's maxmemory, bytes; 0 for none.", max_bytes)
    yield counters("hub_loop_failures", "Failures of background loops.", "loop", log.loops.failures)
    working = {name: float(is_working) for name, is_working in log.loops.working.items()}
    yield gauges("hub_loop_up", "1 while the background loop succeeds, 0 after a failure.", "loop", working)
    durability = GaugeMetricFamily(
        "hub_durability",
        "1 for the durability level that acknowledgements report, by kind of channel.",
        labels=["kind", "level"],
    )
    for kind, level in log.durability.items():
        durability.add_metric([kind, level], 1)
    yield durability
    lowered = {str(kind): float(kind in log.lowered_durability) for kind in log.durability}
    text = "1 while acknowledgements report a lower durability than when the process started, by kind of channel."
    yield gauges("hub_durability_degraded", text, "kind", lowered)
    yield CounterMetricFamily("hub_events_appended", "Appends that have completed.", value=log.appended_count)
    yield CounterMetricFamily(
        "hub_append_batches", "Calls of the append script; one call may carry several events.", value=log.batch_count
    )
    text = "Time from an event's arrival in this process to Redis's confirmation that it is stored, seconds."
    yield histogram("hub_publish_to_store_seconds", text, log.stored_in)
    text = "Time from a call of Redis to its reply, seconds: the append script, and all other calls."
    trips: dict[tuple[str, ...], Histogram] = {(kind,): found for kind, found in log.round_trips.items()}
    yield histograms("hub_redis_round_trip_seconds", text, ("call",), trips)
