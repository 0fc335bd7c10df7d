"""The same hours of earlier days, asked of a real Prometheus that holds four days of a shop with a bad hour."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.result import Design
from tests import servers
from tests.daemon.test_usual_course import a_direct_watch, walk
from tests.fakes import FakeClock, FakeHook
from tests.samples import DEPLOYED_AT, a_plan
from watchdog.cli import command_line
from watchdog.clock import SystemClock
from watchdog.earlier_days import DAY_S
from watchdog.model import HoldReason, State, Watch
from watchdog.ports import Ledger
from watchdog.sources.prometheus import PrometheusSource
from watchdog.sources.prometheus_options import PrometheusOptions

pytestmark = pytest.mark.e2e
SCRAPE_S, BAD_FROM_S = 15, 300
STEP_S, LOOKS, PAST_LOOKS = 30.0, 20, 60
CONFIG = """
[daemon]
ledger = "{folder}/watchdog.db"
[sources.prometheus]
kind = "prometheus"
url = "{url}"
[services.shop]
source = "prometheus"
strategy = "direct"
selector = { job = "shop" }
watch_s = 600
look_s = 30
baseline_s = 1800
act_uncalibrated = true
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = 'shop_requests_total{code=~"5.."}'
total = "shop_requests_total"
critical = true
"""


def four_days(bad_days: frozenset[int], *, deployed_at: float = DEPLOYED_AT) -> str:
    """1 % of 120 requests a second fail; on bad days 5 % from five minutes after the hour of the deploy on."""
    dice = np.random.default_rng(8)
    lines: list[str] = []
    count = {"200": 0, "500": 0}
    for day in (3, 2, 1, 0):
        for since in range(-3000, 1500, SCRAPE_S):
            total = int(dice.poisson(120 * SCRAPE_S))
            failed = int(dice.binomial(total, 0.05 if day in bad_days and since >= BAD_FROM_S else 0.01))
            for code, n in (("200", total - failed), ("500", failed)):
                count[code] += n
                at = deployed_at - day * DAY_S + since
                lines.append(f'shop_requests_total{{job="shop",instance="a:80",code="{code}"}} {count[code]} {at:.0f}')
    lines.sort(key=lambda line: ('code="500"' in line, float(line.rpartition(" ")[2])))
    return "\n".join(["# TYPE shop_requests counter", *lines, "# EOF", ""])


def walked(ledger: Ledger, clock: FakeClock, folder: Path, bad_days: frozenset[int]) -> tuple[Watch, FakeHook]:
    plan = replace(
        a_plan(design=Design.BEFORE_AFTER, planned_looks=LOOKS),
        step_s=STEP_S,
        settle_s=5.0,
        watch_s=LOOKS * STEP_S,
        baseline_looks=PAST_LOOKS,
        earlier_days=3,
    )
    hook = FakeHook()
    blocks = servers.backfill(four_days(bad_days), folder)
    with servers.prometheus(blocks=blocks) as server:
        source = PrometheusSource(name="prom", options=PrometheusOptions(url=server.url), clock=SystemClock())
        source.start()
        try:
            watch = walk(ledger, clock, replace(a_direct_watch(), plan=plan), source, hook, seconds=500)
        finally:
            source.close()
    return watch, hook


def test_an_hour_that_is_bad_every_day_is_held(ledger: Ledger, clock: FakeClock, tmp_path: Path) -> None:
    """Today as on the three days before."""
    watch, hook = walked(ledger, clock, tmp_path, frozenset({0, 1, 2, 3}))
    assert (watch.state, watch.hold, hook.calls) == (State.HELD, HoldReason.USUAL_COURSE, [])
    assert "at these hours it got worse on 3 of 3 earlier days too" in watch.sentence


def test_an_hour_that_is_bad_today_only_goes_back(ledger: Ledger, clock: FakeClock, tmp_path: Path) -> None:
    """Three calm days explain nothing."""
    watch, hook = walked(ledger, clock, tmp_path, frozenset({0}))
    assert (watch.hold, hook.effects) == (None, 1)
    assert watch.degraded_at is not None


@pytest.mark.parametrize(("days", "would"), [(3, "hold"), (0, "roll back")])
def test_a_backtest_says_what_the_daemon_would_have_done(tmp_path: Path, days: int, would: str) -> None:
    """The same bad hour of every day, played again afterwards; with earlier_days = 0 nobody asks about it."""
    deployed_at = float(int(time.time()) // 60 * 60 - 7200)
    blocks = servers.backfill(four_days(frozenset({0, 1, 2, 3}), deployed_at=deployed_at), tmp_path)
    (tmp_path / "deploys.csv").write_text(f"time,version\n{deployed_at:.0f},v2\n")
    with servers.prometheus(blocks=blocks) as server:
        text = CONFIG.replace("{url}", server.url).replace("{folder}", str(tmp_path))
        (tmp_path / "config.toml").write_text(text.replace("watch_s = 600", f"watch_s = 600\nearlier_days = {days}"))
        asked = ["--config", str(tmp_path / "config.toml"), "--since", "1d", "--deploys", str(tmp_path / "deploys.csv")]
        assert command_line(["backtest", "--json", str(tmp_path / "out.jsonl"), *asked]) == 0
    (judged,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (judged["would"], judged["verdict"]) == (would, "DEGRADED")
    assert ("the usual course of the day" in judged["sentence"]) == (days > 0)
