"""The rule of Kayenta's NetflixACAJudge-v1.0, written anew from a description of what it computes.

Per metric: values of every interval of the whole window, candidate x against baseline y, are compared by the
Mann-Whitney test inverted into a confidence interval of the shift (as R's wilcox.test with conf.int, exact=FALSE,
correct=TRUE). High: the interval lies above `tolerance` times the estimated shift, and the effect size allows it.
Metrics are scored by weighted groups; one failing critical metric makes the score 0. It looks once, at the end:
no control of peeking, of many metrics or of autocorrelation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]
ROOT_TOLERANCE = 1e-4  # absolute, whatever the metric's scale: a trait of the rule


class Label(StrEnum):
    PASS = "Pass"
    HIGH = "High"
    LOW = "Low"
    NODATA = "Nodata"
    NODATA_FAIL = "NodataFailMetric"


class Strategy(StrEnum):
    """What is done with NaN (remove, replace by 0) or with outliers (remove, keep)."""

    REMOVE = "remove"
    REPLACE = "replace"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRule:
    """How one metric is classified; the defaults are the judge's. Thresholds are (decrease, increase)."""

    direction: str = "either"
    confidence: float = 0.98
    tolerance: float = 0.25
    measure: str = "meanRatio"  # or "cles"
    allowed: tuple[float, float] | None = None
    critical_effect: tuple[float, float] | None = None
    critical: bool = False
    must_have_data: bool = False
    nan: Strategy = Strategy.REMOVE
    outliers: Strategy = Strategy.KEEP
    outlier_factor: float = 3.0
    groups: tuple[str, ...] = ()
    muted: bool = False

    @property
    def no_effect(self) -> float:
        return 1.0 if self.measure == "meanRatio" else 0.5


@dataclass(frozen=True, slots=True)
class Shift:
    """Confidence interval and Hodges-Lehmann estimate of x - y."""

    low: float
    high: float
    estimate: float


@dataclass(frozen=True, slots=True)
class Classified:
    label: Label
    critical: bool = False  # a critical failure
    groups: tuple[str, ...] = ()


def z_of_shift(mu: float, x: Floats, y: Floats) -> float:
    """The Mann-Whitney z of x - mu against y, with continuity correction and ties."""
    n, m = len(x), len(y)
    ranks = stats.rankdata(np.concatenate([x - mu, y]))
    w = float(np.sum(ranks[:n])) - n * (n + 1) / 2 - n * m / 2
    _, counts = np.unique(ranks, return_counts=True)
    ties = float(np.sum(counts.astype(np.float64) ** 3 - counts)) / ((n + m) * (n + m - 1))
    sigma = math.sqrt(n * m / 12 * ((n + m + 1) - ties))
    return (w - math.copysign(0.5, w) * (w != 0)) / sigma if sigma > 0 else 0.0


def shift_interval(x: Floats, y: Floats, confidence: float) -> Shift:
    """The shifts that the test does not reject, and the one it likes best; at most the extreme differences."""
    smallest, largest = float(x.min() - y.max()), float(x.max() - y.min())
    quantile = float(stats.norm.ppf(0.5 + confidence / 2))

    def root(z: float) -> float:
        def beyond(mu: float) -> float:
            return z_of_shift(mu, x, y) - z

        if beyond(smallest) <= 0:
            return smallest
        if beyond(largest) >= 0:
            return largest
        return float(optimize.brentq(beyond, smallest, largest, xtol=ROOT_TOLERANCE))

    return Shift(root(quantile), root(-quantile), root(0.0))


def effect_size(x: Floats, y: Floats, measure: str) -> float:
    """Ratio of means (NaN if one is 0), or P(x > y) with ties half."""
    if measure == "cles":
        ranks = stats.rankdata(np.concatenate([x, y]))
        return float((2 * np.sum(ranks[: len(x)]) - len(x) * (len(x) + 1)) / (2 * len(x) * len(y)))
    above, below = float(x.mean()), float(y.mean())
    return above / below if above != 0 and below != 0 else math.nan


def without_nan(values: Floats, strategy: Strategy) -> Floats:
    if strategy == Strategy.REPLACE:
        return np.asarray(np.nan_to_num(values, nan=0.0))
    return values[~np.isnan(values)]


def without_outliers(values: Floats, factor: float) -> Floats:
    """Inside the wider of the interquartile fences and the 1 % and 99 % quantiles."""
    if not len(values):
        return values
    first, q1, q3, last = np.quantile(values, [0.01, 0.25, 0.75, 0.99])
    low, high = min(first, q1 - factor * (q3 - q1)), max(last, q3 + factor * (q3 - q1))
    return np.asarray(values[(values >= low) & (values <= high)])


def classify(
    candidate: Floats, baseline: Floats, rule: MetricRule, rng: np.random.Generator | None = None
) -> Classified:
    """Pass, High, Low or Nodata. `rng` breaks the tie of two different constants."""
    x, y = without_nan(candidate, rule.nan), without_nan(baseline, rule.nan)
    if not len(x) or not len(y):
        if rule.nan == Strategy.REPLACE:
            return Classified(Label.PASS, groups=rule.groups)
        fails = rule.must_have_data and not rule.critical
        return Classified(Label.NODATA_FAIL if fails else Label.NODATA, rule.critical, rule.groups)
    if rule.outliers == Strategy.REMOVE:
        x, y = without_outliers(x, rule.outlier_factor), without_outliers(y, rule.outlier_factor)
    if np.array_equal(np.sort(x), np.sort(y)) or len(np.unique(np.concatenate([x, y]))) == 1:
        return Classified(Label.PASS, groups=rule.groups)
    if x.min() == x.max() and y.min() == y.max():
        rng = rng or np.random.default_rng(0)
        x, y = (v + rng.standard_normal(len(v)) * abs(v[0]) * 1e-5 for v in (x, y))
    shift = shift_interval(x, y, rule.confidence)
    label = _label(shift, effect_size(x, y, rule.measure), rule)
    return Classified(label, _critical(label, effect_size(x, y, rule.measure), rule), rule.groups)


def _label(shift: Shift, effect: float, rule: MetricRule) -> Label:
    bound = rule.tolerance * abs(shift.estimate)
    less, more = rule.allowed or (rule.no_effect, rule.no_effect)
    unknown = math.isnan(effect)
    if rule.direction != "decrease" and shift.low > bound and (unknown or effect >= more):
        return Label.HIGH
    if rule.direction != "increase" and shift.high < -bound and (unknown or effect <= less):
        return Label.LOW
    return Label.PASS


def _critical(label: Label, effect: float, rule: MetricRule) -> bool:
    less, more = rule.critical_effect or (rule.no_effect, rule.no_effect)
    if not rule.critical or label == Label.PASS:
        return False
    return math.isnan(effect) or (effect >= more if label == Label.HIGH else effect <= less)


def group_scores(results: Sequence[Classified]) -> dict[str, float]:
    """Per group the per cent of metrics that pass, those without data left out."""
    found = {}
    for group in sorted({name for result in results for name in result.groups}):
        labels = [result.label for result in results if group in result.groups and result.label != Label.NODATA]
        found[group] = 100.0 * labels.count(Label.PASS) / len(labels) if labels else 0.0
    return found


def score(results: Sequence[Classified], weights: Mapping[str, float]) -> float:
    """0 to 100; 0 where a critical metric fails or half of the metrics have no data."""
    if not results or any(result.critical and result.label != Label.PASS for result in results):
        return 0.0
    nodata = sum(result.label == Label.NODATA for result in results)
    if 2 * nodata >= len(results):
        return 0.0
    scores = group_scores(results)
    rest = [group for group in scores if group not in weights]
    each = (100.0 - sum(weights.values())) / len(rest) if rest else 0.0
    total = 0.0
    for group, value in scores.items():
        seen = any(group in result.groups and result.label != Label.NODATA for result in results)
        total += (value if seen else 100.0) * weights.get(group, each) / 100.0
    return round(total, 2)


def judge(
    metrics: Sequence[tuple[Floats, Floats, MetricRule]],
    *,
    weights: Mapping[str, float] | None = None,
    passes: float = 95.0,
    marginal: float = 75.0,
) -> tuple[str, float]:
    """Pass, Marginal or Fail, and the score. metrics: (candidate, baseline, rule)."""
    found = [classify(x, y, rule) for x, y, rule in metrics if not rule.muted]
    value = score(found, weights or {})
    return ("Pass" if value >= passes else "Marginal" if value >= marginal else "Fail"), value


def first_high(candidate: Floats, baseline: Floats, rule: MetricRule, looks: Sequence[int]) -> int | None:
    """The first of these looks (numbers of intervals) at which the metric so far is High, judged anew each time.

    From ten intervals on High needs the plain test to reject a shift of 0, which is quick to tell; below, two arms
    without any overlap are High although it does not.
    """
    quantile = float(stats.norm.ppf(0.5 + rule.confidence / 2))
    for look in looks:
        x, y = candidate[:look], baseline[:look]
        likely = look < 10 or z_of_shift(0.0, x, y) > quantile
        if likely and classify(x, y, rule).label == Label.HIGH:
            return look
    return None
