"""What one shop process tells about itself on its /metrics page."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)


class ShopTelemetry:
    """Counters and the latency histogram per route, of one version or of a flag's variations.

    label: what tells them apart, `version` or `variation`.
    """

    def __init__(self, label: str, versions: tuple[str, ...], routes: tuple[str, ...]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "shop_requests_total", "Requests answered.", [label, "code", "route"], registry=self._registry
        )
        self._seconds = Histogram(
            "shop_request_duration_seconds",
            "Time to answer.",
            [label, "route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._orders = Counter("shop_orders_total", "Orders written.", [label], registry=self._registry)
        build = Gauge("shop_build_info", "Always 1.", [label], registry=self._registry)
        for version in versions:
            build.labels(version).set(1)
            self._declare(version, routes)

    def _declare(self, version: str, routes: tuple[str, ...]) -> None:
        # A series that is 0 from the start differs from one that nobody has heard of.
        for route in routes:
            self._seconds.labels(version, route)
            for code in ("200", "500"):
                self._requests.labels(version, code, route)
        self._orders.labels(version)

    def answered(self, version: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(version, str(status), route).inc()
        self._seconds.labels(version, route).observe(seconds)

    def ordered(self, version: str) -> None:
        self._orders.labels(version).inc()

    def page(self) -> bytes:
        return generate_latest(self._registry)
