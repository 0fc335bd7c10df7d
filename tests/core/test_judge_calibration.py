"""What the shipped settings promise, on simulated deploys: false alarms, delays, and HEALTHY that means something."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from analysis.judge import judge_decoded
from analysis.result import Design, JudgeSettings, Kind, MetricSpec, Reason, Verdict, VerdictKind
from analysis.simulate import ERRORS, LATENCY, ORDERS, Service, draw

SETTINGS = JudgeSettings(planned_looks=18)
BOTH = (ERRORS, LATENCY)


def _verdicts(
    service: Service,
    n: int,
    *,
    seed: int = 1,
    metrics: tuple[MetricSpec, ...] = BOTH,
    settings: JudgeSettings = SETTINGS,
) -> list[Verdict]:
    rng = np.random.default_rng(seed)
    return judge_decoded(list(draw(service, rng, n, metrics).decoded()), [settings] * n)


def _bound(n: int, rate: float = 0.01) -> float:
    return n * rate + 3 * float(np.sqrt(n * rate * (1 - rate)))


def _false(verdicts: list[Verdict]) -> int:
    return sum(v.alarm_look is not None for v in verdicts)


def test_healthy_canaries_end_healthy() -> None:
    """300 requests/s, 10 %, 18 looks of 5 s: no more false alarms than the budget, 97 % proven healthy."""
    verdicts = _verdicts(Service(), 150)
    assert _false(verdicts) <= _bound(150)
    assert sum(v.kind is VerdictKind.HEALTHY for v in verdicts) >= 145


@pytest.mark.parametrize(
    "service",
    [
        Service(requests=1000, share=0.5, errors=0.01, looks=60, replicas=4, candidates=4, factor=1.25),
        Service(requests=1000, share=0.05, errors=0.001, looks=60, replicas=4),
        Service(requests=1000, share=0.5, errors=0.01, looks=60, replicas=4, candidates=4, noise_v=0.5, past=60),
        Service(requests=1000, share=0.5, errors=0.01, looks=60, replicas=8, candidates=8, cluster=10.0, past=60),
        Service(design=Design.BEFORE_AFTER, replicas=1, past=120, looks=60, noise_v=0.1),
    ],
    ids=["at-the-margin", "rare-errors", "noisy-replicas", "sticky-clients", "before-after"],
)
def test_false_alarms_stay_within_the_budget(service: Service) -> None:
    """Unchanged deploys, 100 each, noise of several kinds: at most 1 % + 3 standard errors."""
    settings = replace(SETTINGS, planned_looks=60, act_uncalibrated=True)
    verdicts = _verdicts(service, 100, metrics=(ERRORS,), settings=settings)
    assert _false(verdicts) <= _bound(100)


@pytest.mark.parametrize(
    ("service", "median", "late"),
    [
        (Service(errors_after=0.06), 2, 4),
        (Service(errors=0.01, errors_after=0.06), 3, 5),
        (Service(errors_after=1.0), 1, 2),
        (Service(slowdown=1.6), 5, 8),  # the first three looks are start-up
        (Service(design=Design.BEFORE_AFTER, replicas=1, past=60, errors=0.01, errors_after=0.06), 1, 4),
    ],
    ids=["errors", "from-one-percent", "dead", "slow", "direct"],
)
def test_bad_canaries_are_seen_within_seconds(service: Service, median: int, late: int) -> None:
    """Looks of 5 s until the alarm with shipped settings: the median, and nine of ten."""
    verdicts = _verdicts(service, 60, settings=replace(SETTINGS, act_uncalibrated=True))
    looks = [v.alarm_look + 1 if v.alarm_look is not None else 99 for v in verdicts]
    assert np.median(looks) <= median
    assert np.quantile(looks, 0.9) <= late


def _slower(service: Service, method: str, claim: float) -> Service:
    """The service slowed down until `claim` times as many requests exceed the bound that the claim is about."""
    bound, median, sigma = float(method.split()[2]), service.latency_median_s, service.latency_sigma
    above = claim * special.ndtr(-np.log(bound / median) / sigma)
    return replace(service, slowdown=float(bound / median * np.exp(sigma * special.ndtri(above))))


@pytest.mark.parametrize("requests", [600.0, 1500.0, 30_000.0])
@pytest.mark.parametrize("spec", [ERRORS, ORDERS, LATENCY], ids=lambda spec: spec.name)
def test_what_healthy_claims_it_would_have_seen_it_sees(spec: MetricSpec, requests: float) -> None:
    """Deploys that are worse by exactly the claimed ratio end HEALTHY at most one time in ten, at any traffic."""
    service = Service(requests=requests)
    claims = [
        v.evidence[0].detectable for v in _verdicts(service, 20, metrics=(spec,)) if v.kind is VerdictKind.HEALTHY
    ]
    assert len(claims) >= 15
    claim = float(np.median(claims))
    method = _verdicts(service, 1, metrics=(spec,))[0].evidence[0].method
    worse = {
        ERRORS: lambda: replace(service, factor=claim),
        ORDERS: lambda: replace(service, lost=1 - claim),
        LATENCY: lambda: _slower(service, method, claim),
    }[spec]()
    verdicts = _verdicts(worse, 100, seed=7, metrics=(spec,))
    healthy = sum(v.kind is VerdictKind.HEALTHY for v in verdicts)
    assert stats.binomtest(healthy, 100, 0.1, alternative="greater").pvalue > 0.001
    assert _false(verdicts) >= 80


def test_ten_metrics_share_one_budget() -> None:
    """Ten error metrics of one unchanged service, 60 watches: the family stays within 1 % + 3 standard errors."""
    metrics = tuple(MetricSpec(name=f"e{i}", kind=Kind.RATIO) for i in range(10))
    verdicts = _verdicts(Service(factor=1.25, requests=4000, share=0.5), 60, metrics=metrics)
    assert _false(verdicts) <= _bound(60)
    assert all(v.reason is not Reason.METRICS or v.metric is not None for v in verdicts)
