"""How much worse: effect sizes with intervals. They are reported beside the evidence and never decide."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Floats
from analysis.sums import total

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Effect:
    """Candidate over baseline (or their difference) with a 95 % interval; NaN where it cannot be said."""

    value: float
    low: float
    high: float


def rate_ratio(events: Floats, exposure: Floats, other_events: Floats, other_exposure: Floats, phi: float) -> Effect:
    """Ratio of two event rates over strata.

    Parameters
    ----------
    events, exposure, other_events, other_exposure : (strata,) candidate and baseline
    phi : variance over that of independent events

    >>> e = rate_ratio(*(np.array([v]) for v in (33.0, 540.0, 39.0, 4870.0)), 1.0)
    >>> round(e.value, 1), round(e.low, 1), round(e.high, 1)
    (7.6, 4.8, 12.1)
    """
    value, low, high = rate_ratios(
        events[None], exposure[None], other_events[None], other_exposure[None], np.array([phi])
    )
    return Effect(float(value[0]), float(low[0]), float(high[0]))


def rate_ratios(
    events: Floats, exposure: Floats, other_events: Floats, other_exposure: Floats, phi: Floats
) -> tuple[Floats, Floats, Floats]:
    """Ratios of two event rates over strata, with their intervals; NaN where they cannot be said.

    Mantel-Haenszel over strata (Greenland and Robins 1985); the interval is Wilson's score interval for the share of
    events that fell on the candidate, with the number of events divided by the variance factor, carried over to the
    ratio. It needs no event in either arm to be above 0.

    Parameters
    ----------
    events, exposure, other_events, other_exposure : (rows, strata) candidate and baseline
    phi : (rows,) variance over that of independent events

    Returns
    -------
    value, low, high : (rows,)
    """
    both_n = exposure + other_exposure
    weight = np.divide(1.0, both_n, out=np.zeros_like(both_n), where=both_n > 0)
    up, down = _sum(events * other_exposure * weight), _sum(other_events * exposure * weight)
    e, e_other, n, n_other = (_sum(side) for side in (events, other_events, exposure, other_exposure))
    known = (n > 0) & (n_other > 0) & (e + e_other > 0)
    safe, nan = np.where(known, e + e_other, 1.0), float("nan")
    low_share, high_share = wilson(e / safe, safe / phi)
    crude = (up > 0) & (down > 0)
    scale = np.where(
        crude,
        _ratio(_ratio(up, down, crude), _ratio(e, e_other, crude), crude),
        _ratio(n_other, n, known),
    )
    return (
        np.where(known, _ratio(up, down, down > 0), nan),
        np.where(known & (low_share < 1), _ratio(scale * low_share, 1 - low_share, low_share < 1), nan),
        np.where(known & (high_share < 1), _ratio(scale * high_share, 1 - high_share, high_share < 1), nan),
    )


def _sum(by_stratum: Floats) -> Floats:
    return total(by_stratum, axis=1)


def _ratio(a: Floats, b: Floats, known: NDArray[np.bool_]) -> Floats:
    """a / b, NaN where that is not known."""
    return np.asarray(np.divide(a, b, out=np.full(a.shape, np.nan), where=known))


def wilson(share: Floats | float, n: Floats | float, z: float = Z95) -> tuple[Floats, Floats]:
    """Score interval of a binomial share (Wilson 1927).

    >>> tuple(round(float(x), 3) for x in wilson(0.5, 100.0))
    (0.404, 0.596)
    """
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)
