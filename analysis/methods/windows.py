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

from analysis.decode import Floats
from analysis.methods.gauge import LEAST_PAST, Noise
from analysis.methods.levels import Levels, over_rows, signs
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


def persistence(group: Levels, noise: Noise) -> list[Lasting]:
    """ln 1/p after every look of "the level stays worse than the old version's"; NEVER where it is not.

    noise: (levels, looks) from `judge_gauges` of the same levels.

    >>> kth_smallest(np.array([[3.0, 1.0, 2.0, 5.0]]), 3, 1)
    array([[nan, nan,  2.,  2.]])
    """
    candidate = group.candidate()
    found = [
        _beside(group, sign, _carried(sign * candidate), noise)
        if group.design is Design.CONCURRENT
        else _after(sign * group.past(), sign * candidate, noise)
        for sign in signs(group.direction)
    ]
    both = np.stack([one.path for one in found])
    best = np.argmax(both, axis=0)
    path = np.maximum(np.maximum.reduce(both) - np.log(len(found)), NEVER)
    spans = np.take_along_axis(np.stack([one.looks for one in found]), best[None], axis=0)[0]
    scale = np.maximum.reduce([one.scale for one in found])
    log_past = found[0].log_past - float(np.log(len(found)))
    return [Lasting(*one) for one in zip(path, spans, scale.tolist(), log_past.tolist(), strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The same of many levels in one direction: (levels, looks), (levels,)."""

    path: Floats
    looks: NDArray[np.int64]
    scale: Floats
    log_past: Floats


def _after(past: Floats, x: Floats, noise: Noise) -> _Side:
    """Before and after. No longer than the past: what it did in n intervals says nothing of more."""
    looks = x.shape[1]
    past = _carried(_carried(past))
    n = np.count_nonzero(~np.isnan(past), axis=1)
    usual = np.fmax(_median(past[:, -RECENT:]), _median(past[:, -LATEST:]))
    short = _mean_move(np.abs(past - _before(past, STEP_BACK)[:, :-1]))
    scale2 = noise.margin**2 + _noise2(np.broadcast_to(short[:, None], x.shape), noise)
    held = np.where(np.arange(looks) < past.shape[1], x, np.nan)
    found = _evidence(held, usual[:, None], scale2, noise.margin, np.broadcast_to(n[:, None], x.shape))
    told = n >= LEAST_PAST
    return _Side(
        path=np.where(told[:, None], found.path, NEVER),
        looks=np.where(told[:, None], found.looks, 0),
        scale=np.where(told, found.scale, np.nan),
        log_past=np.where(told, found.log_past, 0.0),
    )


def _beside(group: Levels, sign: float, x: Floats, noise: Noise) -> _Side:
    """Beside the old version's replicas: worse than the worst of them has lately been."""
    start = group.start
    peers = group.arms[Arm.BASELINE][..., start:]
    older = group.arms.get(Arm.HISTORY, group.arms[Arm.BASELINE])[..., :start]
    rows = max(peers.shape[1], older.shape[1])  # by place: replicas keep their order, extra ones stand for themselves
    y = _carried(sign * np.concatenate([_padded(older, rows), _padded(peers, rows)], axis=2))
    own = _before(y, RECENT)[..., 1:]
    usual = np.fmax.reduce(np.fmax(own, _before(y, NOW)[..., 1:]), axis=1)[:, start:]
    moves = np.abs(y - _before(y, STEP_BACK)[..., :-1])
    seen = ~np.isnan(moves)
    total = np.cumsum(over_rows(np.where(seen, moves, 0.0)), axis=1)
    count = np.cumsum(np.count_nonzero(seen, axis=1), axis=1)
    short = np.sqrt(np.pi / 2) * np.divide(total, count, out=np.zeros_like(total), where=count > 0)[:, start:]
    scale2 = noise.margin**2 + _offsets(own[..., start:], noise.margin) + _noise2(short, noise)
    n = np.cumsum(np.count_nonzero(~np.isnan(y), axis=1), axis=1)[:, start:].astype(np.float64)
    reported = np.cumsum(~np.isnan(x), axis=1)
    warm = x if group.direction is Direction.DOWN_IS_BAD else np.where(reported <= GRACE, np.nan, x)
    return _evidence(warm, usual, scale2, noise.margin, n)


def _evidence(x: Floats, usual: Floats, scale2: Floats, margin: Floats, n: Floats) -> _Side:
    """The best window's ln 1/p. scale2: (windows, levels, looks)."""
    looked = np.arange(1.0, x.shape[1] + 1)
    longer = np.log1p(n / looked)
    paths = np.empty((len(WINDOWS), *x.shape))
    for i, (w, k) in enumerate(WINDOWS):
        d = kth_smallest(x, w, k) - usual
        known = (d >= margin) & (d > 0) & (scale2[i] > 0)
        ratio = np.where(known, d, 1.0) / np.sqrt(np.where(known, scale2[i], 1.0))
        paths[i] = np.where(known, TAIL * np.log(ratio) + longer, NEVER)
    spans = np.array([w for w, _ in WINDOWS])[np.argmax(paths, axis=0)]
    return _Side(np.maximum.reduce(paths), spans, np.sqrt(scale2[-1, :, -1]), longer[:, -1])


def _noise2(short: Floats, noise: Noise) -> Floats:
    """(windows, levels, looks) squared noise of a window: short moves, or slow ones where samples depend on others."""
    tau = (1 + noise.r) / (1 - noise.r)
    each = [np.maximum(short**2 / w, noise.variance * np.minimum(1.0, tau / w)) for w, _ in WINDOWS]
    return np.asarray(NOISE**2 * np.stack(each))


def _offsets(own: Floats, margin: Floats) -> Floats:
    """Squared offset between replicas of one version: what they show, and the margin's size before they do."""
    seen = ~np.isnan(own)
    count = np.count_nonzero(seen, axis=1)
    middle = over_rows(np.where(seen, own, 0.0)) / np.maximum(count, 1)
    spread = over_rows(np.where(seen, (own - middle[:, None]) ** 2, 0.0))
    return np.asarray((_OFFSET_WEIGHT * margin**2 + spread) / (_OFFSET_WEIGHT + np.maximum(count - 1, 0)))


def kth_smallest(values: Floats, w: int, k: int) -> Floats:
    """(rows, intervals): the k-th smallest (from 0) of the last w values; NaN where one is missing."""
    found = np.full(values.shape, np.nan)
    if values.shape[1] >= w:
        view = np.sort(sliding_window_view(values, w, axis=1), axis=2)  # NaN comes last
        found[:, w - 1 :] = np.where(np.isnan(view[:, :, -1]), np.nan, view[:, :, k])
    return found


def _before(values: Floats, k: int) -> Floats:
    """(..., intervals + 1): median of the up to k values before each place."""
    padded = np.full((*values.shape[:-1], values.shape[-1] + k), np.nan)
    padded[..., k:] = values
    return _median(sliding_window_view(padded, k, axis=-1))


def _median(values: Floats) -> Floats:
    """Median over the last axis of what is not NaN; NaN where nothing is (quicker than nanmedian, and silent)."""
    ordered = np.sort(values, axis=-1)
    n = np.count_nonzero(~np.isnan(ordered), axis=-1)
    low = np.take_along_axis(ordered, np.maximum((n - 1) // 2, 0)[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(ordered, np.minimum(n // 2, ordered.shape[-1] - 1)[..., None], axis=-1)[..., 0]
    return np.asarray(np.where(n > 0, 0.5 * (low + high), np.nan))


def _mean_move(moves: Floats) -> Floats:
    """(levels,) standard deviation from mean absolute moves (normal: sd = mean * sqrt(pi/2)), of (levels, intervals);
    a few outliers move it little."""
    seen = ~np.isnan(moves)
    total, count = np.cumsum(np.where(seen, moves, 0.0), axis=1)[:, -1], np.count_nonzero(seen, axis=1)
    return np.asarray(np.divide(np.sqrt(np.pi / 2) * total, count, out=np.zeros(len(moves)), where=count > 0))


def _carried(values: Floats) -> Floats:
    """A single missing sample keeps the last value, (..., intervals)."""
    late = np.full(values.shape, np.nan)
    late[..., 1:] = values[..., :-1]
    return np.where(np.isnan(values), late, values)


def _padded(values: Floats, rows: int) -> Floats:
    """(levels, rows, intervals) filled up with rows of NaN."""
    if values.shape[1] == rows:
        return values
    missing = np.full((len(values), rows - values.shape[1], values.shape[2]), np.nan)
    return np.concatenate([values, missing], axis=1)
