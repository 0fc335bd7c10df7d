"""How much worse: effect sizes with intervals. They are reported beside the evidence and never decide."""

from dataclasses import dataclass

import numpy as np

from analysis.decode import Floats

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Effect:
    """Candidate over baseline (or their difference) with a 95 % interval; NaN where it cannot be said."""

    value: float
    low: float
    high: float


def rate_ratio(events: Floats, exposure: Floats, other_events: Floats, other_exposure: Floats, phi: float) -> Effect:
    """Ratio of two event rates over strata.

    Mantel-Haenszel over strata (Greenland and Robins 1985); the interval is Wilson's score interval for the share of
    events that fell on the candidate, with the number of events divided by the variance factor, carried over to the
    ratio. It needs no event in either arm to be above 0.

    Parameters
    ----------
    events, exposure, other_events, other_exposure : (strata,) candidate and baseline
    phi : variance over that of independent events

    >>> e = rate_ratio(*(np.array([v]) for v in (33.0, 540.0, 39.0, 4870.0)), 1.0)
    >>> round(e.value, 1), round(e.low, 1), round(e.high, 1)
    (7.6, 4.8, 12.1)
    """
    nan = float("nan")
    both_n = exposure + other_exposure
    weight = np.divide(1.0, both_n, out=np.zeros_like(both_n), where=both_n > 0)
    up = float(np.cumsum(events * other_exposure * weight)[-1])
    down = float(np.cumsum(other_events * exposure * weight)[-1])
    e, e_other = float(np.cumsum(events)[-1]), float(np.cumsum(other_events)[-1])
    n, n_other = float(np.cumsum(exposure)[-1]), float(np.cumsum(other_exposure)[-1])
    if n <= 0 or n_other <= 0 or e + e_other <= 0:
        return Effect(nan, nan, nan)
    low_share, high_share = wilson(e / (e + e_other), (e + e_other) / phi)
    scale = (up / down) / (e / e_other) if up > 0 and down > 0 else n_other / n
    return Effect(
        up / down if down > 0 else nan,
        scale * low_share / (1 - low_share) if low_share < 1 else nan,
        scale * high_share / (1 - high_share) if high_share < 1 else nan,
    )


def wilson(share: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Score interval of a binomial share (Wilson 1927).

    >>> tuple(round(x, 3) for x in wilson(0.5, 100.0))
    (0.404, 0.596)
    """
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)
