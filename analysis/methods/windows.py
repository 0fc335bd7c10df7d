"""Persistence: a level is worse when it stays worse, k of the last w samples, further out than its noise explains.

For windows of w samples the k-th smallest value Q (in the worse direction) must lie above what the old version has
lately been, by d:
    p = (t + 1) / (n + t + 1) * (scale / d)^4,   scale^2 = m^2 + 2^2 max(s^2 / w, v min(1, tau / w)) [+ s_b^2],
a heavy tail beyond `scale` (Pareto, index 4: real levels have no normal one), n values of past against the t + 1 that
were looked at, so that looking longer costs more. m margin, s size of short moves, v and tau variance and
autocorrelation time, s_b offsets between replicas. Nominal, not guaranteed: a model, checked on unchanged deploys.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from analysis.decode import Arrays, Floats
from analysis.methods.gauge import LEAST_PAST, Noise, levels, mean_level, past_levels, signs
from analysis.result import Arm, Design, Direction

WINDOWS = ((2, 0), (3, 0), (5, 1), (8, 2))  # all of 2 or 3, 4 of 5, 6 of 8: one outlier forgives, one never accuses
TAIL = 4.0  # Pareto index: a move ten times the noise is believed at 1e-4, not at what a normal tail would say
NOISE = 2.0  # standard deviations of noise that are no news
RECENT, LATEST, NOW = 36, 6, 3  # samples that tell what the old version has lately been
STEP_BACK = 5  # samples whose median a short move is measured from
GRACE = 3  # first looks of new instances beside warm ones: starting up costs processor, memory and time
NEVER = -9.0 * float(np.log(10.0))  # ln of "no evidence": beyond any rescue by another test
_OFFSET_WEIGHT = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Lasting:
    """What the windows say. (looks,) ln 1/p, NEVER where a level does not stay worse; the last look's noise scale."""

    path: Floats
    looks: NDArray[np.int64]  # (looks,) how many samples the best window spans
    scale: float
    log_past: float


def deciding_shift(lasting: Lasting, log_needed: float) -> float:
    """The lasting shift, noise aside, that decides at the last look: the model of this module, solved for d."""
    return float(lasting.scale * np.exp((log_needed - lasting.log_past) / TAIL))


def persistence(metric: Arrays, design: Design, noise: Noise, usable: np.ndarray) -> Lasting:
    """ln 1/p after every look of "the level stays worse than the old version's", (looks,); NEVER where it is not.

    >>> kth_smallest(np.array([[3.0, 1.0, 2.0, 5.0]]), 3, 1)
    array([[nan, nan,  2.,  2.]])
    """
    start = max(-metric.first, 0)
    if Arm.CANDIDATE not in metric.panels:
        return _nothing(len(usable))
    candidate = np.where(usable, mean_level(levels(metric.panel(Arm.CANDIDATE)))[start:], np.nan)
    found = []
    for sign in signs(metric.spec.direction):
        x = sign * candidate
        if design is Design.CONCURRENT:
            found.append(_beside(metric, sign, _carried(x[None])[0], start, noise))
        else:
            found.append(_after(sign * past_levels(metric, start), x, noise))
    both = np.stack([one.path for one in found])
    best = np.argmax(both, axis=0)
    path = np.maximum(np.maximum.reduce(both) - np.log(len(found)), NEVER)
    spans = np.take_along_axis(np.stack([one.looks for one in found]), best[None], axis=0)[0]
    return Lasting(path, spans, max(one.scale for one in found), found[0].log_past - float(np.log(len(found))))


def _nothing(looks: int) -> Lasting:
    return Lasting(np.full(looks, NEVER), np.zeros(looks, dtype=np.int64), float("nan"), 0.0)


def _after(past: Floats, x: Floats, noise: Noise) -> Lasting:
    """Before and after. No longer than the past: what it did in n intervals says nothing of more."""
    looks = len(x)
    past = _carried(_carried(past[None]))[0]
    n = int(np.count_nonzero(~np.isnan(past)))
    if n < LEAST_PAST:
        return _nothing(looks)
    usual = float(np.fmax(_median(past[-RECENT:]), _median(past[-LATEST:])))
    moves = np.abs(past - _before(past[None], STEP_BACK)[0][:-1])
    short = _mean_move(moves[~np.isnan(moves)])
    scale2 = noise.margin**2 + _noise2(np.full(looks, short), noise)
    held = np.where(np.arange(looks) < len(past), x, np.nan)
    return _evidence(held, np.full(looks, usual), scale2, noise.margin, np.full(looks, float(n)))


def _beside(metric: Arrays, sign: float, x: Floats, start: int, noise: Noise) -> Lasting:
    """Beside the old version's replicas: worse than the worst of them has lately been."""
    peers = levels(metric.panel(Arm.BASELINE))[:, start:]
    older = levels(metric.panels[Arm.HISTORY])[:, :start] if Arm.HISTORY in metric.panels else None
    older = levels(metric.panel(Arm.BASELINE))[:, :start] if older is None else older
    rows = max(len(peers), len(older))  # by place: replicas keep their order, and extra ones stand for themselves
    y = _carried(sign * np.concatenate([_padded(older, rows), _padded(peers, rows)], axis=1))
    own = _before(y, RECENT)[:, 1:]
    usual = np.fmax.reduce(np.fmax(own, _before(y, NOW)[:, 1:]), axis=0)[start:]
    moves = np.abs(y - _before(y, STEP_BACK)[:, :-1])
    seen = ~np.isnan(moves)
    total = np.cumsum(np.cumsum(np.where(seen, moves, 0.0), axis=0)[-1])
    count = np.cumsum(np.count_nonzero(seen, axis=0))
    short = np.sqrt(np.pi / 2) * np.divide(total, count, out=np.zeros_like(total), where=count > 0)[start:]
    offset2 = _offsets(own[:, start:], noise.margin)
    scale2 = noise.margin**2 + offset2 + _noise2(short, noise)
    n = np.cumsum(np.count_nonzero(~np.isnan(y), axis=0))[start:].astype(np.float64)
    reported = np.cumsum(~np.isnan(x))
    warm = x if metric.spec.direction is Direction.DOWN_IS_BAD else np.where(reported <= GRACE, np.nan, x)
    return _evidence(warm, usual, scale2, noise.margin, n)


def _evidence(x: Floats, usual: Floats, scale2: Floats, margin: Floats, n: Floats) -> Lasting:
    """The best window's ln 1/p. scale2: (windows, looks)."""
    looked = np.arange(1.0, len(x) + 1)
    paths = []
    for (w, k), square in zip(WINDOWS, scale2, strict=True):
        d = kth_smallest(x[None], w, k)[0] - usual
        known = (d >= margin) & (d > 0) & (square > 0)
        ratio = np.where(known, d, 1.0) / np.sqrt(np.where(known, square, 1.0))
        paths.append(np.where(known, TAIL * np.log(ratio) + np.log1p(n / looked), NEVER))
    best = np.argmax(np.stack(paths), axis=0)
    spans = np.array([w for w, _ in WINDOWS])[best]
    scale = float(np.sqrt(scale2[-1, -1]))
    return Lasting(np.maximum.reduce(paths), spans, scale, float(np.log1p(n[-1] / looked[-1])))


def _noise2(short: Floats, noise: Noise) -> Floats:
    """(windows, looks) squared noise of a window: short moves, or slow ones where samples depend on each other."""
    tau = (1 + noise.r) / (1 - noise.r)
    each = [np.maximum(short**2 / w, noise.variance * np.minimum(1.0, tau / w)) for w, _ in WINDOWS]
    return np.asarray(NOISE**2 * np.stack(each))


def _offsets(own: Floats, margin: Floats) -> Floats:
    """Squared offset between replicas of one version: what they show, and the margin's size before they do."""
    seen = ~np.isnan(own)
    count = np.count_nonzero(seen, axis=0)
    safe = np.where(seen, own, 0.0)
    middle = np.cumsum(safe, axis=0)[-1] / np.maximum(count, 1)
    spread = np.cumsum(np.where(seen, (safe - middle) ** 2, 0.0), axis=0)[-1]
    return np.asarray((_OFFSET_WEIGHT * margin**2 + spread) / (_OFFSET_WEIGHT + np.maximum(count - 1, 0)))


def kth_smallest(values: Floats, w: int, k: int) -> Floats:
    """(rows, intervals): the k-th smallest (from 0) of the last w values; NaN where one is missing."""
    if values.shape[1] < w:
        return np.full(values.shape, np.nan)
    view = sliding_window_view(values, w, axis=1)
    whole = np.where(np.isnan(view).any(axis=2), np.nan, np.sort(view, axis=2)[:, :, k])
    return np.concatenate([np.full((len(values), w - 1), np.nan), whole], axis=1)


def _before(values: Floats, k: int) -> Floats:
    """(rows, intervals + 1): median of the up to k values before each place."""
    padded = np.concatenate([np.full((len(values), k), np.nan), values], axis=1)
    return _median(sliding_window_view(padded, k, axis=1))


def _median(values: Floats) -> Floats:
    """Median over the last axis of what is not NaN; NaN where nothing is (quicker than nanmedian, and silent)."""
    ordered = np.sort(values, axis=-1)
    n = np.count_nonzero(~np.isnan(ordered), axis=-1)
    low = np.take_along_axis(ordered, np.maximum((n - 1) // 2, 0)[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(ordered, np.minimum(n // 2, ordered.shape[-1] - 1)[..., None], axis=-1)[..., 0]
    return np.asarray(np.where(n > 0, 0.5 * (low + high), np.nan))


def _mean_move(moves: Floats) -> float:
    """Standard deviation from mean absolute moves (normal: sd = mean * sqrt(pi/2)); a few outliers move it little."""
    return float(np.sqrt(np.pi / 2) * np.cumsum(moves)[-1] / len(moves)) if len(moves) else 0.0


def _carried(values: Floats) -> Floats:
    """A single missing sample keeps the last value."""
    late = np.concatenate([np.full((len(values), 1), np.nan), values[:, :-1]], axis=1)
    return np.where(np.isnan(values), late, values)


def _padded(values: Floats, rows: int) -> Floats:
    return np.concatenate([values, np.full((rows - len(values), values.shape[1]), np.nan)])
