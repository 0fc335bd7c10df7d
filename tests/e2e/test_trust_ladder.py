"""The trust ladder on a live past: two weeks in a real Prometheus and VictoriaMetrics, twenty deploys, three bad.

What is replayed goes through the source, decoder and judge of the daemon; nobody tells them what was shipped.
"""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.fakes import FakeClock
from tests.fortnight import Shipped, fortnight
from tests.start_page import command
from watchdog.app import build, load_config
from watchdog.cli import command_line
from watchdog.deploy_request import DeployRequest

CONFIG = """
[daemon]
ledger = "{folder}/watchdog.db"
[sources.prometheus]
kind = "prometheus"
url = "{url}"
[sinks.log]
kind = "log"
"""
SERVICE = """
[services.{name}]
source = "prometheus"
selector = { job = "shop" }
look_s = 120
watch_s = 3600
baseline_s = 3600
[[services.{name}.metrics]]
name = "errors"
kind = "ratio"
bad = 'shop_requests_total{code=~"5.."}'
total = "shop_requests_total"
critical = true
"""
MORE = """
[[services.shop.metrics]]
name = "latency"
kind = "latency"
histogram = "shop_request_duration_seconds"
unit = "s"
[[services.shop.metrics]]
name = "orders"
kind = "rate"
events = "shop_orders_total"
exposure = "shop_requests_total"
direction = "down_is_bad"
margin = 0.1
"""
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


class Past:
    """Two weeks, and the servers that keep them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        until = float(int(time.time()) // 60 * 60)
        text, self.shipped = fortnight(until)
        blocks = servers.backfill(text, folder)
        self.urls = {
            "prometheus": stack.enter_context(servers.prometheus(blocks=blocks)).url,
            "victoria-metrics": stack.enter_context(servers.victoria_metrics(openmetrics=text)).url,
        }

    @property
    def bad(self) -> dict[str, str]:
        return {one.version: one.fault for one in self.shipped if one.fault}


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """The same two weeks in both servers."""
    with ExitStack() as stack:
        yield Past(tmp_path_factory.mktemp("past"), stack)


def configured(folder: Path, url: str, *, names: tuple[str, ...] = ("shop",)) -> str:
    text = CONFIG.replace("{url}", url).replace("{folder}", str(folder))
    text += "".join(SERVICE.replace("{name}", name) for name in names) + (MORE if "shop" in names else "")
    (folder / "config.toml").write_text(text)
    return str(folder / "config.toml")


def backtest(folder: Path, *words: str) -> list[dict[str, Any]]:
    out = folder / "out.jsonl"
    assert command_line(["backtest", "--json", str(out), *words]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["prometheus", "victoria-metrics"])
def test_the_three_bad_ones_are_found_and_no_other(
    past: Past, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors 1 to 3 %, p99 half as long again, a fifth fewer orders: rolled back; the seventeen others pass."""
    judged = backtest(tmp_path, *command("backtest", **{"config.toml": configured(tmp_path, past.urls[kind])})[1:])
    assert [one["version"] for one in judged] == [one.version for one in past.shipped]
    assert [one["previous_version"] for one in judged] == [one.previous for one in past.shipped]
    assert all(abs(one["deployed_at"] - real.at) <= 240 for one, real in zip(judged, past.shipped, strict=True))
    assert {one["version"]: one["metric"] for one in judged if one["would"] == "roll back"} == past.bad
    assert [one["version"] for one in judged if one["would"] not in ("roll back", "pass")] == []
    assert "20 deploys, in mode auto: 3 would be rolled back, 17 would pass" in capsys.readouterr().out


def test_deploys_are_told_by_a_table_or_by_the_ledger(past: Past, tmp_path: Path) -> None:
    """A table of times and versions; where deploys are on record in the ledger, those, as they were told then."""
    config = configured(tmp_path, past.urls["prometheus"])
    some: list[Shipped] = past.shipped[4:8]
    rows = [f"{one.at:.0f},{one.version}" for one in some]
    (tmp_path / "deploys.csv").write_text("\n".join(["time,version", *rows]))
    judged = backtest(tmp_path, "--config", config, "--since", "14d", "--deploys", str(tmp_path / "deploys.csv"))
    told = [(one["version"], one["previous_version"], one["would"]) for one in judged]
    assert told == [(one.version, one.previous, "roll back" if one.fault else "pass") for one in some]
    bad = some[1]
    clock = FakeClock(now=bad.at)
    app = build(load_config(Path(config)), clock=clock)
    try:
        event = DeployRequest(id="told", service="shop", version=bad.version, previous_version=bad.previous)
        app.intake.receive(event, actor="ci")
    finally:
        app.stop()
    judged = backtest(tmp_path, "--config", config, "--since", "14d")
    assert [(one["id"], one["found_in"], one["would"]) for one in judged] == [("told", "ledger", "roll back")]


def test_placebo_deploys_between_the_real_ones_are_not_rolled_back(
    past: Past, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the last days, per service and metric, with the limit that so many placebos prove."""
    config = configured(tmp_path, past.urls["prometheus"])
    assert command_line([*command("calibrate", **{"config.toml": config}), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["found"]
    assert (found["service"], found["design"], found["rolled_back"]) == ("shop", "concurrent", 0)
    assert [one["metric"] for one in found["metrics"]] == ["errors", "latency", "orders"]
    assert found["placebos"] >= 60
    assert 0 < found["placebo_rate"] < 0.1


def test_sensitivity_is_told_at_todays_traffic(past: Past, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Level and traffic are those that the source shows."""
    config = configured(tmp_path, past.urls["prometheus"], names=("front",))
    asked = [*command("sensitivity", **{"config.toml": config, "shop": "front"}), "--minutes", "15", "--json"]
    assert command_line(asked) == 0
    (errors,) = json.loads(capsys.readouterr().out)
    assert errors["metric"] == "errors"
    assert 0.007 < errors["traffic"]["level"] < 0.014
    assert 12_000 < errors["traffic"]["requests_per_minute"] < 120_000
    assert 1.3 < errors["seen"][-1]["ratio"] < 3.0


def test_a_service_that_is_not_there_is_told(past: Past, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As every other wrong name, with the one that was meant; and a table that cannot be read, with its line."""
    config = configured(tmp_path, past.urls["prometheus"])
    assert command_line(["backtest", "--config", config, "--service", "shpo"]) == 4
    assert "did you mean 'shop'?" in capsys.readouterr().err
    (tmp_path / "deploys.csv").write_text("time,version\nyesterday,v1\n")
    assert command_line(["backtest", "--config", config, "--deploys", str(tmp_path / "deploys.csv")]) == 4
    assert "deploys.csv:2: time: 'yesterday' is no time" in capsys.readouterr().err
