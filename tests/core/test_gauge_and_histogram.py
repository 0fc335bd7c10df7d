"""Levels and latency bounds: noise, margins, floors, missing samples, changed layouts."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.decode import decode
from analysis.judge import judge
from analysis.methods.histogram import choose_bounds, exceedances, quantile
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec, Reason, VerdictKind
from analysis.simulate import DEFAULT_BOUNDS, ERRORS, LATENCY, Service, ar_levels, gauge_observation, observe

SETTINGS = JudgeSettings(planned_looks=60)
CPU = MetricSpec(name="cpu", kind=Kind.GAUGE, unit="%")


def _levels(
    rng: np.random.Generator,
    *,
    shift: float = 0.0,
    phi: float = 0.0,
    looks: int = 60,
    spec: MetricSpec = CPU,
    past: int = 0,
) -> Observation:
    arms = {
        (Arm.BASELINE, 0): ar_levels(rng, 3, looks, phi=phi),
        (Arm.CANDIDATE, 0): ar_levels(rng, 1, looks, phi=phi) + shift,
    }
    if past:
        arms[Arm.HISTORY, -past] = ar_levels(rng, 3, past, phi=phi)
    return gauge_observation(arms, spec, looks=looks, design=Design.CONCURRENT)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 0.95])
def test_unchanged_levels_stay_within_the_budget(phi: float) -> None:
    """120 watches of 60 looks at margin 0.05, autocorrelated: no more than chance allows."""
    rng = np.random.default_rng(int(100 * phi))
    spec = replace(CPU, margin=0.0, floor=0.0)
    watches = [_levels(rng, phi=phi, spec=spec) for _ in range(120)]
    verdicts = judge(watches, [SETTINGS] * 120)
    assert sum(v.reason is Reason.METRICS for v in verdicts) <= 5


def test_a_doubled_level_is_degraded_and_its_shift_told() -> None:
    """CPU 50 -> 100 on the only candidate replica."""
    verdict = judge([_levels(np.random.default_rng(1), shift=50.0)], [SETTINGS])[0]
    assert (verdict.kind, verdict.metric) == (VerdictKind.DEGRADED, "cpu")
    assert verdict.alarm_look is not None
    assert verdict.alarm_look <= 12
    found = verdict.evidence[0]
    assert found.effect_low < 50 < found.effect_high
    assert found.a_hat == 1.0
    assert found.mann_whitney_p < 0.01


def test_a_shift_within_the_margin_is_tolerated() -> None:
    """+10 % with tiny noise is certain, and no reason to act (kayenta would: its bound is relative to the shift)."""
    rng = np.random.default_rng(2)
    arms = {
        (Arm.BASELINE, 0): 100 + rng.normal(0, 0.01, (3, 60)),
        (Arm.CANDIDATE, 0): 100.1 + rng.normal(0, 0.01, (1, 60)),
    }
    watch = gauge_observation(arms, CPU, looks=60, design=Design.CONCURRENT)
    assert judge([watch], [SETTINGS])[0].kind is VerdictKind.HEALTHY


@pytest.mark.parametrize("order", [[100.0] * 7 + [1.0] * 3, [1.0] * 3 + [100.0] * 7])
def test_a_bad_majority_of_samples_is_degraded(order: list[float]) -> None:
    """spinnaker#6278: 7 of 10 samples at a hundred times the baseline pass Kayenta's judge. Not this one."""
    arms = {(Arm.BASELINE, 0): np.ones((1, 10)), (Arm.CANDIDATE, 0): np.array([order])}
    watch = gauge_observation(arms, MetricSpec(name="m", kind=Kind.GAUGE), looks=10, design=Design.CONCURRENT)
    verdict = judge([watch], [SETTINGS])[0]
    assert verdict.kind is VerdictKind.DEGRADED
    assert verdict.since_look is not None
    assert verdict.alarm_look is not None
    assert 0 <= verdict.since_look <= verdict.alarm_look


def test_one_sample_never_decides() -> None:
    """A single outrageous level among quiet ones is a spike, not a verdict."""
    arms = {(Arm.BASELINE, 0): np.ones((3, 10)), (Arm.CANDIDATE, 0): np.ones((1, 10))}
    arms[Arm.CANDIDATE, 0][0, 0] = 1e6
    watch = gauge_observation(arms, MetricSpec(name="m", kind=Kind.GAUGE), looks=10, design=Design.CONCURRENT)
    assert judge([watch], [SETTINGS])[0].alarm_look is None


def test_direction_decides_which_way_is_worse() -> None:
    """Less memory is no fault; where fewer is worse it is one."""
    watch = _levels(np.random.default_rng(3), shift=-45.0)
    assert judge([watch], [SETTINGS])[0].kind is VerdictKind.HEALTHY
    down = replace(watch, metrics=(replace(CPU, direction=Direction.DOWN_IS_BAD),))
    either = replace(watch, metrics=(replace(CPU, direction=Direction.EITHER),))
    assert [v.kind for v in judge([down, either], [SETTINGS] * 2)] == [VerdictKind.DEGRADED] * 2


def test_levels_before_and_after_use_the_noise_in_time() -> None:
    """A level that swings slowly before the deploy may swing after it; a jump beyond that is seen."""
    rng = np.random.default_rng(4)
    swings = ar_levels(rng, 1, 120, sd=5.0, phi=0.9)
    calm = {(Arm.BASELINE, -90): swings[:, :90], (Arm.CANDIDATE, 0): swings[:, 90:]}
    jump = {(Arm.BASELINE, -90): swings[:, :90], (Arm.CANDIDATE, 0): swings[:, 90:] + 60}
    watches = [gauge_observation(arms, CPU, looks=30, design=Design.BEFORE_AFTER) for arms in (calm, jump)]
    verdicts = judge(watches, [replace(SETTINGS, act_uncalibrated=True)] * 2)
    assert verdicts[0].kind is not VerdictKind.DEGRADED
    assert verdicts[1].kind is VerdictKind.DEGRADED


@pytest.mark.parametrize("gap", ["candidate", "one peer", "all peers"])
def test_missing_levels_are_skipped(gap: str) -> None:
    """Gaps change neither the verdict nor raise a warning."""
    rng = np.random.default_rng(5)
    base, candidate = ar_levels(rng, 3, 60), ar_levels(rng, 1, 60)
    if gap == "candidate":
        candidate[:, 10:20] = np.nan
    if gap == "one peer":
        base[0, 5:40] = np.nan
    if gap == "all peers":
        base[:, 20:30] = np.nan
    arms = {(Arm.BASELINE, 0): base, (Arm.CANDIDATE, 0): candidate}
    watch = gauge_observation(arms, CPU, looks=60, design=Design.CONCURRENT)
    assert judge([watch], [SETTINGS])[0].kind is VerdictKind.HEALTHY


def test_degenerate_levels_do_no_harm() -> None:
    """Constant levels, one peer, one sample, zero everywhere."""
    one = np.full((1, 60), 7.0)
    cases = [
        {(Arm.BASELINE, 0): np.full((3, 60), 7.0), (Arm.CANDIDATE, 0): one},
        {(Arm.BASELINE, 0): one, (Arm.CANDIDATE, 0): one},
        {(Arm.BASELINE, 0): one * 0, (Arm.CANDIDATE, 0): one * 0},
        {(Arm.BASELINE, 0): one[:, :1], (Arm.CANDIDATE, 0): one[:, :1]},
    ]
    watches = [gauge_observation(arms, CPU, looks=60, design=Design.CONCURRENT) for arms in cases]
    assert all(v.kind is not VerdictKind.DEGRADED for v in judge(watches, [SETTINGS] * len(cases)))


def test_one_of_many_metrics_without_a_bad_direction_may_not_decide_alone() -> None:
    """A lone `either` metric among four is capped; two of them together decide."""
    rng = np.random.default_rng(6)
    specs = tuple(MetricSpec(name=f"m{i}", kind=Kind.GAUGE, direction=Direction.EITHER) for i in range(4))
    kinds = []
    for moved in (1, 2):
        samples: dict[tuple[str, int], Cells] = {}
        for i, spec in enumerate(specs):
            samples |= _levels(rng, shift=90.0 if i < moved else 0.0, spec=spec).samples
        watch = Observation(design=Design.CONCURRENT, step_s=60, metrics=specs, samples=samples, looks=60)
        kinds.append(judge([watch], [SETTINGS])[0].kind)
    assert kinds[0] is not VerdictKind.DEGRADED
    assert kinds[1] is VerdictKind.DEGRADED


def _histogram(service: Service, seed: int = 1) -> Observation:
    return observe(service, np.random.default_rng(seed), (LATENCY,))


def test_bounds_are_chosen_from_the_baseline_once() -> None:
    """Near p50, p90 and p99 of lognormal 50 ms: 0.05, 0.1 and 0.25 s; the candidate's latency has no say."""
    for slowdown in (1.0, 20.0):
        arrays = decode(_histogram(Service(slowdown=slowdown))).metrics[0]
        bounds, start = choose_bounds(arrays, Design.CONCURRENT)
        assert sorted(bounds) == [0.05, 0.1, 0.25]
        assert sum(bounds.values()) == pytest.approx(1.0)
        assert start == 0


def test_bounds_wait_for_enough_baseline_requests() -> None:
    """10 requests per look: the bounds are fixed when 100 were seen; looks before that are not judged."""
    arrays = decode(_histogram(Service(requests=20, looks=30))).metrics[0]
    _, start = choose_bounds(arrays, Design.CONCURRENT)
    assert 4 <= start <= 8


def test_a_service_objective_is_watched_beside_the_quantiles() -> None:
    """slo_le that is a bucket bound joins; another number does not."""
    arrays = decode(_histogram(Service())).metrics[0]
    for slo, known in ((1.0, True), (0.9, False)):
        asked = replace(arrays, spec=replace(arrays.spec, slo_le=slo))
        assert (slo in choose_bounds(asked, Design.CONCURRENT)[0]) is known


def test_changed_bucket_layouts_are_compared_at_common_bounds_only() -> None:
    """The candidate has other buckets: only bounds that both have are asked, and nothing is interpolated."""
    watch = _histogram(Service())
    kept = {0.025, 0.1, 0.5, float("inf")}
    samples = {}
    for key, c in watch.samples.items():
        at = [i for i, (arm, le) in enumerate(zip(c.arm, c.le, strict=True)) if arm == "baseline" or le in kept]
        columns = [tuple(column[i] for i in at) for column in (c.arm, c.replica, c.stratum, c.le, c.value, c.total)]
        samples[key] = Cells(*columns)  # type: ignore[arg-type]
    changed = replace(watch, samples=samples)
    bounds, _ = choose_bounds(decode(changed).metrics[0], Design.CONCURRENT)
    assert set(bounds) <= kept
    assert judge([changed], [SETTINGS])[0].kind is VerdictKind.HEALTHY


def test_exceedances_are_exact_counts() -> None:
    """Requests above a bound = all minus the bucket at it."""
    watch = _histogram(Service(looks=2))
    cells = watch.samples["latency", 1]
    expected = sum(
        v * (1 if le == float("inf") else -1 if le == 0.1 else 0)
        for a, le, v in zip(cells.arm, cells.le, cells.value, strict=True)
        if a == "baseline"
    )
    panel = exceedances(decode(watch).metrics[0], 0.1)[Arm.BASELINE]
    assert panel.value[:, 0, 0, 1].sum() == expected


def test_quantiles_agree_with_samples() -> None:
    """Interpolated p50 and p90 lie in the sample quantile's bucket."""
    rng = np.random.default_rng(8)
    x = np.exp(rng.normal(np.log(0.05), 0.7, 20000))
    le = np.array([*DEFAULT_BOUNDS, np.inf])
    counts = np.array([(x <= b).sum() for b in le], dtype=float)
    for q in (0.5, 0.9):
        true = np.quantile(x, q)
        bucket = np.searchsorted(le, true)
        assert le[bucket - 1] <= quantile(le, counts, 20000.0, q) <= le[bucket]
    assert np.isnan(quantile(le, counts * 0, 0.0, 0.5))


def _from_zero(design: Design, spec: MetricSpec, *, old: float = 0.0) -> Observation:
    """A queue that is always as long in the old version, and 100 000 long in the new one."""
    beside = design is Design.CONCURRENT
    arms = {
        (Arm.BASELINE, 0 if beside else -60): np.full((3, 60), old),
        (Arm.CANDIDATE, 0): 100_000.0 + np.arange(60.0)[None],
    }
    return gauge_observation(arms, spec, looks=60, design=design)


@pytest.mark.parametrize("design", list(Design))
def test_a_level_that_was_always_zero_asks_for_a_floor_and_makes_nobody_healthy(design: Design) -> None:
    """No noise and no level to take a margin of: how much more is too much, nobody knows."""
    spec = MetricSpec(name="queue", kind=Kind.GAUGE)
    verdict = judge([_from_zero(design, spec)], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.LOW_TRAFFIC)
    assert np.isnan(verdict.evidence[0].detectable)
    asked = "queue was always 0 in the old version, so nobody knows how much more is too much: set a floor"
    assert asked in verdict.sentence
    assert any(asked in note for note in verdict.notes)


@pytest.mark.parametrize(("change", "old"), [({"floor": 5.0}, 0.0), ({"unit": "%"}, 0.0), ({}, 1.0)])
def test_a_level_with_a_floor_or_a_level_asks_for_none(change: dict[str, object], old: float) -> None:
    """Either tells how much more is too much."""
    spec = replace(MetricSpec(name="queue", kind=Kind.GAUGE), **change)  # type: ignore[arg-type]
    verdict = judge([_from_zero(Design.CONCURRENT, spec, old=old)], [SETTINGS])[0]
    assert verdict.kind is VerdictKind.DEGRADED
    assert not any("set a floor" in note for note in verdict.notes)


def test_a_note_asks_for_a_floor_where_other_metrics_call_a_deploy_healthy() -> None:
    """A level that is not needed for the verdict is not passed over in silence."""
    watch = observe(Service(looks=60, past=0), np.random.default_rng(1), (replace(ERRORS, critical=True),))
    queue = _from_zero(Design.CONCURRENT, MetricSpec(name="queue", kind=Kind.GAUGE))
    both = replace(watch, metrics=(*watch.metrics, *queue.metrics), samples={**watch.samples, **queue.samples})
    verdict = judge([both], [SETTINGS])[0]
    assert verdict.kind is VerdictKind.HEALTHY
    assert any("set a floor" in note for note in verdict.notes)
