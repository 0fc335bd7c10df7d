"""`backtest`: what recorded deploys would have been called, knowing nothing later and no truth."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.evaluate import Trial, exact_interval, score
from analysis.judge import judge
from analysis.result import JudgeSettings, Verdict
from watchdog.app import recorded_cases
from watchdog.backtest import backtest, judge_blind, settings_of
from watchdog.cli import command_line
from watchdog.errors import WatchdogError

SETTINGS = JudgeSettings()
LEVELS = [
    {"name": "cpu", "kind": "gauge", "direction": "up_is_bad", "unit": "percent"},
    {"name": "p90", "kind": "latency", "direction": "up_is_bad", "unit": "s"},
]
ERRORS = [{"name": "errors", "kind": "count", "direction": "up_is_bad", "unit": "requests"}]
LOOKS = 30
Rows = list[dict[str, Any]]


def level(case: str, rng: np.random.Generator, arm: str, spans: range, *, replica: int = 0, up_at: int = 999) -> Rows:
    """CPU and p90 of one replica; from step `up_at` on the CPU is half as high again."""
    rows: Rows = []
    for i in spans:
        cpu, p90 = 50 + 1.5 * rng.standard_normal(), 0.2 + 0.01 * rng.standard_normal()
        values = (cpu * (1.5 if i >= up_at else 1.0), p90)
        rows += [
            {"case": case, "metric": m, "arm": arm, "replica": replica, "t": i, "value": values[m]} for m in (0, 1)
        ]
    return rows


def counts(case: str, rng: np.random.Generator, arm: str, spans: range, rate: Callable[[int], float], n: int) -> Rows:
    """Errors of requests on two routes; intervals without requests leave no row."""
    rows: Rows = []
    for i in spans:
        for route in ("/", "/buy"):
            total = rng.poisson(n)
            row = {"case": case, "metric": 0, "arm": arm, "replica": 0, "t": i, "stratum": route, "total": total}
            rows += [{**row, "value": rng.binomial(total, rate(i))}] if total else []
    return rows


def case(name: str, kind: str, strategy: str, step: int, metrics: Any, **more: Any) -> dict[str, Any]:
    onset = {"onset_s": more.pop("onset") * step} if "onset" in more else {"onset_s": None}
    told = {"id": name, "dataset": more.pop("dataset", "levels"), "kind": kind, "strategy": strategy}
    return {**told, "step_seconds": step, "metrics": metrics, "group": name, **onset, **more}


def in_seconds(rows: Rows, step: int) -> Rows:
    return [{**row, "t": row["t"] * step} for row in rows]


def write_folder(folder: Path) -> Path:
    """Seven deploys in both formats, levels by the minute and by the second, counts with and without faults."""
    rng = np.random.default_rng(20)
    past, watch, long = range(-40, 0), range(LOOKS), range(280)
    pods = [row for pod in range(4) for row in level("good", rng, "baseline", watch, replica=pod)]
    peers = [row for pod in range(4) for row in level("dead", rng, "baseline", watch, replica=pod)]
    levels = [
        *in_seconds([*pods, *level("good", rng, "candidate", watch)], 60),
        *in_seconds([*peers, *level("dead", rng, "candidate", range(4))], 60),
        *in_seconds([*level("after", rng, "baseline", past), *level("after", rng, "candidate", watch, up_at=8)], 60),
        *level("seconds", rng, "baseline", range(-280, 0)),
        *level("seconds", rng, "candidate", long, up_at=100),
    ]
    made = []
    for name, bad, n in (("fine", 0.02, 300), ("broken", 0.10, 300), ("sparse", 0.02, 300)):
        quiet = counts(name, rng, "history", past, lambda i: 0.02, 600)
        base = counts(name, rng, "baseline", watch, lambda i: 0.02, n)
        new = counts(name, rng, "candidate", watch, lambda i, bad=bad: bad if i >= 6 else 0.02, n)  # type: ignore[misc]
        made += in_seconds([*quiet, *base, *(new if name != "sparse" else [r for r in new if r["t"] % 9 == 0])], 30)
    described = [
        case("good", "AA", "concurrent", 60, LEVELS),
        case("dead", "fault", "concurrent", 60, LEVELS, onset=4),
        case("after", "fault", "prepost", 60, LEVELS, onset=8),
        case("seconds", "fault", "prepost", 1, LEVELS, onset=100),
        case("fine", "AA", "concurrent", 30, ERRORS, dataset="requests", share=0.5, sticky=False),
        case("broken", "implant", "concurrent", 30, ERRORS, dataset="requests", share=0.5, sticky=False, onset=6),
        case("sparse", "AA", "concurrent", 30, ERRORS, dataset="requests", share=0.5, sticky=False),
    ]
    pd.DataFrame(levels).astype({"case": "category", "value": "float32"}).to_parquet(folder / "levels.parquet")
    pd.DataFrame(made).astype({"stratum": "category"}).to_parquet(folder / "requests.parquet")
    (folder / "cases.json").write_text(json.dumps(described))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def verdicts(folder: Path) -> dict[str, dict[str, Any]]:
    return said(folder)


def said(folder: Path, **given: Any) -> dict[str, dict[str, Any]]:
    """Everything but the id, by id."""
    rows = {one.id: one for one in backtest(folder, given, workers=1)}
    return {
        name: {key: getattr(one, key) for key in ("verdict", "reason", "alarm_at_s", "metric", "sentence")}
        for name, one in rows.items()
    }


def rewritten(folder: Path, to: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """A copy of a case folder with its rows changed."""
    for path in folder.glob("*.parquet"):
        frame = pd.read_parquet(path).astype({"case": str})
        change(frame).to_parquet(to / path.name)
    (to / "cases.json").write_text((folder / "cases.json").read_text())
    return to


def words(verdict: Verdict) -> tuple[Any, ...]:
    return verdict.kind, verdict.reason, verdict.alarm_look, verdict.metric, verdict.sentence


def test_one_line_per_case_with_what_the_design_names(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes write what one does; the table of truth comes after, on stderr."""
    out = tmp_path / "out.jsonl"
    assert command_line(["backtest", "--cases", str(folder), "--json", str(out), "--workers", "2"]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [set(line) for line in lines] == [
        {"id", "verdict", "reason", "alarm_at_s", "metric", "sentence"} for _ in range(7)
    ]
    assert {line.pop("id"): line for line in lines} == said(folder)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "judged 7 of 7" in captured.err
    table = {line.split("  ")[0]: line.split() for line in captured.err.splitlines()}
    assert table["all"][1:5] == ["3", "0", "=", "0.0"]
    assert table["requests (concurrent, by request)"][4:8] == ["2", "0", "=", "0.0"]
    assert not list(tmp_path.glob("*.part"))


def test_bad_deploys_are_called_after_their_onset(verdicts: dict[str, dict[str, Any]]) -> None:
    """Healthy ones are not; the time is that of the end of the look that alarmed."""
    assert {name: (one["verdict"], one["reason"]) for name, one in verdicts.items()} == {
        "good": ("HEALTHY", None),
        "dead": ("DEGRADED", "CANDIDATE_ABSENT"),
        "after": ("INCONCLUSIVE", "UNCALIBRATED"),
        "seconds": ("INCONCLUSIVE", "UNCALIBRATED"),
        "fine": ("HEALTHY", None),
        "broken": ("DEGRADED", "METRICS"),
        "sparse": ("HEALTHY", None),
    }
    assert verdicts["good"]["alarm_at_s"] is None
    assert verdicts["dead"]["alarm_at_s"] == (4 + 5) * 60
    assert 6 * 30 < verdicts["broken"]["alarm_at_s"] <= 9 * 30
    assert verdicts["broken"]["alarm_at_s"] % 30 == 0
    assert verdicts["broken"]["metric"] == "errors"
    assert 8 * 60 < verdicts["after"]["alarm_at_s"] <= 16 * 60


@pytest.mark.parametrize("given", [{"act_uncalibrated": True}, {"placebo_rate": 0.005}])
def test_before_and_after_acts_where_it_may(
    folder: Path, verdicts: dict[str, dict[str, Any]], given: dict[str, Any]
) -> None:
    """With the operator's word or a measured rate within the budget; the alarm is the same one."""
    acted = said(folder, **given)["after"]
    assert (acted["verdict"], acted["reason"]) == ("DEGRADED", "METRICS")
    assert acted["alarm_at_s"] == verdicts["after"]["alarm_at_s"]


def test_one_call_says_what_stepping_look_by_look_says(folder: Path) -> None:
    """The first alarm, its words and its time; without an alarm the words of the last look."""
    for recorded in recorded_cases(folder):
        steps = 10 if recorded.step_s == 1 else 1  # the fine one in looks of ten steps
        looks = recorded.looks // steps
        each = (judge([recorded.observation(k, steps=steps)], [SETTINGS])[0] for k in range(1, looks + 1))
        stepped = next((one for one in each if one.alarm_look is not None), None)
        if stepped is None:
            stepped = judge([recorded.observation(steps=steps)], [SETTINGS])[0]
        found, look_s = judge_blind(recorded.unlabelled(), SETTINGS, look_s=10.0)
        assert words(found) == words(stepped), recorded.id
        assert look_s == recorded.step_s * steps


def test_noise_in_the_future_changes_nothing_before_it(
    folder: Path, verdicts: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Whatever comes after an alarm, sense or garbage, the line stays as it was to the last word."""
    alarms = {name: one["alarm_at_s"] for name, one in verdicts.items() if one["alarm_at_s"] is not None}
    rng = np.random.default_rng(3)

    def noisy(frame: pd.DataFrame) -> pd.DataFrame:
        later = frame["t"] >= frame["case"].map(alarms).astype(float)  # NaN: no alarm, nothing is later
        assert later.any()
        noise = pd.Series(rng.normal(-50, 500, len(frame)), frame.index)  # negative counts among it
        return frame.assign(value=frame["value"].astype(float).where(~later, noise))

    assert said(rewritten(folder, tmp_path, noisy)) == verdicts


def test_no_alarm_is_raised_before_the_noise_begins(folder: Path, tmp_path: Path) -> None:
    """A healthy deploy whose later half is replaced may alarm there, and not a look sooner."""
    half = LOOKS // 2

    def broken_late(frame: pd.DataFrame) -> pd.DataFrame:
        step = frame["case"].map({"good": 60, "fine": 30})
        late = (frame["t"] >= half * step) & (frame["arm"] == "candidate")
        much = frame["total"] if "total" in frame else frame["value"] * 40
        return frame[step.notna()].assign(value=frame["value"].where(~late, much))

    found = said(rewritten(folder, tmp_path, broken_late))
    assert found["good"]["alarm_at_s"] > half * 60
    assert found["fine"]["alarm_at_s"] == (half + 1) * 30


def test_where_a_case_ends_is_no_input(folder: Path, verdicts: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Cut off right behind its alarm, a case is told in the same words."""
    alarms = {name: one["alarm_at_s"] for name, one in verdicts.items() if one["alarm_at_s"] is not None}
    short = rewritten(folder, tmp_path, lambda frame: frame[frame["t"] < frame["case"].map(alarms).astype(float)])
    found = said(short)
    assert {name: found[name] for name in alarms} == {name: verdicts[name] for name in alarms}


def test_names_order_files_and_labels_are_no_inputs(
    folder: Path, verdicts: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """Renamed, shuffled, put into one file and with every label turned round: the same verdicts."""
    frames = [pd.read_parquet(path).astype({"case": str}) for path in folder.glob("*.parquet")]
    described = json.loads((folder / "cases.json").read_text())
    new = {meta["id"]: f"case-{97 - i}" for i, meta in enumerate(described)}
    rows = pd.concat(frames, ignore_index=True).astype({"stratum": object}).sample(frac=1, random_state=1)
    rows.assign(case=rows["case"].map(new)).to_parquet(tmp_path / "other.parquet")
    lies = {"kind": "AA", "onset_s": 12345, "dataset": "x", "group": "y", "fault": "z", "n_candidate_steps": 3}
    (tmp_path / "cases.json").write_text(json.dumps([{**meta, "id": new[meta["id"]], **lies} for meta in described]))
    found = said(tmp_path)
    assert {name: found[new[name]] for name in verdicts} == verdicts


def test_nothing_of_the_truth_reaches_the_judge(folder: Path) -> None:
    """What a worker is handed holds the samples, the metrics, the step and the share."""
    for recorded in recorded_cases(folder):
        handed = recorded.unlabelled()
        assert handed.id == ""
        assert set(handed.meta) <= {"share", "n_candidate_replicas"}


def test_seconds_are_put_together_on_demand(folder: Path, tmp_path: Path) -> None:
    """To looks of the asked length, whatever the length of the case; else every step is a look."""
    rewritten(folder, tmp_path, lambda frame: frame[frame["case"] == "seconds"])

    def alarm(look_s: float) -> float:
        found = next(j for j in backtest(tmp_path, {}, look_s=look_s, workers=1) if j.id == "seconds")
        assert found.alarm_at_s is not None
        return found.alarm_at_s

    assert alarm(10) in range(110, 150, 10)
    assert alarm(20) in range(120, 180, 20)
    assert alarm(0) % 10 != 0, "an alarm between two looks of 10 s"


def test_no_requests_are_no_absence(folder: Path) -> None:
    """Counts leave no row where nothing was asked: the candidate is idle then, not gone."""
    sparse = next(one for one in recorded_cases(folder) if one.id == "sparse")
    cells = sparse.observation().samples["errors", 1]
    idle = [(cells.value[i], cells.total[i]) for i, arm in enumerate(cells.arm) if arm == "candidate"]
    assert idle == [(0.0, 0.0)]
    assert [name for name, _ in sparse.observation(looks=1).samples if name != "errors"] == []


def test_a_case_without_rows_has_a_line_too(folder: Path, tmp_path: Path) -> None:
    """Nothing was recorded of it, and that is what is said."""
    rewritten(folder, tmp_path, lambda frame: frame[frame["case"] != "good"])
    found = said(tmp_path)
    assert (found["good"]["verdict"], found["good"]["reason"]) == ("INCONCLUSIVE", "NO_DATA")
    assert len(found) == 7


def test_settings_of_a_case_go_before_the_shipped_ones_and_given_ones_before_both() -> None:
    """And what is no setting is told by name."""
    assert settings_of("c", {}, {}) == JudgeSettings()
    assert settings_of("c", {"planned_looks": 20, "budget": 0.05}, {"budget": 0.001}) == JudgeSettings(
        planned_looks=20, budget=0.001
    )
    for wrong, told in [
        ({"bugdet": 1}, "'bugdet' is no judge setting"),
        ({"budget": "much"}, "budget"),
        ({"budget": 2}, "between 0 and 1"),
        ([1], "no table"),
    ]:
        with pytest.raises(WatchdogError, match=told):
            settings_of("c", wrong, {})


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda f: (f / "cases.json").unlink(), "is no case folder: cases.json"),
        (lambda f: [path.unlink() for path in f.glob("*.parquet")], "no Parquet file beside cases.json"),
        (lambda f: (f / "levels.parquet").write_bytes(b"PAR1 and no more"), "levels.parquet cannot be read"),
        (lambda f: _column(f, lambda x: x.rename(columns={"total": "totl"})), "unknown column 'totl'; did you mean"),
        (lambda f: _column(f, lambda x: x.drop(columns="t")), "lacks the columns t"),
        (lambda f: _column(f, lambda x: x.assign(value="many")), "could not convert string to float"),
        (lambda f: pd.read_parquet(f / "levels.parquet").to_parquet(f / "more.parquet"), "another Parquet file too"),
        (lambda f: _described(f, settings={"speed": 3}), "'speed' is no judge setting"),
        (lambda f: [path.unlink() for path in f.glob("*")] and f.rmdir(), "there is no folder"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], break_it: Callable[[Path], Any], told: str
) -> None:
    """On stderr, with exit code 4, and a former result stays as it was."""
    broken, out = tmp_path / "cases", tmp_path / "out.jsonl"
    broken.mkdir()
    rewritten(folder, broken, lambda frame: frame)
    out.write_text("former")
    break_it(broken)
    assert command_line(["backtest", "--cases", str(broken), "--json", str(out), "--workers", "1"]) == 4
    captured = capsys.readouterr()
    assert told in captured.err
    assert "Traceback" not in captured.err
    assert out.read_text() == "former"


def _column(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = folder / "requests.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def _described(folder: Path, **more: Any) -> None:
    described = json.loads((folder / "cases.json").read_text())
    (folder / "cases.json").write_text(json.dumps([{**meta, **more} for meta in described]))


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not after some minutes."""
    out = tmp_path / "nowhere" / "out.jsonl"
    assert command_line(["backtest", "--cases", str(folder), "--json", str(out)]) == 4
    assert "cannot be written" in capsys.readouterr().err
    assert command_line(["backtest", "--cases", str(folder), "--json", str(tmp_path)]) == 4
    assert "cannot be written" in capsys.readouterr().err


def test_without_labels_there_is_no_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cases of one's own have no truth; their verdicts are counted all the same."""
    rewritten(folder, tmp_path, lambda frame: frame[frame["case"] == "good"])
    meta = next(meta for meta in json.loads((folder / "cases.json").read_text()) if meta["id"] == "good")
    del meta["kind"], meta["dataset"]
    (tmp_path / "requests.parquet").unlink()
    (tmp_path / "cases.json").write_text(json.dumps([meta]))
    arguments = ["backtest", "--cases", str(tmp_path), "--json", str(tmp_path / "out.jsonl"), "--workers", "1"]
    assert command_line(arguments) == 0
    told = capsys.readouterr().err
    assert "1 case: 1 HEALTHY" in told
    assert "median" not in told
    assert "found" not in told


def trials() -> Iterator[Trial]:
    for alarm_at_s in (None, None, None, 120.0):
        yield Trial(group="a", fault=False, alarm_at_s=alarm_at_s, acted=False, step_s=60)
    for alarm_at_s in (60.0, 120.0, 180.0, 300.0, None):
        yield Trial(group="b", fault=True, alarm_at_s=alarm_at_s, acted=True, step_s=60, onset_s=60)


def test_alarms_are_counted_as_false_early_or_found() -> None:
    """A look that ended when the fault began knew nothing of it; alarms that would not act are false all the same."""
    a, b, both = score(trials())
    assert (a.group, a.unchanged, a.false, a.false_acted, a.faults) == ("a", 4, 1, 0, 0)
    assert (b.faults, b.early, b.found, b.median_delay_steps) == (5, 1, 3, 2.0)
    assert (both.unchanged, both.faults, both.false, both.found) == (4, 5, 1, 3)


def test_the_interval_of_a_share_is_exact() -> None:
    """At its ends the binomial tails are 2.5 % each."""
    low, high = exact_interval(3, 20)
    tail_low = sum(math.comb(20, k) * low**k * (1 - low) ** (20 - k) for k in range(3, 21))
    tail_high = sum(math.comb(20, k) * high**k * (1 - high) ** (20 - k) for k in range(4))
    assert tail_low == pytest.approx(0.025)
    assert tail_high == pytest.approx(0.025)
    assert exact_interval(0, 24)[0] == 0.0
    assert exact_interval(0, 24)[1] == pytest.approx(0.1425, abs=1e-4)
    assert exact_interval(5, 5)[1] == 1.0
