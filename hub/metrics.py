"""The metrics of a node: plain integers on the hot path, which Prometheus reads when it scrapes (`collect`).

Every metric is declared here or, where workers have it too, in `streams.exposition`, with its unit and meaning. No label
contains a tenant, user or channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hub.errors import ERROR_CODES
from streams.cursor import GapReason
from streams.exposition import counters, gauges, histogram, histograms, log_metrics
from streams.histogram import Histogram
from streams.redis.log import Log

VARIANTS_MAX: Final = 16
"""Maximum names of variants that a node counts by themselves."""
OTHER_VARIANTS: Final = "other"


class VariantCounts:
    """Counts by variant. The first names that a node meets are counted by themselves, all later ones together.

    Attributes:
        open: open sockets.
        opened: accepted handshakes.
        errors: errors sent on sockets.
    """

    __slots__ = ("_names", "errors", "open", "opened")

    def __init__(self) -> None:
        self._names: set[str] = set()
        self.open: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def enter(self, variant: str) -> None:
        """Counts an accepted handshake; an empty name is not counted."""
        if variant:
            if len(self._names) < VARIANTS_MAX:
                self._names.add(variant)
            self.open[self._label(variant)] += 1
            self.opened[self._label(variant)] += 1

    def leave(self, variant: str) -> None:
        """Counts the end of a socket that had entered."""
        if variant:
            self.open[self._label(variant)] -= 1

    def refuse(self, variant: str) -> None:
        """Counts an error that was sent."""
        if variant:
            self.errors[self._label(variant)] += 1

    def _label(self, variant: str) -> str:
        return variant if variant in self._names else OTHER_VARIANTS


class NodeMetrics:
    """The counters of one node.

    Attributes:
        delivered_here: time from the arrival of an event on this node to its delivery.
        delivered_elsewhere: the same for events that came through other processes, from the time in their ids.
        acknowledged: time from the arrival of a storing command to its reply.
        subscribed: time from a request for a channel without a cursor to live delivery; `resumed` with a cursor.
        answered: time from an HTTP request to the beginning of its answer, by method, route and class of status.
    """

    __slots__ = (
        "acknowledged",
        "answered",
        "commands_in",
        "delivered_elsewhere",
        "delivered_here",
        "errors",
        "events_out",
        "gaps",
        "resumed",
        "resumes",
        "signals_out",
        "slow_closes",
        "subscribed",
        "variants",
    )

    def __init__(self) -> None:
        self.commands_in: Counter[str] = Counter()
        self.errors: Counter[int] = Counter(
            dict.fromkeys(ERROR_CODES, 0)
        )  # from 0, so that the first one is an increase
        self.events_out = 0
        self.signals_out = 0
        self.resumes = 0
        self.gaps: Counter[str] = Counter(dict.fromkeys(map(str, GapReason), 0))
        self.slow_closes = 0
        self.delivered_here = Histogram()
        self.delivered_elsewhere = Histogram()
        self.acknowledged = Histogram()
        self.subscribed = Histogram()
        self.resumed = Histogram()
        self.answered: dict[tuple[str, ...], Histogram] = {}
        self.variants = VariantCounts()

    def http_answered(self, method: str, route: str, status: int, after_s: float) -> None:
        """Records an answer over HTTP. `route` is a template such as `/v1/channels/{channel}/events`, so there are few."""
        labels = (method, route, f"{status // 100}xx")
        if (found := self.answered.get(labels)) is None:
            found = self.answered[labels] = Histogram()
        found.observe(after_s)


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


class LimitsMet(Protocol):
    """The rate limits."""

    @property
    def met(self) -> Mapping[str, int]:
        """Refusals, by rate class."""
        ...


class PendingCount(Protocol):
    """The admission of connections."""

    @property
    def pending_count(self) -> int:
        """Sockets that have not authenticated yet."""
        ...


class LagCounts(Protocol):
    """The subscriptions that are behind their channel."""

    @property
    def behind_count(self) -> int:
        """Their number."""
        ...

    @property
    def lag_events(self) -> int:
        """Events by which the slowest is behind."""
        ...


class PresenceCounts(Protocol):
    """The reporting of presence."""

    @property
    def lag_s(self) -> float:
        """Age of the oldest change that is not reported yet, in seconds; 0 if all are."""
        ...


class MeasuredSettings(Protocol):
    """The settings of a node."""

    @property
    def certificates(self) -> Sequence[str]:
        """The certificates whose expiry is reported."""
        ...


class MeasuredNode(Protocol):
    """The parts of a node that have metrics."""

    @property
    def settings(self) -> MeasuredSettings:
        """The node's settings."""
        ...

    @property
    def turns(self) -> WaitedFor:
        """The queue of subscriptions and replays."""
        ...

    @property
    def limiter(self) -> LimitsMet:
        """The rate limits."""
        ...

    @property
    def admission(self) -> PendingCount:
        """The admission of connections."""
        ...

    @property
    def recovery(self) -> LagCounts:
        """The subscriptions that are behind their channel."""
        ...

    @property
    def presence(self) -> PresenceCounts:
        """The reporting of presence."""
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
        yield from log_metrics(hub.log)
        yield GaugeMetricFamily("hub_connections", "Open sockets.", len(hub.connections))
        yield GaugeMetricFamily(
            "hub_connections_pending", "Open sockets that have not authenticated yet.", hub.admission.pending_count
        )
        yield GaugeMetricFamily("hub_channels", "Channels followed on this node.", len(hub.fanouts))
        yield counters("hub_commands", "Commands received, by event type.", "type", metrics.commands_in)
        yield counters("hub_errors", "Errors sent to clients, by code.", "code", metrics.errors)
        open_ = {variant: float(count) for variant, count in metrics.variants.open.items()}
        yield gauges("hub_variant_connections", "Open sockets, by variant of the rollout.", "variant", open_)
        text = "Handshakes accepted, by variant of the rollout."
        yield counters("hub_variant_opened", text, "variant", metrics.variants.opened)
        text = "Errors sent on sockets, by variant of the rollout."
        yield counters("hub_variant_errors", text, "variant", metrics.variants.errors)
        yield counters("hub_gaps", "Cursors that could not be resumed, by reason.", "reason", metrics.gaps)
        yield counters("hub_limits_met", "Refusals for a rate limit, by its class.", "class", hub.limiter.met)
        yield CounterMetricFamily(
            "hub_broken_events",
            "Stored events that were skipped because they could not be folded into a state.",
            value=hub.states.broken_count,
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
        yield GaugeMetricFamily(
            "hub_subscriptions_behind", "Subscriptions that are behind their channel.", hub.recovery.behind_count
        )
        yield GaugeMetricFamily(
            "hub_lag_events", "Events by which the slowest subscription is behind its channel.", hub.recovery.lag_events
        )
        yield GaugeMetricFamily(
            "hub_presence_lag_seconds",
            "Age of the oldest change of presence that is not reported yet, seconds.",
            hub.presence.lag_s,
        )
        yield CounterMetricFamily(
            "hub_slow_closes", "Sockets closed because they were too far behind.", value=metrics.slow_closes
        )
        expiries = {path: _expiry_s(path) for path in hub.settings.certificates}
        text = "Expiry of the certificate, Unix seconds; 0 where it cannot be read."
        yield gauges("hub_certificate_expiry_timestamp_seconds", text, "file", expiries)
        yield from self._times()

    def _times(self) -> Iterator[Metric]:
        metrics = self._hub.metrics
        text = (
            "Time from an event's arrival to writing it to the sockets, seconds; one observation per batch. "
            "`here` from its arrival on this node, `elsewhere` from the time in its id, in whole milliseconds."
        )
        delivered: dict[tuple[str, ...], Histogram] = {
            ("here",): metrics.delivered_here,
            ("elsewhere",): metrics.delivered_elsewhere,
        }
        yield histograms("hub_publish_to_deliver_seconds", text, ("origin",), delivered)
        text = "Time from the arrival of a command that stores to its reply, seconds."
        yield histogram("hub_command_to_ack_seconds", text, metrics.acknowledged)
        text = "Time from a request for a channel to live delivery, seconds, without a cursor."
        yield histogram("hub_subscribe_seconds", text, metrics.subscribed)
        text = "Time from a request for a channel to live delivery, seconds, with a cursor: the replay included."
        yield histogram("hub_resume_seconds", text, metrics.resumed)
        text = "Time from an HTTP request to the beginning of its answer, seconds; long polls wait for an event."
        yield histograms("hub_http_request_seconds", text, ("method", "route", "status"), metrics.answered)


def _expiry_s(path: str) -> float:
    """Unix seconds at which the first of a file's certificates expires; 0 if they cannot be read.

    Files are read at each scrape, so that a renewed one is seen at once.
    """
    try:
        chain = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError):
        return 0.0
    return min(one.not_valid_after_utc.timestamp() for one in chain)
