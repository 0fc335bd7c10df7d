"""`sensitivity` and `calibrate`: what people read, what programs read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from watchdog.calibration import Cut, by_service, calibrate_cases
from watchdog.cli import command_line

QUICK = ["sensitivity", "--requests-per-minute", "3000", "--baseline", "0.004", "--minutes", "1"]
CUT = ["--watch-looks", "8", "--baseline-looks", "20"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two direct deploys of one service with 60 steps of past, and a canary whose old version has three replicas."""
    made, rng, rows = tmp_path_factory.mktemp("cases"), np.random.default_rng(5), []

    def errors(case: str, arm: str, spans: range, replica: int = 0) -> None:
        for i in spans:
            total = int(rng.poisson(500))
            told = {"case": case, "metric": 0, "arm": arm, "replica": replica, "t": 60 * i, "total": total}
            rows.append({**told, "value": int(rng.binomial(total, 0.02))})

    for name in ("one", "two"):
        errors(name, "baseline", range(-60, 0))
        errors(name, "candidate", range(8))
    for pod in range(3):
        errors("canary", "history", range(-30, 0), pod)
        errors("canary", "baseline", range(8), pod)
    errors("canary", "candidate", range(8))
    metrics = [{"name": "errors", "kind": "count", "direction": "up_is_bad", "unit": "requests"}]
    cases: list[dict[str, Any]] = [
        {"id": name, "dataset": "shop", "entity": "checkout", "kind": "AA", "step_seconds": 60, "metrics": metrics}
        for name in ("one", "two", "canary")
    ]
    for case, strategy, group in zip(cases, ("prepost", "prepost", "concurrent"), ("a", "a", "b"), strict=True):
        case |= {"strategy": strategy, "group": group}
    cases[2]["share"] = 0.25
    (made / "cases.json").write_text(json.dumps(cases))
    pd.DataFrame(rows).to_parquet(made / "shop.parquet")
    return made


def test_sensitivity_prints_a_row_for_every_time_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Plain lines with tabs where nobody looks at a terminal."""
    assert command_line(QUICK) == 0
    table, sentence = capsys.readouterr().out.splitlines()
    assert table.split("\t")[:3] == ["events", "1 min", "0.40 %"]
    assert len(table.split("\t")) == 5
    assert sentence.startswith("within 1 min a rise of events from 0.40 % to ")
    assert sentence.endswith("is seen with 90 % chance")


def test_sensitivity_as_json_has_no_number_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not seen is null."""
    assert command_line([*QUICK, "--share", "0.0001", "--json"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told[0]["traffic"]["requests_per_minute"] == 3000
    assert [(seen["chance"], seen["ratio"]) for seen in told[0]["seen"]] == [(0.5, None), (0.9, None)]


def test_sensitivity_takes_traffic_and_level_from_a_recorded_deploy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old version's requests and errors before the deploy, per minute; the share that was configured."""
    assert command_line(["sensitivity", "--cases", str(folder), "--case", "canary", "--minutes", "3", "--json"]) == 0
    traffic = json.loads(capsys.readouterr().out)[0]["traffic"]
    assert traffic["requests_per_minute"] == pytest.approx(1500, rel=0.03)
    assert traffic["level"] == pytest.approx(0.02, rel=0.1)
    assert (traffic["share"], traffic["replicas"], traffic["look_s"]) == (0.25, 3, 60.0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sensitivity", "--requests-per-minute", "9"], "error: --baseline is missing: the old version's level"),
        (["sensitivity", "--baseline", "0.1"], "error: --requests-per-minute is missing: the requests"),
        (["sensitivity", "--kind", "gauge", "--baseline", "9"], "error: --sd is missing: one replica's standard"),
        ([*QUICK, "--baseline", "2"], "error: --baseline: 2 cannot be for a ratio; expected between 0 and 1"),
        ([*QUICK, "--baseline", "0"], "error: --baseline: 0 cannot be for a ratio; expected between 0 and 1"),
        (["sensitivity", "--config", "x", "--share", "1.5"], "error: --share: 1.5 is no share; expected between 0"),
        ([*QUICK[:-1], "soon"], "error: --minutes: 'soon' are no times"),
        ([*QUICK, "--share", "2"], "error: --share: 2 cannot be for a ratio; expected between 0 and 1"),
        (["sensitivity", "--cases", "nowhere"], "error: there is no folder nowhere"),
        (["calibrate", "--cases", "nowhere"], "error: there is no folder nowhere"),
        (["calibrate"], "error: name either --config FILE"),
        (["backtest"], "error: name either --config FILE"),
        (["sensitivity", "--config", "x", "--cases", "y"], "error: name either --config FILE"),
        (["backtest", "--cases", "nowhere"], "error: --json OUT is missing"),
        (["backtest", "--config", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_wrong_questions_are_refused_in_one_sentence(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4, nothing on stdout."""
    assert command_line(arguments) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(told)


@pytest.mark.parametrize(
    ("kind", "instead"), [("trend", "ask for the level itself (--kind gauge)"), ("labels", "(--kind ratio)")]
)
def test_a_kind_that_has_no_size_is_refused_with_what_to_ask_instead(
    kind: str, instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No option could make it an answer, so none is asked for."""
    assert command_line([*QUICK, "--kind", kind]) == 4
    said = capsys.readouterr().err
    assert said.startswith(f"error: --kind {kind}: a {kind.removesuffix('s')} ")
    assert "has no size to be asked for" in said
    assert instead in said


def test_sensitivity_tells_which_metrics_it_left_out_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each, beside the answers: a metric that is not named would be believed to be watched."""
    kinds = dict.fromkeys(("errors", "crashes", "gone"), "ratio")
    kinds |= {"leak": "trend", "codes": "labels", "pods": "gauge"}
    values = {"errors": 10.0, "crashes": 0.0, "leak": 5.0, "codes": 1.0, "pods": 3.0}
    rows = [
        {"case": "one", "metric": at, "arm": "baseline", "replica": 0, "t": 60 * t, "value": values[name], "total": 500}
        for at, name in enumerate(kinds)
        if name in values
        for t in range(-30, 0)
    ]
    metrics = [{"name": name, "kind": "count", "judged_as": kind} for name, kind in kinds.items()]
    case = {"id": "one", "strategy": "prepost", "step_seconds": 60, "metrics": metrics}
    (tmp_path / "cases.json").write_text(json.dumps([case]))
    pd.DataFrame(rows).to_parquet(tmp_path / "one.parquet")
    assert command_line(["sensitivity", "--cases", str(tmp_path), "--minutes", "1"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert told == [
        "left out: crashes (not one event in all of that time, so no level to rise from)",
        "left out: gone (no samples of the old version)",
        "left out: leak (a trend has no size to be asked for)",
        "left out: codes (a label that is new has no size to be asked for)",
        "left out: pods (a level that never moves has no noise to be told from)",
    ]


def test_calibrate_prints_every_service_and_what_is_proven(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row for each way of comparing, then the sentences; progress goes to stderr."""
    assert command_line(["calibrate", "--cases", str(folder), *CUT, "--every", "4", "--workers", "1"]) == 0
    said = capsys.readouterr()
    rows = [line.split("\t") for line in said.out.splitlines() if "\t" in line]
    assert [row[:3] for row in rows] == [
        ["shop checkout", "before/after", "any"],
        ["shop checkout", "replicas", "any"],
    ]
    assert rows[0][3] == str(9 + 9 + 1)
    assert rows[0][5] == str(5 + 1)  # one and two share a group: one of them counts
    assert "; the budget of 1.0 % takes 299 without a rollback, so a longer past" in said.out
    assert "judged 3 of 3" in said.err


def test_calibrate_as_json_holds_what_the_judge_takes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """placebo_rate is the proven limit; every metric has its figures; two processes say what one says."""
    command = ["calibrate", "--cases", str(folder), *CUT, "--every", "4", "--json"]
    assert command_line([*command, "--workers", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    before_after = told["found"][0]
    assert before_after["placebo_rate"] == pytest.approx(before_after["proven"])
    assert [metric["metric"] for metric in before_after["metrics"]] == ["errors"]
    alone = calibrate_cases(folder, {"planned_looks": 8}, Cut(baseline_looks=20, every=4), workers=1)
    assert [one.service.placebos for _, one in by_service(alone)] == [one["placebos"] for one in told["found"]]


def test_calibrate_says_when_the_past_is_too_short_for_one_placebo(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the shipped watch of 90 looks there is no placebo in 60 steps, and no figure."""
    assert command_line(["calibrate", "--cases", str(folder), "--workers", "1"]) == 0
    assert "no placebo deploy could be judged: a placebo deploy takes 180 looks" in capsys.readouterr().out
