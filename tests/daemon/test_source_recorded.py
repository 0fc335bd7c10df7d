"""Recorded cases: what a case folder says is what the judge gets."""

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.cases import BadCasesError, Case, read_cases
from analysis.decode import decode
from analysis.result import Arm, Design, Direction, Kind, MetricSpec, SourceStatus
from tests.fakes import FakeClock
from watchdog.errors import SourceError
from watchdog.model import Metric
from watchdog.ports import ArmWindow, LookRequest
from watchdog.sources.recorded import RecordedOptions, RecordedSource

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

GAUGES: dict[str, Any] = {
    "id": "g1",
    "dataset": "levels",
    "kind": "fault",
    "strategy": "prepost",
    "step_seconds": 60,
    "metrics": [
        {"name": "cpu", "kind": "gauge", "direction": "up_is_bad", "unit": "percent"},
        {"name": "ok", "kind": "ratio", "direction": "down_is_bad", "unit": "percent"},
    ],
}
COUNTS: dict[str, Any] = {
    "id": "c1",
    "dataset": "counts",
    "strategy": "concurrent",
    "step_seconds": 10,
    "share": 0.1,
    "metrics": [
        {"name": "errors", "kind": "count", "direction": "up_is_bad", "unit": "requests", "critical": True},
        {"name": "signups", "kind": "count", "direction": "down_is_bad", "unit": "events per visit"},
        {"name": "latency", "kind": "latency", "direction": "up_is_bad", "unit": "s", "slo_le": 0.5},
    ],
}


def gauge(metric: int, arm: str, t: int, value: float, replica: int = 0) -> dict[str, Any]:
    return {"case": "g1", "metric": metric, "arm": arm, "replica": replica, "t": t, "value": value}


def count(metric: int, arm: str, t: int, value: float, total: float, **more: Any) -> dict[str, Any]:
    row = {"case": "c1", "metric": metric, "arm": arm, "replica": 0, "t": t, "value": value, "total": total}
    return {**row, "le": None, "stratum": None, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    levels = [
        gauge(0, "baseline", -120, 10.0),
        gauge(0, "baseline", -60, 12.0),
        gauge(0, "history", -600, 9.0),
        gauge(0, "candidate", 0, 20.0),
        gauge(0, "candidate", 30, 22.0),
        gauge(0, "candidate", 60, math.nan),
        gauge(1, "candidate", 120, 99.5, replica=1),
    ]
    counts = [
        count(0, "baseline", 0, 3, 100, stratum="/"),
        count(0, "baseline", 0, 1, 50, stratum="/buy"),
        count(0, "candidate", 0, 2, 10, stratum="/"),
        count(0, "candidate", 10, 4, 12, stratum="/"),
        count(0, "peers", -60, 7, 900, replica=3),
        count(1, "candidate", 0, 5, 4),
        *(count(2, "candidate", 0, value, 9, le=le) for le, value in ((0.5, 6), (math.inf, 9))),
    ]
    pd.DataFrame(levels).astype({"case": "category", "value": "float32"}).to_parquet(tmp_path / "levels.parquet")
    pd.DataFrame(counts).astype({"stratum": "category"}).to_parquet(tmp_path / "counts.parquet")
    (tmp_path / "cases.json").write_text(json.dumps([GAUGES, COUNTS]))
    return tmp_path


@pytest.fixture
def cases(folder: Path) -> dict[str, Case]:
    return {case.id: case for case in read_cases(folder)}


def test_a_series_without_exposure_is_a_level(cases: dict[str, Case]) -> None:
    """Whatever it is called; its direction and unit stay, and two values of one step are averaged."""
    case = cases["g1"]
    assert case.design is Design.BEFORE_AFTER
    assert case.metrics[1] == MetricSpec(name="ok", kind=Kind.GAUGE, direction=Direction.DOWN_IS_BAD, unit="percent")
    samples = case.samples()
    assert samples["cpu", 0].value == (21.0,)
    assert samples["cpu", -10].arm == ("history",)
    assert samples["ok", 2].replica == ("1",)
    assert case.looks == 3
    assert ("cpu", 1) not in samples, "NaN is no sample"


def test_counts_come_with_exposure_strata_and_bounds(cases: dict[str, Case]) -> None:
    """A share of all is a ratio, events per visit a rate, bounds make a latency; the specs' own settings are kept."""
    case = cases["c1"]
    assert [(spec.name, spec.kind) for spec in case.metrics] == [
        ("errors", Kind.RATIO),
        ("signups", Kind.RATE),
        ("latency", Kind.LATENCY),
    ]
    assert case.metrics[0].critical
    assert case.metrics[2].slo_le == 0.5
    cells = case.samples()["errors", 0]
    rows = set(zip(cells.arm, cells.stratum, cells.value, cells.total, strict=True))
    assert rows == {("baseline", "/", 3.0, 100.0), ("baseline", "/buy", 1.0, 50.0), ("candidate", "/", 2.0, 10.0)}
    assert case.samples()["latency", 0].le == (0.5, math.inf)
    assert case.samples()["errors", -6].replica == ("3",)


def test_the_judge_gets_nothing_later_and_no_truth(cases: dict[str, Case]) -> None:
    """An observation after one look has one look, and can be decoded."""
    observation = cases["c1"].observation(looks=1)
    assert observation.looks == 1
    assert observation.share == 0.1
    assert max(interval for _, interval in observation.samples) == 0
    assert decode(observation).metrics[0].panels.keys() >= {Arm.BASELINE, Arm.CANDIDATE, Arm.PEERS}


def test_a_case_is_played_by_the_time_since_the_deploy(folder: Path) -> None:
    """Whenever the deploy is now, and in longer steps than it was recorded in."""
    source = RecordedSource(name="past", options=RecordedOptions(folder=str(folder), case="c1"), clock=FakeClock())
    errors = Metric(spec=MetricSpec(name="errors", kind=Kind.RATIO))
    unknown = Metric(spec=MetricSpec(name="unknown", kind=Kind.RATIO))

    def ask(step_s: float) -> Any:
        arm = ArmWindow(arm=Arm.CANDIDATE, start=5000.0, end=5000.0 + step_s)
        look = LookRequest(watch_id="w", service="shop", interval=0, arms=(arm,), metrics=(errors, unknown))
        return source.fetch([look], deadline_s=1)[0]

    assert ask(10.0).facts.status is SourceStatus.DOWN
    source.start()
    source.start()
    assert set(ask(10.0).cells) == {"errors"}
    longer = ask(20.0).cells["errors"]
    mine = [i for i, arm in enumerate(longer.arm) if arm == "candidate"]
    assert [(longer.value[i], longer.total[i]) for i in mine] == [(6.0, 22.0)]


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda f: (f / "cases.json").unlink(), "no case folder"),
        (lambda f: (f / "cases.json").write_text("[1]"), "no case folder"),
        (lambda f: (f / "cases.json").write_text(json.dumps([GAUGES])), "'c1' is not described"),
        (lambda f: (f / "cases.json").write_text(json.dumps([GAUGES, {**COUNTS, "strategy": "x"}])), "KeyError"),
        (lambda f: (f / "cases.json").write_text(json.dumps([GAUGES, {**COUNTS, "metrics": []}])), "does not describe"),
        (lambda f: (f / "counts.parquet").write_bytes(b"PAR1"), "cannot be read"),
        (lambda f: pd.DataFrame({"case": ["c1"]}).to_parquet(f / "counts.parquet"), "lacks the columns"),
    ],
)
def test_a_folder_that_is_no_case_folder_says_so(folder: Path, break_it: Any, told: str) -> None:
    """One sentence, not a stack of pandas."""
    break_it(folder)
    with pytest.raises(BadCasesError, match=told):
        [case.samples() for case in read_cases(folder)]


def test_an_unknown_case_is_told_at_the_start(folder: Path) -> None:
    """Not at the first look."""
    source = RecordedSource(name="past", options=RecordedOptions(folder=str(folder), case="c9"), clock=FakeClock())
    with pytest.raises(SourceError, match="no case 'c9'"):
        source.start()


@pytest.mark.skipif(not SHARED.exists(), reason="the case sets do not lie beside this repository")
@pytest.mark.parametrize(("folder", "dataset"), [(SHARED, "changerca"), (SHARED / "counts", "uci")])
def test_real_case_sets_are_read(folder: Path, dataset: str) -> None:
    """The cases of a set, the first twenty of them, can be decoded by the judge."""
    described = {c["id"] for c in json.loads((folder / "cases.json").read_text()) if c["dataset"] == dataset}
    cases = list(islice(read_cases(folder, datasets={dataset}), 20))
    assert len(cases) == 20
    for case in cases:
        assert case.id in described
        assert decode(case.observation()).looks == case.looks > 0


def test_a_case_without_a_single_number_is_read_empty_and_in_its_place(folder: Path) -> None:
    """Rows that are no numbers are left out; the case is still one of the file's."""
    nothing = {**GAUGES, "id": "g0"}
    described = json.loads((folder / "cases.json").read_text())
    (folder / "cases.json").write_text(json.dumps([*described, nothing]))
    rows = pd.read_parquet(folder / "levels.parquet").astype({"case": str})
    gone = rows.assign(case="g0", value=math.nan).astype(rows.dtypes)
    pd.concat([rows, gone]).to_parquet(folder / "levels.parquet")
    read = {case.id: len(case.rows) for case in read_cases(folder)}
    assert list(read) == ["c1", "g0", "g1"]
    assert read["g0"] == 0 < read["g1"]


def test_a_row_of_the_wrong_type_is_told_with_its_case(folder: Path) -> None:
    """A file is read at once, but what is wrong is told of the case that has it."""
    rows = pd.read_parquet(folder / "levels.parquet").astype({"case": str, "t": str})
    rows.loc[rows.index[-1], "t"] = "noon"
    rows.to_parquet(folder / "levels.parquet")
    with pytest.raises(BadCasesError, match=r"levels\.parquet: case 'g1': .*noon"):
        list(read_cases(folder))


def test_a_case_knows_no_names(cases: dict[str, Case]) -> None:
    """What a judge is handed has no column with the case's name."""
    assert "case" not in cases["g1"].unlabelled().rows
