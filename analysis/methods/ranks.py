"""Mann-Whitney, Hodges-Lehmann and A-hat, batched: the fixed-horizon companion and the effect size of gauges.

Never a gate by itself: looked at after every interval its false alarms grow without bound, and it does not see a bad
minority (spinnaker#6278).
"""

import struct
from collections.abc import Sequence

import numpy as np
from scipy import special

from analysis.decode import Floats
from analysis.effect import Z95, Effect
from analysis.methods.rank_sums import pairs_won
from analysis.result import Direction
from analysis.together import Rows, in_groups

_AWAY = {  # the signs under which worse is more
    Direction.UP_IS_BAD: np.array([1.0]),
    Direction.DOWN_IS_BAD: np.array([-1.0]),
    Direction.EITHER: np.array([1.0, -1.0]),
}
_HELD_PAIRS = 1_000_000  # differences that fit easily into memory (8 MB); more are searched


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

    Raises
    ------
    ValueError
        An arm is empty, the leading axes differ, or a value is NaN or infinite: a missing sample is left out by the
        caller, who knows why it is missing.

    >>> U, p, A = mann_whitney(np.array([[3.0, 4.0, 5.0]]), np.array([[1.0, 2.0, 2.0]]))
    >>> float(U[0]), round(float(p[0]), 4), float(A[0])
    (9.0, 0.0383, 1.0)
    """
    n, m = x.shape[-1], y.shape[-1]
    if n == 0 or m == 0:
        raise ValueError("mann_whitney: an arm is empty")
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(f"mann_whitney: x has leading axes {x.shape[:-1]}, y {y.shape[:-1]}")
    for name, values in (("x", x), ("y", y)):
        if not np.isfinite(values).all():
            raise ValueError(f"mann_whitney: {name} must be finite")
    won, ties = pairs_won(x.reshape(-1, n), y.reshape(-1, m))
    U, ties = won.reshape(x.shape[:-1]), ties.reshape(x.shape[:-1])
    total = n + m
    variance = n * m / 12.0 * ((total + 1) - ties / (total * (total - 1.0)))
    sd = np.sqrt(np.maximum(variance * inflation, 0.0))
    safe = np.where(sd > 0, sd, 1.0)
    z = np.where(sd > 0, (U - n * m / 2.0 - 0.5) / safe, -np.inf)
    p = np.where(sd > 0, special.ndtr(-z), 1.0)
    return U, p, U / (n * m)


def companions(samples: Rows, directions: Sequence[Direction], inflations: Floats) -> list[tuple[float, float]]:
    """Mann-Whitney p and A-hat in the bad direction of many comparisons; NaN where an arm has fewer than two values.

    Parameters
    ----------
    samples
        Of each comparison (n,) of the candidate and (m,) of the baseline, finite.
    directions
        Which way is worse; for either the p of both, corrected for two looks.
    inflations : (comparisons,)
        Variance over that of independent samples, from `rank_inflation` of the baseline.

    >>> companions([(np.array([3.0, 4.0]), np.array([1.0, 2.0]))], [Direction.UP_IS_BAD], np.ones(1))
    [(0.122639..., 1.0)]
    """
    told = [i for i, (x, y) in enumerate(samples) if len(x) >= 2 and len(y) >= 2]
    asked = [(*samples[i], _AWAY[directions[i]], inflations[i : i + 1]) for i in told]
    found = [(float("nan"), float("nan"))] * len(samples)
    for i, (p, a_hat) in zip(told, in_groups(asked, _companions), strict=True):
        found[i] = float(p), float(a_hat)
    return found


def _companions(x: Floats, y: Floats, away: Floats, inflation: Floats) -> tuple[Floats, Floats]:
    _, p, a_hat = mann_whitney(away[:, :1] * x, away[:, :1] * y, inflation[:, 0])
    either = away.shape[1] == 2
    if either:
        p = np.minimum(1.0, 2 * np.minimum(p, mann_whitney(-x, -y, inflation[:, 0])[1]))
    return p, a_hat


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
    return float(rank_inflations(series[None])[0])


def rank_inflations(series: Floats) -> Floats:
    """As `rank_inflation`, of many series of one length, (rows, n) -> (rows,)."""
    rows, n = series.shape
    tau = np.ones(rows)
    if n < 4:
        return tau
    order = np.argsort(series, axis=1, kind="stable")
    ranks = np.empty((rows, n))
    np.put_along_axis(ranks, order, _midranks(np.take_along_axis(series, order, axis=1))[0], axis=1)
    centred = ranks - (n + 1) / 2.0
    power = _sum(centred * centred)
    going = np.flatnonzero(power > 0)
    for lag in range(1, n // 2, 2):
        own, size = centred[going], power[going]
        pair = _sum(own[:, lag:] * own[:, :-lag]) / size + _sum(own[:, lag + 1 :] * own[:, : -lag - 1]) / size
        on = pair > 0
        going = going[on]
        tau[going] += 2.0 * pair[on]
        if not len(going):
            break
    return tau


def _sum(parts: Floats) -> Floats:
    """Of each row, added one after another: the same bits in every batch."""
    return np.asarray(np.add.accumulate(parts, axis=1)[:, -1])


def hodges_lehmann(x: Floats, y: Floats, inflation: float = 1.0) -> Effect:
    """Median of all differences x_i - y_j with a 95 % interval from the order statistics (Hollander and Wolfe).

    Parameters
    ----------
    x, y : (n,) and (m,), finite
    inflation : variance over that of independent samples

    Returns
    -------
    Effect in the samples' unit; NaN where an arm is empty. Up to a million differences are held at once; of more,
    the few that are needed are searched for: the same numbers, in memory for n + m values.

    >>> hodges_lehmann(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0])).value
    2.0
    """
    if not len(x) or not len(y):
        return Effect(float("nan"), float("nan"), float("nan"))
    pairs = len(x) * len(y)
    sd = np.sqrt(pairs * (len(x) + len(y) + 1) / 12.0 * inflation)
    low = int(max(np.floor(pairs / 2.0 - Z95 * sd), 0))
    places = (low, (pairs - 1) // 2, pairs // 2, pairs - 1 - low)
    if pairs <= _HELD_PAIRS:
        differences = np.partition((x[:, None] - y[None, :]).ravel(), sorted(set(places)))
        found = [float(differences[place]) for place in places]
    else:
        rising = np.sort(y)
        found = [_difference(x, rising, place) for place in places]
    return Effect(0.5 * (found[1] + found[2]), found[0], found[3])


def _difference(x: Floats, y: Floats, place: int) -> float:
    """The place-th smallest (from 0) of all x_i - y_j, by halving the range of floats it may be; y rises."""
    low, high = _rank_of(float(np.min(x) - y[-1])), _rank_of(float(np.max(x) - y[0]))
    while low < high:
        middle = (low + high) // 2
        if _differences_up_to(x, y, _float_at(middle)) > place:
            high = middle
        else:
            low = middle + 1
    return _float_at(low)


def _differences_up_to(x: Floats, y: Floats, limit: float) -> int:
    """How many x_i - y_j, rounded as floats are, are at most `limit`: for every x_i those from some y_j on."""
    least, most = np.zeros(len(x), dtype=np.int64), np.full(len(x), len(y), dtype=np.int64)
    for _ in range(len(y).bit_length()):
        middle = (least + most) // 2
        within = x - y[np.minimum(middle, len(y) - 1)] <= limit
        most = np.where(within, middle, most)
        least = np.where(within | (middle >= most), least, middle + 1)
    return int(np.add.reduce(len(y) - most))


def _rank_of(number: float) -> int:
    """A float's place among all floats; 0.0 and -0.0 share theirs."""
    bits: int = struct.unpack("<q", struct.pack("<d", number))[0]
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)


def _float_at(rank: int) -> float:
    (number,) = struct.unpack("<d", struct.pack("<q", abs(rank)))
    return float(number) if rank >= 0 else -float(number)
