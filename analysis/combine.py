"""Many metrics, one budget: the weighted average of e-values is an e-value whatever their dependence."""

from collections.abc import Sequence

import numpy as np

from analysis.decode import Floats
from analysis.log_sums import NOTHING, log_add
from analysis.result import Direction, MetricSpec

CRITICAL = 4.0  # a critical metric's share of the budget, relative to the others
RESCUE = float(np.log(100.0))  # strong evidence of one kind makes up for so much lack of the other
TOGETHER = 3  # looks within which two metrics count as worse together
NONE = -9.0 * float(np.log(10.0))  # ln of "no evidence"
MANY = 4  # from so many metrics on, one with no bad direction may not decide alone


def budget_shares(metrics: Sequence[MetricSpec]) -> tuple[float, ...]:
    """Each metric's share of the false-rollback budget; they sum to 1.

    >>> [round(x, 2) for x in budget_shares(())]
    []
    """
    weights = [max(spec.weight, 0.0) * (CRITICAL if spec.critical else 1.0) for spec in metrics]
    total = sum(weights)
    return tuple(w / total if total > 0 else 1.0 / len(weights) for w in weights)


def capped(path: Floats, spec: MetricSpec, metrics: Sequence[MetricSpec], log_threshold: float) -> Floats:
    """A metric without a bad direction, one of many, brings at most half of what alone would decide."""
    if may_not_decide_alone(spec, metrics):
        return np.asarray(np.minimum(path, log_threshold - np.log(2.0)))
    return path


def average(paths: Sequence[Floats], shares: Sequence[float]) -> Floats:
    """ln of the weighted average of e-values after every look (Vovk and Wang, arXiv 1912.06116).

    Added in the order of the metrics' names by the caller, so that shuffled metrics give the same bits.

    >>> average([np.log([1.0, 300.0]), np.log([1.0, 0.5])], [0.5, 0.5]).round(3)
    array([0.   , 5.012])
    """
    total = np.full(paths[0].shape, NOTHING)
    for path, share in zip(paths, shares, strict=True):
        if share > 0:
            total = log_add(total, path + np.log(share))
    return total


def two_routes(paths: Floats, windows: Floats, specs: Sequence[MetricSpec], log_needed: Floats) -> Floats:
    """ln evidence of all levels together after every look, of what `log_needed` of one metric must reach.

    Two kinds of evidence, of the strength of a move (e-process) and of its lasting (windows), meet in a geometric mean:
    never more than their average, so it is within the budget where both are (Vovk and Wang, Biometrika 107, 2020), and
    each may make up for at most a hundredfold lack of the other. Both are taken at their best so far: an anytime p.
    Windows decide by one metric, or by two that are worse within a few looks of each other (the geometric mean of
    their p); half the budget each.

    Parameters
    ----------
    paths, windows : (metrics, looks) ln e-values and ln 1/p
    log_needed : (metrics,) ln of what one metric alone has to reach for its share of the budget

    Returns
    -------
    (looks,) ln evidence that decides at 0.
    """
    strength = np.full(paths.shape[1], -np.inf)
    for path, needed in zip(paths, log_needed, strict=True):
        strength = np.logaddexp(strength, path - needed)
    lasting = windows_together(windows - log_needed[:, None] - np.log(2.0), specs)
    best = [np.minimum(np.maximum.accumulate(one), RESCUE) for one in (strength, lasting)]
    return np.asarray(0.5 * (best[0] + best[1]))


def windows_together(windows: Floats, specs: Sequence[MetricSpec]) -> Floats:
    """ln evidence of the windows of several metrics, (metrics, looks) of what decides at 0 -> (looks,)."""
    alone = np.array([not may_not_decide_alone(spec, specs) for spec in specs])
    single = np.maximum.reduce(np.where(alone[:, None], windows, NONE))
    if len(specs) < 2:
        return np.asarray(single)
    lately = windows.copy()
    for back in range(1, TOGETHER):
        lately[:, back:] = np.maximum(lately[:, back:], windows[:, :-back])
    first, second = np.sort(lately, axis=0)[-1], np.sort(lately, axis=0)[-2]
    pair = np.where(second > NONE / 2, 0.5 * (first + second), NONE)
    return np.asarray(np.maximum(single, pair))


def may_not_decide_alone(spec: MetricSpec, metrics: Sequence[MetricSpec]) -> bool:
    """A metric without a bad direction, one of many: some metric always moves somewhere."""
    return spec.direction is Direction.EITHER and len(metrics) >= MANY


def first_crossing(path: Floats, log_threshold: float) -> int | None:
    """The first look whose evidence reaches the threshold; from there the verdict stands."""
    crossed = np.flatnonzero(path >= log_threshold)
    return int(crossed[0]) if len(crossed) else None
