"""Latency from histograms: counts of slow requests above bucket bounds, judged as counts.

A bound is a question ("slower than 0.25 s?") whose answers are counts with an exposure, so the count test applies
exactly; quantiles interpolated inside buckets are for display only. The bounds are chosen once, from the baseline,
and never from the candidate.
"""

import numpy as np

from analysis.decode import Arrays, Floats, Panel
from analysis.result import Arm, Design

QUANTILES = ((0.50, 0.2), (0.90, 0.4), (0.99, 0.4))  # baseline quantiles watched, with their weights
SLO_WEIGHT = 0.3
ENOUGH = 100.0  # baseline requests from which the bounds are chosen


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
    above, total = _seen(metric, finite, design)
    enough = np.flatnonzero(total >= ENOUGH)
    if not len(enough):
        return {}, looks
    column = int(enough[0])
    start = column + metric.first
    if start < 0:  # history: use all of it that lies before the deploy
        column, start = -metric.first - 1, 0
    share = above[:, column] / total[column]
    weights: dict[float, float] = {}
    for quantile, weight in QUANTILES:
        bound = float(metric.le[finite[_nearest(share, 1 - quantile, total[column])]])
        weights[bound] = weights.get(bound, 0.0) + weight
    slo = metric.spec.slo_le
    if slo is not None and slo in metric.le[finite]:
        weights[slo] = weights.get(slo, 0.0) + SLO_WEIGHT
    scale = sum(weights.values())
    return {bound: weight / scale for bound, weight in sorted(weights.items())}, start


def _nearest(share: Floats, wanted: float, total: float) -> int:
    low = 0.5 / (total + 1.0)
    odds = np.clip(share, low, 1 - low) / (1 - np.clip(share, low, 1 - low))
    return int(np.argmin(np.abs(np.log(odds) - np.log(wanted / (1 - wanted)))))


def _shared(metric: Arrays) -> np.ndarray:
    """Which bounds every arm that was seen has."""
    shared = np.ones(len(metric.le), dtype=bool)
    for arm in (Arm.BASELINE, Arm.CANDIDATE, Arm.HISTORY):
        panel = metric.panels.get(arm)
        if panel is not None:
            shared &= ~np.isnan(panel.value).all(axis=(0, 1, 3))
    return shared


def _seen(metric: Arrays, finite: np.ndarray, design: Design) -> tuple[Floats, Floats]:
    """Cumulated requests above each bound and in all, of the old version, after every interval."""
    above, total = np.zeros((len(finite), 1)), np.zeros(1)
    for arm in (Arm.BASELINE, Arm.HISTORY):
        panel = metric.panels.get(arm)
        if panel is None:
            continue
        slow = np.stack([np.add.accumulate(_above(panel, b), axis=0)[-1].sum(axis=0) for b in finite])
        seen = np.nan_to_num(panel.total).sum(axis=(0, 1))
        above, total = above + slow, total + seen
    if design is Design.BEFORE_AFTER and metric.first < 0:
        above, total = above.copy(), total.copy()
        above[:, -metric.first :], total[-metric.first :] = 0.0, 0.0
    return np.cumsum(np.broadcast_to(above, (len(finite), above.shape[1])), axis=-1), np.cumsum(total)


def _above(panel: Panel, bound_at: int) -> Floats:
    within = panel.value[:, :, bound_at, :]
    slow = panel.total - within
    return np.where(np.isnan(slow), 0.0, np.maximum(slow, 0.0))


def exceedances(metric: Arrays, bound: float) -> dict[Arm, Panel]:
    """Each arm's count of requests slower than `bound`, with all requests as exposure.

    Intervals in which an arm lacks that bucket are absent.
    """
    at = int(np.flatnonzero(metric.le == bound)[0])
    found = {}
    for arm, panel in metric.panels.items():
        known = ~np.isnan(panel.value[:, :, at, :]) & ~np.isnan(panel.total)
        value = np.where(known, _above(panel, at), np.nan)
        found[arm] = Panel(value[:, :, None, :], np.where(known, panel.total, np.nan))
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
