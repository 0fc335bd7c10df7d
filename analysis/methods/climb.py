"""How fast the candidate climbs at one look, beside what the old version's own levels do.

Two p-values of "no faster than allowed", each good at what the other is not:
    by order    S = sum_{i<j} sign(d_j - d_i - (t_j - t_i) s0),   P(Z >= (S - 1) / sd),   sd^2 = var(S) * inflation
    by size     (b - s0) / SE of the Theil-Sen slope b,   SE^2 = (pi/3) v * inflation / sum (t - mean t)^2,   Student
d is a replica of the candidate minus the old version's mean (concurrent), or the replica alone (before/after, where
s0 holds the past's slope). The order forgives outliers, but a short autocorrelated series has too few orders ever to
decide; the size knows the noise v from the old version (or the candidate's, if larger) and can. For the order the
candidate's own autocorrelation counts too. Replicas of one version share their load: they count as one witness.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, stdtr

from analysis.decode import Arrays, Floats
from analysis.effect import Effect
from analysis.methods.levels import levels, mean_level
from analysis.methods.slopes import (
    MOST,
    NAN,
    blocks,
    climbs_rather_than_steps,
    mann_kendall,
    residual_variance,
    saw_period,
    slope_inflation,
    theil_sen,
)
from analysis.result import Arm, Design

LEAST = 9  # values (or blocks) of a replica below which no order of them could decide
GRACE = 3  # first samples of a replica: starting up fills caches and heaps
HARDLY = 2.0  # degrees of freedom of a noise that is hardly known: of a level before a step, and one behind it
STRETCHES = 8  # of the past, whose slopes are looked at
EFFICIENCY = np.pi / 3.0  # variance of Theil and Sen's slope over that of least squares, normal noise
Cut = tuple[Floats, Floats]  # values and their times


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What is compared, the worse direction upwards; (replicas, intervals) each, NaN where absent."""

    candidate: Floats  # from the deploy on, without the start of every replica
    beside: Floats  # the old version in the same intervals; no rows before/after
    before: tuple[Floats, ...]  # the old version before the deploy, by arm


@dataclass(frozen=True, slots=True, eq=False)
class Habits:
    """What the old version's levels do by themselves. Slopes per look."""

    inflation: float  # of a slope's variance by autocorrelation
    variance: float  # of one replica around its line
    freedom: float  # degrees of freedom of that variance
    wander: float  # how far its slopes are off zero (before/after: off each other) beyond what noise explains, 2 sd
    past: float  # before/after: the climb that it may have had already; 0 beside it


@dataclass(frozen=True, slots=True, eq=False)
class Climb:
    """What the looks up to one of them show, in the worse direction. Slopes per look."""

    log_p_order: float
    log_p_size: float
    slope: Effect  # beyond the old version's
    pairs: float
    sd: float  # of S
    span: float  # looks from the first value to the last
    noise_sd: float  # of the compared values
    error: float  # standard error of the slope
    freedom: float
    tolerated: float  # with what the old version's own slopes may be


NOTHING = Climb(0.0, 0.0, Effect(NAN, NAN, NAN), 0.0, 0.0, 0.0, NAN, NAN, 0.0, NAN)


def rows_of(metric: Arrays, design: Design, usable: np.ndarray, sign: float) -> Rows:
    """The rows of a metric. sign: -1 where lower is worse."""
    start = max(-metric.first, 0)
    candidate = np.where(usable, sign * levels(metric.panel(Arm.CANDIDATE))[:, start:], np.nan)
    seen = np.cumsum(~np.isnan(candidate), axis=1)
    baseline = sign * levels(metric.panel(Arm.BASELINE))
    before = [baseline[:, :start]]
    if Arm.HISTORY in metric.panels:
        before.append(sign * levels(metric.panels[Arm.HISTORY])[:, :start])
    beside = np.where(usable, baseline[:, start:], np.nan)
    return Rows(
        candidate=np.where(seen > GRACE, candidate, np.nan),
        beside=beside if design is Design.CONCURRENT else beside[:0],
        before=tuple(rows for rows in before if not np.isnan(rows).all()),
    )


def climb_at(rows: Rows, end: int, tolerated: float) -> Climb:
    """Everything at look `end`, from values up to it alone. tolerated: per look, beyond the old version's climb."""
    candidate, beside = rows.candidate[:, : end + 1], rows.beside[:, : end + 1]
    period = max([saw_period(row[~np.isnan(row)]) for group in (candidate, beside, *rows.before) for row in group])
    length, saws = max(period, -(-(end + 1) // MOST)), period > 1
    old = _together(beside) if len(beside) else np.zeros(end + 1)
    cuts = [_cut(row, old, length, saws=saws) for row in candidate]
    cuts = [cut for cut in cuts if len(cut[0]) >= LEAST]
    habits = _habits(rows, end + 1, length, saws=saws) if cuts else None
    if habits is None:
        return NOTHING
    allowed = tolerated + habits.past
    inflations = [max(habits.inflation, slope_inflation(*cut)) for cut in cuts]
    kendalls = [mann_kendall(*cut, slope=allowed + habits.wander) for cut in cuts]
    s, sd = sum(k.s for k in kendalls), sum(_root(k.variance * x) for k, x in zip(kendalls, inflations, strict=True))
    slopes = [theil_sen(*cut, inflation=x) for cut, x in zip(cuts, inflations, strict=True)]
    value, low, high = (_mean([getattr(one, part) for one in slopes]) for part in ("value", "low", "high"))
    variance = habits.variance * (1.0 + (1.0 / len(beside) if len(beside) else 0.0))
    variance = max(variance, _mean([residual_variance(*cut) for cut in cuts]))
    error = _mean([_root(EFFICIENCY * variance * habits.inflation / _spread(times)) for _, times in cuts])
    goes_on = _goes_on(cuts, allowed)
    beyond = value - allowed - habits.wander
    return Climb(
        log_p_order=float(log_ndtr(-(s - 1.0) / sd)) if goes_on and sd > 0 else 0.0,
        log_p_size=_log_tail(beyond / error, habits.freedom) if goes_on and error > 0 else 0.0,
        slope=Effect(value - habits.past, low - habits.past, high - habits.past),
        pairs=float(sum(k.n * (k.n - 1) // 2 for k in kendalls)),
        sd=sd,
        span=_mean([times[-1] - times[0] for _, times in cuts]),
        noise_sd=_root(variance),
        error=error,
        freedom=habits.freedom,
        tolerated=tolerated + habits.wander,
    )


def own_slope(rows: Rows) -> float:
    """Of the candidate's replicas together, per look."""
    level = _together(rows.candidate)
    return theil_sen(*_cut(level, np.zeros(len(level)), -(-len(level) // MOST), saws=False)).value


def _goes_on(cuts: list[Cut], allowed: float) -> bool:
    """A leak climbs to the last: the later half does too, and a line says it better than a step."""
    lately = _mean([theil_sen(d[len(d) // 2 :], t[len(t) // 2 :]).value for d, t in cuts])
    return lately > allowed and climbs_rather_than_steps(cuts)


def _log_tail(t: float, freedom: float) -> float:
    return float(np.log(max(float(stdtr(freedom, -t)), 1e-300))) if freedom > 0 else 0.0


def _cut(row: Floats, old: Floats, length: int, *, saws: bool) -> Cut:
    """One replica minus the old version, block by block; where a level saws, the floor of each."""
    here = np.flatnonzero(~np.isnan(row) & ~np.isnan(old))
    when = here.astype(np.float64)
    own, times = blocks(row[here], when, length, lowest=saws)
    return own - blocks(old[here], when, length, lowest=saws)[0], times


def _together(rows: Floats) -> Floats:
    """Mean of the replicas around each one's own mean, so that one that comes or goes is no step."""
    own = mean_level(rows.T)
    return mean_level(rows - np.where(np.isnan(own), 0.0, own)[:, None])


def _habits(rows: Rows, width: int, length: int, *, saws: bool) -> Habits | None:
    """What is known of the old version up to a look; None where that is too little.

    Beside the candidate, replicas are taken around their common mean, since that is what is subtracted. A lone one has
    noise but no slope of its own to tell.
    """
    relative = bool(len(rows.beside))
    inflation, slopes, errors, squares, freedom = 1.0, list[float](), list[float](), 0.0, 0.0
    for group in (*rows.before, *([rows.beside[:, :width]] if relative else [])):
        around = len(group) > 1 and relative
        own = group - _together(group) if around else group
        shrunk = 1.0 - 1.0 / len(group) if around else 1.0
        cuts = [cut for row in own if len((cut := _cut(row, np.zeros(len(row)), length, saws=saws))[0]) >= LEAST]
        if not cuts:
            continue
        here = _mean([slope_inflation(*cut) for cut in cuts])
        inflation = max(inflation, here)
        for cut in cuts:
            free = shrunk * max(len(cut[0]) / here - 2.0, 0.0)
            squares, freedom = squares + free * residual_variance(*cut) / shrunk, freedom + free
        for cut in (piece for row in own for piece in _stretches(row, width, length, saws=saws)):
            if around or not relative:
                slopes.append(theil_sen(*cut).value)
                errors.append(residual_variance(*cut) * here / _spread(cut[1]))
    past = 0.0 if relative else _past_slope(rows, inflation, saws=saws)
    if not np.isfinite(past):
        return None
    if freedom <= 0:
        return _hardly_known(rows.beside[:, :width]) if relative else None
    return Habits(inflation, squares / freedom, freedom, _wander(slopes, errors, about_zero=relative), past)


def _hardly_known(beside: Floats) -> Habits | None:
    """Where the old version's values depend on each other so much that they tell no noise: flat, but for one step.

    Its slopes are then believed to be up to twice what its whole range would make in the time seen, and its noise to
    be as large as that whole range, known as little as three values know it: what climbs a hundred times as far is no
    less of a leak because the old version took half a megabyte once.
    """
    seen = [row[~np.isnan(row)] for row in beside]
    ranges = [(float(np.max(row) - np.min(row)), len(row) - 1) for row in seen if len(row) >= LEAST]
    if not ranges:
        return None
    widest, moves = max(wide for wide, _ in ranges), max(wide / steps for wide, steps in ranges)
    return Habits(inflation=1.0, variance=widest * widest, freedom=HARDLY, wander=2.0 * moves, past=0.0)


def _past_slope(rows: Rows, inflation: float, *, saws: bool) -> float:
    """Before/after: the upper end of what the past may climb by itself; a falling past excuses nothing."""
    level = _together(rows.before[0])
    cut = _cut(level, np.zeros(len(level)), -(-len(level) // MOST), saws=saws)
    return max(theil_sen(*cut, inflation=inflation).high, 0.0) if len(cut[0]) >= LEAST else np.inf


def _wander(slopes: list[float], errors: list[float], *, about_zero: bool) -> float:
    """Twice the standard deviation of slopes beyond their noise: load that shifts, random walks."""
    if len(slopes) < 2:
        return 0.0
    middle = 0.0 if about_zero else _mean(slopes)
    square = _mean([(slope - middle) ** 2 for slope in slopes]) * len(slopes) / (len(slopes) - 1)
    return 2.0 * _root(max(square - _mean(errors), 0.0))


def _stretches(row: Floats, width: int, length: int, *, saws: bool) -> list[Cut]:
    """Stretches of a row as long as the time looked at, back from its end."""
    found = []
    for k in range(min(len(row) // width, STRETCHES)):
        piece = row[len(row) - (k + 1) * width : len(row) - k * width]
        cut = _cut(piece, np.zeros(width), length, saws=saws)
        if len(cut[0]) >= LEAST:
            found.append(cut)
    return found


def _spread(times: Floats) -> float:
    """Sum of squares around the mean."""
    around = times - float(np.cumsum(times)[-1]) / len(times)
    return float(np.cumsum(around * around)[-1])


def _root(number: float) -> float:
    return float(np.sqrt(number))


def _mean(numbers: list[float]) -> float:
    return float(np.cumsum(numbers)[-1]) / len(numbers)
