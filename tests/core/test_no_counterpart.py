"""Routes that the old version does not serve: no like to compare with, and neither healthy nor rolled back for it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from analysis.dispersion import Noise
from analysis.judge import judge
from analysis.methods.counts import CountTest
from analysis.onset import onset_prior
from analysis.power import detectable_ratios
from analysis.prepare import Cells, Observation
from analysis.result import Design, Direction, JudgeSettings, Kind, MetricSpec, Reason, Verdict, VerdictKind

ERRORS = MetricSpec(name="errors", kind=Kind.RATIO, critical=True)
LOOKS, PAST = 60, 60
SETTINGS = JudgeSettings(planned_looks=LOOKS, act_uncalibrated=True)
ROUTES = {"/a": (300, 0.005), "/b": (300, 0.005)}  # of the old version: requests a look and replica, errors
Rates = dict[str, tuple[int, float]]
DESIGNS = pytest.mark.parametrize("design", list(Design))


def _watch(
    new: Rates, design: Design, *, old: Rates = ROUTES, seed: int = 0, looks: int = LOOKS, spec: MetricSpec = ERRORS
) -> Observation:
    """Three replicas of the old version beside, or before, two of the new one."""
    rng = np.random.default_rng(seed)
    samples = {}
    for i in range(-PAST, looks):
        arms: list[tuple[str, int, Rates]] = []
        if i < 0 or design is Design.CONCURRENT:
            arms.append(("history" if i < 0 and design is Design.CONCURRENT else "baseline", 3, old))
        if i >= 0:
            arms.append(("candidate", 2, new))
        rows = [
            (arm, f"{arm[0]}{k}", route, float(rng.binomial(n, rate)), float(n))
            for arm, replicas, rates in arms
            for k in range(replicas)
            for route, (n, rate) in rates.items()
        ]
        arm, replica, route, value, total = zip(*rows, strict=True)
        samples[spec.name, i] = Cells(arm, replica, route, (), value, total)
    return Observation(design=design, step_s=10.0, metrics=(spec,), samples=samples, looks=looks)


def _judged(watch: Observation) -> Verdict:
    return judge([watch], [SETTINGS])[0]


BROKEN: dict[str, tuple[Rates, str]] = {
    "half fail before they are routed": ({"/a": (50, 0.005), "/b": (50, 0.005), "": (100, 1.0)}, "50.0 %"),
    "all of them": ({"": (200, 1.0)}, "100 %"),
    "other labels, 60 % errors": ({"/v2/a": (100, 0.6), "/v2/b": (100, 0.6)}, "100 %"),
}


@DESIGNS
@pytest.mark.parametrize(("new", "share"), BROKEN.values(), ids=BROKEN.keys())
def test_what_fails_where_nothing_is_alike_is_held_and_says_how_much_of_it_there_is(
    new: Rates, share: str, design: Design
) -> None:
    """Neither healthy nor rolled back: a fault, or new routes, which nobody can tell apart."""
    verdict = _judged(_watch(new, design))
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.NO_COUNTERPART)
    assert verdict.sentence.startswith(f"{share} of the new version's requests are of routes the old one ")
    assert verdict.metric == "errors"


@DESIGNS
def test_nobody_is_healthy_whose_requests_have_nothing_alike_to_compare_with(design: Design) -> None:
    """Renamed labels and no more errors than before: no regression would have been seen, so none is denied."""
    verdict = _judged(_watch({"/v2/a": (100, 0.005), "/v2/b": (100, 0.005)}, design))
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.LOW_TRAFFIC)
    assert "100 % of the new version's requests are of routes the old one " in verdict.sentence
    assert np.isnan(verdict.evidence[0].detectable)


@DESIGNS
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_new_route_that_fails_more_often_is_no_rollback(rate: float, design: Design) -> None:
    """Simpson: what only the new version serves may be worse by nature; it is held where all in all it is worse."""
    for seed in range(10):
        verdict = _judged(_watch({"/a": (90, 0.005), "/b": (90, 0.005), "/new": (20, rate)}, design, seed=seed))
        assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.NO_COUNTERPART)


@DESIGNS
def test_a_small_new_route_does_not_hold_up_a_version_that_is_no_worse_as_a_whole(design: Design) -> None:
    """Twice the errors in 1 % of the traffic lie within the margin of the whole."""
    verdict = _judged(_watch({"/a": (300, 0.005), "/b": (300, 0.005), "/new": (6, 0.01)}, design))
    assert verdict.kind is VerdictKind.HEALTHY


def test_failing_requests_that_lost_their_label_hold_up_nobody() -> None:
    """The same errors, which the new version counts without a route: worse there, and the whole is as it was."""
    new = {"/a": (199, 0.0), "/b": (199, 0.0), "": (2, 1.0)}
    verdict = _judged(_watch(new, Design.CONCURRENT))
    assert verdict.reason is not Reason.NO_COUNTERPART
    assert verdict.kind is not VerdictKind.DEGRADED


def test_a_route_that_the_old_version_served_once_is_no_shelter() -> None:
    """One request of it, and from then on only the new version has it: half of its requests, most of them bad."""
    watch = _watch({"/a": (50, 0.005), "/b": (50, 0.005), "/v2": (100, 0.6)}, Design.CONCURRENT)
    c = watch.samples[ERRORS.name, 0]
    once = Cells((*c.arm, "baseline"), (*c.replica, "b0"), (*c.stratum, "/v2"), (), (*c.value, 0.0), (*c.total, 1.0))
    verdict = _judged(replace(watch, samples={**watch.samples, (ERRORS.name, 0): once}))
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.NO_COUNTERPART)


def test_a_long_tail_of_rare_routes_holds_up_nobody() -> None:
    """Most of them are missing from one arm at any look, and fail more often than the busy ones."""
    tail = {f"/rare{i}": (1, 0.1) for i in range(20)}
    rng = np.random.default_rng(5)
    watch = _watch({"/a": (100, 0.005), **tail}, Design.CONCURRENT, old={"/a": (100, 0.005), **tail})
    samples = {
        key: _some(cells, [route == "/a" or rng.random() < 0.3 for route in cells.stratum])
        for key, cells in watch.samples.items()
    }
    verdict = _judged(replace(watch, samples=samples))
    assert verdict.reason is not Reason.NO_COUNTERPART
    assert "did not serve" not in verdict.sentence


def _some(cells: Cells, kept: list[bool]) -> Cells:
    columns = (cells.arm, cells.replica, cells.stratum, (), cells.value, cells.total)
    return Cells(*(tuple(one for one, keep in zip(column, kept, strict=False) if keep) for column in columns))  # type: ignore[arg-type]


def test_what_is_worse_like_for_like_still_goes_back() -> None:
    """New routes are no shelter: the others are compared as ever."""
    verdict = _judged(_watch({"/a": (100, 0.05), "/b": (100, 0.05), "/new": (50, 0.5)}, Design.CONCURRENT))
    assert (verdict.kind, verdict.reason) == (VerdictKind.DEGRADED, Reason.METRICS)


def test_fewer_orders_where_nothing_is_alike_are_held() -> None:
    """The same where fewer is worse."""
    orders = MetricSpec(name="orders", kind=Kind.RATE, direction=Direction.DOWN_IS_BAD, critical=True)
    old = {"/a": (300, 0.1), "/b": (300, 0.1)}
    verdict = _judged(_watch({"/a": (50, 0.1), "": (150, 0.0)}, Design.CONCURRENT, old=old, spec=orders))
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.NO_COUNTERPART)


@DESIGNS
def test_unlike_routes_that_are_no_worse_are_held_within_the_budget(design: Design) -> None:
    """Renamed labels at the old rate: no more watches are held than the budget allows."""
    new = {"/v2/a": (100, 0.005), "/v2/b": (100, 0.005)}
    watches = [_watch(new, design, seed=seed, looks=30) for seed in range(200)]
    held = sum(v.reason is Reason.NO_COUNTERPART for v in judge(watches, [SETTINGS] * len(watches)))
    assert held <= binom.ppf(0.999, len(watches), SETTINGS.budget)


@DESIGNS
def test_unlike_routes_are_judged_alike_alone_and_among_others(design: Design) -> None:
    """To the bit, whatever stands beside them, and in whatever order."""
    rates: Sequence[Rates] = [ROUTES, *(new for new, _ in BROKEN.values()), {"/a": (90, 0.01), "/new": (20, 0.05)}]
    watches = [_watch(new, design, looks=20 + 7 * i) for i, new in enumerate(rates)]
    together = judge(watches, [SETTINGS] * len(watches))
    backwards = judge(watches[::-1], [SETTINGS] * len(watches))[::-1]
    alone = [_judged(watch) for watch in watches]
    assert [repr(v) for v in together] == [repr(v) for v in alone] == [repr(v) for v in backwards]


def _test(mine: Sequence[float], other: Sequence[float], *, rate: float = 0.01, looks: int = 30) -> CountTest:
    """Exposures of the strata at every look, all of them at the same rate."""
    n, n_other = (np.repeat(np.array(side, dtype=float)[:, None], looks, axis=1) for side in (mine, other))
    noise, prior = Noise.fixed(np.ones(looks)), onset_prior(np.ones(looks, dtype=bool), looks)
    return CountTest(rate * n, n, rate * n_other, n_other, r0=1.25, floor=1e-4, noise=noise, log_prior=prior)


def _claim(*tests: CountTest) -> list[float]:
    return [float(one) for one in detectable_ratios(tests, np.full(len(tests), np.log(100)), np.ones(len(tests)))]


def test_only_what_has_a_counterpart_is_claimed_to_have_been_seen() -> None:
    """Requests of a route that the other arm never served, or hardly, add nothing to what would have been seen."""
    alike, with_new, with_thin = _claim(
        _test([100.0], [900.0]), _test([100.0, 90.0], [900.0, 0.0]), _test([100.0, 1000.0], [900.0, 0.1])
    )
    assert with_new == alike
    assert with_thin > 0.95 * alike
    (pooled,) = _claim(_test([1100.0], [900.0]))
    assert with_thin > pooled


def test_nothing_is_claimed_where_most_of_the_traffic_has_no_counterpart() -> None:
    """However much the rest of it would have shown."""
    assert np.isnan(_claim(_test([1000.0, 1001.0], [9000.0, 0.0]))).all()


def test_strata_that_are_alike_claim_what_one_of_them_would() -> None:
    """Split into like parts, the claim is that of the whole."""
    whole, parts = _claim(_test([200.0], [1800.0]), _test([100.0, 100.0], [900.0, 900.0]))
    assert parts == pytest.approx(whole, rel=0.03)


def test_a_claim_beside_a_thin_counterpart_is_kept() -> None:
    """Most of the requests on a route that the old version hardly serves: what is claimed, nine of ten watches see."""
    old, new = {"/a": (300, 0.01), "/b": (100, 0.01), "/thin": (1, 0.01)}, {"/a": 20, "/b": 5, "/thin": 300}
    healthy = [_watch({r: (n, 0.01) for r, n in new.items()}, Design.CONCURRENT, old=old, seed=s) for s in range(10)]
    claim = float(np.median([v.evidence[0].detectable for v in judge(healthy, [SETTINGS] * 10)]))
    worse = {route: (n, min(0.01 * claim, 1.0)) for route, n in new.items()}
    verdicts = judge([_watch(worse, Design.CONCURRENT, old=old, seed=100 + s) for s in range(60)], [SETTINGS] * 60)
    assert sum(v.alarm_look is not None for v in verdicts) >= binom.ppf(0.001, 60, 0.9)
