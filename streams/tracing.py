"""Traces: the W3C context that a client sends travels in the `meta` of events, and where tracing is on each step is a span of it.

Only the API of OpenTelemetry is used, and only by `open_tracing`; the operator or the application configures an SDK and an
exporter. Without tracing the parts of a process hold None in place of a `Tracing`, and a context is stored and passed on unread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from random import random
from time import time_ns
from typing import TYPE_CHECKING, Final, NamedTuple

from streams.envelope import Draft
from streams.errors import ConfigurationRefused

if TYPE_CHECKING:
    from opentelemetry.context import Context as OtelContext
    from opentelemetry.trace import Span as ApiSpan
    from opentelemetry.trace import Tracer

TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""Version 00 of the W3C's `traceparent`: 55 characters, which is also the bound of what is stored."""
_KEY: Final = b'"traceparent":"'
_LENGTH: Final = 55
_NS: Final = 1_000_000_000
_SAMPLED: Final = 1
Attributes = Mapping[str, str | int]
_NONE: Final[Attributes] = {}
_WRITE_AT: Final = 64
"""Maximum steps that wait to be written. Written together they cost a third of what they cost one by one."""
_WRITE_AFTER_S: Final = 1.0


def valid_traceparent(value: object) -> str | None:
    """The value if it is a `traceparent`, otherwise None."""
    return value if isinstance(value, str) and TRACEPARENT.fullmatch(value) else None


def is_traced(meta: bytes) -> bool:
    """True if the `meta` of a stored event has a context."""
    return _KEY in meta


def traceparent_of(meta: bytes) -> str | None:
    """The context in the `meta` of a stored event; None for an event that is in no trace."""
    at = meta.find(_KEY)
    if at < 0:
        return None
    at += len(_KEY)
    return meta[at : at + _LENGTH].decode()


def trace_id_of(traceparent: str) -> str:
    """The trace's id in a context, as an exemplar names it."""
    return traceparent[3:35]


class Span:
    """One recorded step of a trace, under way.

    Attributes:
        traceparent: the context for what follows from this step.
    """

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: ApiSpan) -> None:
        context = span.get_span_context()
        self._span = span
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    @property
    def trace_id(self) -> str:
        """The trace's id, as an exemplar names it."""
        return trace_id_of(self.traceparent)

    def end(self, failure: str = "") -> None:
        """Ends the step; `failure` says what went wrong."""
        if failure:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, failure))
        self._span.end()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Makes this the parent of spans that other libraries begin inside the block, or in tasks created there."""
        from opentelemetry.trace import use_span

        with use_span(self._span):
            yield


class _Over(NamedTuple):
    """A step that is over and not written yet."""

    name: str
    parent: str
    attributes: Attributes
    start_ns: int
    end_ns: int


class Tracing:
    """Begins spans of one process, which writes them to the SDK.

    Args:
        tracer: OpenTelemetry's.
        share: the share of traces that are begun here. Drawn before the SDK is asked, whose sampler costs 9 µs a command.
    """

    def __init__(self, tracer: Tracer, share: float = 1.0) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context

        self._api = trace
        self._root = Context()
        self._tracer = tracer
        self._share = share
        self._over: list[_Over] = []
        self._timer: asyncio.TimerHandle | None = None

    def takes(self, parent: str | None) -> bool:
        """True if a step below `parent` is recorded, or without one a new trace: it was sampled, here or where the trace began."""
        return random() < self._share if parent is None else bool(int(parent[-1], 16) & _SAMPLED)

    def begin(
        self, name: str, parent: str | None, attributes: Attributes = _NONE, *, ago_s: float = 0.0
    ) -> Span | None:
        """Begins a step that is taken and started `ago_s` seconds ago, below `parent` or as the root of a new trace.

        None if the application's own sampler drops it.
        """
        start_ns = time_ns() - int(ago_s * _NS)
        context = self._root if parent is None else self._below(parent)
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=start_ns)
        return Span(span) if span.is_recording() else None

    def follow(
        self, name: str, parent: str | None, attributes: Attributes = _NONE, *, ago_s: float = 0.0
    ) -> Span | None:
        """Begins a step as `begin` does, but never a trace: None without a parent."""
        return self.begin(name, parent, attributes, ago_s=ago_s) if parent is not None and self.takes(parent) else None

    def note(self, name: str, parent: str, attributes: Attributes, *, ago_s: float) -> bool:
        """Records a step of a node that is over and began `ago_s` seconds ago; False if it is not taken.

        It is written with others within a second.
        """
        if not self.takes(parent):
            return False
        end_ns = time_ns()
        self._over.append(_Over(name, parent, attributes, end_ns - int(ago_s * _NS), end_ns))
        if len(self._over) >= _WRITE_AT:
            self.write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WRITE_AFTER_S, self.write)
        return True

    def write(self) -> None:
        """Writes the steps that are over and wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        over, self._over = self._over, []
        for one in over:
            context = self._below(one.parent)
            span = self._tracer.start_span(one.name, context, attributes=one.attributes, start_time=one.start_ns)
            span.end(one.end_ns)

    def _below(self, parent: str) -> OtelContext:
        flags = self._api.TraceFlags(int(parent[53:], 16))
        remote = self._api.SpanContext(int(parent[3:35], 16), int(parent[36:52], 16), is_remote=True, trace_flags=flags)
        return self._api.set_span_in_context(self._api.NonRecordingSpan(remote), self._root)


def traced(tracing: Tracing, draft: Draft, ago_s: float = 0.0) -> tuple[Draft, Span | None]:
    """Begins the span of a client's event that is taken and started `ago_s` seconds ago; returns the event within it."""
    span = tracing.begin(draft.type, draft.traceparent, {"hub.kind": str(draft.channel.kind)}, ago_s=ago_s)
    return (draft, None) if span is None else (replace(draft, traceparent=span.traceparent), span)


def open_tracing(share: float) -> Tracing | None:
    """The tracing of a process, on the provider that is configured in it; None if no trace is to be recorded.

    Raises:
        ConfigurationRefused: OpenTelemetry is not installed.
    """
    if not share:
        return None
    try:
        from opentelemetry.trace import get_tracer
    except ImportError:
        raise ConfigurationRefused("HUB_TRACING needs OpenTelemetry: pip install 'realtime-hub[otel]'") from None
    return Tracing(get_tracer("realtime-hub"), share)
