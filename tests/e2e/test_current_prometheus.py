"""A current Prometheus 3, built from its Go module: native histograms that the OpenTelemetry SDK sends over OTLP are
judged as latency, and metric names may have dots. Only `make e2e-current` runs this: the build takes a while, once.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.go_programs import current_prometheus
from watchdog.cli import command_line
from watchdog.demo.processes import Processes, free_ports
from watchdog.demo.talk import answers, call, wait_for

HOST = "127.0.0.1"
ESCAPED, AS_IT_IS = "UnderscoreEscapingWithSuffixes", "NoUTF8EscapingWithSuffixes"
WITH_DOTS = """
[daemon]
listen = "{listen}"
ledger = "{folder}/watchdog.db"
[sources.prometheus]
kind = "prometheus"
url = "{url}"
[sinks.log]
kind = "log"
[services.shop]
source = "prometheus"
version_label = "service.version"
selector = { job = "shop" }
look_s = 5
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = '{"http.server.request.duration_seconds", "http.response.status_code"=~"5.."}'
total = '{"http.server.request.duration_seconds"}'
native = true
critical = true
[[services.shop.metrics]]
name = "latency"
kind = "latency"
histogram = '{"http.server.request.duration_seconds"}'
native = true
unit = "s"
"""
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(3900),
    pytest.mark.skipif(os.environ.get("E2E") != "current", reason="make e2e-current"),
]


@contextmanager
def prometheus_3(translation: str) -> Iterator[str]:
    """One that takes OTLP and gives every series its version; its address."""
    port = servers.free_port()
    otlp = {"translation_strategy": translation, "promote_resource_attributes": ["service.version"]}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "prometheus.yml").write_text(json.dumps({"otlp": otlp}))  # JSON is YAML
        argv = [
            current_prometheus(),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            "--web.enable-otlp-receiver",
            f"--web.listen-address={HOST}:{port}",
        ]
        url = f"http://{HOST}:{port}"
        with servers.running(argv, folder, lambda: servers.answers(f"{url}/-/ready"), ready_s=60):
            yield url


@pytest.fixture(params=[(ESCAPED, "http"), (AS_IT_IS, "http"), (ESCAPED, "rpc")], ids="-".join)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str, str, Processes]]:
    """A Prometheus 3 and a shop of two versions that answers HTTP or RPC; the new one takes twice as long."""
    translation, kind = request.param
    processes = Processes(tmp_path, remove=False)
    try:
        with prometheus_3(translation) as url:
            for version, seconds in (("v1", "0.1"), ("v2", "0.2")):
                processes.start(version, ["-m", "tests.otel_shop", url, version, seconds, "0.01", kind])
            wait_for(lambda: _series(url) >= 2, what="histograms of both versions", within_s=90, step_s=0.5)
            yield translation, kind, url, processes
            processes.close()
    finally:
        processes.close()


def _series(url: str) -> int:
    port = int(url.rpartition(":")[2])
    _, answer = call(
        "GET", port, '/api/v1/query?query=count(count_over_time({job="shop"}[1m])%3E15)'.replace('"', "%22")
    )
    result = answer["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


def test_native_histograms_are_judged_as_latency(
    world: tuple[str, str, str, Processes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """init finds them where names are escaped, by hand they are written where not; the slow version is noticed."""
    translation, kind, url, processes = world
    (port,) = free_ports(1)
    config = tmp_path / "config.toml"
    if translation == ESCAPED:
        assert command_line(["init", "--url", url, "--yes", "--out", str(config), "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["services"]
        assert (found["presets"], found["version_label"]) == ([f"otel-{kind}-native"], "service_version")
        text = config.read_text().replace("127.0.0.1:8811", f"{HOST}:{port}").replace("watchdog.db", f"{tmp_path}/w.db")
    else:
        text = WITH_DOTS.replace("{listen}", f"{HOST}:{port}").replace("{folder}", str(tmp_path)).replace("{url}", url)
    config.write_text(text)
    assert command_line(["check", "--config", str(config), "--json"]) == 0
    told = {one["about"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert "v1: 1 instance, " in told["services.shop.metrics.latency"]["message"]
    assert "v2: 1 instance, " in told["services.shop.metrics.errors"]["message"]

    processes.start("daemon", ["-m", "watchdog", "run", "--config", str(config)])
    wait_for(partial(answers, port, "/-/ready"), what="the daemon", within_s=60)
    event = {"id": "slow", "service": "shop", "version": "v2", "previous_version": "v1"}
    assert call("POST", port, "/api/v1/deploys", event)[0] == 201
    wait_for(lambda: _watch(port).get("verdict") == "DEGRADED", what="a verdict", within_s=240, step_s=0.5)
    watch = _watch(port)
    assert watch["metric"] == "latency", watch


def _watch(port: int) -> dict[str, Any]:
    watch: dict[str, Any] = call("GET", port, "/api/v1/deploys/slow")[1]
    return watch
