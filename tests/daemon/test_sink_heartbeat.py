"""The sign of life: given while the daemon is well, withheld when it is not, never in anybody's way."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes import FakeClock
from tests.receivers import Answer, Receiver, receiver
from tests.servers import wait_until
from watchdog.app import build, load_config
from watchdog.app.parts import sinks_of
from watchdog.clock import SystemClock
from watchdog.errors import ConfigError, SinkError
from watchdog.scheduler import ALIVE_S, Scheduler
from watchdog.sinks.heartbeat import HeartbeatOptions, HeartbeatSink
from watchdog.telemetry import Telemetry

CONFIG = """
[daemon]
ledger = "{folder}/w.db"
tick_s = 0.2
[sources.pages]
kind = "scrape"
[[sources.pages.targets]]
url = "http://127.0.0.1:9/metrics"
[sinks.log]
kind = "log"
[sinks.alive]
kind = "heartbeat"
url_env = "PING"
every_s = 1
[services.shop]
source = "pages"
presets = ["otel-http"]
"""


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with receiver() as server:
        yield server


class Parts:
    """A scheduler's neighbours: the pipeline ticks, hangs or has no ledger, as told."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def tick(self) -> int:
        if self.error is not None:
            raise self.error
        return 0


def scheduler(heart: HeartbeatSink, parts: Parts, clock: FakeClock) -> Scheduler:
    made: Any = Scheduler
    scheduled: Scheduler = made(
        pipeline=parts,
        outbox=None,
        workers=None,
        clock=clock,
        telemetry=Telemetry(),
        tick_s=1.0,
        sinks={"alive": heart},
    )
    return scheduled


def sink(url: str, **more: Any) -> HeartbeatSink:
    return HeartbeatSink("alive", HeartbeatOptions(url=url, **more), FakeClock(), {})


def test_a_running_daemon_gives_it_and_a_stopped_one_does_not(tmp_path: Path, ear: Receiver) -> None:
    """The whole daemon, from its configuration: a sign each second, none after it has gone."""
    (tmp_path / "config.toml").write_text(CONFIG.format(folder=tmp_path))
    env = {"PING": f"{ear.url}/ping/secret-uuid"}
    config = load_config(tmp_path / "config.toml", env)
    assert sinks_of(config, "shop") == ("log",)
    app = build(config, clock=SystemClock(), env=env)
    app.start()
    try:
        wait_until(lambda: len(ear.received) >= 2, within_s=60, what="two signs of life")
    finally:
        app.stop()
    assert {(got.method, got.path) for got in ear.received} == {("POST", "/ping/secret-uuid")}
    assert ear.received[0].json()["program"] == "deploy-watchdog"
    heard = len(ear.received)
    SystemClock().sleep(1.5)
    assert len(ear.received) == heard
    rendered = app.pipeline.telemetry.render().decode()
    assert 'deploy_watchdog_outbox_deliveries_total{outcome="delivered",sink="alive"}' in rendered
    assert "secret-uuid" not in rendered


def test_whose_ticks_do_not_end_is_silent(ear: Receiver) -> None:
    """A process that hangs is as silent as one that is gone; one that ticks again is heard again."""
    clock, parts = FakeClock(), Parts()
    made = scheduler(sink(ear.url), parts, clock)
    assert not made.beat("alive")  # before its first tick
    made._tick()
    assert made.beat("alive")
    clock.advance(ALIVE_S + 1)
    assert not made.beat("alive")
    made._tick()
    assert made.beat("alive")
    parts.error = RuntimeError("every tick fails")
    for _ in range(4):
        clock.advance(10.0)
        made._tick()
    assert not made.beat("alive")
    assert len(ear.received) == 2


def test_without_its_ledger_it_is_silent(ear: Receiver) -> None:
    """A daemon that cannot record anything watches nothing."""
    from watchdog.errors import LedgerError

    clock, parts = FakeClock(), Parts()
    made = scheduler(sink(ear.url), parts, clock)
    made._tick()
    parts.error = LedgerError("disk full")
    made._tick()
    assert not made.beat("alive")
    assert ear.received == []


def test_an_ear_that_is_gone_is_said_once(ear: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """Not at every sign; and once more when it is back."""
    ear.otherwise = lambda _: Answer(503)
    made = scheduler(sink(ear.url), Parts(), FakeClock())
    made._tick()
    with caplog.at_level(logging.INFO, "watchdog.scheduler"):
        assert [made.beat("alive") for _ in range(3)] == [False] * 3
        ear.otherwise = lambda _: Answer(204)
        assert made.beat("alive")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_slow_ear_costs_its_deadline_and_no_more(ear: Receiver) -> None:
    """Bounded from name lookup to the whole answer."""
    ear.otherwise = lambda _: Answer(hang=True)
    with pytest.raises(SinkError, match="no answer within"):
        sink(ear.url, timeout_s=0.2).beat({})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "https://a.example/x", "url_env": "X"},
        {"url": "ftp://a.example"},
        {"url": "https://a.example", "every_s": 0},
    ],
)
def test_wrong_options_are_refused(options: Mapping[str, Any]) -> None:
    """One address, of HTTP, and an interval that is one."""
    with pytest.raises(ValidationError):
        HeartbeatOptions(**options)


def test_an_address_from_the_environment_is_never_told() -> None:
    """A wrong one is an error of the configuration that does not print it."""
    options = HeartbeatOptions(url_env="PING")
    with pytest.raises(ConfigError) as refused:
        HeartbeatSink("alive", options, FakeClock(), {"PING": "gopher://secret-uuid"})
    assert "sinks.alive.url" in str(refused.value)
    assert "secret-uuid" not in str(refused.value)
