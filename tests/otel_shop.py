"""A shop that measures itself by the OpenTelemetry SDK and sends exponential histograms over OTLP: `python -m
tests.otel_shop URL VERSION SECONDS ERRORS KIND`. It draws its answers; what it sends is real.

KIND is `http` or `rpc`: the instrument and attributes of the semantic conventions, those of RPC as otelgrpc prints them
in tests/presets/otel-rpc.txt.
"""

import random
import sys
import time

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource

EVERY_MS, TICK_S, RATE = 1000, 0.05, 300.0


RPC = {"rpc.system.name": "grpc", "rpc.method": "grpc.health.v1.Health/Check"}
KINDS: dict[str, tuple[str, dict[str, str | int], dict[str, str | int]]] = {  # instrument; a good answer, a bad one
    "http": ("http.server.request.duration", {"http.response.status_code": 200}, {"http.response.status_code": 500}),
    "rpc": (
        "rpc.server.call.duration",
        {**RPC, "rpc.response.status_code": "OK"},
        {**RPC, "rpc.response.status_code": "INTERNAL"},
    ),
}


def main(url: str, version: str, seconds: float, errors: float, kind: str) -> None:
    """Answer some hundred requests a second until told to stop."""
    instrument, good, bad = KINDS[kind]
    resource = Resource.create(
        {"service.name": "shop", "service.version": version, "service.instance.id": f"{version}-a"}
    )
    exporter = OTLPMetricExporter(
        endpoint=f"{url}/api/v1/otlp/v1/metrics",
        preferred_temporality={Histogram: AggregationTemporality.CUMULATIVE},
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()},
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=EVERY_MS)
    provider = MeterProvider(resource=resource, metric_readers=[reader])
    taken = provider.get_meter("shop").create_histogram(instrument, unit="s")
    dice = random.Random(version)
    owed = 0.0
    while True:
        owed += RATE * TICK_S
        for _ in range(int(owed)):
            answer = bad if dice.random() < errors else good
            taken.record(dice.lognormvariate(0.0, 0.5) * seconds, answer)
        owed %= 1.0
        time.sleep(TICK_S)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
