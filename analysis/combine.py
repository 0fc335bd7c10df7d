"""Many metrics, one budget: the weighted average of e-values is an e-value whatever their dependence."""

from collections.abc import Sequence

import numpy as np

from analysis.decode import Floats
from analysis.result import Direction, MetricSpec

CRITICAL = 4.0  # a critical metric's share of the budget, relative to the others
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
    if spec.direction is Direction.EITHER and len(metrics) >= MANY:
        return np.asarray(np.minimum(path, log_threshold - np.log(2.0)))
    return path


def average(paths: Sequence[Floats], shares: Sequence[float]) -> Floats:
    """ln of the weighted average of e-values after every look (Vovk and Wang, arXiv 1912.06116).

    Added in the order of the metrics' names by the caller, so that shuffled metrics give the same bits.

    >>> average([np.log([1.0, 300.0]), np.log([1.0, 0.5])], [0.5, 0.5]).round(3)
    array([0.   , 5.012])
    """
    total = np.full(paths[0].shape, -np.inf)
    for path, share in zip(paths, shares, strict=True):
        if share > 0:
            total = np.logaddexp(total, path + np.log(share))
    return total


def first_crossing(path: Floats, log_threshold: float) -> int | None:
    """The first look whose evidence reaches the threshold; from there the verdict stands."""
    crossed = np.flatnonzero(path >= log_threshold)
    return int(crossed[0]) if len(crossed) else None
