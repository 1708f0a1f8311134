"""Exports a process's traces over OTLP, configured by the variables `OTEL_*` of OpenTelemetry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hub.config import Settings
from ops.cli.failure import EXIT_USAGE, CommandFailed


@contextmanager
def exported_traces(settings: Settings, part: str) -> Iterator[None]:
    """Exports traces inside the block unless HUB_TRACING is off, and what is left at its end.

    Where a provider is configured already, as by `opentelemetry-instrument`, that one is used.

    Args:
        settings: the settings of the process.
        part: `node` or `worker`, the name of the service unless OTEL_SERVICE_NAME gives another.

    Raises:
        CommandFailed: the extra `otel` is not installed.
    """
    if not settings.traced_share:
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as missing:
        raise CommandFailed(f"HUB_TRACING needs pip install 'realtime-hub[otel]': {missing}", EXIT_USAGE) from None
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        yield
        return
    os.environ.setdefault("OTEL_SERVICE_NAME", f"hub-{part}")
    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
