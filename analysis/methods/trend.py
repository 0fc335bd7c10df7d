"""Leaks: does the candidate climb faster than the old version by more than a tolerated slope?

Asked at a few looks that are planned beforehand, over all the looks until then, of the two p-values of
`analysis.methods.climb`. Each becomes an e-value by the calibrator
    f(p) = 1 / (max(p, p0) (1 + ln(1 / p0))),   which integrates to 1 (Vovk and Wang 2021),
flat below the p0 at which it alone decides: p beyond that buys nothing, so no budget goes there. The evidence is the
average over the planned evaluations, those to come counted as 0, and one part that is always 1. It never falls, so
its largest value is its last, an average of e-values: P(ever E >= 1/alpha) <= alpha by Markov's inequality, on the
same scale as every other metric. As good as the measured noise: nominal, like all levels.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri_exp, stdtrit

from analysis.decode import Arrays, Floats
from analysis.effect import Effect
from analysis.methods.climb import GRACE, LEAST, NOTHING, Climb, climb_at, own_slope, rows_of
from analysis.methods.levels import levels, margin_of, mean_level, signs
from analysis.methods.slopes import NAN
from analysis.result import Arm, Design, JudgeSettings

EVALUATIONS = 4  # in a watch; more would each have less of the budget, and a climb is slow
ROUTES = 2  # by order and by size
HOUR_S = 3600.0
Z90 = 1.2815515655446004
CLIMBS = np.geomspace(0.05, 2000.0, 140)  # over the whole time looked at, in standard deviations
HALF = 2.0**1.5  # how much less surely half of the time tells a slope


@dataclass(frozen=True, slots=True, eq=False)
class TrendResult:
    """Evidence and what it rests on. Slopes are per hour, in the metric's unit and sign."""

    path: Floats  # (looks,) ln e-value
    slope: Effect  # beyond the old version's
    own_slope: float  # of the candidate alone
    margin: float  # tolerated slope, > 0
    detectable: float  # > 0
    candidate: Floats  # (looks,)
    baseline: Floats  # (looks,), before/after: the past


def judge_trend(
    metric: Arrays,
    design: Design,
    settings: JudgeSettings,
    usable: np.ndarray,
    *,
    step_s: float,
    log_needed: float,
) -> TrendResult | None:
    """ln e-value of "it climbs no faster than tolerated" after every look; None where an arm was never seen.

    Parameters
    ----------
    step_s : seconds of one look
    log_needed : ln of the e-value at which this metric alone decides
    """
    if Arm.CANDIDATE not in metric.panels or Arm.BASELINE not in metric.panels or not len(usable):
        return None
    start, sides = max(-metric.first, 0), signs(metric.spec.direction)
    if design is Design.BEFORE_AFTER and np.isnan(levels(metric.panel(Arm.BASELINE))[:, :start]).all():
        return None
    rows = [rows_of(metric, design, usable, sign) for sign in sides]
    tolerated = tolerated_slope(metric, settings, usable, step_s)
    at = planned(usable, settings.planned_looks)
    at = [end for end in at if design is Design.CONCURRENT or end < start]  # no longer than the past
    log_p0 = log_deciding_p(log_needed + float(np.log(len(sides))))
    total = np.ones(len(usable))
    for end in at:
        for row in rows:
            climb = climb_at(row, end, float(tolerated[end]))
            for log_p in (climb.log_p_order, climb.log_p_size):
                total[end:] += np.exp(log_calibrated(log_p, log_p0)) / (len(sides) * ROUTES)
    shown = [climb_at(row, len(usable) - 1, float(tolerated[-1])) for row in rows]
    best = int(np.argmin([min(climb.log_p_order, climb.log_p_size) for climb in shown]))
    last = climb_at(rows[best], at[-1], float(tolerated[at[-1]])) if at else NOTHING
    per_hour, sign = HOUR_S / step_s, sides[best]
    slope = shown[best].slope
    ends = sorted((sign * per_hour * slope.low, sign * per_hour * slope.high))
    old = mean_level(levels(metric.panel(Arm.BASELINE)))
    candidate = np.where(usable, mean_level(levels(metric.panel(Arm.CANDIDATE)))[start:], np.nan)
    return TrendResult(
        path=np.log(total / (EVALUATIONS + 1)),
        slope=Effect(sign * per_hour * slope.value, ends[0], ends[1]),
        own_slope=sign * per_hour * own_slope(rows[best]),
        margin=per_hour * float(tolerated[-1]),
        detectable=per_hour * detectable_slope(last, log_p0),
        candidate=candidate,
        baseline=old[start:] if design is Design.CONCURRENT else old[:start],
    )


def planned(usable: np.ndarray, planned_looks: int) -> list[int]:
    """The looks, so far, at which the trend is evaluated: evenly from a quarter of the watch (or the fewest) on.

    Counted in usable looks, so that a source that was away delays them and costs no budget.

    >>> planned(np.ones(20, dtype=bool), 20), planned(np.ones(50, dtype=bool), 90)
    ([11, 13, 16, 19], [22, 44])
    """
    first = max(LEAST + GRACE, -(-planned_looks // EVALUATIONS))
    counts = sorted({first + (planned_looks - first) * k // (EVALUATIONS - 1) for k in range(EVALUATIONS)})
    place = np.cumsum(usable)
    return [int(np.argmax(place >= n)) for n in counts if first <= n <= place[-1]]


def tolerated_slope(metric: Arrays, settings: JudgeSettings, usable: np.ndarray, step_s: float) -> Floats:
    """(looks,) the climb per look that is tolerated, as known at each look.

    The metric's floor, which for a trend is per hour in its unit; without one, its relative margin of the old
    version's level over the whole planned watch: what grows more slowly is within the margin when the watch ends.
    """
    looks, spec = len(usable), metric.spec
    if spec.floor is not None:
        return np.full(looks, spec.floor * step_s / HOUR_S)
    old = np.concatenate([levels(metric.panels[arm]) for arm in (Arm.BASELINE, Arm.HISTORY) if arm in metric.panels])
    here = ~np.isnan(old)
    total = np.cumsum(np.cumsum(np.where(here, np.abs(old), 0.0), axis=0)[-1])
    count = np.cumsum(np.count_nonzero(here, axis=0))
    level = np.divide(total, count, out=np.zeros(len(total)), where=count > 0)[-looks:]
    return np.asarray(margin_of(spec, settings) * level / max(settings.planned_looks, 1))


def log_deciding_p(log_needed: float) -> float:
    """ln of the p at which one evaluation decides: f(p0) = needed * ROUTES * (EVALUATIONS + 1), solved by iteration.

    >>> round(float(np.exp(log_deciding_p(np.log(100.0)))), 6)
    9.8e-05
    """
    wanted = log_needed + float(np.log(ROUTES * (EVALUATIONS + 1)))
    log_p0 = -wanted
    for _ in range(60):
        log_p0 = -wanted - float(np.log(1.0 - log_p0))
    return log_p0


def log_calibrated(log_p: float, log_p0: float) -> float:
    """ln of the e-value of a p; its mean under uniform p is 1.

    >>> p = (np.arange(10**6) + 0.5) / 10**6
    >>> round(float(np.exp([log_calibrated(x, np.log(0.01)) for x in np.log(p[::100])]).mean()), 2)
    1.0
    """
    return -max(log_p, log_p0) - float(np.log(1.0 - log_p0))


def detectable_slope(climb: Climb, log_p0: float) -> float:
    """Smallest climb per look beyond the old version's that decides with 90 % chance, NaN where none does.

    By size: Student's quantile and 90 % of the slope's own error. By order: of every pair the sign is right with
    probability Phi(climb between them / (sd sqrt 2)); their mean gives that of S, whose spread shrinks as all signs
    come out right. And the later half has to show it too.
    """
    if climb.pairs == 0 or not climb.error > 0:
        return NAN
    apart = (np.arange(40) + 0.5) / 40  # of two values at random times: density 2 (1 - x)
    sign = 2.0 * ndtr(CLIMBS[:, None] * apart / np.sqrt(2.0)) - 1.0
    right = np.cumsum(sign * 2.0 * (1.0 - apart) / 40, axis=1)[:, -1]
    seen = climb.pairs * right / climb.sd - Z90 * np.sqrt(1.0 - right**2) >= -float(ndtri_exp(log_p0))
    by_order = float(CLIMBS[int(np.argmax(seen))]) * climb.noise_sd / climb.span if seen.any() else np.inf
    by_size = (Z90 - float(stdtrit(climb.freedom, np.exp(log_p0)))) * climb.error if climb.freedom > 0 else np.inf
    least = min(by_order, by_size)
    return climb.tolerated + max(least, Z90 * HALF * climb.error) if np.isfinite(least) else NAN
