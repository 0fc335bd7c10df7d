"""Which regression would have been seen by now with 90 % chance: without it no deploy is called healthy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Floats
from analysis.log_sums import log_mean
from analysis.methods.counts import FEWEST_EVENTS, LOG_REL, LOG_WEIGHTS, CountTest, padded, sides_of
from analysis.methods.gauge import CLIP, GaugeResult
from analysis.onset import FROM_THE_START, LEVELS_FROM_THE_START
from analysis.sums import total

Z90 = 1.2815515655446004
RATIOS = np.geomspace(1.05, 200.0, 220)
_LEAST_WEIGHT = float(np.min(LOG_WEIGHTS))
_ROUNDING = 1e-9  # far more than a logarithm is ever off
_MANY = 1e9  # exposure that a rate known before the deploy is taken to come from


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What each test has seen, strata pooled, (tests,): exposure of the candidate, events and exposure of the baseline.

    llr_k summed over looks = slope_k * (candidate events per exposure) - fixed_k, (tests, grid) each.
    """

    n: Floats
    kept: Floats
    n_kept: Floats
    phi: Floats
    slope: Floats
    fixed: Floats


def detectable_ratios(tests: Sequence[CountTest], log_thresholds: Floats, most: Floats) -> Floats:
    """Smallest rate ratios whose evidence would have crossed with 90 % chance, had they been there from the start.

    The exposures and the baseline's events are as seen; the candidate's events are put at their lower decile (upper,
    where fewer is worse) for each ratio, and the mixture is evaluated there. NaN where none would have been seen.

    Parameters
    ----------
    log_thresholds : (tests,) ln of the e-value at which each test alone decides
    most : (tests,) largest possible rate (1 for a share of requests)

    Returns
    -------
    (tests,) one of RATIOS, or of 1 / RATIOS where fewer is worse

    >>> detectable_ratios([], np.zeros(0), np.zeros(0))
    array([], dtype=float64)
    """
    found = np.full(len(tests), np.nan)
    known_rate = np.array([test.known_rate is not None for test in tests], dtype=bool)
    for at, look in ((np.flatnonzero(~known_rate), _paired), (np.flatnonzero(known_rate), _one_sample)):
        if len(at):
            own = [tests[i] for i in at.tolist()]
            found[at] = _detectable(own, look(own), log_thresholds[at], most[at])
    return found


def _detectable(tests: Sequence[CountTest], seen: _Seen, log_thresholds: Floats, most: Floats) -> Floats:
    fewer = np.array([test.fewer or test.swapped for test in tests], dtype=bool)
    told = (seen.n > 0) & (seen.n_kept > 0)
    n, kept = np.where(told, seen.n, 1.0), seen.kept + 0.5
    usual = (kept / np.where(told, seen.n_kept, 1.0) * n)[:, None]
    mean = np.minimum(np.where(fewer[:, None], usual / RATIOS, usual * RATIOS), (most * n)[:, None])
    sd = np.sqrt(seen.phi[:, None] * (mean + mean**2 / kept[:, None] * ~fewer[:, None]))
    likely = np.where(fewer[:, None], mean + Z90 * sd + 0.5, np.maximum(mean - Z90 * sd - 0.5, 0.0))
    price = np.array([np.log(2.0) if test.known_rate is not None else 0.0 for test in tests])
    needed = log_thresholds - np.log(FROM_THE_START) + price
    crossed = _reaches(seen.slope, likely / n[:, None], seen.fixed, needed)
    crossed &= told[:, None] & (fewer[:, None] | (likely >= FEWEST_EVENTS))
    best = RATIOS[np.argmax(crossed, axis=1)]
    return np.where(crossed.any(axis=1), np.where(fewer, 1.0 / best, best), np.nan)


def _reaches(slope: Floats, rate: Floats, fixed: Floats, needed: Floats) -> NDArray[np.bool_]:
    """(tests, ratios) whether ln of the mixture over the grid reaches what is needed at the candidate's rate.

    The mixture lies between its largest part and that times the least weight: mostly that tells.
    """
    top = np.full(rate.shape, -np.inf)
    for k in range(len(LOG_WEIGHTS)):
        np.maximum(top, slope[:, k, None] * rate - fixed[:, k, None], out=top)
    found = top + _LEAST_WEIGHT >= needed[:, None] + _ROUNDING
    tests, ratios = np.nonzero(~found & (top >= needed[:, None] - _ROUNDING))
    mixed = log_mean((slope[tests] * rate[tests, ratios][:, None] - fixed[tests]).T, LOG_WEIGHTS)
    found[tests, ratios] = mixed >= needed[tests]
    return found


def _paired(tests: Sequence[CountTest]) -> _Seen:
    looks = max(len(test.log_prior) for test in tests)
    swapped = np.array([test.swapped for test in tests], dtype=bool)[:, None]
    e, n, e_other, n_other = map(total, sides_of(tests, looks))
    exposure, kept_exposure = np.where(swapped, n_other, n), np.where(swapped, n, n_other)
    kept_events = np.where(swapped, e, e_other)
    factors = padded([test.noise.at(-1) for test in tests], looks, 1.0)
    r0, floor = np.array([[test.r0] for test in tests]), np.array([[test.floor] for test in tests])
    at_margin = r0 * n + n_other
    share = np.divide(r0 * n, at_margin, out=np.zeros_like(n), where=at_margin > 0)
    with_virtual = kept_events + floor / r0 * n_other
    slope, fixed = np.empty((len(tests), len(LOG_REL))), np.empty((len(tests), len(LOG_REL)))
    for k, log_rel in enumerate(LOG_REL):
        growth = np.log1p(np.expm1(log_rel) * share) / factors
        slope[:, k] = _last(np.where(swapped, -(growth * exposure), exposure * (log_rel / factors - growth)))
        fixed[:, k] = _last(growth * with_virtual - np.where(swapped, log_rel * kept_events / factors, 0.0))
    whole = _last(exposure)
    phi = _last(factors * exposure) / np.where(whole > 0, whole, 1.0)
    return _Seen(whole, _last(kept_events), _last(kept_exposure), phi, slope, fixed)


def _one_sample(tests: Sequence[CountTest]) -> _Seen:
    """The baseline is a rate that is known, as if from very many events."""
    looks = max(len(test.log_prior) for test in tests)
    by_stratum = sides_of(tests, looks)[1]
    exposure = total(by_stratum)
    known = padded([test.known_rate for test in tests if test.known_rate is not None], len(by_stratum), 0.0).T
    whole = _last(exposure)
    told = total(known * np.add.accumulate(by_stratum, axis=2)[..., -1])
    kept = np.divide(told, whole, out=np.zeros_like(whole), where=whole > 0) * _MANY
    factors = padded([test.noise.at(-1) for test in tests], looks, 1.0)
    fewer = np.array([test.fewer for test in tests], dtype=bool)
    r0, floor = np.array([test.r0 for test in tests]), np.array([test.floor for test in tests])
    rate = kept / _MANY
    tolerated = np.where(fewer, np.maximum(rate / r0 - floor, 0.0), r0 * rate + floor)
    step = np.where(fewer, -1.0, 1.0)[:, None] * LOG_REL
    per_look = _last(exposure / factors)[:, None]
    phi = _last(factors * exposure) / np.where(whole > 0, whole, 1.0)
    many = np.full(len(tests), _MANY)
    return _Seen(whole, kept, many, phi, step * per_look, np.expm1(step) * tolerated[:, None] * per_look)


def _last(parts: Floats) -> Floats:
    """Sums over looks, added one after another: the same bits in every batch."""
    return np.asarray(np.add.accumulate(parts, axis=1)[:, -1])


def detectable_shift(result: GaugeResult, lasting: float, log_threshold: float) -> float:
    """Smallest shift of a level whose evidence would have crossed with 90 % chance; NaN where none would have.

    lasting: the shift at which the windows alone decide, noise aside (analysis.methods.windows.deciding_shift).
    """
    looks = int(np.count_nonzero(~np.isnan(result.candidate)))
    if looks == 0 or result.sd <= 0:
        return float("nan")
    cost = log_threshold - np.log(LEVELS_FROM_THE_START) + 1.5  # the grid's share, near enough
    drift = (np.sqrt(2 * looks * cost) + Z90 * np.sqrt(looks)) / looks
    if drift > CLIP - Z90 / np.sqrt(looks):
        return float("nan")
    per_look = (1 - result.r) / np.sqrt(max(1 - result.r**2, 1e-9)) / 1.15 / result.sd
    by_strength = result.margin + result.allowance + drift / per_look
    return float(max(by_strength, lasting + Z90 * result.sd))
