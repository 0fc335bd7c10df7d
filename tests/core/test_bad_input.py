"""Garbage in: an error that names the array, or the INCONCLUSIVE reason that fits; never a verdict from garbage."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.cases import BadCasesError, read_cases
from analysis.hindsight import watch
from analysis.judge import alarm_looks, judge
from analysis.methods.ranks import mann_whitney
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Design, JudgeSettings, Kind, MetricSpec, Reason, VerdictKind
from analysis.simulate import ERRORS, LATENCY, Service, observe

NAN, INF = math.nan, math.inf
SETTINGS = JudgeSettings(planned_looks=18, act_uncalibrated=True)
BAD = Service(errors_after=0.2, looks=18, past=30)  # so bad that whatever is left of it would be called


def bad(metrics: tuple[MetricSpec, ...] = (ERRORS,), design: Design = Design.CONCURRENT) -> Observation:
    return observe(replace(BAD, design=design), np.random.default_rng(1), metrics)


def changed(seen: Observation, change: Callable[[Cells], Cells], look: int = 5) -> Observation:
    """One interval of the first metric changed."""
    key = (seen.metrics[0].name, look)
    return replace(seen, samples={**seen.samples, key: change(seen.samples[key])})


def first_cell(column: str, value: float) -> Callable[[Cells], Cells]:
    """One cell of one column replaced."""
    return lambda cells: replace(cells, **{column: (value, *getattr(cells, column)[1:])})


def falling(cells: Cells) -> Cells:
    return replace(cells, value=(cells.value[0] + 1e6, *cells.value[1:]))


@pytest.mark.parametrize(
    ("metric", "change", "named"),
    [
        (ERRORS, first_cell("value", NAN), "errors: baseline value: nan is not a number"),
        (ERRORS, first_cell("value", INF), "errors: baseline value: inf is not a number"),
        (ERRORS, first_cell("value", -1.0), "errors: baseline value: negative count"),
        (ERRORS, first_cell("total", -1.0), "errors: baseline total: negative count"),
        (ERRORS, first_cell("total", NAN), "errors: baseline total: ratio needs an exposure"),
        (ERRORS, first_cell("value", 1e9), "errors: baseline value: more bad events than events"),
        (LATENCY, falling, "latency: baseline value: bucket counts fall as le rises"),
        (LATENCY, first_cell("le", NAN), "latency: le: NaN is not a bucket bound"),
        (ERRORS, lambda c: replace(c, arm=("canary", *c.arm[1:])), "errors: arm: 'canary' is no arm"),
        (ERRORS, lambda c: replace(c, value=c.value[1:]), "cells, value has"),
        (ERRORS, lambda c: replace(c, replica=("x",) * len(c.arm)), "the same cell twice"),
    ],
    ids=[
        "nan",
        "inf",
        "negative",
        "negative-total",
        "no-total",
        "errors-over-total",
        "buckets",
        "le",
        "arm",
        "length",
        "twice",
    ],
)
@pytest.mark.parametrize("design", list(Design))
def test_samples_that_cannot_be_are_misconfigured_and_named(
    metric: MetricSpec, change: Callable[[Cells], Cells], named: str, design: Design
) -> None:
    """In both designs, although the rest of the watch is as bad as can be."""
    seen = bad((metric,), design)
    look = 5 if design is Design.CONCURRENT else -5
    verdict = judge([changed(seen, change, look)], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.MISCONFIGURED)
    assert named in verdict.sentence
    assert verdict.alarm_look is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"step_s": 0.0}, "step_s: 0 is no length"),
        ({"step_s": NAN}, "step_s: nan is no length"),
        ({"step_s": INF}, "step_s: inf is no length"),
        ({"share": 1.5}, "share: 1.5 is no share"),
        ({"share": NAN}, "share: nan is no share"),
        ({"facts": {3: LookFacts(share=-0.1)}}, "share: -0.1 is no share"),
        ({"metrics": (ERRORS, ERRORS)}, "metrics: the same name twice"),
    ],
)
def test_a_frame_that_cannot_be_is_named(change: dict[str, Any], named: str) -> None:
    """What holds for the whole watch."""
    verdict = judge([replace(bad(), **change)], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.MISCONFIGURED)
    assert named in verdict.sentence


@pytest.mark.parametrize("arm", ["baseline", "candidate"])
def test_an_empty_arm_is_no_data(arm: str) -> None:
    """Nobody is compared with nothing."""
    seen = bad()
    samples = {}
    for key, c in seen.samples.items():
        at = [i for i, name in enumerate(c.arm) if name != arm]
        columns = {
            f: tuple(getattr(c, f)[i] for i in at) for f in ("arm", "replica", "stratum", "le", "value", "total")
        }
        samples[key] = replace(c, **columns)
    verdict = judge([replace(seen, samples=samples)], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.NO_DATA)
    assert f"no samples of the {arm}" in verdict.sentence


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("design", list(Design))
def test_one_sample_decides_nothing(kind: Kind, design: Design) -> None:
    """Of any kind, however far off it is."""
    spec = MetricSpec(name="one", kind=kind)
    ratio = kind not in (Kind.GAUGE, Kind.TREND)
    total = (10.0, 10.0) if ratio else ()
    le = (INF, INF) if kind is Kind.LATENCY else ()
    both = Cells(("baseline", "candidate"), le=le, value=(0.0, 10.0), total=total)
    samples = {("one", 0): both}
    if design is Design.BEFORE_AFTER:
        one = {f: getattr(both, f)[:1] for f in ("arm", "le", "value", "total")}
        two = {f: getattr(both, f)[1:] for f in ("arm", "le", "value", "total")}
        samples = {("one", -1): Cells(**one), ("one", 0): Cells(**two)}
    seen = Observation(design=design, step_s=5.0, metrics=(spec,), samples=samples, looks=1)
    verdict = judge([seen], [SETTINGS])[0]
    assert verdict.kind is VerdictKind.INCONCLUSIVE, verdict.sentence
    assert "nan" not in verdict.sentence


def test_nothing_at_all_is_no_data() -> None:
    """No metrics, no samples, no looks."""
    empty = Observation(design=Design.CONCURRENT, step_s=5.0, metrics=(), samples={}, looks=12)
    for seen in (empty, replace(empty, metrics=(ERRORS,)), replace(empty, looks=0), replace(empty, looks=-3)):
        assert judge([seen], [SETTINGS])[0].kind is VerdictKind.INCONCLUSIVE
    assert alarm_looks([], []) == []


def test_a_kernel_says_which_array_is_wrong() -> None:
    """Called by itself, as notebooks do."""
    for x, y, named in (
        (np.zeros((1, 0)), np.ones((1, 3)), "an arm is empty"),
        (np.array([[NAN, 1.0]]), np.ones((1, 3)), "x must be finite"),
        (np.ones((1, 3)), np.array([[INF]]), "y must be finite"),
        (np.ones((2, 3)), np.ones((1, 3)), "leading axes"),
    ):
        with pytest.raises(ValueError, match=named):
            mann_whitney(x, y)


# --- times, which only recorded cases have ----------------------------------------------------------------


def folder(to: Path, rows: pd.DataFrame, step_s: float = 30.0) -> Path:
    """A case with one metric of counts."""
    case = {
        "id": "c",
        "strategy": "concurrent",
        "step_seconds": step_s,
        "metrics": [{"name": "errors", "kind": "ratio", "direction": "up_is_bad", "unit": ""}],
    }
    (to / "cases.json").write_text(json.dumps([case]))
    rows.to_parquet(to / "counts.parquet")
    return to


def rows(times: list[float], bad_share: float = 0.01) -> pd.DataFrame:
    """300 requests of each version at every time."""
    arms = {"baseline": 0.01, "candidate": bad_share}
    return pd.DataFrame(
        [
            {"case": "c", "metric": 0, "arm": arm, "replica": "0", "t": t, "value": 300 * share, "total": 300.0}
            for t in times
            for arm, share in arms.items()
        ]
    )


def said(where: Path) -> tuple[str, int | None, float]:
    (case,) = read_cases(where)
    seen = case.unlabelled().observation()
    verdict = watch(seen, SETTINGS)
    return verdict.sentence, verdict.alarm_look, verdict.log_evidence


def test_unsorted_times_are_sorted(tmp_path: Path) -> None:
    """The order of rows is no input."""
    times = [30.0 * i for i in range(20)]
    frame = rows(times, 0.05)
    straight = said(folder(tmp_path, frame))
    assert straight[1] is not None
    assert said(folder(tmp_path, frame.iloc[np.random.default_rng(1).permutation(len(frame))])) == straight


def test_one_time_twice_is_refused_and_named(tmp_path: Path) -> None:
    """Two values of one series at one time: nobody knows which is right, and adding them counts requests twice."""
    frame = rows([30.0 * i for i in range(20)])
    doubled = pd.concat([frame, frame[(frame["t"] == 60.0) & (frame["arm"] == "candidate")]])
    with pytest.raises(BadCasesError, match="case 'c': errors: candidate: two values at t = 60 s"):
        said(folder(tmp_path, doubled))


def test_finer_steps_among_coarse_ones_are_put_together(tmp_path: Path) -> None:
    """Half of the watch in steps of 30 s, half of 10 s, looked at every 30 s: the same requests, the same verdict."""
    coarse = rows([30.0 * i for i in range(20)], 0.05)
    fine = pd.concat([coarse[coarse["t"] == t].assign(t=t + s) for t in (300.0, 330.0) for s in (0.0, 10.0, 20.0)])
    fine = fine.assign(value=fine["value"] / 3, total=fine["total"] / 3)
    mixed = pd.concat([coarse[~coarse["t"].isin([300.0, 330.0])], fine])
    whole, parts = said(folder(tmp_path, coarse)), said(folder(tmp_path, mixed))
    assert parts[:2] == whole[:2]
    assert parts[2] == pytest.approx(whole[2], abs=1e-9)


def test_a_step_finer_than_the_samples_is_never_an_absence(tmp_path: Path) -> None:
    """Looked at every 5 s, recorded every 30 s: most looks are empty for both, and nobody is accused of it."""
    sentence, alarm, _ = said(folder(tmp_path, rows([30.0 * i for i in range(20)]), step_s=5.0))
    assert alarm is None
    assert "does not serve" not in sentence
