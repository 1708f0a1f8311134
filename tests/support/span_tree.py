"""Spans kept in memory, and their traces as trees of names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@cache
def kept_spans() -> InMemorySpanExporter:
    """The exporter of this process's provider, which may be set once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def traceparent_of(span: trace.Span) -> str:
    """The context of a span, as a client sends it."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def tree(spans: Iterable[ReadableSpan]) -> str:
    """The spans of one trace by name, each below its parent; spans of the same name with the same steps below are shown once."""
    children: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        children[span.parent.span_id if span.parent else 0].append(span)
    return "\n".join(_lines(children, 0, 0))


def _lines(children: dict[int, list[ReadableSpan]], parent: int, depth: int) -> Iterator[str]:
    shown = sorted({tuple(_branch(children, span, depth)) for span in children[parent]})
    for branch in shown:
        yield from branch


def _branch(children: dict[int, list[ReadableSpan]], span: ReadableSpan, depth: int) -> Iterator[str]:
    assert span.context is not None
    yield "  " * depth + span.name
    yield from _lines(children, span.context.span_id, depth + 1)
