"""The same hours of earlier days, asked of a real Prometheus that holds four days of a shop with a bad hour."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.result import Design
from tests import servers
from tests.daemon.test_usual_course import a_direct_watch, walk
from tests.fakes import FakeClock, FakeHook
from tests.samples import DEPLOYED_AT, a_plan
from watchdog.clock import SystemClock
from watchdog.earlier_days import DAY_S
from watchdog.ledger import open_ledger
from watchdog.model import HoldReason, State, Watch
from watchdog.ports import Ledger
from watchdog.sources.prometheus import PrometheusSource
from watchdog.sources.prometheus_options import PrometheusOptions

pytestmark = pytest.mark.e2e
SCRAPE_S, BAD_FROM_S = 15, 300
STEP_S, LOOKS, PAST_LOOKS = 30.0, 20, 60


def four_days(bad_days: frozenset[int]) -> str:
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
                at = DEPLOYED_AT - day * DAY_S + since
                lines.append(f'shop_requests_total{{job="shop",instance="a:80",code="{code}"}} {count[code]} {at:.0f}')
    lines.sort(key=lambda line: ('code="500"' in line, float(line.rpartition(" ")[2])))
    return "\n".join(["# TYPE shop_requests counter", *lines, "# EOF", ""])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(DEPLOYED_AT)


@pytest.fixture
def ledger(tmp_path: Path, clock: FakeClock) -> Iterator[Ledger]:
    opened = open_ledger(str(tmp_path / "w.db"), clock=clock, owner="me", sinks_for=lambda service: ("log",))
    yield opened
    opened.close()


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
