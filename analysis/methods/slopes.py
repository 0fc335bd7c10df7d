"""Mann-Kendall, Theil-Sen and what autocorrelation does to them: the rank statistics of a climb.

Rank statistics because levels have outliers and no normal tail: one sample far off moves neither much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Floats
from analysis.effect import Z95, Effect
from analysis.methods.ranks import rank_inflation

NAN = float("nan")
SPIN = 2.0  # a fall so many times as large as nearly all rises is memory given back, not noise
USUAL = 0.9  # "nearly all"
MOST = 60  # values from which looks are put together: a slope gains nothing from more, all pairs cost their square
FEWEST = 2  # falls that make a sawtooth: one is an incident


@dataclass(frozen=True, slots=True)
class Kendall:
    """Mann-Kendall's S of n values and its variance if they were independent."""

    n: int
    s: float
    variance: float


def mann_kendall(values: Floats, times: Floats, slope: float = 0.0) -> Kendall:
    """S = sum over i < j of sign(values_j - values_i - slope (times_j - times_i)), var with ties (Mann 1945, Kendall).

    Parameters
    ----------
    values, times : (n,) finite, times rising
    slope : what is tolerated per unit of time; S of "no climb beyond it" has mean <= 0

    Raises
    ------
    ValueError
        An array is not finite, lengths differ, or times do not rise: which pairs come first would be a guess.

    >>> mann_kendall(np.array([1.0, 2.0, 4.0, 3.0]), np.arange(4.0)).s
    4.0
    """
    _check(values, times)
    n = len(values)
    if n < 2:
        return Kendall(n, 0.0, 0.0)
    beyond = values - slope * times
    i, j = _pairs(n)
    s = float(np.count_nonzero(beyond[j] > beyond[i]) - np.count_nonzero(beyond[j] < beyond[i]))
    _, ties = np.unique(beyond, return_counts=True)
    tied = float(np.add.reduce(ties * (ties - 1) * (2 * ties + 5)))
    return Kendall(n, s, (n * (n - 1) * (2 * n + 5) - tied) / 18.0)


def theil_sen(values: Floats, times: Floats, inflation: float = 1.0) -> Effect:
    """Median of all pairwise slopes with Sen's 95 % interval (Theil 1950, Sen 1968); NaN below two values.

    Parameters
    ----------
    values, times : as in `mann_kendall`
    inflation : variance of S over that of independent values

    >>> theil_sen(np.array([1.0, 3.0, 5.0, 40.0]), np.arange(4.0)).value
    7.5
    """
    _check(values, times)
    n = len(values)
    if n < 2:
        return Effect(NAN, NAN, NAN)
    i, j = _pairs(n)
    slopes = np.sort((values[j] - values[i]) / (times[j] - times[i]))
    pairs = len(slopes)
    reach = Z95 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18.0 * inflation)
    low = min(max(int(np.floor((pairs - reach) / 2.0)), 0), pairs - 1)
    middle = 0.5 * (slopes[(pairs - 1) // 2] + slopes[pairs // 2])
    return Effect(float(middle), float(slopes[low]), float(slopes[pairs - 1 - low]))


def slope_inflation(values: Floats, times: Floats) -> float:
    """How much autocorrelation inflates the variance of S: that of the ranks around the Theil-Sen line, >= 1.

    Yue and Wang (Water Resources Management 18, 2004): of the detrended series, or a climb would pass for
    autocorrelation. The larger of the integrated time (Geyer) and that of an AR(1) whose coefficient is corrected for
    the bias of a fitted line, (2 + 4 r) / n (Kendall 1954; Tanizaki 2000): short series hide what they have.

    >>> slope_inflation(np.arange(9.0), np.arange(9.0))
    1.0
    """
    n = len(values)
    if n < 4:
        return 1.0
    thin = blocks(values, times, -(-n // MOST), lowest=False)
    around = values - theil_sen(*thin).value * times
    around = around - float(np.median(around))
    power = float(np.cumsum(around * around)[-1])
    if power <= 1e-24 * float(np.cumsum(values * values)[-1]):
        return 1.0
    middle = float(np.cumsum(around)[-1]) / n
    centred = around - middle
    power = float(np.cumsum(centred * centred)[-1])
    r = float(np.cumsum(centred[1:] * centred[:-1])[-1]) / power if power > 0 else 0.0
    r = min(max(r + (2.0 + 4.0 * r) / n, 0.0), 0.97)
    return max(rank_inflation(around), (1 + r) / (1 - r))


def residual_variance(values: Floats, times: Floats) -> float:
    """Variance around the Theil-Sen line, n - 2 degrees of freedom.

    >>> residual_variance(np.array([0.0, 1.0, 2.0, 3.0]), np.arange(4.0))
    0.0
    """
    around = values - theil_sen(values, times).value * times
    around = around - float(np.cumsum(around)[-1]) / len(around)
    return float(np.cumsum(around * around)[-1]) / max(len(around) - 2, 1)


def saw_period(values: Floats) -> int:
    """Values from one collapse to the next, the longest seen; 1 where the series does not saw.

    Memory that a collector gives back climbs slowly and falls at once, again and again. Its floor after each fall is
    the level that matters.

    >>> saw_period(np.array([1.0, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1])), saw_period(np.array([1.0, 2, 1, 2, 1, 2]))
    (4, 1)
    """
    steps = np.diff(values)
    rises = np.sort(steps[steps > 0])
    if len(rises) < 2:
        return 1
    usual = rises[min(int(USUAL * len(rises)), len(rises) - 1)]
    falls = np.flatnonzero(-steps > SPIN * usual)
    if len(falls) < FEWEST:
        return 1
    return int(np.maximum.reduce(np.concatenate([np.diff(falls), [falls[0] + 1, len(steps) - falls[-1]]])))


def blocks(values: Floats, times: Floats, length: int, *, lowest: bool) -> tuple[Floats, Floats]:
    """Whole blocks of `length` values: their mean, or their minimum where a level saws; and their mean times.

    >>> blocks(np.array([5.0, 1.0, 6.0, 2.0, 9.0]), np.arange(5.0), 2, lowest=True)
    (array([1., 2.]), array([0.5, 2.5]))
    """
    if length <= 1:
        return values, times
    whole = len(values) // length * length
    cut, when = values[:whole].reshape(-1, length), times[:whole].reshape(-1, length)
    found = np.minimum.reduce(cut, axis=1) if lowest else np.cumsum(cut, axis=1)[:, -1] / length
    return np.asarray(found), np.asarray(np.cumsum(when, axis=1)[:, -1] / length)


def climbs_rather_than_steps(rows: Sequence[tuple[Floats, Floats]]) -> bool:
    """Whether straight lines leave less than single steps do, each at its best place (residual sums of squares).

    A new level that was reached at once, or nearly, is no leak.

    >>> t = np.arange(12.0)
    >>> climbs_rather_than_steps([(2 * t, t)]), climbs_rather_than_steps([(np.where(t > 7, 9.0, 0.0), t)])
    (True, False)
    """
    line = sum(residual_variance(values, times) * max(len(values) - 2, 1) for values, times in rows)
    return line < sum(_best_step(values) for values, _ in rows)


def _best_step(values: Floats) -> float:
    """Least residual sum of squares of two levels, one after the other."""
    n = len(values)
    if n < 2:
        return 0.0
    around = values - float(np.cumsum(values)[-1]) / n
    before = np.cumsum(around)[:-1]
    size = np.arange(1.0, n)
    explained = before * before * (1.0 / size + 1.0 / (n - size))  # the two levels' means differ by this much
    return float(np.cumsum(around * around)[-1] - np.maximum.reduce(explained))


@lru_cache(maxsize=256)
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices i < j of all pairs of n values."""
    i, j = np.triu_indices(n, 1)
    return i, j


def _check(values: Floats, times: NDArray[np.float64]) -> None:
    if values.shape != times.shape or values.ndim != 1:
        raise ValueError(f"values: shape {values.shape}, times {times.shape}")
    for name, numbers in (("values", values), ("times", times)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name}: must be finite")
    if len(times) > 1 and not (np.diff(times) > 0).all():
        raise ValueError("times: must rise")
