"""False alarms on unchanged simulated deploys: the scenarios, their counting, and a small run of the important ones."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from analysis.judge import judge
from analysis.result import VerdictKind
from analysis.simulate import draw
from benchmarks import calibration
from benchmarks.aa_scenarios import SCENARIOS
from benchmarks.calibration import allowed, batches, chosen, false_alarms, rate_of, run

QUIET = Console(quiet=True)


@pytest.mark.parametrize(
    "name",
    [
        "counts_1pct_50_50",
        "counts_01pct_5_95",
        "bursty_v01_ar08_replica_20000",
        "clients_all_1000",
        "gauge_phi095_t4",
        "latency_5_95",
        "mix_strata",
    ],
)
def test_unchanged_deploys_keep_the_budget(name: str) -> None:
    """40 watches each: more than 1 % and three standard errors are two or more false alarms."""
    assert false_alarms(name, 0, 40) <= 40 * allowed(40)


def test_pooling_routes_whose_mix_changed_is_wrong_and_that_shows() -> None:
    """Summed over its routes the unchanged service is called DEGRADED every time."""
    assert false_alarms("mix_pooled", 0, 10) == 10


def test_a_real_regression_in_the_same_scenarios_is_no_silence() -> None:
    """The harness can see: three times the errors are called DEGRADED in nearly all watches."""
    scenario = SCENARIOS["counts_1pct_50_50"]
    bad = draw(replace(scenario.service, factor=3.0), np.random.default_rng(1), 10, scenario.metrics)
    verdicts = judge(list(bad.observations()), [scenario.settings] * 10)
    assert all(verdict.kind is VerdictKind.DEGRADED for verdict in verdicts)
    assert list(calibration.alarms(bad, scenario.settings)) == [verdict.alarm_look for verdict in verdicts]


def test_every_promised_scenario_is_there() -> None:
    """Of each family as many as the promise names; each at budget 1 % and as many planned looks as it has."""
    families = {"counts_": 7, "bursty_v01": 8, "bursty_v05": 12, "gauge_phi": 9, "latency_": 3, "ten": 1, "mix_": 2}
    assert {f: sum(name.startswith(f) for name in SCENARIOS) for f in families} == families
    assert all(s.settings.budget == 0.01 and s.settings.planned_looks == s.service.looks for s in SCENARIOS.values())
    assert SCENARIOS["counts_1pct_50_50_1800_looks"].service.looks == 1800


def test_rates_have_exact_intervals_and_a_bound_of_three_standard_errors() -> None:
    """Clopper-Pearson, and 129 of 10 000 as the last count that passes."""
    none = rate_of("mix_strata", 100, 0, 1.0)
    assert none.low == 0.0
    assert none.high == pytest.approx(1 - 0.025**0.01)
    assert allowed(10_000) == pytest.approx(0.01 + 3 * math.sqrt(0.01 * 0.99 / 10_000))
    assert rate_of("mix_strata", 10_000, 129, 1.0).passed
    assert not rate_of("mix_strata", 10_000, 130, 1.0).passed


def test_batches_cover_n_and_begin_alike_for_every_n() -> None:
    """A run of 1 500 watches begins with the batches of a run of 700."""
    for scenario in SCENARIOS.values():
        few, many = batches(scenario, 700), batches(scenario, 1500)
        assert (sum(few), sum(many)) == (700, 1500)
        assert few[:-1] == many[: len(few) - 1]


def test_finished_batches_are_not_run_again_unless_something_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept batches are reused for the same seed and judge only; a larger N adds to a smaller one."""
    kept = tmp_path / "aa.json"
    monkeypatch.setattr(calibration, "DRAWN_BYTES", 400_000)  # a few watches a batch
    sizes = batches(SCENARIOS["mix_strata"], 5)
    assert len(sizes) > 1
    first = run(["mix_strata"], 5, processes=1, kept=kept, console=QUIET)[0]
    told = json.loads(kept.read_text())
    told["batches"]["mix_strata"]["0"][1] = 3  # a mark by which a kept batch is known
    kept.write_text(json.dumps(told))
    assert run(["mix_strata"], 5, processes=1, kept=kept, console=QUIET)[0].false == first.false + 3
    more = run(["mix_strata"], 7, processes=1, kept=kept, console=QUIET)[0]
    assert (more.n, more.false) == (7, first.false + 3)
    monkeypatch.setattr(calibration, "fingerprint", lambda: "another judge")
    assert run(["mix_strata"], 5, processes=1, kept=kept, console=QUIET)[0].false == first.false


def test_scenarios_are_chosen_by_words_and_unknown_words_are_refused() -> None:
    """A typo runs nothing instead of everything."""
    assert chosen(["mix", "ten_"]) == ["ten_metrics", "mix_strata", "mix_pooled"]
    with pytest.raises(ValueError, match="no scenario has 'typo' in its name"):
        chosen(["typo"])
