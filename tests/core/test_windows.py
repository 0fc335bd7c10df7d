"""Persistence windows: levels that stay worse, and the budget they share with the e-process."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from analysis.combine import MANY, NONE, two_routes, windows_together
from analysis.decode import decode
from analysis.judge import judge
from analysis.methods.gauge import judge_gauges
from analysis.methods.levels import Level, Levels
from analysis.methods.windows import NEVER, TAIL, WINDOWS, Lasting, kth_smallest, persistence
from analysis.onset import onset_prior
from analysis.prepare import Observation
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec, VerdictKind
from analysis.simulate import ar_levels, gauge_observation

SETTINGS = JudgeSettings(planned_looks=180, act_uncalibrated=True)
SPEC = MetricSpec(name="queue", kind=Kind.GAUGE, margin=0.0, floor=0.0)


def _watch(
    rng: np.random.Generator,
    design: Design,
    *,
    looks: int = 60,
    past: int = 60,
    phi: float = 0.0,
    shift: float = 0.0,
    level: float = 50.0,
    spec: MetricSpec = SPEC,
) -> Observation:
    if design is Design.BEFORE_AFTER:
        y = ar_levels(rng, 1, past + looks, phi=phi, level=level)
        arms = {(Arm.BASELINE, -past): y[:, :past], (Arm.CANDIDATE, 0): y[:, past:] + shift}
    else:
        y = ar_levels(rng, 4, past + looks, phi=phi, level=level)
        arms = {(Arm.BASELINE, 0): y[:3, past:], (Arm.CANDIDATE, 0): y[3:, past:] + shift}
        if past:
            arms[Arm.HISTORY, -past] = y[:3, :past]
    return gauge_observation(arms, spec, looks=looks, design=design)


def _lasting(watch: Observation) -> Lasting:
    seen = decode(watch)
    prior = onset_prior(seen.usable, 180)
    group = Levels.of([Level(seen.metrics[0], seen.design, SETTINGS, prior, seen.usable)])
    gauges = judge_gauges(group)
    assert gauges is not None
    return persistence(group, gauges.noise)[0]


@pytest.mark.parametrize(("w", "k"), WINDOWS)
def test_windows_agree_with_scipy(w: int, k: int) -> None:
    """The k-th smallest of the last w values is scipy's rank filter, moved to look back."""
    values = np.random.default_rng(1).normal(size=(3, 40)).round(1)
    expected = ndimage.rank_filter(values, rank=k, size=(1, w), origin=(0, (w - 1) // 2))
    assert np.array_equal(kth_smallest(values, w, k)[:, w - 1 :], expected[:, w - 1 :])
    assert np.isnan(kth_smallest(values, w, k)[:, : w - 1]).all()


def test_twice_the_move_is_the_tail_index_stronger() -> None:
    """ln 1/p grows by 4 ln 2 where a far move doubles: the Pareto tail, nothing else."""
    near, far = (_lasting(_watch(np.random.default_rng(2), Design.BEFORE_AFTER, shift=s, looks=9)) for s in (1e4, 2e4))
    assert far.path[-1] - near.path[-1] == pytest.approx(TAIL * np.log(2.0), abs=1e-2)


@pytest.mark.parametrize("design", Design)
def test_degenerate_levels_bring_no_evidence(design: Design) -> None:
    """Constant, ties, a lone sample, gaps, a short past, no candidate: NEVER, without a warning."""
    start = -20 if design is Design.BEFORE_AFTER else 0
    flat, one, gap = np.full((1, 20), 7.0), np.full((1, 1), 99.0), np.full((1, 20), np.nan)
    gap[0, ::2] = 99.0
    for base, candidate in ((flat, flat), (flat, one), (flat, gap * 0 + 7.0), (flat[:, :3], flat + 5)):
        at = -base.shape[1] if start else 0
        arms = {(Arm.BASELINE, at): base, (Arm.CANDIDATE, 0): candidate}
        watch = gauge_observation(arms, SPEC, looks=candidate.shape[1], design=design)
        if design is Design.CONCURRENT and base.shape[1] == 3:
            continue  # peers that stop are judged by what they last were
        assert (_lasting(watch).path == NEVER).all()


def test_one_spike_is_no_window() -> None:
    """A single outrageous sample, however far out, lasts nowhere."""
    watch = _watch(np.random.default_rng(3), Design.BEFORE_AFTER, looks=20)
    cells = watch.samples["queue", 9]
    spiky = replace(watch, samples={**watch.samples, ("queue", 9): replace(cells, value=(1e9,))})
    assert _lasting(spiky).path.max() < np.log(200)


def test_new_instances_have_a_start_up_grace_beside_warm_ones() -> None:
    """High for the first three looks only is no news; a level that is too low has no such excuse."""
    y = np.full((4, 20), 50.0) + np.random.default_rng(4).normal(0, 0.1, (4, 20))
    for direction, move in ((Direction.UP_IS_BAD, 50.0), (Direction.DOWN_IS_BAD, -50.0)):
        late = y.copy()
        late[3, :3] += move
        arms = {(Arm.BASELINE, 0): late[:3], (Arm.CANDIDATE, 0): late[3:]}
        spec = MetricSpec(name="queue", kind=Kind.GAUGE, direction=direction)
        found = _lasting(gauge_observation(arms, spec, looks=20, design=Design.CONCURRENT)).path
        assert bool(found.max() == NEVER) is (direction is Direction.UP_IS_BAD)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 29), st.sampled_from(list(Design)))
def test_later_levels_never_change_what_the_windows_said(seed: int, looks: int, design: Design) -> None:
    """Bit for bit: every path up to a look is the same with and without what follows."""
    watch = _watch(np.random.default_rng(seed), design, looks=30, phi=0.5, shift=float(seed % 3) * 4)
    whole, short = (judge([replace(watch, looks=k)], [SETTINGS])[0].evidence[0].path for k in (30, looks))
    assert np.array(whole[:looks]).tobytes() == np.array(short).tobytes()


def test_alone_no_metric_without_direction_decides_and_two_do() -> None:
    """Any strength of one metric of four is not enough; half of it in two is."""
    specs = [MetricSpec(name=f"m{i}", kind=Kind.GAUGE, direction=Direction.EITHER) for i in range(MANY)]
    needed = np.full(MANY, np.log(400.0))
    windows, paths = np.full((MANY, 5), NONE), np.zeros((MANY, 5))
    windows[0, 1], paths[0] = 80.0, 80.0
    assert two_routes(paths, windows, specs, needed).max() < 0
    windows[1, 3] = 20.0
    assert windows_together(windows - np.log(800.0), specs)[3] > 0
    assert two_routes(paths, windows, specs, needed)[3] > 0
    assert windows_together(windows[:1], specs[:1])[1] > 0


@pytest.mark.parametrize("design", Design)
@pytest.mark.parametrize("order", [(100, 100, 1, 100, 100, 1, 100, 100, 1, 100), (1, 1, 1) + (100,) * 7])
def test_a_bad_majority_of_samples_is_degraded_in_both_designs(design: Design, order: tuple[int, ...]) -> None:
    """spinnaker#6278, in any order and also against the time before."""
    start = -10 if design is Design.BEFORE_AFTER else 0
    arms = {(Arm.BASELINE, start): np.ones((1, 10)), (Arm.CANDIDATE, 0): np.array([order], dtype=float)}
    watch = gauge_observation(arms, MetricSpec(name="m", kind=Kind.GAUGE), looks=10, design=design)
    verdict = judge([watch], [SETTINGS])[0]
    assert verdict.kind is VerdictKind.DEGRADED
    assert "worse through the last" in verdict.sentence


@pytest.mark.parametrize(
    ("design", "past", "phi"),
    [
        (Design.CONCURRENT, 0, 0.8),
        (Design.CONCURRENT, 0, 0.95),
        (Design.BEFORE_AFTER, 180, 0.5),
        (Design.BEFORE_AFTER, 180, 0.95),
    ],
)
def test_unchanged_levels_stay_within_the_budget_at_180_looks(design: Design, past: int, phi: float) -> None:
    """30 watches each at margin 0, where the noise alone must be held: 1 % + 3 standard errors."""
    rng = np.random.default_rng(int(100 * phi))
    verdicts = [judge([_watch(rng, design, looks=180, past=past, phi=phi)], [SETTINGS])[0] for _ in range(30)]
    assert sum(v.alarm_look is not None for v in verdicts) <= 0.3 + 3 * np.sqrt(0.3)


@pytest.mark.parametrize("design", Design)
def test_a_shift_of_four_sd_is_seen_within_twelve_looks(design: Design) -> None:
    """AR(.5), margin 0, median over 15 watches; around 0, since replicas may differ by part of their level."""
    rng = np.random.default_rng(5)
    watches = [_watch(rng, design, looks=40, past=180, phi=0.5, shift=4.0, level=0.0) for _ in range(15)]
    verdicts = judge(watches, [SETTINGS] * 15)
    assert np.median([v.alarm_look + 1 if v.alarm_look is not None else 99 for v in verdicts]) <= 12
