"""The metrics of a worker. Code increments plain integers; they are converted to Prometheus metrics on each scrape.

Every metric is declared here or, where nodes have it too, in `streams.exposition`, with its unit and meaning. No label
contains a tenant, user or channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.archive.keeper import Keeper
from streams.exposition import counters, gauges, histogram, log_metrics
from streams.histogram import Histogram
from streams.redis.log import Log

if TYPE_CHECKING:
    from streams.archive.stamper import Stamper

_OUTCOMES: Final = ("success", "failed", "cancelled", "expired")
_REAPED: Final = ("again", "failed", "expired", "cancelled")
"""Counters begin with 0 for each value, so that the first one is an increase."""


class WorkerMetrics:
    """The counters of one worker.

    Attributes:
        handled: events, by (handler, outcome); the outcome is done, retry or park.
        backlog: unfinished events in this worker's partitions, by handler.
        oldest_s: age of the oldest event that was read and is not finished, in seconds, by handler.
        parked: parked events in this worker's partitions.
        runs_lost: runs that the reaper took over, by what it did: again, failed, expired or cancelled.
        first_deltas: time from an agent's first text to the delta that stores it.
        first_tokens: time from the event that asked for an answer to its first delta.
        uploads: time from the request for an upload to `file.ready`.
        keeper: the keeper of the archive, which counts for itself; None without an archive.
        stamper: the stamper of checkpoints, likewise; None without a time-stamping authority.
    """

    def __init__(
        self, uploads: Histogram | None = None, keeper: Keeper | None = None, stamper: Stamper | None = None
    ) -> None:
        self.handled: Counter[tuple[str, str]] = Counter()
        self.backlog: dict[str, int] = {}
        self.oldest_s: dict[str, float] = {}
        self.parked = 0
        self.runs_ended: Counter[str] = Counter(dict.fromkeys(_OUTCOMES, 0))
        self.runs_active = 0
        self.runs_lost: Counter[str] = Counter(dict.fromkeys(_REAPED, 0))
        self.deltas = 0
        self.deltas_joined = 0
        self.fenced = 0
        self.first_deltas = Histogram()
        self.first_tokens = Histogram()
        self.uploads = uploads or Histogram()
        self.keeper, self.stamper = keeper, stamper


class ConsumerCollector(Collector):
    """Converts one worker's metrics for Prometheus."""

    def __init__(self, metrics: WorkerMetrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log

    def collect(self) -> Iterator[Metric]:
        """Every metric of the worker."""
        metrics = self._metrics
        yield from log_metrics(self._log)
        yield from self._handlers()
        yield GaugeMetricFamily(
            "hub_runs_active", "Runs whose segments are under way on this worker.", metrics.runs_active
        )
        yield counters("hub_runs_ended", "Runs ended by this worker, by outcome.", "outcome", metrics.runs_ended)
        yield counters("hub_runs_reaped", "Runs the reaper took over, by what it did.", "did", metrics.runs_lost)
        yield CounterMetricFamily("hub_deltas", "Deltas appended.", metrics.deltas)
        yield CounterMetricFamily("hub_deltas_joined", "Pieces of text joined into deltas.", metrics.deltas_joined)
        yield CounterMetricFamily("hub_fenced", "Appends refused because the run had a new holder.", metrics.fenced)
        text = "Time from an agent's first text to the delta that stores it, seconds."
        yield histogram("hub_first_delta_seconds", text, metrics.first_deltas)
        text = (
            "Time from the event that asked for an answer to its first delta, seconds; from the time in the event's id."
        )
        yield histogram("hub_first_token_seconds", text, metrics.first_tokens)
        text = "Time from the request for an upload to its file being ready, seconds; from the time in the event's id."
        yield histogram("hub_upload_seconds", text, metrics.uploads)
        if metrics.keeper is not None:
            yield from _archive(metrics.keeper)
        if metrics.stamper is not None:
            text = "Stamps of a time-stamping authority on checkpoints, by result."
            yield counters("hub_archive_stamps", text, "result", metrics.stamper.counts)

    def _handlers(self) -> Iterator[Metric]:
        metrics = self._metrics
        handled = CounterMetricFamily("hub_handled", "Events handled.", labels=["handler", "outcome"])
        for (handler, outcome), count in list(metrics.handled.items()):
            handled.add_metric([handler, outcome], count)
        yield handled
        yield gauges("hub_handler_backlog", "Events a handler has not done yet.", "handler", metrics.backlog)
        text = "Age of the oldest event that was read and is not finished, seconds."
        yield gauges("hub_handler_oldest_seconds", text, "handler", metrics.oldest_s)
        text = "Events that a handler gave up on, in this worker's partitions; `hub parked` lists them."
        yield GaugeMetricFamily("hub_parked_events", text, metrics.parked)


def _archive(keeper: Keeper) -> Iterator[Metric]:
    done = Counter(recorded=keeper.covered_count, archived=keeper.archived_count, trimmed=keeper.trimmed_count)
    yield counters("hub_archive_events", "Events by what the keeper of the archive did with them.", "did", done)
    yield CounterMetricFamily("hub_archive_segments", "Segments stored.", keeper.segment_count)
    text = "1 while Redis is nearly full, so that the keeper works without pauses."
    yield GaugeMetricFamily("hub_archive_hurried", text, int(keeper.is_tight))
    text = "Channels whose archive does not go on; the log has the reasons."
    yield GaugeMetricFamily("hub_archive_stopped_channels", text, len(keeper.stopped))
