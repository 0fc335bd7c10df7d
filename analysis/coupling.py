"""How much of an old version's noise in time is its own, and how much both arms have in common.

One series cannot tell a burst that hits the whole site from one that hits one arm. Two arms side by side can: what
they share leaves the ratio of their counts alone. The ratio is compared between neighbouring blocks of 1, 2, 4, ...
looks (Haar contrasts: independent of each other, and blind to a constant ratio, so that a candidate that is worse from
the start is not taken for noise), against the swings of the old version's own past at the same scale.
"""

import numpy as np

from analysis.decode import Floats
from analysis.log_sums import log_add
from analysis.sums import so_far

SHARES = np.concatenate([[0.0], 2.0 ** np.arange(-6.0, 1.0)])  # of the past's squared variation, not shared
COMMON = 0.25  # prior belief that all of it is shared
CAUTION = 0.99  # the share is this quantile of what is believed
OUTLIER = 0.1  # chance that a contrast says nothing about noise: a degradation that begins inside it
FEWEST_PAIRS = 3
_LOG_PRIOR = np.log(np.where(SHARES == 0, COMMON, (1 - COMMON) / (len(SHARES) - 1)))


def swings(events: Floats, exposure: Floats) -> Floats:
    """Squared variation of a series' rate between neighbouring blocks of 1, 2, 4, ... intervals.

    The moment estimate: given the sum S of two blocks, the first has variance S p q (1 + 2 v S p q).

    Parameters
    ----------
    events, exposure : (..., intervals)

    Returns
    -------
    (..., scales) NaN from the scale on at which too few pairs of blocks tell anything

    >>> rate = np.where(np.arange(64) % 2, 0.03, 0.01)
    >>> swings(1e6 * rate, np.full(64, 1e6)).round(2)
    array([0.5, 0. , 0. , 0. ])
    """
    width = events.shape[-1]
    scales = [scale for scale in _scales(width) if width // (2 * scale) >= FEWEST_PAIRS]
    found = np.full((*events.shape[:-1], len(scales)), np.nan)
    told = np.ones(events.shape[:-1], dtype=bool)
    for i, scale in enumerate(scales):
        a, b = _pairs(events, scale)
        n_a, n_b = _pairs(exposure, scale)
        total = a + b
        p = np.divide(n_a, n_a + n_b, out=np.zeros_like(n_a), where=n_a + n_b > 0)
        spread = total * p * (1 - p)
        told = told & (np.count_nonzero(spread > 0, axis=-1) >= FEWEST_PAIRS)
        excess = np.cumsum(np.where(spread > 0, (a - total * p) ** 2 - spread, 0.0), axis=-1)[..., -1]
        weight = np.cumsum(2 * spread**2, axis=-1)[..., -1]
        v = np.divide(excess, weight, out=np.zeros_like(excess), where=weight > 0)
        found[..., i] = np.where(told, np.maximum(v, 0.0), np.nan)
    return found


def unshared(arms: tuple[Floats, Floats, Floats, Floats], past: Floats) -> Floats:
    """Upper 99 % limit of the share of the past's squared variation that the arms do not have in common.

    Parameters
    ----------
    arms : events and exposure of the candidate, then of the baseline, (..., looks) each
    past : (..., scales) from `swings`

    Returns
    -------
    (..., looks) one of SHARES after every look, from this and earlier looks only; 1 while nothing is known
    """
    looks = arms[0].shape[-1]
    shares = SHARES.reshape(-1, *[1] * arms[0].ndim)
    gained = np.zeros((len(SHARES), *arms[0].shape))
    for i, scale in enumerate(_scales(looks)[: past.shape[-1]]):
        v = past[..., i, None]
        ends = 2 * scale * (1 + np.arange(looks // (2 * scale))) - 1
        z2, precision = _contrasts(*(_pairs(arm, scale) for arm in arms))
        factor = 1.0 + 4.0 * shares * np.where(np.isnan(v), 0.0, v) * precision
        log_density = -0.5 * np.log(factor) - 0.5 * z2 / factor
        bounded = log_add(log_density, np.max(log_density, axis=0) + np.log(OUTLIER))
        gained[..., ends] += np.where((precision >= 1.0) & ~np.isnan(v), bounded, 0.0)
    belief = np.cumsum(gained, axis=-1) + _LOG_PRIOR.reshape(shares.shape)
    weight = np.exp(belief - np.max(belief, axis=0))
    running = so_far(weight)
    return np.asarray(SHARES[np.argmax(running >= CAUTION * running[-1], axis=0)])


def _scales(width: int) -> list[int]:
    return [2**i for i in range(16) if 2 ** (i + 1) <= width]


def _pairs(series: Floats, scale: int) -> tuple[Floats, Floats]:
    """Sums of neighbouring blocks, (..., pairs) each; a last pair that is not whole is left out."""
    pairs = series.shape[-1] // (2 * scale)
    seen = np.concatenate([np.zeros((*series.shape[:-1], 1)), np.cumsum(series, axis=-1)], axis=-1)
    blocks = np.diff(seen[..., : 2 * scale * pairs + 1 : scale], axis=-1)
    return blocks[..., 0::2], blocks[..., 1::2]


def _contrasts(
    e: tuple[Floats, Floats], n: tuple[Floats, Floats], e_other: tuple[Floats, Floats], n_other: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Squared standard score of every pair's change of ratio, and the precision of its logarithm; 0 where unknown."""
    both_n = [n[i] + n_other[i] for i in (0, 1)]
    safe = [np.where(x > 0, x, 1.0) for x in both_n]
    up = e[0] * n_other[0] / safe[0] + e[1] * n_other[1] / safe[1]
    down = e_other[0] * n[0] / safe[0] + e_other[1] * n[1] / safe[1]
    known = (up > 0) & (down > 0)
    ratio = np.where(known, up / np.where(down > 0, down, 1.0), 1.0)
    shares = [ratio * n[i] / np.where(both_n[i] > 0, ratio * n[i] + n_other[i], 1.0) for i in (0, 1)]
    spread = [(e[i] + e_other[i]) * shares[i] * (1 - shares[i]) for i in (0, 1)]
    total = spread[0] + spread[1]
    precision = np.where(known & (total > 0), spread[0] * spread[1] / np.where(total > 0, total, 1.0), 0.0)
    miss = e[0] - (e[0] + e_other[0]) * shares[0]
    return np.asarray(miss**2 / np.where(precision > 0, precision, 1.0)), np.asarray(precision)
