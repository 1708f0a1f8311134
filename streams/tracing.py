"""Traces: the W3C context that a client sends travels in the `meta` of events, and where tracing is on each step is a span of it.

Only the API of OpenTelemetry is used, and only by `open_tracing`; the operator or the application configures an SDK and an
exporter. Without tracing the parts of a process hold None in place of a `Tracing`, and a context is stored and passed on unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from random import random
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from streams.envelope import Draft
from streams.errors import ConfigurationRefused

if TYPE_CHECKING:
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
        return self.traceparent[3:35]

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


class Tracing:
    """Begins spans of one process.

    Args:
        tracer: OpenTelemetry's.
        share: the share of traces that are begun here. Drawn before the SDK is asked, whose sampler costs 9 µs a command.
    """

    def __init__(self, tracer: Tracer, share: float = 1.0) -> None:
        self._tracer = tracer
        self._share = share

    def begin(
        self, name: str, parent: str | None, attributes: Attributes = _NONE, *, ago_s: float = 0.0
    ) -> Span | None:
        """Begins a step that started `ago_s` seconds ago, below `parent` or as the root of a new trace.

        None if the step is not recorded, because it was not sampled, here or where the trace began.
        """
        if parent is None:
            if self._share < 1.0 and random() >= self._share:
                return None
        elif not int(parent[-1], 16) & _SAMPLED:
            return None
        start_ns = time_ns() - int(ago_s * _NS)
        span = self._tracer.start_span(name, _context_of(parent), attributes=attributes, start_time=start_ns)
        return Span(span) if span.is_recording() else None

    def follow(
        self, name: str, parent: str | None, attributes: Attributes = _NONE, *, ago_s: float = 0.0
    ) -> Span | None:
        """Begins a step as `begin` does, but never a trace: None without a parent."""
        return None if parent is None else self.begin(name, parent, attributes, ago_s=ago_s)


def traced(tracing: Tracing, draft: Draft, ago_s: float = 0.0) -> tuple[Draft, Span | None]:
    """Begins the span of a client's event, which started `ago_s` seconds ago; returns the event within it."""
    span = tracing.begin(draft.type, draft.traceparent, {"hub.kind": str(draft.channel.kind)}, ago_s=ago_s)
    return (draft, None) if span is None else (replace(draft, traceparent=span.traceparent), span)


def _context_of(parent: str | None) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if parent is None:
        return Context()
    flags = TraceFlags(int(parent[53:], 16))
    remote = SpanContext(int(parent[3:35], 16), int(parent[36:52], 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(remote), Context())


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
