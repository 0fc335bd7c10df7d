"""Before/after beside a control series: what hits both is no deploy's fault, what hits one is found all the same."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from analysis.control import ratio_limit
from analysis.judge import judge
from analysis.noise import Side
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, JudgeSettings, MetricSpec, Reason, VerdictKind
from analysis.simulate import ERRORS, GAUGE, LATENCY, ORDERS, Service, observe

LOOKS = 30
COLUMNS = ("arm", "replica", "stratum", "le", "value", "total")
SETTINGS = JudgeSettings(planned_looks=LOOKS, placebo_rate=0.0)
ALONE = Service(design=Design.BEFORE_AFTER, replicas=1, past=60, looks=LOOKS, requests=600, share=0.5)


def _with_control(own: Service, control: Service | None, *, seed: int, spec: MetricSpec = ERRORS) -> Observation:
    """The watch of one service, and another service's series as its control."""
    rng = np.random.default_rng(seed)
    watch = observe(own, rng, (spec,))
    if control is None:
        return watch
    samples = dict(watch.samples)
    for key, cells in observe(control, rng, (spec,)).samples.items():
        samples[key] = _joined(samples[key], replace(cells, arm=(Arm.CONTROL.value,) * len(cells.arm)))
    return replace(watch, samples=samples)


def _until(watch: Observation, looks: int) -> Observation:
    """The same watch as it was after so many looks."""
    samples = {(name, i): cells for (name, i), cells in watch.samples.items() if i < looks}
    return replace(watch, samples=samples, facts={i: f for i, f in watch.facts.items() if i < looks}, looks=looks)


def _joined(a: Cells, b: Cells) -> Cells:
    return Cells(**{name: (*getattr(a, name), *getattr(b, name)) for name in COLUMNS})


def _control_until(watch: Observation, last: int) -> Observation:
    """The watch whose control is silent from look `last` on."""
    samples = {(name, i): c if i < last else _without_control(c) for (name, i), c in watch.samples.items()}
    return replace(watch, samples=samples)


def _without_control(cells: Cells) -> Cells:
    kept = [i for i, arm in enumerate(cells.arm) if arm != Arm.CONTROL]
    return Cells(**{name: tuple(getattr(cells, name)[i] for i in kept) for name in COLUMNS})


WORSE = {
    "errors": (ERRORS, replace(ALONE, errors_after=0.05, onset=8)),
    "latency": (LATENCY, replace(ALONE, slowdown=2.5, onset=8)),
    "orders": (ORDERS, replace(ALONE, requests=2000, lost=0.6, onset=8)),
    "level": (GAUGE, replace(ALONE, level_shift=60.0, onset=8)),
}
PARAMETERS = pytest.mark.parametrize(("spec", "worse"), WORSE.values(), ids=WORSE.keys())


@PARAMETERS
def test_what_hits_the_control_too_is_not_blamed_on_the_deploy(spec: MetricSpec, worse: Service) -> None:
    """A site-wide incident after the deploy: rolled back without a control, a shared cause beside one."""
    alone = judge([_with_control(worse, None, seed=1, spec=spec)], [SETTINGS])[0]
    beside = judge([_with_control(worse, worse, seed=1, spec=spec)], [SETTINGS])[0]
    assert (alone.kind, alone.reason) == (VerdictKind.DEGRADED, Reason.METRICS)
    assert (beside.kind, beside.reason) == (VerdictKind.INCONCLUSIVE, Reason.SHARED_CAUSE)
    assert "the control series moved alike" in beside.sentence


@PARAMETERS
def test_what_hits_the_new_version_only_is_found_beside_a_calm_control(spec: MetricSpec, worse: Service) -> None:
    """The price of a control is a few looks."""
    alone = judge([_with_control(worse, None, seed=2, spec=spec)], [SETTINGS])[0]
    calm = replace(worse, errors_after=None, slowdown=1.0, lost=0.0, level_shift=0.0)
    beside = judge([_with_control(worse, calm, seed=2, spec=spec)], [SETTINGS])[0]
    assert (beside.kind, beside.reason) == (VerdictKind.DEGRADED, Reason.METRICS)
    assert alone.alarm_look is not None
    assert beside.alarm_look is not None
    assert beside.alarm_look <= alone.alarm_look + 6


def test_until_the_control_has_been_seen_to_move_nobody_says_that_it_did() -> None:
    """Between the alarm without a control and the one beside it, the words leave open which it is."""
    calm = replace(ALONE, requests=4000)
    whole = _with_control(replace(calm, errors_after=0.02, onset=8), calm, seed=2)
    spoken = [judge([_until(whole, looks)], [SETTINGS])[0] for looks in range(9, 30)]
    waiting = [verdict for verdict in spoken if verdict.reason is Reason.SHARED_CAUSE]
    assert waiting
    assert not [verdict.sentence for verdict in waiting[2:] if "moved alike" in verdict.sentence]
    assert "it may still be a shared cause" in waiting[-1].sentence


def test_a_control_that_gets_better_accuses_nobody() -> None:
    """Its errors vanish at the deploy; ours stay as they were."""
    better = replace(ALONE, errors_after=0.0001)
    verdict = judge([_with_control(ALONE, better, seed=3)], [SETTINGS])[0]
    assert verdict.kind is not VerdictKind.DEGRADED


@pytest.mark.parametrize("last", [-70, 0, 8])
def test_a_control_that_falls_silent_accuses_nobody(last: int) -> None:
    """Before the deploy (never heard of), at it, or in the middle."""
    verdict = judge([_control_until(_with_control(ALONE, ALONE, seed=4), last)], [SETTINGS])[0]
    assert verdict.kind is not VerdictKind.DEGRADED


def test_a_control_without_a_past_changes_nothing() -> None:
    """It is not known in which ratio the two were."""
    watch = _with_control(WORSE["errors"][1], ALONE, seed=5)
    never = _control_until(watch, -70)
    alone = _with_control(WORSE["errors"][1], None, seed=5)
    # as texts: from Python 3.13 on dataclasses compare field by field, and a NaN is not even equal to itself
    assert repr(judge([never], [SETTINGS])[0]) == repr(judge([alone], [SETTINGS])[0])


def test_what_is_said_up_to_a_look_is_not_changed_by_later_ones() -> None:
    """Beside a control too, the judge is causal."""
    watch = _with_control(WORSE["errors"][1], ALONE, seed=6)
    whole = judge([watch], [SETTINGS])[0]
    assert whole.alarm_look is not None
    until = judge([replace(watch, looks=whole.alarm_look + 1)], [SETTINGS])[0]
    before = judge([replace(watch, looks=whole.alarm_look)], [SETTINGS])[0]
    assert (until.alarm_look, before.alarm_look) == (whole.alarm_look, None)


def test_incidents_that_both_share_stay_within_the_budget() -> None:
    """Unchanged deploys whose error rate jumps and falls with the control's, often by a factor of 4."""
    n, false = 150, 0
    for seed in range(n):
        rng = np.random.default_rng(seed)
        factor = np.where(np.arange(LOOKS) >= rng.integers(0, LOOKS), rng.choice([0.5, 1.0, 4.0]), 1.0)
        shaken = replace(ALONE, shared=tuple(factor))
        verdict = judge([_with_control(shaken, shaken, seed=1000 + seed)], [SETTINGS])[0]
        false += verdict.kind is VerdictKind.DEGRADED
    assert false <= binom.ppf(0.999, n, SETTINGS.budget)


@pytest.mark.parametrize("upper", [True, False])
def test_the_limit_of_the_ratio_is_that_of_clopper_and_pearson(upper: bool) -> None:
    """Of the share of events, carried over to the ratio of rates."""
    own, other = (Side(np.array([[e]]), np.array([[n]])) for e, n in ((33.0, 540.0), (39.0, 4870.0)))
    side = "less" if upper else "greater"
    interval = binomtest(33, 72, alternative=side).proportion_ci(confidence_level=0.99, method="exact")
    share = interval.high if upper else interval.low
    expected = share / (1 - share) * 4870 / 540
    assert ratio_limit(own, other, 1.0, 0.01, upper=upper) == pytest.approx(expected, rel=1e-9)


def test_no_events_leave_the_ratio_open() -> None:
    """None of the control's: any ratio. None of ours: no lower limit above 0."""
    none, some = (Side(np.array([[e]]), np.array([[100.0]])) for e in (0.0, 5.0))
    assert ratio_limit(some, none, 1.0, 0.01, upper=True) == np.inf
    assert ratio_limit(none, some, 1.0, 0.01, upper=False) == 0.0
