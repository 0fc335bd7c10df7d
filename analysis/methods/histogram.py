"""Latency from histograms: counts of slow requests above bucket bounds, judged as counts.

A bound is a question ("slower than 0.25 s?") whose answers are counts with an exposure, so the count test applies
exactly; quantiles interpolated inside buckets are for display only. The bounds are chosen once, from the baseline,
and never from the candidate.

A margin in time asks different bounds of the arms. "No more than m slower" means S_c(x (1 + m)) <= S_b(x) for every x,
with S the share of requests slower than x; so the candidate's count above u is compared with the baseline's above l,
u >= l (1 + m), at r0 = 1. What lies between two bounds cannot be told apart: the smallest margin is one bucket.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Arrays, Floats, Panel
from analysis.result import Arm, Design, Direction
from analysis.sums import total

QUANTILES = ((0.50, 0.2), (0.90, 0.4), (0.99, 0.4))  # baseline quantiles watched, with their weights
SLO_WEIGHT = 0.3
ENOUGH = 100.0  # baseline requests from which the bounds are chosen
_SAME = 1e-9  # bounds of native histograms are powers of 2^(1/8): rounded


@dataclass(frozen=True, slots=True)
class Question:
    """Slower than `le`? Asked of the candidate at `candidate_le`, which is higher where a margin in time is given."""

    le: float
    candidate_le: float
    weight: float

    @property
    def in_time(self) -> bool:
        return self.candidate_le > self.le


def choose_bounds(metric: Arrays, design: Design) -> tuple[dict[float, float], int]:
    """Bounds to watch with their weights (sum 1), and the first look at which they are known.

    The bucket bounds nearest the baseline's p50, p90 and p99 (nearest in odds of exceeding), plus the service
    objective's; from history where there is any, else from the baseline's first intervals. Only bounds that both
    arms have are used.

    Returns
    -------
    bounds : bound -> weight; empty while the baseline has seen too few requests
    look : first look that may be judged; the number of looks where there are no bounds
    """
    finite = np.flatnonzero(np.isfinite(metric.le) & _shared(metric))
    looks = metric.panel(Arm.CANDIDATE).value.shape[-1] + min(metric.first, 0)
    if not len(finite):
        return {}, looks
    requests = _requests(metric, design)
    enough = np.flatnonzero(requests >= ENOUGH)
    if not len(enough):
        return {}, looks
    column = int(enough[0])
    start = column + metric.first
    if start < 0:  # history: use all of it that lies before the deploy
        column, start = -metric.first - 1, 0
    share = _above_until(metric, finite, column) / requests[column]
    weights: dict[float, float] = {}
    for quantile, weight in QUANTILES:
        bound = float(metric.le[finite[_nearest(share, 1 - quantile, requests[column])]])
        weights[bound] = weights.get(bound, 0.0) + weight
    slo = metric.spec.slo_le
    if slo is not None and slo in metric.le[finite]:
        weights[slo] = weights.get(slo, 0.0) + SLO_WEIGHT
    scale = sum(weights.values())
    return {bound: weight / scale for bound, weight in sorted(weights.items())}, start


def questions(metric: Arrays, bounds: Mapping[float, float]) -> list[Question]:
    """What is asked at the chosen bounds: the same of both arms, or with the metric's margin in time between them.

    The service objective's bound stays the same for both. A bound without another far enough above it is left out.
    """
    slower_by = metric.spec.slower_by
    if slower_by is None or metric.spec.direction is not Direction.UP_IS_BAD:
        return [Question(bound, bound, weight) for bound, weight in bounds.items()]
    found = [
        Question(bound, bound if bound == metric.spec.slo_le else _beyond(metric, bound * (1.0 + slower_by)), weight)
        for bound, weight in bounds.items()
    ]
    kept = [question for question in found if np.isfinite(question.candidate_le)]
    scale = sum(question.weight for question in kept)
    return [Question(question.le, question.candidate_le, question.weight / scale) for question in kept]


def _beyond(metric: Arrays, least: float) -> float:
    """The lowest bound of both arms that is at least so high; inf where there is none."""
    shared = metric.le[np.isfinite(metric.le) & _shared(metric)]
    return float(min(shared[shared >= least * (1.0 - _SAME)], default=np.inf))


def layouts(metric: Arrays) -> tuple[list[float], list[float]] | None:
    """The finite bounds of the old and of the new version where both have some and none in common; else nothing."""
    if not {Arm.BASELINE, Arm.CANDIDATE} <= set(metric.panels):
        return None
    finite = np.isfinite(metric.le)
    if (finite & _shared(metric)).any():
        return None
    old, new = (metric.le[finite & _known(metric.panels[arm])].tolist() for arm in (Arm.BASELINE, Arm.CANDIDATE))
    return (old, new) if old and new else None


def _nearest(share: Floats, wanted: float, requests: float) -> int:
    low = 0.5 / (requests + 1.0)
    inside = np.minimum(np.maximum(share, low), 1 - low)
    odds = inside / (1 - inside)
    return int(np.argmin(np.abs(np.log(odds) - np.log(wanted / (1 - wanted)))))


def _shared(metric: Arrays) -> np.ndarray:
    """Which bounds every arm that was seen has."""
    shared = np.ones(len(metric.le), dtype=bool)
    for arm in (Arm.BASELINE, Arm.CANDIDATE, Arm.HISTORY):
        panel = metric.panels.get(arm)
        if panel is not None:
            shared &= _known(panel, -1 if arm is not Arm.HISTORY else max(-metric.first - 1, 0))
    return shared


def _known(panel: Panel, latest: int = -1) -> NDArray[np.bool_]:
    """(bounds,) which of them the arm has in any interval; mostly its latest tells."""
    there = _has(panel.value[..., latest]) if panel.value.shape[-1] else np.zeros(panel.value.shape[2], dtype=bool)
    return there if there.all() else np.asarray(np.any(~np.isnan(panel.value), axis=(0, 1, 3)))


def _has(values: Floats) -> NDArray[np.bool_]:
    """(bounds,) whether any of (replicas, strata, bounds) is there."""
    return np.asarray(~np.isnan(values).all(axis=(0, 1)))


def _requests(metric: Arrays, design: Design) -> Floats:
    """(intervals,) requests of the old version so far; before and after only those before the deploy."""
    requests = np.zeros(metric.panel(Arm.BASELINE).total.shape[-1])
    for panel in _of_old_version(metric):
        known = np.where(np.isnan(panel.total), 0.0, panel.total)
        requests += total(total(known))
    if design is Design.BEFORE_AFTER and metric.first < 0:
        requests[-metric.first :] = 0.0
    return np.cumsum(requests)


def _above_until(metric: Arrays, finite: np.ndarray, column: int) -> Floats:
    """(bounds,) requests of the old version above each bound, up to an interval."""
    above = np.zeros((len(finite), column + 1))
    for panel in _of_old_version(metric):
        slow = panel.total[:, :, None, : column + 1] - panel.value[:, :, finite, : column + 1]
        above += total(total(np.where(np.isnan(slow), 0.0, np.maximum(slow, 0.0))))
    return np.asarray(np.add.accumulate(above, axis=1)[:, -1])


def _of_old_version(metric: Arrays) -> list[Panel]:
    return [metric.panels[arm] for arm in (Arm.BASELINE, Arm.HISTORY) if arm in metric.panels]


def exceedances(metric: Arrays, bound: float, candidate_bound: float | None = None) -> dict[Arm, Panel]:
    """Each arm's count of requests slower than `bound`, with all requests as exposure.

    Intervals in which an arm lacks that bucket are absent. candidate_bound: what the candidate is asked instead.
    """
    return all_exceedances(metric, [(bound, bound if candidate_bound is None else candidate_bound)])[0]


def all_exceedances(metric: Arrays, bounds: Sequence[tuple[float, float]]) -> list[dict[Arm, Panel]]:
    """As `exceedances`, at several bounds: of each what the other arms are asked, and what the candidate is."""
    found: list[dict[Arm, Panel]] = [{} for _ in bounds]
    if not bounds:
        return found
    for arm, panel in metric.panels.items():
        asked = [own if arm is Arm.CANDIDATE else others for others, own in bounds]
        slow = panel.total[:, :, None, :] - panel.value[:, :, np.searchsorted(metric.le, asked), :]
        np.maximum(slow, 0.0, out=slow)  # NaN where either is not known
        requests = np.where(np.isnan(slow), np.nan, panel.total[:, :, None, :])
        for k, one in enumerate(found):
            one[arm] = Panel(slow[:, :, k : k + 1, :], requests[:, :, k, :])
    return found


def quantile(le: Floats, counts: Floats, total: float, q: float) -> float:
    """Quantile by linear interpolation inside its bucket, as PromQL's histogram_quantile does. For display only.

    >>> round(quantile(np.array([0.1, 0.5, np.inf]), np.array([50.0, 100.0, 100.0]), 100.0, 0.75), 3)
    0.3
    """
    if total <= 0 or not len(le):
        return float("nan")
    at = int(np.argmax(counts >= q * total))
    if not np.isfinite(le[at]):
        return float(le[at - 1]) if at else float("nan")
    low, below = (float(le[at - 1]), float(counts[at - 1])) if at else (0.0, 0.0)
    inside = float(counts[at]) - below
    return low + (float(le[at]) - low) * ((q * total - below) / inside if inside > 0 else 1.0)
