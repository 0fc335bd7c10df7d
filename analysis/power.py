"""Which regression would have been seen by now with 90 % chance: without it no deploy is called healthy."""

import numpy as np

from analysis.decode import Floats
from analysis.methods.counts import FEWEST_EVENTS, LOG_REL, LOG_WEIGHTS, CountTest
from analysis.methods.gauge import CLIP, GaugeResult
from analysis.onset import FROM_THE_START, log_mean

Z90 = 1.2815515655446004
RATIOS = np.geomspace(1.05, 200.0, 220)


def detectable_ratio(test: CountTest, log_threshold: float, *, most: float) -> float:
    """Smallest rate ratio whose evidence would have crossed with 90 % chance, had it been there from the start.

    The exposures and the baseline's events are as seen; the candidate's events are put at their lower decile (upper,
    where fewer is worse) for each ratio, and the mixture is evaluated there. NaN where none would have been seen.

    Parameters
    ----------
    log_threshold : ln of the e-value at which this test alone decides
    most : largest possible rate (1 for a share of requests)
    """
    _, exposure, kept_events, kept_exposure = _candidate_and_baseline(test)
    n = float(np.cumsum(exposure)[-1]) if len(exposure) else 0.0
    n_kept = float(np.cumsum(kept_exposure)[-1]) if len(kept_exposure) else 0.0
    if n <= 0 or n_kept <= 0:
        return float("nan")
    kept = float(np.cumsum(kept_events)[-1])
    rate = (kept + 0.5) / n_kept
    factors = test.noise.at(-1)
    phi = float(np.cumsum(factors * exposure)[-1]) / n
    fewer = test.fewer or test.swapped
    mean = np.minimum(rate * n / RATIOS if fewer else rate * n * RATIOS, most * n)
    sd = np.sqrt(phi * (mean + mean**2 / (kept + 0.5) * (not fewer)))
    likely = mean + Z90 * sd + 0.5 if fewer else np.maximum(mean - Z90 * sd - 0.5, 0.0)
    slope, fixed = _linear(test, exposure, kept_events, kept_exposure)
    gained = log_mean(slope[:, None] * (likely / n) - fixed[:, None], LOG_WEIGHTS)
    needed = log_threshold - np.log(FROM_THE_START) + (np.log(2.0) if test.known_rate is not None else 0.0)
    seen = (gained >= needed) & (fewer | (likely >= FEWEST_EVENTS))
    if not seen.any():
        return float("nan")
    best = float(RATIOS[int(np.argmax(seen))])
    return 1.0 / best if fewer else best


def _candidate_and_baseline(test: CountTest) -> tuple[Floats, Floats, Floats, Floats]:
    sides = [np.cumsum(a, axis=0)[-1] for a in (test.events, test.exposure, test.other_events, test.other_exposure)]
    if test.known_rate is not None:
        rate = float(np.cumsum(test.known_rate * np.cumsum(test.exposure, axis=1)[:, -1])[-1])
        n = float(np.cumsum(sides[1])[-1])
        plain = rate / n if n > 0 else 0.0
        return sides[0], sides[1], np.array([plain * 1e9]), np.array([1e9])
    return (sides[2], sides[3], sides[0], sides[1]) if test.swapped else (sides[0], sides[1], sides[2], sides[3])


def _linear(test: CountTest, exposure: Floats, kept_events: Floats, kept_exposure: Floats) -> tuple[Floats, Floats]:
    """llr_k summed over looks = slope_k * (candidate events per exposure) - fixed_k, strata pooled."""
    factors = test.noise.at(-1)
    if test.known_rate is not None:
        rate = float(kept_events[0] / kept_exposure[0])
        tolerated = max(rate / test.r0 - test.floor, 0.0) if test.fewer else test.r0 * rate + test.floor
        step = (-1.0 if test.fewer else 1.0) * LOG_REL
        per_look = float(np.cumsum(exposure / factors)[-1])
        return step * per_look, np.expm1(step) * tolerated * per_look
    n, n_other = (kept_exposure, exposure) if test.swapped else (exposure, kept_exposure)
    at_margin = test.r0 * n + n_other
    share = np.divide(test.r0 * n, at_margin, out=np.zeros_like(n), where=at_margin > 0)
    growth = np.log1p(np.expm1(LOG_REL)[:, None] * share) / factors
    virtual = test.floor / test.r0 * n_other
    if test.swapped:
        fixed = np.cumsum(growth * (kept_events + virtual) - LOG_REL[:, None] * kept_events / factors, axis=1)[:, -1]
        return -np.cumsum(growth * exposure, axis=1)[:, -1], fixed
    slope = np.cumsum(exposure * (LOG_REL[:, None] / factors - growth), axis=1)[:, -1]
    return slope, np.cumsum(growth * (kept_events + virtual), axis=1)[:, -1]


def detectable_shift(result: GaugeResult, lasting: float, log_threshold: float) -> float:
    """Smallest shift of a level whose evidence would have crossed with 90 % chance; NaN where none would have.

    lasting: the shift at which the windows alone decide, noise aside (analysis.methods.windows.deciding_shift).
    """
    looks = int(np.count_nonzero(~np.isnan(result.candidate)))
    if looks == 0 or result.sd <= 0:
        return float("nan")
    cost = log_threshold - np.log(FROM_THE_START) + 1.5  # the grid's share, near enough
    drift = (np.sqrt(2 * looks * cost) + Z90 * np.sqrt(looks)) / looks
    if drift > CLIP - Z90 / np.sqrt(looks):
        return float("nan")
    per_look = (1 - result.r) / np.sqrt(max(1 - result.r**2, 1e-9)) / 1.15 / result.sd
    by_strength = result.margin + result.allowance + drift / per_look
    return float(max(by_strength, lasting + Z90 * result.sd))
