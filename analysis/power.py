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
    """What each test has seen of the candidate that has a counterpart, (tests,).

    n: its exposure; usual: its events at the baseline's rates; kept: the baseline's events that these are known from;
    telling: how much of its own events, and told: whether at least half of what the candidate has served.
    llr_k summed over looks = slope_k * (candidate events per exposure) - fixed_k, (tests, grid) each.
    """

    n: Floats
    usual: Floats
    kept: Floats
    telling: Floats
    told: NDArray[np.bool_]
    phi: Floats
    slope: Floats
    fixed: Floats


def detectable_ratios(tests: Sequence[CountTest], log_thresholds: Floats, most: Floats) -> Floats:
    """Smallest rate ratios whose evidence would have crossed with 90 % chance, had they been there from the start.

    The exposures and the baseline's events are as seen; the candidate's events are put at their lower decile (upper,
    where fewer is worse) for each ratio, and the mixture is evaluated there. Exposure without a counterpart in its
    stratum tells nothing. NaN where no ratio would have been seen, or most of the candidate has no counterpart.

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
    told, n, kept = seen.told, np.where(seen.told, seen.n, 1.0), seen.kept
    usual = seen.usual[:, None]
    mean = np.minimum(np.where(fewer[:, None], usual / RATIOS, usual * RATIOS), (most * n)[:, None])
    own = mean / seen.telling[:, None]
    sd = np.sqrt(seen.phi[:, None] * (own + mean**2 / kept[:, None] * ~fewer[:, None]))
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
    e, n, e_other, n_other = sides_of(tests, looks)
    served = _last(total(np.where(swapped, n_other, n)))
    both = (n > 0) & (n_other > 0)
    e, n, e_other, n_other = (np.where(both, side, 0.0) for side in (e, n, e_other, n_other))
    exposure, kept_exposure = np.where(swapped, n_other, n), np.where(swapped, n, n_other)
    kept_events = np.where(swapped, e, e_other)
    factors = padded([test.noise.at(-1) for test in tests], looks, 1.0)
    r0, floor = np.array([[test.r0] for test in tests]), np.array([[test.floor] for test in tests])
    at_margin = r0 * n + n_other
    share = np.divide(r0 * n, at_margin, out=np.zeros_like(n), where=both)
    sums = [_of_strata(side) for side in (exposure, kept_events, kept_exposure)]
    usual, kept, telling, mix = _by_stratum(sums[0], sums[1], sums[2], _of_strata(r0 * n), _of_strata(at_margin))
    with_virtual = kept_events + floor / r0 * n_other
    expected = mix[..., None] * exposure
    slope, fixed = np.empty((len(tests), len(LOG_REL))), np.empty((len(tests), len(LOG_REL)))
    for k, log_rel in enumerate(LOG_REL):
        growth = np.log1p(np.expm1(log_rel) * share) / factors
        slope[:, k] = _last(total(np.where(swapped, -(growth * expected), expected * (log_rel / factors - growth))))
        fixed[:, k] = _last(total(growth * with_virtual - np.where(swapped, log_rel * kept_events / factors, 0.0)))
    compared = total(exposure)
    whole = _last(compared)
    phi = _last(factors * compared) / np.where(whole > 0, whole, 1.0)
    return _Seen(whole, usual, kept, telling, (whole > 0) & (2 * whole >= served), phi, slope, fixed)


def _by_stratum(
    exposure: Floats, events: Floats, kept_exposure: Floats, worse: Floats, at_margin: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """The candidate's events at the baseline's rates, how many events these are known from, how much of the former
    tells, (tests,); and how the rate of each stratum stands to that of all, (strata, tests). Arguments (strata, tests).

    A stratum with few events leans on the rate of all, by the weight of half an event, as all together lean on half a
    one. An event tells the less, the more of its stratum's exposure is that of the arm under suspicion.
    """
    n, many = total(exposure), total(kept_exposure)
    safe = np.where(many > 0, many, 1.0)
    overall = (total(events) + 0.5) / safe
    seen = kept_exposure > 0
    rate = (events + 0.5 * kept_exposure / safe + 0.5) / (kept_exposure + 0.5 / overall)
    expected = np.where(seen, exposure * rate, 0.0)
    usual = total(expected)
    tells = np.where(seen, 1.0 - worse / np.where(at_margin > 0, at_margin, 1.0), 0.0)
    told, unsure = total(expected * tells), total(_over((expected * tells) ** 2, rate * kept_exposure, seen))
    kept = np.where(unsure > 0, _over(told**2, unsure, unsure > 0), 0.5)
    own = usual * total(expected * tells**2)
    telling = np.where(own > 0, _over(told**2, own, own > 0), 1.0)
    mean = _over(usual, n, n > 0)
    return usual, kept, telling, np.where(mean > 0, _over(rate, mean, mean > 0), 1.0)


def _over(a: Floats, b: Floats, known: NDArray[np.bool_]) -> Floats:
    """a / b, 0 where that is not known."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=known)


def _one_sample(tests: Sequence[CountTest]) -> _Seen:
    """The baseline is a rate that is known, as if from very many events."""
    looks = max(len(test.log_prior) for test in tests)
    by_stratum = sides_of(tests, looks)[1]
    strata, served = len(by_stratum), _last(total(by_stratum))
    counted = np.stack([_counted(test, strata) for test in tests], axis=2)  # (grid, strata, tests)
    by_stratum = np.where(np.logical_or.reduce(counted, axis=0)[..., None], by_stratum, 0.0)
    known = padded([test.known_rate for test in tests if test.known_rate is not None], strata, 0.0).T
    believed = padded([_believed(test) for test in tests], strata, 0.0).T
    factors = padded([test.noise.at(-1) for test in tests], looks, 1.0)
    fewer = np.array([test.fewer for test in tests], dtype=bool)
    r0, floor = np.array([test.r0 for test in tests]), np.array([test.floor for test in tests])
    tolerated = np.where(fewer, np.maximum(known / r0 - floor, 0.0), r0 * known + floor)
    step = np.where(fewer, -1.0, 1.0)[:, None] * LOG_REL
    exposure = total(by_stratum)
    whole, of_strata, weighed = _last(exposure), _of_strata(by_stratum), _of_strata(by_stratum / factors)
    rate = np.divide(total(believed * of_strata), whole, out=np.zeros_like(whole), where=whole > 0)
    mix = np.divide(believed, rate, out=np.ones_like(believed), where=rate > 0)
    slope = step * total(np.where(counted, mix * weighed, 0.0), axis=1).T
    fixed = np.expm1(step) * total(np.where(counted, tolerated * weighed, 0.0), axis=1).T
    phi = _last(factors * exposure) / np.where(whole > 0, whole, 1.0)
    kept = rate * _MANY + 0.5
    all_of_it = np.ones(len(tests))
    return _Seen(whole, kept / _MANY * whole, kept, all_of_it, (whole > 0) & (2 * whole >= served), phi, slope, fixed)


def _believed(test: CountTest) -> Floats:
    """(strata,) the rates that a claim of what would have been seen starts from."""
    known = test.known_rate if test.believed is None else test.believed
    return np.zeros(len(test.events)) if known is None else known


def _counted(test: CountTest, strata: int) -> NDArray[np.bool_]:
    """(grid, strata) what each point of the grid counts."""
    full: NDArray[np.bool_] = np.ones((len(LOG_REL), strata), dtype=bool)
    if test.counted is not None:
        full[:, : test.counted.shape[1]] = test.counted
    return full


def _of_strata(side: Floats) -> Floats:
    """(strata, tests) sums over looks."""
    return np.asarray(np.add.accumulate(side, axis=2)[..., -1])


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
