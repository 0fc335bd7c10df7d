"""Mann-Whitney, Hodges-Lehmann and A-hat, batched: the fixed-horizon companion and the effect size of gauges.

Never a gate by itself: looked at after every interval its false alarms grow without bound, and it does not see a bad
minority (spinnaker#6278).
"""

import numpy as np
from scipy import special

from analysis.decode import Floats
from analysis.effect import Z95, Effect


def mann_whitney(x: Floats, y: Floats, inflation: Floats | float = 1.0) -> tuple[Floats, Floats, Floats]:
    """One-sided Mann-Whitney tests that x is larger, along the last axis.

    Midranks, tie-corrected variance, continuity correction 1/2, variance times `inflation` (the integrated
    autocorrelation time of the ranks) where samples depend on each other.

    Parameters
    ----------
    x, y : (..., n) and (..., m), finite

    Returns
    -------
    U, p, A : statistic of x, one-sided p, and P(x > y) + P(x = y)/2

    >>> U, p, A = mann_whitney(np.array([[3.0, 4.0, 5.0]]), np.array([[1.0, 2.0, 2.0]]))
    >>> float(U[0]), round(float(p[0]), 4), float(A[0])
    (9.0, 0.0383, 1.0)
    """
    n, m = x.shape[-1], y.shape[-1]
    if n == 0 or m == 0:
        raise ValueError("mann_whitney: an arm is empty")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("mann_whitney: x and y must be finite")
    both = np.concatenate([x, y], axis=-1)
    order = np.argsort(both, axis=-1, kind="stable")
    values = np.take_along_axis(both, order, axis=-1)
    ranks, ties = _midranks(values)
    from_x = order < n
    rank_sum = np.add.reduce(np.where(from_x, ranks, 0.0), axis=-1)
    U = rank_sum - n * (n + 1) / 2.0
    total = n + m
    variance = n * m / 12.0 * ((total + 1) - ties / (total * (total - 1.0)))
    sd = np.sqrt(np.maximum(variance * inflation, 0.0))
    safe = np.where(sd > 0, sd, 1.0)
    z = np.where(sd > 0, (U - n * m / 2.0 - 0.5) / safe, -np.inf)
    p = np.where(sd > 0, special.ndtr(-z), 1.0)
    return U, p, U / (n * m)


def _midranks(values: Floats) -> tuple[Floats, Floats]:
    """Midranks of sorted rows, and sum of t^3 - t over tie groups."""
    total = values.shape[-1]
    place = np.arange(total)
    starts = np.concatenate([np.ones((*values.shape[:-1], 1), bool), np.diff(values, axis=-1) != 0], axis=-1)
    ends = np.concatenate([starts[..., 1:], np.ones((*values.shape[:-1], 1), bool)], axis=-1)
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, place, total)[..., ::-1], axis=-1)[..., ::-1]
    size = (last - first + 1).astype(np.float64)
    ties = np.add.reduce(size * size - 1.0, axis=-1)
    return (first + last) / 2.0 + 1.0, ties


def rank_inflation(series: Floats) -> float:
    """Integrated autocorrelation time of a series' ranks, >= 1 (initial positive pairs, Geyer 1992).

    >>> rank_inflation(np.array([1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]))
    1.0
    """
    n = len(series)
    if n < 4:
        return 1.0
    order = np.argsort(series, kind="stable")
    ranks = np.empty(n)
    ranks[order] = _midranks(series[order][None])[0][0]
    centred = ranks - (n + 1) / 2.0
    power = float(np.cumsum(centred * centred)[-1])
    if power <= 0:
        return 1.0
    tau = 1.0
    for lag in range(1, n // 2, 2):
        pair = sum(float(np.cumsum(centred[k:] * centred[:-k])[-1]) / power for k in (lag, lag + 1))
        if pair <= 0:
            break
        tau += 2.0 * pair
    return tau


def hodges_lehmann(x: Floats, y: Floats, inflation: float = 1.0) -> Effect:
    """Median of all differences x_i - y_j with a 95 % interval from the order statistics (Hollander and Wolfe).

    >>> hodges_lehmann(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0])).value
    2.0
    """
    if not len(x) or not len(y):
        return Effect(float("nan"), float("nan"), float("nan"))
    differences = np.sort((x[:, None] - y[None, :]).ravel())
    pairs = len(differences)
    sd = np.sqrt(pairs * (len(x) + len(y) + 1) / 12.0 * inflation)
    low = int(max(np.floor(pairs / 2.0 - Z95 * sd), 0))
    middle = 0.5 * (differences[(pairs - 1) // 2] + differences[pairs // 2])
    return Effect(float(middle), float(differences[low]), float(differences[pairs - 1 - low]))
