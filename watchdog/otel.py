"""Spans by OpenTelemetry, exported over OTLP/HTTP. Needs the extra deploy-watchdog[otel]; imported only where wanted.

Where they go is for the variables that OpenTelemetry itself defines: OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS and so on,
all but the time-out.
A collector that is down or slow holds nothing up: spans wait in a bounded queue, and are dropped when it is full.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from watchdog import __version__
from watchdog.ports import Clock
from watchdog.tracing import Span, Value

NAME = "deploy-watchdog"
EXPORT_S = 2  # what a collector gets for a batch, and so what a stopping daemon waits for one that is down


class _OtelSpan:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, attributes: Mapping[str, Value]) -> None:
        self._span.set_attributes(attributes)


class OtelSpans:
    """The clock is the daemon's; the trace's id follows from the deploy's, so that it outlives restarts."""

    def __init__(self, provider: TracerProvider, clock: Clock) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(NAME, __version__)
        self._clock = clock

    @contextmanager
    def span(
        self, name: str, deploy_id: str, attributes: Mapping[str, Value], *, since: float | None = None
    ) -> Iterator[Span]:
        begun = self._clock.now() if since is None else since
        drawn = self._tracer.start_span(
            name, context=_parent(deploy_id), attributes=dict(attributes), start_time=_ns(begun)
        )
        try:
            with trace.use_span(drawn, end_on_exit=False):
                yield _OtelSpan(drawn)
        finally:
            drawn.end(end_time=max(_ns(self._clock.now()), _ns(begun)))

    def close(self) -> None:
        self._provider.shutdown()


def otlp_spans(clock: Clock, instance: str) -> OtelSpans:
    """Spans that go to a collector in batches, from a thread of their own."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource(instance), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=EXPORT_S)))
    return OtelSpans(provider, clock)


def resource(instance: str) -> Resource:
    """Who speaks; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME add to it."""
    return Resource.create({"service.name": NAME, "service.version": __version__, "service.instance.id": instance})


def _parent(deploy_id: str) -> Context | None:
    """The trace of a deploy; None inside a span of the same trace, which is then the parent."""
    digest = sha256(deploy_id.encode("utf-8", "replace")).digest()
    trace_id = int.from_bytes(digest[:16], "big")
    if trace.get_current_span().get_span_context().trace_id == trace_id:
        return None
    root = trace.SpanContext(
        trace_id=trace_id,
        span_id=int.from_bytes(digest[16:24], "big"),
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(root))


def _ns(at: float) -> int:
    return int(at * 1e9)
