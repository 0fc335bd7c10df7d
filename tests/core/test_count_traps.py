"""Small numbers and twins: what must not roll back, and what must, with settings as shipped."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.decode import Floats
from analysis.judge import judge
from analysis.prepare import Cells, Observation
from analysis.result import Design, JudgeSettings, Kind, MetricSpec, Reason, Verdict, VerdictKind
from analysis.simulate import ERRORS

SETTINGS = JudgeSettings()
REPLICAS = 4
PAST = 360
Looks = list[tuple[float, float, float, float]]  # bad events and requests of the candidate, then of the baseline
CALM: Looks = [(0.0, 100.0, 0.0, 1000.0)] * 5
BURST: Looks = [*CALM, (4.0, 100.0, 0.0, 1000.0)]


def _cells(*arms: tuple[str, Floats, float]) -> Cells:
    """Errors per replica of some arms, each replica with the same number of requests."""
    rows = [(arm, f"{arm}-{i}", float(bad), total) for arm, value, total in arms for i, bad in enumerate(value)]
    arm, names, value, total = (tuple(column) for column in zip(*rows, strict=True))
    return Cells(arm, names, value=value, total=total)


def _judged(looks: Looks, past: Floats | None = None, *, others: int = 0, **spec: object) -> Verdict:
    """`past`: (replicas, intervals) errors in 1 500 requests each. others: metrics beside it that show nothing."""
    errors = replace(ERRORS, **spec)  # type: ignore[arg-type]
    metrics = (errors, *(MetricSpec(name=f"quiet-{i}", kind=Kind.RATIO) for i in range(others)))
    samples = {}
    for i, bad in enumerate(past.T if past is not None else ()):
        samples["errors", i - PAST] = _cells(("history", bad, 1500.0))
    for i, (e, n, e_other, n_other) in enumerate(looks):
        for metric in metrics:
            bad, bad_other = (e, e_other) if metric is errors else (0.0, 0.0)
            each = np.full(REPLICAS, bad_other / REPLICAS)
            samples[metric.name, i] = _cells(("candidate", np.array([bad]), n), ("baseline", each, n_other / REPLICAS))
    seen = Observation(design=Design.CONCURRENT, step_s=10, metrics=metrics, samples=samples, looks=len(looks))
    return judge([seen], [SETTINGS])[0]


def _independent(rate: float) -> Floats:
    return np.random.default_rng(1).poisson(1500 * rate, (REPLICAS, PAST)).astype(float)


def _bursts(every: int) -> Floats:
    """Four errors at once on one replica, every so often, and none between."""
    rng, past = np.random.default_rng(2), np.zeros((REPLICAS, PAST))
    for interval in range(5, PAST, every):
        past[rng.integers(REPLICAS), interval] = 4.0
    return past


@pytest.mark.parametrize("looks", [[(2.0, 600.0, 0.0, 60_000.0)], [(1.0, 300.0, 0.0, 30_000.0)] * 2])
@pytest.mark.parametrize("past", [None, _independent(1e-4)], ids=["no-past", "calm-past"])
def test_two_errors_of_600_against_none_of_60_000_are_not_degraded(looks: Looks, past: Floats | None) -> None:
    """However long the odds of two errors are, two clients may have been unlucky."""
    assert _judged(looks, past).kind is not VerdictKind.DEGRADED


@pytest.mark.parametrize(
    "looks", [[(4.0, 600.0, 0.0, 6000.0)], [(1.0, 150.0, 0.0, 1500.0)] * 4, BURST], ids=["at-once", "spread", "late"]
)
@pytest.mark.parametrize(("weight", "others"), [(1.0, 0), (1.0, 1), (4.0, 4)], ids=["alone", "of-two", "half"])
def test_four_errors_of_600_against_none_of_6_000_are_degraded(looks: Looks, weight: float, others: int) -> None:
    """With half of the budget or more, where the replicas show that errors come one by one."""
    verdict = _judged(looks, _independent(1e-4), others=others, weight=weight, critical=False)
    assert (verdict.kind, verdict.metric) == (VerdictKind.DEGRADED, "errors")
    assert verdict.evidence[0].dispersion_from == "replicas"


@pytest.mark.parametrize("every", [20, 120], ids=["often", "thrice"])
def test_the_same_four_errors_in_one_burst_are_not_degraded_where_the_past_has_such_bursts(every: int) -> None:
    """A burst of four on one replica is nothing new."""
    assert _judged(BURST, _bursts(every)).kind is not VerdictKind.DEGRADED
    assert _judged(BURST, _independent(1e-4)).kind is VerdictKind.DEGRADED


@pytest.mark.parametrize("looks", [10, 40])
def test_the_same_changing_traffic_in_both_arms_is_misconfigured(looks: int) -> None:
    """No two versions get the very same number of requests ten times over; the errors may even differ."""
    traffic = np.random.default_rng(3).poisson(500, looks).astype(float)
    same = [(float(i % 3), n, 1.0, n) for i, n in enumerate(traffic)]
    verdict = _judged(same)
    assert (verdict.kind, verdict.reason) == (VerdictKind.INCONCLUSIVE, Reason.MISCONFIGURED)
    assert _judged(same[:9]).reason is not Reason.MISCONFIGURED


def test_equal_error_counts_of_zero_are_not_misconfigured() -> None:
    """Nobody fails: no sign that the arms are one. Nor are equal constant exposures."""
    traffic = np.random.default_rng(4).poisson(500, (40, 2)).astype(float)
    assert _judged([(0.0, n, 0.0, n_other) for n, n_other in traffic.tolist()]).reason is not Reason.MISCONFIGURED
    assert _judged([(0.0, 500.0, 0.0, 500.0)] * 40).reason is not Reason.MISCONFIGURED
