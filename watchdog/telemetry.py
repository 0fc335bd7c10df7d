"""What the daemon tells Prometheus about itself, in a registry of its own."""

import platform
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from analysis.result import SourceStatus, VerdictKind
from watchdog import __version__
from watchdog.model import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LAG_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_QUERY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Telemetry:
    """One method per thing worth counting. Labels are bounded sets: never a deploy, a version or a sentence."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._verdicts = self._counter("verdicts", "Looks judged, by verdict.", "verdict")
        self._rollbacks = self._counter(
            "rollbacks", "Rollback attempts that ended, by hook and outcome.", "hook", "outcome"
        )
        self._tick_lag = self._histogram("tick_lag_seconds", "How late a tick began.", _LAG_BUCKETS_S)
        self._tick_duration = self._histogram("tick_duration_seconds", "How long a tick took.", _LAG_BUCKETS_S)
        self._look_lag = self._histogram(
            "look_lag_seconds", "How long a watch waited after its look was due.", _LAG_BUCKETS_S
        )
        self._queries = self._histogram("query_duration_seconds", "How long a source took to answer.", _QUERY_BUCKETS_S)
        self._query_errors = self._counter("query_errors", "Answers of a source that were not whole.", "reason")
        self._watches = self._gauge("watches", "Watches on record, by state.", "state")
        self._paused = self._gauge("paused", "1 while the kill switch is on.")
        self._deliveries = self._counter("outbox_deliveries", "Messages tried, by sink and outcome.", "sink", "outcome")
        self._webhooks = self._counter("webhooks", "Deploy events received, by status code answered.", "code")
        self._intakes = self._counter(
            "intake_requests",
            "Requests of other systems, by kind of sender and status code answered.",
            "sender",
            "code",
        )
        self._reload_ok = self._gauge(
            "config_last_reload_successful", "1 where the configuration was read without a mistake the last time."
        )
        self._reloaded_at = self._gauge(
            "config_last_reload_success_timestamp_seconds", "When the configuration in force was read."
        )
        build = self._gauge("build_info", "Always 1; the version is in the labels.", "version", "python")
        build.labels(version=__version__, python=platform.python_version()).set(1)
        self._begin_at_zero()

    def tick(self, lag_s: float, duration_s: float) -> None:
        """One tick of the scheduler ended."""
        self._tick_lag.observe(lag_s)
        self._tick_duration.observe(duration_s)

    def look(self, lag_s: float) -> None:
        """One watch was claimed so long after its look was due."""
        self._look_lag.observe(lag_s)

    def verdict(self, kind: str) -> None:
        """One look was judged."""
        self._verdicts.labels(verdict=kind).inc()

    def action(self, hook: str, outcome: str) -> None:
        """One rollback attempt ended."""
        self._rollbacks.labels(hook=hook, outcome=outcome).inc()

    def source(self, status: str, duration_s: float) -> None:
        """A source answered, or did not."""
        self._queries.observe(duration_s)
        if status != SourceStatus.OK.value:
            self._query_errors.labels(reason=status).inc()

    def watches(self, counts: Mapping[str, int]) -> None:
        """Watches per state, as the ledger counts them; states it does not name are empty."""
        for state in State:
            self._watches.labels(state=state.value).set(counts.get(state.value, 0))

    def paused(self, *, paused: bool) -> None:
        """Tell whether the kill switch is on."""
        self._paused.set(paused)

    def delivery(self, sink: str, outcome: str) -> None:
        """One message was tried: delivered, retry or given_up."""
        self._deliveries.labels(sink=sink, outcome=outcome).inc()

    def intake(self, sender: str, code: int) -> None:
        """One request of another system was answered."""
        self._intakes.labels(sender=sender, code=str(code)).inc()

    def configured(self, *, ok: bool, at: float) -> None:
        """The configuration was read, at the start or by a reload."""
        self._reload_ok.set(ok)
        if ok:
            self._reloaded_at.set(at)

    def webhook(self, code: int) -> None:
        """One deploy event was answered."""
        self._webhooks.labels(code=str(code)).inc()

    def render(self) -> bytes:
        """Write everything in Prometheus' text format (CONTENT_TYPE)."""
        return generate_latest(self.registry)

    def _begin_at_zero(self) -> None:
        """A counter that exists before its first event lets `rate()` see that event."""
        for kind in VerdictKind:
            self._verdicts.labels(verdict=kind.value)
        for status in (SourceStatus.DOWN, SourceStatus.PARTIAL):
            self._query_errors.labels(reason=status.value)
        for code in (201, 200, 401, 422, 503):
            self._webhooks.labels(code=str(code))
        self.watches({})

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"deploy_watchdog_{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"deploy_watchdog_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"deploy_watchdog_{name}", text, buckets=buckets, registry=self.registry)
