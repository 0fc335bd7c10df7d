"""Latency with a margin in time, on classic and native buckets, and on buckets that changed with the deploy."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from analysis.decode import decode
from analysis.judge import judge
from analysis.methods.histogram import choose_bounds, questions
from analysis.prepare import Cells, Observation
from analysis.result import Design, Direction, JudgeSettings, Kind, MetricSpec, Reason, Verdict, VerdictKind
from analysis.sentence import bound as words
from analysis.simulate import DEFAULT_BOUNDS

NATIVE = tuple(2.0 ** (k / 8) for k in range(-64, 25))  # schema 3: each bucket is 9.05 % wider than the one below
SETTINGS = JudgeSettings(planned_looks=60)
LATENCY = MetricSpec(name="latency", kind=Kind.LATENCY, unit="s")
ERRORS = MetricSpec(name="errors", kind=Kind.RATIO, critical=True)
LOOKS = 20


def cumulated(seconds: np.ndarray, le: Sequence[float]) -> list[float]:
    """What a histogram with these bounds makes of some requests."""
    return [float(n) for n in np.searchsorted(np.sort(seconds), [*le, np.inf], side="right")]


def watch(
    slower: float = 1.0,
    le: Sequence[float] = NATIVE,
    *,
    candidate_le: Sequence[float] | None = None,
    spec: MetricSpec = LATENCY,
    requests: int = 2000,
    seed: int = 1,
    design: Design = Design.CONCURRENT,
) -> Observation:
    """Lognormal latencies of 50 ms in the median, counted in two replicas of each version."""
    rng = np.random.default_rng(seed)
    before_after = design is Design.BEFORE_AFTER
    samples = {}
    for i in range(-30 if before_after else 0, LOOKS):
        arm, replica, bounds, value = [], [], [], []
        for name, times, own in (("baseline", 1.0, le), ("candidate", slower, candidate_le or le)):
            if before_after and (name == "baseline") != (i < 0):
                continue
            for pod in range(2):
                seconds = np.exp(rng.normal(np.log(0.05 * times), 0.7, requests // 2))
                arm += [name] * (len(own) + 1)
                replica += [f"{name}-{pod}"] * (len(own) + 1)
                bounds += [*own, np.inf]
                value += cumulated(seconds, own)
        samples["latency", i] = Cells(tuple(arm), tuple(replica), le=tuple(bounds), value=tuple(value))
    return Observation(design=design, step_s=10.0, metrics=(spec,), samples=samples, looks=LOOKS)


def with_errors(seen: Observation) -> Observation:
    """The same watch beside a critical metric in which nothing happens."""
    cells = Cells(("baseline", "candidate"), value=(10.0, 10.0), total=(1000.0, 1010.0))
    samples = {**seen.samples, **{("errors", i): cells for i in range(LOOKS)}}
    return replace(seen, metrics=(ERRORS, *seen.metrics), samples=samples)


def said(seen: Observation) -> Verdict:
    return judge([seen], [replace(SETTINGS, act_uncalibrated=True)])[0]


@pytest.mark.parametrize("le", [NATIVE, DEFAULT_BOUNDS])
def test_the_kernel_judges_native_buckets_as_classic_ones(le: Sequence[float]) -> None:
    """Unchanged: healthy. Half as slow again: degraded, by a bound of these buckets."""
    assert said(watch(le=le)).kind is VerdictKind.HEALTHY
    slow = said(watch(1.5, le))
    assert slow.kind is VerdictKind.DEGRADED
    assert any(f"above {words(bound)} s" in slow.sentence for bound in le)


@pytest.mark.parametrize("design", list(Design))
def test_what_is_within_a_margin_in_time_is_tolerated_however_much_traffic_shows_it(design: Design) -> None:
    """10 % slower is beyond a margin of 5 % and within one of 20 %; 50 % slower is beyond that too."""
    for slower_by, slower, kind in ((0.05, 1.15, "DEGRADED"), (0.2, 1.1, ""), (0.2, 1.5, "DEGRADED")):
        spec = replace(LATENCY, slower_by=slower_by, floor=0.0)
        found = said(watch(slower, spec=spec, requests=20_000, design=design))
        assert (found.kind == "DEGRADED") is (kind == "DEGRADED"), found.sentence


def test_at_the_very_margin_the_budget_holds() -> None:
    """Slower by exactly the distance of the bounds: no alarm in 40 watches (1 % would give more than 2 in 1 of 130)."""
    spec = replace(LATENCY, slower_by=0.09, floor=0.0)
    alarms = [said(watch(2 ** (1 / 8), spec=spec, seed=seed)).alarm_look for seed in range(40)]
    assert sum(look is not None for look in alarms) <= 2


def test_a_native_bucket_is_the_smallest_margin_in_time() -> None:
    """9 % is one bucket of schema 3, 20 % is three; every bound keeps its weight."""
    metric = decode(watch()).metrics[0]
    bounds, _ = choose_bounds(metric, Design.CONCURRENT)
    for slower_by, buckets in ((0.09, 1), (0.01, 1), (0.2, 3)):
        asked = questions(replace(metric, spec=replace(LATENCY, slower_by=slower_by)), bounds)
        assert {one.le: one.weight for one in asked} == bounds
        assert [one.candidate_le / one.le for one in asked] == pytest.approx([2 ** (buckets / 8)] * len(bounds))
    assert all(one.candidate_le == one.le for one in questions(metric, bounds))


def test_coarse_buckets_say_what_they_tolerate() -> None:
    """Classic buckets from 0.05 to 0.075, 0.1 to 0.25 and 0.25 to 0.5 s cannot tell 20 %."""
    found = said(watch(le=DEFAULT_BOUNDS, spec=replace(LATENCY, slower_by=0.2)))
    assert found.kind is VerdictKind.HEALTHY
    assert any("the smallest margin is one bucket" in note and "×2.5 (0.1 to 0.25 s)" in note for note in found.notes)
    assert not said(watch(spec=replace(LATENCY, slower_by=0.2))).notes


def test_the_bound_of_the_service_objective_is_the_same_for_both() -> None:
    """A promise to users is not moved by a margin in time."""
    metric = decode(watch(le=DEFAULT_BOUNDS, spec=replace(LATENCY, slower_by=0.2, slo_le=0.5))).metrics[0]
    asked = questions(metric, choose_bounds(metric, Design.CONCURRENT)[0])
    assert [one.candidate_le for one in asked if one.le == 0.5] == [0.5]


def test_a_bound_with_nothing_above_it_is_left_out() -> None:
    """The highest bucket cannot be compared with a higher one; with none left the note says what to add."""
    spec = replace(LATENCY, slower_by=0.2)
    metric = decode(watch(le=(0.05, 0.1), spec=spec)).metrics[0]
    asked = questions(metric, choose_bounds(metric, Design.CONCURRENT)[0])
    assert [(one.le, one.candidate_le, one.weight) for one in asked] == [(0.05, 0.1, 1.0)]
    found = said(with_errors(watch(le=(0.05,), spec=spec)))
    assert any("no bucket bound lies 20.0 % above" in note for note in found.notes), found.notes


def test_a_margin_in_time_belongs_to_slowness_alone() -> None:
    """Where fast is suspect too the bounds stay the same, else every unchanged deploy would be too fast."""
    spec = replace(LATENCY, slower_by=0.5, direction=Direction.EITHER)
    assert said(watch(spec=spec)).kind is VerdictKind.HEALTHY


def test_buckets_without_a_common_bound_are_misconfigured_and_both_layouts_named() -> None:
    """Seconds became milliseconds: where latency is needed the watch says so, beside a critical metric a note does."""
    changed = watch(candidate_le=tuple(1000 * le + 1 for le in DEFAULT_BOUNDS), le=DEFAULT_BOUNDS)
    found = said(changed)
    assert (found.kind, found.reason, found.metric) == (VerdictKind.INCONCLUSIVE, Reason.MISCONFIGURED, "latency")
    assert "old version (0.005, 0.01, 0.025, 0.05, …) and new (6, 11, 26, 51, …)" in found.sentence
    beside = said(with_errors(changed))
    assert beside.kind is VerdictKind.HEALTHY
    assert any("no bucket bound in common" in note for note in beside.notes)
