"""Leaks: slopes against a tolerated slope, at few planned looks."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.judge import judge
from analysis.methods.slopes import blocks, mann_kendall, saw_period, slope_inflation, theil_sen
from analysis.methods.trend import EVALUATIONS, judge_trend, log_calibrated, log_deciding_p, planned
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec, Verdict, VerdictKind
from analysis.simulate import ar_levels, gauge_observation

MEMORY = MetricSpec(name="memory", kind=Kind.TREND, unit="MB")
DESIGNS = tuple(Design)
LOOKS, PAST = 90, 90


def _verdict(
    rng: np.random.Generator,
    design: Design,
    added: Any = 0.0,
    *,
    everywhere: Any = 0.0,
    phi: float = 0.0,
    spec: MetricSpec = MEMORY,
    looks: int = LOOKS,
    past: int = PAST,
) -> Verdict:
    """A level of 100 with noise of 2 %; `added` is the new version's alone, (looks,) or a number."""
    new = ar_levels(rng, 1, looks, level=100.0, sd=2.0, phi=phi) + everywhere + added
    old = ar_levels(rng, 3, looks, level=100.0, sd=2.0, phi=phi) + everywhere
    before = ar_levels(rng, 3, past, level=100.0, sd=2.0, phi=phi) + (everywhere if past == looks else 0.0)
    arms = {(Arm.CANDIDATE, 0): new, (Arm.BASELINE, 0): old, (Arm.HISTORY, -past): before}
    if design is Design.BEFORE_AFTER:
        arms = {(Arm.CANDIDATE, 0): new, (Arm.BASELINE, -past): before}
    seen = gauge_observation(arms, spec, looks=looks, step_s=10.0, design=design)
    return judge([seen], [JudgeSettings(planned_looks=looks, act_uncalibrated=True)])[0]


def _degraded(verdicts: list[Verdict]) -> int:
    return sum(verdict.kind is VerdictKind.DEGRADED for verdict in verdicts)


@pytest.mark.parametrize("wrong", [[1.0, np.nan], [1.0, np.inf]])
def test_what_is_no_number_is_refused_by_name(wrong: list[float]) -> None:
    """NaN and infinity have no order; lengths and times must fit."""
    with pytest.raises(ValueError, match="values: must be finite"):
        mann_kendall(np.array(wrong), np.arange(2.0))
    with pytest.raises(ValueError, match="times: must rise"):
        theil_sen(np.ones(2), np.zeros(2))
    with pytest.raises(ValueError, match="shape"):
        mann_kendall(np.ones(3), np.arange(2.0))


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_scipy(seed: int) -> None:
    """Theil-Sen's slope and interval, Kendall's S and its variance, ties included."""
    rng = np.random.default_rng(seed)
    values, times = rng.normal(size=25).round(1) + 0.05 * np.arange(25), np.cumsum(rng.uniform(0.5, 2.0, 25))
    found, theirs = theil_sen(values, times), stats.theilslopes(values, times)
    assert found.value == pytest.approx(theirs.slope, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((theirs.low_slope, theirs.high_slope), abs=0.02)
    kendall, tau = mann_kendall(values, times), stats.kendalltau(times, values, variant="b")
    pairs = 25 * 24 / 2
    ties = sum(n * (n - 1) / 2 for n in np.unique(values, return_counts=True)[1])
    assert kendall.s == pytest.approx(tau.statistic * np.sqrt(pairs * (pairs - ties)))


def test_the_evidence_is_worth_what_it_says() -> None:
    """The calibrator integrates to one, and one evaluation at the deciding p brings exactly what is needed."""
    log_p0 = log_deciding_p(np.log(100.0))
    p = (np.arange(10**6) + 0.5) / 10**6
    assert np.mean([np.exp(log_calibrated(float(x), log_p0)) for x in np.log(p[::10])]) == pytest.approx(1.0, abs=0.05)
    assert np.exp(log_calibrated(log_p0, log_p0)) / (2 * (EVALUATIONS + 1)) == pytest.approx(100.0, rel=1e-6)
    assert len(planned(np.ones(90, dtype=bool), 90)) == EVALUATIONS


def test_autocorrelation_is_measured_around_the_line() -> None:
    """A climb is not taken for autocorrelation, and autocorrelation is not overlooked for a climb."""
    rng = np.random.default_rng(3)
    t = np.arange(300.0)
    straight = np.median([slope_inflation(rng.normal(size=300) + t, t) for _ in range(20)])
    slow = np.median([slope_inflation(ar_levels(rng, 1, 300, phi=0.8)[0] + t, t) for _ in range(20)])
    assert straight < 1.5
    assert slow == pytest.approx(9.0, rel=0.35)  # (1 + .8) / (1 - .8)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("values", [0.0, "ties", "one", "gaps", "none"])
def test_little_or_strange_input_decides_nothing(design: Design, values: object) -> None:
    """Constant, ties, a single value, gaps: no alarm, no NaN in the sentence; an empty arm has no trend."""
    new = np.full((1, 30), 100.0)
    if values == "ties":
        new[0, ::2] = 101.0
    elif values == "one":
        new[0, 1:] = np.nan
    elif values == "gaps":
        new[0, ::3] = np.nan
    arms = {(Arm.BASELINE, -30): np.full((2, 30), 100.0)}
    if design is Design.CONCURRENT:
        arms[Arm.BASELINE, 0] = np.full((2, 30), 100.0)
    if values != "none":
        arms[Arm.CANDIDATE, 0] = new
    seen = gauge_observation(arms, MEMORY, looks=30, design=design)
    verdict = judge([seen], [JudgeSettings(planned_looks=30, act_uncalibrated=True)])[0]
    assert verdict.kind is not VerdictKind.DEGRADED
    assert "nan" not in verdict.sentence


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_levels_that_go_nowhere_alarm_within_the_budget(design: Design, phi: float) -> None:
    """60 watches each: two alarms at 1 % have a chance of 12 %, four of less than one in 300."""
    rng = np.random.default_rng(int(10 * phi) + len(design))
    assert _degraded([_verdict(rng, design, phi=phi) for _ in range(60)]) <= 3


@pytest.mark.parametrize("design", DESIGNS)
def test_what_is_no_leak_is_not_called_one(design: Design) -> None:
    """Start-up to a plateau, a step, a sawtooth of the garbage collector, a walk: none climbs to the end."""
    rng, t = np.random.default_rng(7), np.arange(LOOKS)
    shapes = {
        "warm-up": 30.0 * (1 - np.exp(-t / 2.0)),
        "step": np.where(t >= 20, 30.0, 0.0),
        "saw": (t % 9) * 1.5,
    }
    for name, shape in shapes.items():
        shared = shape if name == "saw" else 0.0
        verdicts = [_verdict(rng, design, shape - shared, everywhere=shared) for _ in range(12)]
        assert _degraded(verdicts) == 0, name
    walks = [_verdict(rng, design, np.cumsum(rng.normal(size=LOOKS)) * 0.4) for _ in range(20)]
    assert _degraded(walks) <= 1


@pytest.mark.parametrize("design", DESIGNS)
def test_a_leak_is_found_and_told_by_the_hour(design: Design) -> None:
    """1 % a look under noise of 2 %: found in the first half of the watch; its sentence has slope and interval."""
    rng = np.random.default_rng(9)
    verdicts = [_verdict(rng, design, 1.0 * np.arange(LOOKS)) for _ in range(10)]
    assert _degraded(verdicts) == 10
    assert all(v.alarm_look is not None and v.alarm_look < LOOKS / 2 for v in verdicts)
    assert "MB an hour against the old version" in verdicts[0].sentence


def _beside_two(old: np.ndarray, new: np.ndarray) -> Verdict:
    """A watch whose old version has hardly a past."""
    looks = new.shape[-1]
    arms = {(Arm.CANDIDATE, 0): new, (Arm.BASELINE, 0): old}
    seen = gauge_observation(arms, MEMORY, looks=looks, step_s=5.0, design=Design.CONCURRENT)
    return judge([seen], [JudgeSettings(planned_looks=looks)])[0]


def test_a_leak_is_found_beside_an_old_version_that_is_flat_but_for_one_step() -> None:
    """Nothing but a step early on is no reason to know nothing: such a series has no noise left to be measured."""
    old = np.full((2, 30), 43.56)
    old[1] = [43.73, 43.73, 43.73, 43.78, *[43.86] * 26]
    new = 45.4 + 5.06 * np.arange(30.0)[None]
    assert _beside_two(old, new).kind is VerdictKind.DEGRADED


@pytest.mark.parametrize("at", [4, 7, 13, 20])
@pytest.mark.parametrize("step", [0.1, 0.5, -0.1])
def test_a_leak_is_found_wherever_the_old_version_took_a_little_once(at: int, step: float) -> None:
    """A hundred megabytes beside half of one: found by the last look but six, with the jitter of real readings."""
    jitter = np.random.default_rng(at).normal(0.0, 0.03, 24)
    old = np.full((2, 24), 43.07)
    old[1, at:] += step
    assert _beside_two(old, (45.0 + 5.06 * np.arange(24.0) + jitter)[None]).kind is VerdictKind.DEGRADED


def test_random_walks_beside_random_walks_are_no_leaks() -> None:
    """Levels whose every value depends on the last one: the rate of false alarms is still within the budget."""
    rng = np.random.default_rng(11)
    watches, looks = 400, 30
    walks = 100.0 + np.cumsum(rng.standard_normal((watches, 3, looks)), axis=-1)
    false = _degraded([_beside_two(walk[:2], walk[2:]) for walk in walks])
    assert stats.binomtest(false, watches, 0.01, alternative="greater").pvalue > 1e-3


def test_a_fall_is_a_leak_where_falling_is_bad() -> None:
    """Free disk space; and its time to the limit is told."""
    spec = MetricSpec(name="free", kind=Kind.TREND, unit="MB", direction=Direction.DOWN_IS_BAD, limit=0.0)
    verdict = _verdict(np.random.default_rng(2), Design.CONCURRENT, -1.0 * np.arange(LOOKS), spec=spec)
    assert verdict.kind is VerdictKind.DEGRADED
    assert "at its limit of 0 MB in" in verdict.sentence
    up = _verdict(np.random.default_rng(2), Design.CONCURRENT, 1.0 * np.arange(LOOKS), spec=spec)
    assert up.kind is not VerdictKind.DEGRADED


def test_the_margin_is_a_climb_over_the_watch_and_the_floor_one_per_hour() -> None:
    """A quarter of the level over the watch is tolerated; a floor per hour replaces it."""
    slow = 0.2 * np.arange(LOOKS)  # 18 % over the watch
    assert _verdict(np.random.default_rng(4), Design.CONCURRENT, slow).kind is not VerdictKind.DEGRADED
    strict = MetricSpec(name="memory", kind=Kind.TREND, unit="MB", floor=10.0)
    assert _verdict(np.random.default_rng(4), Design.CONCURRENT, slow, spec=strict).kind is VerdictKind.DEGRADED


def test_saws_are_known_by_what_they_give_back() -> None:
    """Two falls of more than twice the usual rise make a period; the blocks then keep the floor."""
    saw = np.tile([1.0, 2.0, 3.0, 4.0], 5)
    assert saw_period(saw) == 4
    assert saw_period(np.random.default_rng(1).normal(size=40)) < 12
    low, _ = blocks(saw, np.arange(20.0), 4, lowest=True)
    assert low.tolist() == [1.0] * 5


def test_an_arm_that_was_never_seen_has_no_trend() -> None:
    """None, as for levels."""
    from analysis.decode import decode

    seen = gauge_observation({(Arm.CANDIDATE, 0): np.ones((1, 9))}, MEMORY, looks=9, design=Design.CONCURRENT)
    (metric,) = decode(seen).metrics
    usable = np.ones(9, dtype=bool)
    found = judge_trend(metric, Design.CONCURRENT, JudgeSettings(), usable, step_s=10.0, log_needed=4.6)
    assert found is None
