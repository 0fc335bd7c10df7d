"""A latency gauge speaks for as many requests as there were: looks with a handful of them are no evidence."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.decode import decode
from analysis.few_requests import FEWEST, with_enough_requests
from analysis.judge import judge
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, JudgeSettings, Kind, MetricSpec, VerdictKind

P90 = MetricSpec(name="p90", kind=Kind.GAUGE, unit="s")
ERRORS = MetricSpec(name="errors", kind=Kind.RATIO)
SETTINGS = JudgeSettings(planned_looks=30)
LOOKS, PAST = 30, 40


def watch(requests: float, *, spec: MetricSpec = P90, slow: float = 10.0, counted: bool = True) -> Observation:
    """One candidate replica beside three old ones; its p90 is `slow` times as high, over so many requests a look."""
    rng = np.random.default_rng(1)
    pods = ["baseline", "baseline", "baseline", "candidate"]
    samples = {}
    for i in range(-PAST, LOOKS):
        level = 0.2 + 0.02 * rng.standard_normal(4)
        level[3] *= slow
        arms = [arm if i >= 0 else "history" for arm in pods][: 4 if i >= 0 else 3]
        names = tuple(f"{arm}-{k}" for k, arm in enumerate(arms))
        samples[spec.name, i] = Cells(tuple(arms), names, value=tuple(level[: len(arms)]))
        if counted:
            total = tuple(requests if arm == "candidate" else 400.0 for arm in arms)
            samples["errors", i] = Cells(tuple(arms), names, value=(0.0,) * len(arms), total=total)
    metrics = (ERRORS, spec) if counted else (spec,)
    return Observation(design=Design.CONCURRENT, step_s=10.0, metrics=metrics, samples=samples, looks=LOOKS)


def test_looks_of_a_handful_of_requests_are_left_out_and_said() -> None:
    """Three requests a look: ten times the p90 is no evidence; a hundred requests: it is."""
    few = judge([watch(3.0)], [SETTINGS])[0]
    assert few.kind is not VerdictKind.DEGRADED
    assert "p90: 30 looks with fewer than 20 requests of the new version were left out" in few.notes
    many = judge([watch(100.0)], [SETTINGS])[0]
    assert (many.kind, many.metric) == (VerdictKind.DEGRADED, "p90")
    assert not any("left out" in note for note in many.notes)


@pytest.mark.parametrize("change", [{"counted": False}, {"spec": replace(P90, unit="MB")}])
def test_what_is_not_counted_or_no_time_stands(change: dict[str, object]) -> None:
    """Where nothing counts requests nobody knows; memory does not depend on them."""
    assert judge([watch(3.0, **change)], [SETTINGS])[0].kind is VerdictKind.DEGRADED  # type: ignore[arg-type]


def test_only_the_arm_and_the_intervals_with_too_few_are_left_out() -> None:
    """The old version keeps its past and its looks, the candidate the looks with enough."""
    seen = watch(100.0)
    quiet = {("errors", i): replace(seen.samples["errors", i], total=(400.0, 400.0, 400.0, 19.0)) for i in (4, 5)}
    arrays = decode(replace(seen, samples={**seen.samples, **quiet}))
    metric = next(one for one in arrays.metrics if one.spec is P90)
    thinned, left_out = with_enough_requests(arrays, metric)
    assert left_out == 2
    missing = np.isnan(thinned.panels[Arm.CANDIDATE].value[0, 0, 0])
    assert np.flatnonzero(missing[PAST:]).tolist() == [4, 5]
    for arm in (Arm.BASELINE, Arm.HISTORY):
        assert thinned.panels[arm] is metric.panels[arm]


def test_a_count_beside_the_level_itself_goes_before_other_metrics() -> None:
    """`total` of a level is the number of requests that it speaks for."""
    seen = watch(100.0)
    own = {
        key: replace(cells, total=(FEWEST - 1,) * len(cells.value))
        for key, cells in seen.samples.items()
        if key[0] == "p90"
    }
    assert judge([replace(seen, samples={**seen.samples, **own})], [SETTINGS])[0].kind is not VerdictKind.DEGRADED
