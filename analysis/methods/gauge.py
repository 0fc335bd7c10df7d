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
from scipy.special import stdtrit

from analysis.decode import Arrays, Floats, Panel
from analysis.onset import onset_mixture
from analysis.result import Arm, Design, Direction, JudgeSettings, MetricSpec

RATES = np.geomspace(0.1, 3.0, 12)
CLIP = 4.5  # one sample brings no more evidence than so many standard deviations: one alone never decides
SURE = 0.9772498680518208  # the level is allowed to be off by so much of its distribution (2 sd of a normal)
LEAST_FREEDOM = 0.3  # degrees of freedom where next to nothing is known: the quantile is then beyond all use
LEAST_PAST = 6  # values of the old version below which a level is not judged
INFLATE = 1.15  # allowance for an estimated scale
OFFSET = 0.15  # how far replicas of one version are believed to differ, before any is seen
_OFFSET_WEIGHT = 3.0
PERCENT, SHARE = 2.0, 1.0  # points of a resource's percent; of "percent" alone, a share of requests
FLOORS = {"%": PERCENT, "percent": SHARE, "s": 0.01, "seconds": 0.01, "ms": 10.0, "milliseconds": 10.0}


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """What is known of the old version at each look, (looks,)."""

    n: Floats
    variance: Floats  # of candidate - baseline
    r: Floats  # lag-1 autocorrelation, corrected for its bias
    r_seen: Floats  # as seen: the innovations' variance is variance (1 - r_seen^2) whatever the bias
    offset: Floats
    level: Floats
    margin: Floats


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
    noise: Noise


def judge_gauge(
    metric: Arrays, design: Design, settings: JudgeSettings, log_prior: Floats, usable: np.ndarray
) -> GaugeResult | None:
    """ln e-value of one level metric after every look; None where an arm was never seen."""
    if Arm.CANDIDATE not in metric.panels or Arm.BASELINE not in metric.panels or not len(log_prior):
        return None
    start = max(-metric.first, 0)
    candidate_values = levels(metric.panel(Arm.CANDIDATE))[:, start:]
    candidate = np.where(usable, mean_level(candidate_values), np.nan)
    pods = np.maximum(np.count_nonzero(~np.isnan(candidate_values), axis=0), 1)
    if design is Design.CONCURRENT:
        baseline = mean_level(levels(metric.panel(Arm.BASELINE)))[start:]
        noise = _peer_noise(metric, start, pods, settings)
        x = candidate - baseline
        shown = baseline
    else:
        past = mean_level(levels(metric.panel(Arm.BASELINE)))[:start]
        if not (~np.isnan(past)).any():
            return None
        noise, mean = _past_noise(past, len(candidate), metric.spec, settings)
        x = np.where(np.arange(len(candidate)) < start, candidate - mean, np.nan)  # no longer than the past
        shown = past
    paths, ratios, steps = [], [], []
    for sign in signs(metric.spec.direction):
        path, ratio, step = _one_sided(sign * x, noise, log_prior)
        paths.append(path)
        ratios.append(ratio)
        steps.append(step)
    best = int(np.argmax([p[-1] for p in paths]))
    path = paths[0] if len(paths) == 1 else np.logaddexp(paths[0], paths[1]) - np.log(2.0)
    n_eff = np.maximum(noise.n[-1] * (1 - noise.r[-1]) / (1 + noise.r[-1]), 1.0)
    allowance = float(_unsure(n_eff) * np.sqrt(noise.variance[-1] / n_eff) + 2 * noise.offset[-1])
    return GaugeResult(
        path=path,
        log_ratios=ratios[best],
        steps=steps[best],
        candidate=candidate,
        baseline=shown,
        margin=float(noise.margin[-1]),
        allowance=allowance,
        sd=float(np.sqrt(noise.variance[-1])),
        r=float(noise.r[-1]),
        noise=noise,
    )


def margin_of(spec: MetricSpec, settings: JudgeSettings) -> float:
    return settings.margin if spec.margin is None else spec.margin


def floor_of(spec: MetricSpec) -> float:
    """Smallest worsening that matters, in the metric's unit: as given, else by its unit."""
    if spec.floor is not None:
        return spec.floor
    unit = spec.unit.strip().lower()
    if unit.startswith(("min-max", "minmax")):
        return 0.01
    return FLOORS.get(unit, PERCENT if unit.startswith(("percent", "%")) else 0.0)


def signs(direction: Direction) -> tuple[float, ...]:
    return {Direction.UP_IS_BAD: (1.0,), Direction.DOWN_IS_BAD: (-1.0,), Direction.EITHER: (1.0, -1.0)}[direction]


def _unsure(n_eff: Floats) -> Floats:
    """How many standard errors a level known from so many independent values may be off."""
    return np.asarray(stdtrit(np.maximum(n_eff - 1.0, LEAST_FREEDOM), SURE))


def _one_sided(x: Floats, noise: Noise, log_prior: Floats) -> tuple[Floats, Floats, Floats]:
    """Evidence after every look, what each look brought, and the steps that brought it."""
    n_eff = np.maximum(noise.n * (1 - noise.r) / (1 + noise.r), 1.0)
    tolerated = noise.margin + _unsure(n_eff) * np.sqrt(noise.variance / n_eff) + 2 * noise.offset
    before = np.concatenate([[np.nan], x[:-1]])
    alone = np.isnan(before)
    d = x - tolerated
    whitened = np.where(alone, d * np.sqrt(1 - noise.r**2), d - noise.r * np.where(alone, 0.0, before - tolerated))
    scale = INFLATE * np.sqrt(noise.variance * (1 - noise.r_seen**2)) * np.sqrt(1 + 2 / n_eff)
    known = ~np.isnan(whitened) & (noise.n >= LEAST_PAST) & (scale > 0)
    steps = np.where(known, whitened / np.where(known, scale, 1.0), np.nan)
    u = np.where(known, np.minimum(steps, CLIP), 0.0)
    ratios = np.where(known, RATES[:, None] * u - RATES[:, None] ** 2 / 2, 0.0)
    return onset_mixture(ratios[:, None, :], log_prior[None])[0], ratios, steps


def levels(panel: Panel) -> Floats:
    """(replicas x strata, intervals): every stratum of a replica is a level of its own."""
    return panel.value[:, :, 0, :].reshape(-1, panel.value.shape[-1])


def past_levels(metric: Arrays, start: int) -> Floats:
    """(start,) the old version before the deploy: its baseline, and what is known from before that."""
    past = mean_level(levels(metric.panel(Arm.BASELINE)))[:start]
    if Arm.HISTORY not in metric.panels:
        return past
    older = mean_level(levels(metric.panels[Arm.HISTORY]))[:start]
    return np.asarray(np.where(np.isnan(past), older, past))


def mean_level(values: Floats) -> Floats:
    present = ~np.isnan(values)
    count = np.count_nonzero(present, axis=0)
    total = np.zeros(values.shape[1])
    for row in np.where(present, values, 0.0):
        total = total + row
    return np.asarray(np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0))


def _peer_noise(metric: Arrays, start: int, pods: np.ndarray, settings: JudgeSettings) -> Noise:
    """Noise of a candidate-minus-baseline mean, from the replicas of the old version among each other."""
    rows = [levels(metric.panels[arm]) for arm in (Arm.BASELINE, Arm.HISTORY, Arm.PEERS) if arm in metric.panels]
    residuals, sizes = [], []
    for values in rows:
        middle = mean_level(values)
        residuals.append(values - middle if len(values) > 1 else values)
        sizes.append(len(values))
    stacked = np.concatenate(residuals)
    shrink = np.concatenate([np.full(k, k / (k - 1.0) if k > 1 else 1.0) for k in sizes])
    n, variance, r, r_seen, means, counts = _moments(stacked, shrink)
    level = _running_level(np.concatenate(rows))
    peers = rows[0]
    seen = counts[: len(peers)] > 0
    replicas = np.count_nonzero(seen, axis=0)
    own = means[: len(peers)] if len(peers) > 1 else np.zeros_like(means[:1])
    spread = np.cumsum(np.where(seen, own**2, 0.0), axis=0)[-1]
    prior = _OFFSET_WEIGHT * (OFFSET * level) ** 2
    offset = np.sqrt((prior + spread) / (_OFFSET_WEIGHT + np.maximum(replicas - 1, 0)))
    now = np.maximum(np.count_nonzero(~np.isnan(peers), axis=0), 1)
    per_pod = variance[start:]
    variance_x = per_pod * (1.0 / pods + 1.0 / now[start:])
    return Noise(
        n=n[start:],
        variance=_at_least(variance_x, level[start:]),
        r=r[start:],
        r_seen=r_seen[start:],
        offset=offset[start:],
        level=level[start:],
        margin=np.maximum(margin_of(metric.spec, settings) * level[start:], floor_of(metric.spec)),
    )


def _past_noise(past: Floats, looks: int, spec: MetricSpec, settings: JudgeSettings) -> tuple[Noise, float]:
    n, variance, r, r_seen, _, _ = _moments(past[None], np.ones(1))
    mean = float(mean_level(past[:, None])[0])
    level = _running_level(past[None])[-1]
    full = np.ones(looks)
    least = _at_least(np.array([variance[-1]]), np.array([level]))[0]
    margin = max(margin_of(spec, settings) * level, floor_of(spec))
    noise = Noise(
        n=full * n[-1],
        variance=full * least,
        r=full * r[-1],
        r_seen=full * r_seen[-1],
        offset=full * 0.0,
        level=full * level,
        margin=full * margin,
    )
    return noise, mean


def _at_least(variance: Floats, level: Floats) -> Floats:
    return np.maximum(variance, (1e-3 * level) ** 2)


def _running_level(values: Floats) -> Floats:
    present = ~np.isnan(values)
    total = np.cumsum(np.cumsum(np.where(present, np.abs(values), 0.0), axis=0)[-1])
    count = np.cumsum(np.count_nonzero(present, axis=0))
    return np.asarray(np.divide(total, count, out=np.zeros(len(total)), where=count > 0))


def _moments(values: Floats, shrink: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Running pooled variance and lag-1 autocorrelation about each row's own mean; nothing later is used.

    values: (rows, intervals). Returns n, variance, r corrected for its bias and
    as seen (intervals,), and each row's running mean and count. The bias is that of one row's length (Kendall 1954).
    """
    present = ~np.isnan(values)
    first = np.argmax(present, axis=1)
    anchor = np.nan_to_num(values[np.arange(len(values)), first])[:, None]
    y = np.where(present, values - anchor, 0.0)
    count = np.cumsum(present, axis=1).astype(np.float64)
    s1, s2 = np.cumsum(y, axis=1), np.cumsum(y * y, axis=1)
    mean = np.divide(s1, count, out=np.zeros_like(s1), where=count > 0)
    squares = np.maximum(s2 - s1 * mean, 0.0) * shrink[:, None]
    both = present[:, 1:] & present[:, :-1]
    pairs = _lead(np.cumsum(both, axis=1).astype(np.float64))
    product = _lead(np.cumsum(np.where(both, y[:, 1:] * y[:, :-1], 0.0), axis=1))
    ends = _lead(np.cumsum(np.where(both, y[:, 1:] + y[:, :-1], 0.0), axis=1))
    lagged = (product - mean * ends + pairs * mean**2) * shrink[:, None]
    n, rows = np.cumsum(count, axis=0)[-1], np.count_nonzero(count > 0, axis=0)
    free = np.maximum(n - rows, 1.0)
    variance = np.cumsum(squares, axis=0)[-1] / free
    all_pairs = np.maximum(np.cumsum(pairs, axis=0)[-1], 1.0)
    covariance = np.cumsum(lagged, axis=0)[-1] / all_pairs
    r = np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > 0)
    seen = np.clip(r, 0.0, 0.97)
    r = np.clip(r + (1 + 4 * r) / np.maximum(n / np.maximum(rows, 1), 1.0), 0.0, 0.97)
    return n, variance, r, seen, mean + anchor, count


def _lead(array: Floats) -> Floats:
    return np.concatenate([np.zeros((len(array), 1)), array], axis=1)
