"""What the shipped settings promise, on simulated deploys: false alarms, delays, and HEALTHY that means something."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.judge import judge
from analysis.prepare import Cells, Observation
from analysis.result import Design, JudgeSettings, Kind, MetricSpec, Reason, Verdict, VerdictKind
from analysis.simulate import ERRORS, LATENCY, Service, observe

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
    return judge([observe(service, rng, metrics) for _ in range(n)], [settings] * n)


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
        (Service(slowdown=1.6), 4, 6),
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


def test_what_healthy_claims_it_would_have_seen_it_sees() -> None:
    """Deploys that are worse by exactly the claimed ratio end HEALTHY at most one time in ten."""
    claims = [v.evidence[0].detectable for v in _verdicts(Service(), 40, metrics=(ERRORS,))]
    verdicts = _verdicts(Service(factor=float(np.median(claims))), 150, seed=7, metrics=(ERRORS,))
    healthy = sum(v.kind is VerdictKind.HEALTHY for v in verdicts)
    assert healthy <= 15 + 3 * np.sqrt(150 * 0.1 * 0.9)
    assert _false(verdicts) >= 100


def _counts(
    looks: list[tuple[float, float, float, float]], *, replicas: int = 4, past: int = 0, bursts: bool = False
) -> Observation:
    """Looks of (bad, requests) of candidate and baseline; the baseline's spread evenly over replicas."""
    samples = {}
    history = [(float(40 if bursts and i % 20 == 3 else 0), 600.0) for i in range(past)]
    for i in range(-past, len(looks)):
        if i < 0:
            bad, total = history[i + past]
            value = tuple(bad if r == i % replicas else 0.0 for r in range(replicas))
            samples["errors", i] = Cells(
                ("history",) * replicas, tuple(f"b{r}" for r in range(replicas)), value=value, total=(total,) * replicas
            )
            continue
        e, n, e_other, n_other = looks[i]
        samples["errors", i] = Cells(
            ("candidate",) + ("baseline",) * replicas,
            ("c", *(f"b{r}" for r in range(replicas))),
            value=(e, *(e_other / replicas,) * replicas),
            total=(n, *(n_other / replicas,) * replicas),
        )
    return Observation(design=Design.CONCURRENT, step_s=5, metrics=(ERRORS,), samples=samples, looks=len(looks))


def test_two_errors_against_none_are_not_degraded() -> None:
    """2 of 600 against 0 of 60 000."""
    assert judge([_counts([(2, 600, 0, 60000)])], [SETTINGS])[0].kind is not VerdictKind.DEGRADED


def test_four_errors_against_none_are_degraded_unless_the_past_shows_such_bursts() -> None:
    """4 of 600 against 0 of 6 000: real where errors are independent, noise where the past comes in bursts."""
    spread = [(2.0, 300.0, 0.0, 3000.0), (2.0, 300.0, 0.0, 3000.0)]
    assert judge([_counts(spread)], [SETTINGS])[0].kind is VerdictKind.DEGRADED
    burst = _counts([(0.0, 300.0, 0.0, 3000.0), (4.0, 300.0, 0.0, 3000.0)], past=60, bursts=True)
    assert judge([burst], [SETTINGS])[0].kind is not VerdictKind.DEGRADED


def test_ten_metrics_share_one_budget() -> None:
    """Ten error metrics of one unchanged service, 60 watches: the family stays within 1 % + 3 standard errors."""
    metrics = tuple(MetricSpec(name=f"e{i}", kind=Kind.RATIO) for i in range(10))
    verdicts = _verdicts(Service(factor=1.25, requests=4000, share=0.5), 60, metrics=metrics)
    assert _false(verdicts) <= _bound(60)
    assert all(v.reason is not Reason.METRICS or v.metric is not None for v in verdicts)
