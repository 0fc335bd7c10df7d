"""From an empty folder to a watched deploy: `init`, `check`, `run`, `trigger`, a verdict.

Debian's Prometheus and Debian's VictoriaMetrics scrape the same demo shop behind the same HAProxy, HAProxy itself, a
node_exporter and themselves. What `init` writes is used as it is.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.start_page import command
from watchdog.cli import command_line
from watchdog.demo.processes import Processes, free_ports
from watchdog.demo.talk import answers, call, wait_for

HOST = "127.0.0.1"
SHOPS = {"v1-a": "v1", "v1-b": "v1", "v2-a": "v2"}
SERVERS: dict[str, Callable[..., AbstractContextManager[servers.PrometheusServer]]] = {
    "prometheus": servers.prometheus,
    "victoria-metrics": servers.victoria_metrics,
}
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


class World:
    """Shop, HAProxy, node_exporter, visitors, and every server that scrapes them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.processes = Processes(folder, remove=False)
        stack.callback(self.processes.close)
        ports = free_ports(2 * len(SHOPS) + 1)
        front, serving, metrics = ports[0], ports[1::2], ports[2::2]
        behind = {}
        for (name, version), port, page in zip(SHOPS.items(), serving, metrics, strict=True):
            given = ["--version", version, "--db", str(folder / "orders.db"), "--seed", "5"]
            given += ["--port", str(port), "--metrics-port", str(page)]
            fault = "errors=0.10" if version == "v2" else ""
            self.processes.start(name, ["-m", "watchdog.demo.shop", *given, "--fault", fault])
            behind[name] = (port, 20 if version == "v2" else 40)
        for page in metrics:
            wait_for(partial(answers, page, "/metrics"), what="a shop", within_s=60)
        metrics_page = "http-request use-service prometheus-exporter if { path /metrics }"
        config = servers.haproxy_config(f"{HOST}:{front}", behind, backend="web", front=metrics_page)
        proxy = stack.enter_context(servers.haproxy(config, port=front))
        node = stack.enter_context(servers.node_exporter())
        self.processes.start(
            "visitors", ["-m", "watchdog.demo.visitors", "--front", proxy.url, "--rate", "120", "--seed", "5"]
        )
        targets: list[servers.Target] = [
            ([f"{HOST}:{page}" for page in metrics], {"job": "shop"}),
            ([f"{HOST}:{front}"], {"job": "proxy"}),
            ([node], {"job": "machines"}),
        ]
        self.urls = {
            kind: stack.enter_context(started(targets, scrape_interval_s=2.0, itself=True)).url
            for kind, started in SERVERS.items()
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything up, and scraped for long enough to be looked at."""
    with ExitStack() as stack:
        found = World(tmp_path_factory.mktemp("world"), stack)
        for kind, url in found.urls.items():
            wait_for(lambda url=url: _scrapes(url) >= 4, what=f"samples in {kind}", within_s=90, step_s=0.5)  # type: ignore[misc]
        yield found


def _scrapes(url: str) -> int:
    """How often the one that was scraped least was."""
    port = int(url.rpartition(":")[2])
    query = "/api/v1/query?query=min(count_over_time(up[1h]))%20and%20(count(up)%20%3E%3D%206)&nocache=1"
    status, answer = call("GET", port, query)
    result = answer["data"]["result"] if status == 200 else []
    return int(result[0]["value"][1]) if result else 0


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, world: World) -> str:
    """Each kind of server in turn."""
    return world.urls[str(request.param)]


Said = dict[str, Any]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = command_line(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and we in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_init_finds_every_service_and_check_passes(url: str, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shop by convention with its orders, HAProxy's servers, the machine, and the server itself where it is one."""
    code, out, _ = run(capsys, "init", "--url", url, "--yes", "--json")
    assert code == 0
    found: dict[str, Said] = {one["name"]: one for one in json.loads(out)["services"]}
    assert {"shop", "web", "machines"} <= found.keys()
    assert found["shop"]["presets"] == ["by-convention", "business"]  # its process metrics do not say the version
    assert set(found["shop"]["metrics"]) == {"errors", "latency", "shop_orders_total"}
    assert (found["shop"]["version_label"], sorted(found["shop"]["versions"])) == ("version", ["v1", "v2"])
    assert (found["shop"]["scrape_s"], found["shop"]["look_s"]) == (2.0, 5.0)
    assert (found["web"]["presets"], found["web"]["version_label"]) == (["haproxy"], "server")
    assert sorted(found["web"]["versions"]) == sorted(SHOPS)
    assert (found["machines"]["presets"], found["machines"]["strategy"]) == (["node"], "direct")
    assert ("prometheus" in found) == (found.get("prometheus", {}).get("presets") == ["prometheus", "process"])

    code, out, err = run(capsys, "check")
    assert code == 0, out + err
    assert "services.shop.metrics.errors" in out


@pytest.mark.parametrize("service", ["web", "machines", "prometheus"])
def test_each_alone(service: str, world: World, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """HAProxy, node_exporter and Prometheus itself, each by itself in a configuration of its own."""
    code, _, err = run(capsys, "init", "--url", world.urls["prometheus"], "--service", service, "--out", "one.toml")
    assert code == 0, err
    code, out, err = run(capsys, "check", "--config", "one.toml")
    assert code == 0, out + err
    assert "one.toml: ready" in out


def test_a_service_that_is_not_there_is_told_with_the_nearest(
    url: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written, and the exit code says so."""
    code, _, err = run(capsys, "init", "--url", url, "--service", "shpo", "--yes")
    assert (code, list(empty.iterdir())) == (4, [])
    assert "no service 'shpo' was found; the nearest: shop" in err


def test_a_preset_that_does_not_match_is_told_with_the_nearest_names(
    url: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the names that the server really has."""
    code, _, err = run(capsys, "init", "--url", url, "--preset", "python-starlette", "--yes")
    assert (code, list(empty.iterdir())) == (4, [])
    assert "python-starlette: there is no starlette_requests_total, nearest: " in err
    assert "shop_requests_total" in err


def test_nothing_is_overwritten(url: str, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only --force does, and says nothing of it in the file."""
    (empty / "config.toml").write_text("mine")
    code, _, err = run(capsys, "init", "--url", url, "--yes")
    assert (code, (empty / "config.toml").read_text()) == (4, "mine")
    assert "exists and is left as it is" in err
    assert run(capsys, "init", "--url", url, "--yes", "--force")[0] == 0
    assert [path.name for path in empty.iterdir()] == ["config.toml"]


def test_what_init_writes_watches_a_deploy(
    url: str, world: World, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's init → check → run → trigger → a verdict: the bad version is noticed, and nothing done but told."""
    page = {"http://127.0.0.1:9090": url}
    assert run(capsys, *command("init", **page), "--service", "shop", "--yes")[0] == 0
    code, out, _ = run(capsys, *command("check"))
    assert code == 0, out
    (port,) = free_ports(1)
    text = (empty / "config.toml").read_text().replace("127.0.0.1:8811", f"{HOST}:{port}")
    (empty / "config.toml").write_text(text)
    name = f"daemon-{port}"
    world.processes.start(name, ["-m", "watchdog", *command("run"), "--config", str(empty / "config.toml")])
    try:
        wait_for(lambda: answers(port, "/-/ready"), what="the daemon", within_s=60)
        there = ["--url", f"http://{HOST}:{port}"]
        code, out, err = run(capsys, *command("trigger"), "--id", "first", "--share", "0.2", *there)
        assert code == 0, err
        code, out, err = run(capsys, *command("list"), *there)
        assert (code, "first" in out) == (0, True), err
        wait_for(lambda: _verdict(port) == "DEGRADED", what="a verdict", within_s=180, step_s=0.5)
        code, out, _ = run(capsys, "wait", *there, "first")
        assert (code, "mode is observe: it would have been rolled back" in out) == (3, True), out
    finally:
        world.processes.stop(name)


def _verdict(port: int) -> str | None:
    status, watch = call("GET", port, "/api/v1/deploys/first")
    return watch.get("verdict") if status == 200 else None
