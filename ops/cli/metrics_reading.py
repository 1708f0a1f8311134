"""The figures of `hub top`, from two readings of /metrics of a node or a worker. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

_PERCENTILE: Final = 0.99
_LATENCY: Final = "hub_publish_to_deliver_seconds_bucket"
_RATES: Final = {
    "appended_per_s": "hub_events_appended_total",
    "delivered_per_s": "hub_events_delivered_total",
    "signals_per_s": "hub_signals_delivered_total",
    "commands_per_s": "hub_commands_total",
    "errors_per_s": "hub_errors_total",
    "handled_per_s": "hub_handled_total",
    "runs_ended_per_s": "hub_runs_ended_total",
    "deltas_per_s": "hub_deltas_total",
}
_NOW: Final = {
    "connections": "hub_connections",
    "channels": "hub_channels",
    "runs": "hub_runs_active",
    "backlog": "hub_handler_backlog",
}


class MetricsReading(NamedTuple):
    """The samples of one reading: name → values by label set.

    Attributes:
        at_s: monotonic seconds of the reading.
        samples: the values of each name, by its labels.
    """

    at_s: float
    samples: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, text: str, at_s: float) -> MetricsReading:
        """Parse the text of /metrics."""
        samples: dict[str, dict[str, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                samples.setdefault(sample.name, {})[labels] = sample.value
        return cls(at_s, samples)

    def total(self, name: str) -> float | None:
        """The sum over all labels; None if there is no such metric here."""
        values = self.samples.get(name)
        return None if values is None else sum(values.values())


def figures(before: MetricsReading, after: MetricsReading) -> dict[str, float | str]:
    """The figures between two readings, in the order in which they are shown; those that are not served are left out."""
    found: dict[str, float | str] = {}
    for name, metric in _NOW.items():
        if (now := after.total(metric)) is not None:
            found[name] = int(now)
    seconds = max(after.at_s - before.at_s, 1e-9)
    for name, metric in _RATES.items():
        if (now := after.total(metric)) is not None:
            found[name] = round(max(0.0, now - (before.total(metric) or 0.0)) / seconds, 1)
    if (lag_ms := _lag_ms(before, after)) is not None:
        found["lag_p99_ms"] = lag_ms
    if oldest := after.samples.get("hub_handler_oldest_seconds"):
        found["oldest_s"] = round(max(oldest.values()), 1)
    if troubles := [*_troubles(after)]:
        found["trouble"] = ", ".join(troubles)
    return found


def _troubles(after: MetricsReading) -> Iterator[str]:
    if after.total("hub_redis_up") == 0:
        yield "Redis is away"
    yield from (
        f"loop {labels.removeprefix('loop=')} fails"
        for labels, is_up in after.samples.get("hub_loop_up", {}).items()
        if not is_up
    )


def _lag_ms(before: MetricsReading, after: MetricsReading) -> float | None:
    """The bound below which 99 % of the deliveries between the readings were; None if there were none."""
    old = before.samples.get(_LATENCY, {})
    counts: dict[float, float] = defaultdict(float)
    for labels, count in after.samples.get(_LATENCY, {}).items():
        text = next(label for label in labels.split(",") if label.startswith("le="))
        counts[float(text.removeprefix("le="))] += count - old.get(labels, 0.0)
    total = max(counts.values(), default=0.0)
    if not total:
        return None
    bound = min(bound for bound, count in counts.items() if count >= total * _PERCENTILE)
    largest = max(bound for bound in counts if bound != float("inf"))
    return round(min(bound, largest) * 1000)
