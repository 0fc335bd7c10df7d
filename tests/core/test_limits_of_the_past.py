"""Before and after: the limits on what the old version did hold all together, and a thin past accuses nobody."""

from dataclasses import replace

import numpy as np
import pytest

from analysis import contrast
from analysis.apart import told_by_past
from analysis.decode import decode
from analysis.judge import judge
from analysis.methods.counts import LOG_REL, rate_limit
from analysis.onset import onset_prior
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, Direction, JudgeSettings, MetricSpec, Reason, VerdictKind
from analysis.simulate import ERRORS, LATENCY, Service, observe
from analysis.weigh import set_up, weighings

LOOKS, PAST = 20, 60
SETTINGS = JudgeSettings(planned_looks=LOOKS, act_uncalibrated=True)
SPEC = replace(ERRORS, critical=True)


def _watch(
    past: dict[str, int], now: dict[str, int], *, seed: int, rate: float = 0.01, worse: dict[str, float] | None = None
) -> Observation:
    """Requests by route: of the whole past, spread over its intervals, and of each look."""
    rng = np.random.default_rng(seed)
    samples = {}
    for i in range(-PAST, LOOKS):
        whole = {route: n // PAST + (i + PAST < n % PAST) for route, n in past.items()} if i < 0 else now
        rows = [(route, n, rate if i < 0 else (worse or {}).get(route, rate)) for route, n in whole.items() if n]
        events = tuple(float(rng.binomial(n, p)) for _, n, p in rows)
        arm = (Arm.BASELINE.value if i < 0 else Arm.CANDIDATE.value,) * len(rows)
        routes, exposure = tuple(route for route, _, _ in rows), tuple(float(n) for _, n, _ in rows)
        samples[SPEC.name, i] = Cells(arm, ("p",) * len(rows), routes, (), events, exposure)
    return Observation(design=Design.BEFORE_AFTER, step_s=10.0, metrics=(SPEC,), samples=samples, looks=LOOKS)


@pytest.mark.parametrize("thin", [0, 5, 30, 300])
@pytest.mark.parametrize("growth", [300, 3000])
def test_a_route_with_a_thin_past_that_grows_is_not_blamed(thin: int, growth: int) -> None:
    """Few requests and by luck no error: that it fails as often as all the others is no degradation."""
    watches = [_watch({"/old": 60 * 3000, "/new": thin}, {"/old": 3000, "/new": growth}, seed=s) for s in range(20)]
    verdicts = judge(watches, [SETTINGS] * len(watches))
    assert not any(v.kind is VerdictKind.DEGRADED or v.reason is Reason.NO_COUNTERPART for v in verdicts)


def test_a_fault_in_a_known_route_is_found_beside_routes_with_a_thin_past() -> None:
    """What the past says too little of takes nothing from what it says enough of."""
    past = {"/old": 60 * 3000, **{f"/{i}": 5 for i in range(50)}}
    now = {"/old": 3000, **{f"/{i}": 20 for i in range(50)}}
    beside = judge([_watch(past, now, seed=1, worse={"/old": 0.02})], [SETTINGS])[0]
    alone = judge([_watch({"/old": 60 * 3000}, {"/old": 3000}, seed=1, worse={"/old": 0.02})], [SETTINGS])[0]
    assert beside.kind is alone.kind is VerdictKind.DEGRADED
    assert beside.alarm_look is not None
    assert alone.alarm_look is not None
    assert beside.alarm_look <= alone.alarm_look + 1


def test_a_route_that_never_failed_is_compared_like_any_other() -> None:
    """Many requests without an error are no thin past."""
    past, now = {"/old": 60 * 3000, "/clean": 60 * 1000}, {"/old": 3000, "/clean": 1000}
    samples = {}
    watch = _watch(past, now, seed=2, worse={"/clean": 0.05})
    for key, c in watch.samples.items():
        clean = [key[1] < 0 and route == "/clean" for route in c.stratum]
        samples[key] = replace(c, value=tuple(0.0 if no else v for v, no in zip(c.value, clean, strict=True)))
    verdict = judge([replace(watch, samples=samples)], [SETTINGS])[0]
    assert (verdict.kind, verdict.reason) == (VerdictKind.DEGRADED, Reason.METRICS)


def test_the_past_is_asked_the_more_the_larger_the_regression() -> None:
    """A stratum that tells a doubling tells all that is worse; one that tells nothing is not counted at all."""
    rates, limits = np.array([0.01, 0.01, 0.0]), np.array([0.0101, 0.025, 1.0])
    told = told_by_past(rates, limits, 0.0105, fewer=False)
    assert (np.diff(told.astype(int), axis=0) >= 0).all()
    assert told.sum(axis=0).tolist() == [len(LOG_REL), told[:, 1].sum(), 0]
    assert 0 < told[:, 1].sum() < len(LOG_REL)
    assert not told_by_past(np.zeros(1), np.zeros(1), 0.01, fewer=True).any()


def _alphas(watch: Observation, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What every limit on the past may be wrong with, of a metric that has the whole budget."""
    asked: list[float] = []

    def recorded(events: float, exposure: float, phi: float, alpha: float, *, upper: bool) -> float:
        asked.append(alpha)
        return rate_limit(events, exposure, phi, alpha, upper=upper)

    monkeypatch.setattr(contrast, "rate_limit", recorded)
    decoded = decode(watch)
    weighings([set_up(decoded, decoded.metrics[0], SETTINGS, onset_prior(decoded.usable, LOOKS), 1.0)])
    return asked


@pytest.mark.parametrize("spec", [ERRORS, LATENCY, replace(ERRORS, direction=Direction.EITHER)])
def test_the_limits_of_all_bounds_and_directions_share_half_of_the_budget(
    spec: MetricSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A union bound: the chances of being wrong add up to half of the budget, the other half is the evidence's."""
    service = Service(design=Design.BEFORE_AFTER, replicas=1, past=PAST, looks=LOOKS)
    asked = _alphas(observe(service, np.random.default_rng(3), (spec,)), monkeypatch)
    assert sum(asked) == pytest.approx(SETTINGS.budget / 2)
    assert len(asked) > 1 or spec == ERRORS


def test_the_limits_of_all_strata_share_half_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of the strata's rates hold together; that of the whole is for what is held, not rolled back."""
    asked = _alphas(_watch({"/a": 6000, "/b": 600, "/c": 60}, {"/a": 100, "/b": 10}, seed=1), monkeypatch)
    assert asked[0] == pytest.approx(SETTINGS.budget / 2)
    assert len(asked) == 4
    assert sum(asked[1:]) == pytest.approx(SETTINGS.budget / 2)
