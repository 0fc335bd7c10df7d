"""Levels per replica (CPU, memory, queue depth): a prewhitened one-sided Gaussian e-process.

x_t = candidate - baseline, or candidate - its past. Beyond the margin m and what the baseline's own level may be off,
    d_t = s (x_t - mu) - m - q sqrt(v / n_eff) - 2 s_b,   u_t = (d_t - r d_{t-1}) / sigma,   u_t <- min(u_t, 4.5),
    llr = l u_t - l^2 / 2,   l in 0.1..3,
with the noise v, its lag-1 autocorrelation r and the replicas' own offsets s_b (random effects) estimated from the
old version's data up to t; q is Student's quantile (0.977) with n_eff - 1 degrees of freedom, and d_{t-1} is taken
with the allowances of t, so that an estimate that moves is no step of the level. Nominal, not guaranteed: levels
have no exact null distribution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.decode import Floats
from analysis.methods.levels import Levels, mean_level, over_rows, signs
from analysis.onset import onset_mixture
from analysis.result import Arm, Design

RATES = np.geomspace(0.1, 3.0, 12)
CLIP = 4.5  # one sample brings no more evidence than so many standard deviations: one alone never decides
SURE = 0.9772498680518208  # the level is allowed to be off by so much of its distribution (2 sd of a normal)
LEAST_FREEDOM = 0.3  # degrees of freedom where next to nothing is known: the quantile is then beyond all use
LEAST_PAST = 6  # values of the old version below which a level is not judged
INFLATE = 1.15  # allowance for an estimated scale
OFFSET = 0.15  # how far replicas of one version are believed to differ, before any is seen
_OFFSET_WEIGHT = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """What is known of the old version at each look, (looks,) or (levels, looks)."""

    n: Floats
    variance: Floats  # of candidate - baseline
    r: Floats  # lag-1 autocorrelation, corrected for its bias
    r_seen: Floats  # as seen: the innovations' variance is variance (1 - r_seen^2) whatever the bias
    offset: Floats
    level: Floats
    margin: Floats

    @property
    def n_eff(self) -> Floats:
        """How many independent values the old version's level is known from."""
        return np.maximum(self.n * (1 - self.r) / (1 + self.r), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class GaugeResult:
    """Evidence and what it rests on. Series are (looks,), NaN where absent."""

    path: Floats
    log_ratios: Floats  # (rates, looks) of the worse direction
    steps: Floats  # prewhitened steps beyond what is tolerated, in sd, of that direction; NaN where there is none
    candidate: Floats
    baseline: Floats  # concurrent: by look; before/after: the past
    margin: float
    allowance: float
    sd: float
    r: float


@dataclass(frozen=True, slots=True, eq=False)
class Gauges:
    """The same of many levels: (levels,), (levels, looks), log_ratios (rates, levels, looks). told: whose old version
    was ever seen; of the others nothing is known."""

    told: NDArray[np.bool_]
    path: Floats
    log_ratios: Floats
    steps: Floats
    candidate: Floats
    baseline: Floats
    allowance: Floats
    noise: Noise

    def one(self, i: int) -> GaugeResult:
        return GaugeResult(
            path=self.path[i],
            log_ratios=self.log_ratios[:, i],
            steps=self.steps[i],
            candidate=self.candidate[i],
            baseline=self.baseline[i],
            margin=float(self.noise.margin[i, -1]),
            allowance=float(self.allowance[i]),
            sd=float(np.sqrt(self.noise.variance[i, -1])),
            r=float(self.noise.r[i, -1]),
        )


def judge_gauges(group: Levels) -> Gauges | None:
    """ln e-values of level metrics of like shape after every look; None where an arm was never seen."""
    if Arm.CANDIDATE not in group.arms or Arm.BASELINE not in group.arms or not group.looks:
        return None
    candidate = group.candidate()
    told: NDArray[np.bool_] = np.ones(len(candidate), dtype=bool)
    baseline = mean_level(group.arms[Arm.BASELINE])
    if group.design is Design.CONCURRENT:
        shown = baseline[:, group.start :]
        noise = _peer_noise(group)
        x = candidate - shown
    else:
        shown = baseline[:, : group.start]
        told = np.any(~np.isnan(shown), axis=1)
        if not told.any():
            return None
        noise, mean = _past_noise(group, shown)
        known = np.arange(group.looks) < group.start  # no longer than the past
        x = np.where(known, candidate - mean[:, None], np.nan)
    path, ratios, steps = _evidence(x, noise, group)
    n_eff = noise.n_eff[:, -1]
    allowance = _unsure(n_eff) * np.sqrt(noise.variance[:, -1] / n_eff) + 2 * noise.offset[:, -1]
    return Gauges(told, path, ratios, steps, candidate, shown, allowance, noise)


def _evidence(x: Floats, noise: Noise, group: Levels) -> tuple[Floats, Floats, Floats]:
    """Evidence after every look; of the worse direction what each look brought, and the steps that brought it."""
    sides = [_one_sided(sign * x, noise, group.log_prior) for sign in signs(group.direction)]
    if len(sides) == 1:
        return sides[0]
    (path, ratios, steps), (other_path, other_ratios, other_steps) = sides
    other = other_path[:, -1] > path[:, -1]
    return (
        np.logaddexp(path, other_path) - np.log(2.0),
        np.where(other[:, None], other_ratios, ratios),
        np.where(other[:, None], other_steps, steps),
    )


def _unsure(n_eff: Floats) -> Floats:
    """How many standard errors a level known from so many independent values may be off."""
    return np.asarray(stdtrit(np.maximum(n_eff - 1.0, LEAST_FREEDOM), SURE))


def _one_sided(x: Floats, noise: Noise, log_prior: Floats) -> tuple[Floats, Floats, Floats]:
    """Evidence after every look, what each look brought, and the steps that brought it."""
    n_eff = noise.n_eff
    tolerated = noise.margin + _unsure(n_eff) * np.sqrt(noise.variance / n_eff) + 2 * noise.offset
    before = np.full(x.shape, np.nan)
    before[:, 1:] = x[:, :-1]
    alone = np.isnan(before)
    d = x - tolerated
    whitened = np.where(alone, d * np.sqrt(1 - noise.r**2), d - noise.r * np.where(alone, 0.0, before - tolerated))
    scale = INFLATE * np.sqrt(noise.variance * (1 - noise.r_seen**2)) * np.sqrt(1 + 2 / n_eff)
    known = ~np.isnan(whitened) & (noise.n >= LEAST_PAST) & (scale > 0)
    steps = np.where(known, whitened / np.where(known, scale, 1.0), np.nan)
    u = np.where(known, np.minimum(steps, CLIP), 0.0)
    rates = RATES[:, None, None]
    ratios = np.where(known, rates * u - rates**2 / 2, 0.0)
    return onset_mixture(ratios, log_prior), ratios, steps


def _peer_noise(group: Levels) -> Noise:
    """Noise of a candidate-minus-baseline mean, from the replicas of the old version among each other."""
    rows = [group.arms[arm] for arm in (Arm.BASELINE, Arm.HISTORY, Arm.PEERS) if arm in group.arms]
    stacked = np.concatenate(
        [values - mean_level(values)[:, None] if values.shape[1] > 1 else values for values in rows], axis=1
    )
    sizes = [values.shape[1] for values in rows]
    shrink = np.concatenate([np.full(k, k / (k - 1.0) if k > 1 else 1.0) for k in sizes])
    n, variance, r, r_seen, means, counts = _moments(stacked, shrink)
    level = _running_level(np.concatenate(rows, axis=1))
    peers = rows[0]
    seen = counts[:, : sizes[0]] > 0
    replicas = np.count_nonzero(seen, axis=1)
    own = means[:, : sizes[0]] if sizes[0] > 1 else np.zeros_like(means[:, :1])
    spread = over_rows(np.where(seen, own**2, 0.0))
    prior = _OFFSET_WEIGHT * (OFFSET * level) ** 2
    offset = np.sqrt((prior + spread) / (_OFFSET_WEIGHT + np.maximum(replicas - 1, 0)))
    now = np.maximum(np.count_nonzero(~np.isnan(peers), axis=1), 1)
    pods = np.maximum(np.count_nonzero(~np.isnan(group.arms[Arm.CANDIDATE]), axis=1), 1)
    variance = _at_least(variance * (1.0 / pods + 1.0 / now), level)
    margin = np.maximum(group.margin[:, None] * level, group.floor[:, None])
    return Noise(*(a[:, group.start :] for a in (n, variance, r, r_seen, offset, level, margin)))


def _past_noise(group: Levels, past: Floats) -> tuple[Noise, Floats]:
    """The same from the old version's own past, (levels, intervals); and its mean."""
    n, variance, r, r_seen, _, _ = _moments(past[:, None], np.ones(1))
    level = _running_level(past[:, None])[:, -1]
    least = _at_least(variance[:, -1], level)
    margin = np.maximum(group.margin * level, group.floor)
    last = (n[:, -1], least, r[:, -1], r_seen[:, -1], np.zeros(len(past)), level, margin)
    noise = Noise(*(np.ones(group.looks) * a[:, None] for a in last))
    return noise, mean_level(past[:, :, None])[:, 0]


def _at_least(variance: Floats, level: Floats) -> Floats:
    return np.maximum(variance, (1e-3 * level) ** 2)


def _running_level(values: Floats) -> Floats:
    """(levels, intervals) mean size of all values so far, of (levels, rows, intervals)."""
    present = ~np.isnan(values)
    total = _so_far(over_rows(np.where(present, np.abs(values), 0.0)))
    count = _so_far(np.count_nonzero(present, axis=1))
    return np.asarray(np.divide(total, count, out=np.zeros(total.shape), where=count > 0))


def _moments(values: Floats, shrink: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Running pooled variance and lag-1 autocorrelation about each row's own mean; nothing later is used.

    values: (levels, rows, intervals); shrink: (rows,). Returns n, variance, r corrected for its bias and as seen
    (levels, intervals), and each row's running mean and count. The bias is that of one row's length (Kendall 1954).
    """
    present = ~np.isnan(values)
    first = np.argmax(present, axis=2)[..., None]
    anchor = np.nan_to_num(np.take_along_axis(values, first, axis=2))
    y = np.where(present, values - anchor, 0.0)
    shrink = shrink[:, None]
    count = _so_far(present).astype(np.float64)
    s1, s2 = _so_far(y), _so_far(y * y)
    mean = np.divide(s1, count, out=np.zeros_like(s1), where=count > 0)
    squares = np.maximum(s2 - s1 * mean, 0.0) * shrink
    both = present[..., 1:] & present[..., :-1]
    pairs = _lead(_so_far(both).astype(np.float64))
    product = _lead(_so_far(np.where(both, y[..., 1:] * y[..., :-1], 0.0)))
    ends = _lead(_so_far(np.where(both, y[..., 1:] + y[..., :-1], 0.0)))
    lagged = (product - mean * ends + pairs * mean**2) * shrink
    n, rows = over_rows(count), np.count_nonzero(count > 0, axis=1)
    variance = over_rows(squares) / np.maximum(n - rows, 1.0)
    covariance = over_rows(lagged) / np.maximum(over_rows(pairs), 1.0)
    r = np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > 0)
    seen = np.clip(r, 0.0, 0.97)
    r = np.clip(r + (1 + 4 * r) / np.maximum(n / np.maximum(rows, 1), 1.0), 0.0, 0.97)
    return n, variance, r, seen, mean + anchor, count


def _so_far(values: np.ndarray) -> np.ndarray:
    return np.cumsum(values, axis=-1)


def _lead(array: Floats) -> Floats:
    led = np.zeros((*array.shape[:-1], array.shape[-1] + 1))
    led[..., 1:] = array
    return led
