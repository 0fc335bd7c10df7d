"""A real Prometheus is stopped in the middle of a healthy deploy and of a bad one: nothing is rolled back from
blindness, and the bad one goes back once, when Prometheus does. `make outage` keeps it away for ten minutes."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import servers
from tests.servers import free_port, wait_until
from watchdog.app import App, build, load_config
from watchdog.intake import DeployRequest
from watchdog.model import MessageKind, State, Watch

IS_LONG = "MINUTES" in os.environ
OUTAGE_S = 60 * float(os.environ.get("MINUTES", "0.15"))
LOOK_S, SETTLE_S, SCRAPE_S = 1.0, 0.5, 0.5
PER_S = 400.0  # requests of an instance
HEALTHY, BAD = "shop", "till"
GENEROUS_S = 120.0
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Traffic:
    """The counters of both services; `live` names the version that the hook left live, and `fails` begins to fail."""

    def __init__(self, live: Path) -> None:
        self.live = live
        self.began = time.monotonic()
        self.failing_since: float | None = None
        self.counted: dict[tuple[str, str], tuple[float, float]] = {}
        self._at = self.began
        self._lock = threading.Lock()

    def page(self, service: str, version: str) -> str:
        with self._lock:
            self._go_on()
            good, bad = self.counted.get((service, version), (0.0, 0.0))
        return (
            "# TYPE requests_total counter\n"
            f'requests_total{{code="200"}} {good:.0f}\nrequests_total{{code="500"}} {bad:.0f}\n'
        )

    def _go_on(self) -> None:
        now = time.monotonic()
        passed, self._at = now - self._at, now
        for service in (HEALTHY, BAD):
            for version in ("v1", "v2"):
                gone = service == BAD and version == "v2" and self.live.read_text().strip() != "v2"
                failing = service == BAD and version == "v2" and self.failing_since is not None
                requests = 0.0 if gone else PER_S * passed
                bad = requests * (0.08 if failing else 0.008)
                old = self.counted.get((service, version), (0.0, 0.0))
                self.counted[service, version] = (old[0] + requests - bad, old[1] + bad)


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None: ...  # a Prometheus that is stopped hangs up


def exporter(traffic: Traffic, service: str, version: str, stack: ExitStack) -> str:
    """A /metrics page on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = traffic.page(service, version).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return f"127.0.0.1:{server.server_port}"


def program(path: Path, lines: str) -> str:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return str(path)


def config_of(folder: Path, url: str) -> Path:
    calls, live = folder / "calls", folder / "live"
    back = program(folder / "back", f'echo "$ACTION_ID $FENCE" >> {calls}; echo "$TO" > {live}')
    probe = program(folder / "probe", f'[ "$(cat {live})" = "$TO" ] && exit 0; exit 3')
    service = f"""
mode = "auto"
strategy = "canary"
source = "metrics"
rollback_hook = "back"
watch_s = {round(OUTAGE_S + (60 if IS_LONG else 300))}
look_s = {LOOK_S}
settle_s = {SETTLE_S}
baseline_s = 5
"""
    metric = """
name = "errors"
kind = "ratio"
bad = 'requests_total{code=~"5.."}'
total = "requests_total"
"""
    tables = [
        f'[services.{name}]{service}selector = {{ job = "{name}" }}\n[[services.{name}.metrics]]{metric}'
        for name in (HEALTHY, BAD)
    ]
    path = folder / "config.toml"
    path.write_text(
        f"""
[daemon]
ledger = "{folder / "w.db"}"
tick_s = 0.5
[policy]
verify_s = 60
[auth]
[sources.metrics]
kind = "prometheus"
url = "{url}"
[hooks.back]
kind = "command"
argv = [{json.dumps(back)}]
probe_argv = [{json.dumps(probe)}]
[sinks.log]
kind = "log"
{"".join(tables)}"""
    )
    return path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(300 + int(2 * OUTAGE_S))
def test_a_prometheus_that_was_away_rolls_back_only_what_is_bad(tmp_path: Path, stack: ExitStack) -> None:
    """Blind: said, told, nothing done. Back: the healthy one goes on, the bad one is rolled back once."""
    (tmp_path / "live").write_text("v2\n")
    (tmp_path / "calls").touch()
    traffic = Traffic(tmp_path / "live")
    targets = [
        ([exporter(traffic, service, version, stack)], {"job": service, "version": version})
        for service in (HEALTHY, BAD)
        for version in ("v1", "v2")
    ]
    port, blocks = free_port(), tmp_path / "data"
    url = f"http://127.0.0.1:{port}"
    first = stack.enter_context(servers.prometheus(targets, scrape_interval_s=SCRAPE_S, blocks=blocks, port=port))
    app = build(load_config(config_of(tmp_path, url), {}), env={})
    app.start()
    stack.callback(app.stop)
    time.sleep(4 * SCRAPE_S)  # a few samples before the deploys
    for name in (HEALTHY, BAD):
        app.intake.receive(DeployRequest(id=name, service=name, version="v2", previous_version="v1"), actor="test")
    expect(app, lambda: all(watch.looks >= 3 for watch in both(app)), what="three looks of each")

    first.stop()
    traffic.failing_since = time.monotonic()
    stopped_at = [watch.looks for watch in both(app)]
    expect(app, lambda: all(said(app, watch) for watch in both(app)), what="SOURCE_DOWN said")
    ticks = [ticks_until_said(app, watch, looks) for watch, looks in zip(both(app), stopped_at, strict=True)]
    assert max(ticks) <= 3
    gone_s = time.monotonic() - traffic.failing_since
    time.sleep(max(0.0, OUTAGE_S - gone_s))
    assert [watch.state for watch in both(app)] == [State.WATCHING, State.WATCHING]
    assert (tmp_path / "calls").read_text() == ""
    away_s = time.monotonic() - traffic.failing_since

    stack.enter_context(servers.prometheus(targets, scrape_interval_s=SCRAPE_S, blocks=blocks, port=port))
    back_at = time.monotonic()
    expect(app, lambda: both(app)[1].state is State.ROLLED_BACK, what="the rollback")
    took_s = time.monotonic() - back_at
    expect(app, lambda: goes_on(app) or both(app)[0].state is State.PASSED, what="sight again")
    if IS_LONG:
        expect(app, lambda: both(app)[0].state is not State.WATCHING, what="the healthy one's end")
    healthy, bad = both(app)
    assert healthy.state in (State.WATCHING, State.PASSED, State.INCONCLUSIVE), healthy.sentence
    assert len((tmp_path / "calls").read_text().splitlines()) == 1, bad.sentence
    print(  # noqa: T201 (what the long form is run for)
        f"\nPrometheus away for {away_s:.0f} s: SOURCE_DOWN told at tick {max(ticks)}, "
        f"0 hooks; back: the bad one rolled back once, {took_s:.1f} s later; the healthy one {healthy.state.value}"
    )


def expect(app: App, condition: Callable[[], bool], *, what: str) -> None:
    """Wait for it; what comes too late is told with how both stand and what was seen of them last."""
    try:
        wait_until(condition, within_s=GENEROUS_S, what=what)
    except TimeoutError as late:
        stands = [(w.state, w.reason, w.looks, w.sentence, app.ledger.looks(w.id)[-3:]) for w in both(app)]
        raise AssertionError(f"{late}: {stands}") from late


def both(app: App) -> list[Watch]:
    return [watch for name in (HEALTHY, BAD) if (watch := app.ledger.watch(name)) is not None]


def goes_on(app: App) -> bool:
    """Whether the healthy one is judged by what is seen of it, as before."""
    watch = both(app)[0]
    return watch.state is State.WATCHING and watch.reason != "SOURCE_DOWN"


def ticks_until_said(app: App, watch: Watch, looks: int) -> int:
    """How often the watch was judged from this look on until it was said; a late tick takes several looks at once."""
    after = [verdict.reason for verdict in app.ledger.verdicts(watch.id) if verdict.look >= looks]
    return after.index("SOURCE_DOWN") + 1


def said(app: App, watch: Watch) -> bool:
    told = [row.message.kind for row, _ in app.ledger.messages(watch.id)]
    return watch.reason == "SOURCE_DOWN" and MessageKind.SOURCE_DOWN in told
