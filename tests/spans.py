"""Spans that stay in memory, drawn by a clock that a test moves."""

from typing import TYPE_CHECKING

import pytest

from tests.fakes import FakeClock

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from watchdog.otel import OtelSpans


def in_memory(clock: FakeClock | None = None) -> "tuple[InMemorySpanExporter, OtelSpans, FakeClock]":
    """Where spans are kept, who draws them, and by which clock."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra [otel] is missing")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from watchdog.otel import OtelSpans, resource

    exporter, clock = InMemorySpanExporter(), clock if clock is not None else FakeClock()
    provider = TracerProvider(resource=resource("test"), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, OtelSpans(provider, clock), clock
