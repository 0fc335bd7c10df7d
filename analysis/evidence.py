"""What one metric says at the last look: evidence, effect with interval, amounts, onset and words."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.contrast import Contrast
from analysis.decode import Floats
from analysis.effect import rate_ratio
from analysis.methods.gauge import GaugeResult
from analysis.methods.ranks import hodges_lehmann, mann_whitney, rank_inflation
from analysis.methods.symmetric import symmetric_path
from analysis.methods.trend import TrendResult
from analysis.methods.windows import deciding_shift
from analysis.noise import Side
from analysis.onset import likely_onset
from analysis.power import detectable_ratio, detectable_shift
from analysis.result import Direction, Evidence, Kind, MetricSpec
from analysis.sentence import WORTH_KNOWING, climb, comparison, time_to_limit
from analysis.weigh import Weighing

NAN = float("nan")


def evidence_of_metric(
    weighing: Weighing,
    path: Floats,
    test_paths: Sequence[Floats],
    ratios: Sequence[Floats],
    log_budget: float,
    alarm: int | None,
) -> Evidence:
    """What one metric says at the last look. `alarm`: the look where it decided; its effect counts from its onset."""
    threshold = log_budget - (np.log(weighing.share) if weighing.share > 0 else -50.0)
    spec = weighing.spec
    if weighing.gauge is not None:
        found = _level_evidence(weighing, weighing.gauge, path, threshold, alarm)
    elif weighing.trend is not None:
        found = _trend_evidence(spec, weighing.trend, path, threshold)
    elif weighing.contrasts:
        found = _count_evidence(weighing, path, test_paths, ratios, threshold, alarm)
    else:
        words = f"{spec.name}: nothing new" if spec.kind is Kind.LABELS else ""
        return Evidence(
            metric=spec.name,
            method="none",
            log_evidence=0.0,
            log_threshold=threshold,
            path=tuple(path.tolist()),
            note=weighing.note,
            sentence=words,
        )
    return found


def _count_evidence(
    weighing: Weighing,
    path: Floats,
    test_paths: Sequence[Floats],
    ratios: Sequence[Floats],
    threshold: float,
    alarm: int | None,
) -> Evidence:
    spec, look = weighing.spec, len(path) - 1 if alarm is None else alarm
    owners = [c for c in weighing.contrasts for _ in c.tests]
    claims = _claims(weighing, threshold)
    best = _spoken_of([float(p[look]) for p in test_paths], claims, spec.direction)
    contrast, test = owners[best], weighing.tests[best]
    onset = likely_onset(ratios[best], weighing.log_prior, look) if test.log_prior.max() > -np.inf else None
    if onset is not None and spec.kind is Kind.LABELS:
        onset = max(onset, int(np.argmax(np.cumsum(contrast.candidate.events, axis=0)[-1] > 0)))
    first = onset if alarm is not None and onset is not None else 0
    candidate = (contrast.candidate.events[:, first:], contrast.candidate.exposure[:, first:])
    paired = test.known_rate is None
    kept = slice(first, None) if paired else slice(None)
    baseline = (contrast.baseline.events[:, kept], contrast.baseline.exposure[:, kept])
    e, n, e_other, n_other = (np.cumsum(a, axis=1)[:, -1] for a in (*candidate, *baseline))
    phi = float(contrast.noise.at(-1)[-1])
    effect = rate_ratio(e, n, e_other, n_other, phi)
    p, a_hat = _companion(_rates(contrast.candidate), _rates(contrast.baseline), spec.direction)
    total_e, total_n = float(np.cumsum(e)[-1]), float(np.cumsum(n)[-1])
    base_e, base_n = float(np.cumsum(e_other)[-1]), float(np.cumsum(n_other)[-1])
    found = Evidence(
        metric=spec.name,
        method=_method(spec, contrast),
        log_evidence=float(path[-1]),
        log_threshold=threshold,
        path=tuple(path.tolist()),
        effect=effect.value,
        effect_low=effect.low,
        effect_high=effect.high,
        baseline_level=base_e / base_n if base_n > 0 else NAN,
        candidate_level=total_e / total_n if total_n > 0 else NAN,
        n_baseline=base_n,
        n_candidate=total_n,
        bad_baseline=base_e,
        bad_candidate=total_e,
        since_look=onset,
        detectable=_best_claim([c for c, o in zip(claims, owners, strict=True) if o is contrast], spec.direction),
        mann_whitney_p=p,
        a_hat=a_hat,
        dispersion=phi,
        dispersion_from=contrast.dispersion_from,
        note="; ".join(filter(None, (weighing.note, _noise_note(contrast)))),
    )
    return replace(found, sentence=comparison(spec, found, contrast.label))


def _method(spec: MetricSpec, contrast: Contrast) -> str:
    return {Kind.LATENCY: f"requests{contrast.label}", Kind.LABELS: "new labels"}.get(spec.kind, "counts")


def _claims(weighing: Weighing, threshold: float) -> list[float]:
    """The ratio that each test would have seen had it been there; NaN for tests of the direction that is not bad."""
    spec = weighing.spec
    most = 1.0 if spec.kind is not Kind.RATE else np.inf
    return [
        detectable_ratio(test, threshold - float(np.log(contrast.weight / len(contrast.tests))), most=most)
        if (test.swapped or test.fewer) == (spec.direction is Direction.DOWN_IS_BAD)
        else NAN
        for contrast in weighing.contrasts
        for test in contrast.tests
    ]


def _best_claim(claims: Sequence[float], direction: Direction) -> float:
    known = [claim for claim in claims if not np.isnan(claim)]
    if not known:
        return NAN
    return max(known) if direction is Direction.DOWN_IS_BAD else min(known)


def _spoken_of(said: Sequence[float], claims: Sequence[float], direction: Direction) -> int:
    """The test with the most evidence; while there is next to none, the one that would have seen the least change.

    What is claimed to be visible is so at that latency bound, not at another.
    """
    loud = int(np.argmax(said))
    claim = _best_claim(claims, direction)
    if said[loud] >= np.log(3.0) or np.isnan(claim):
        return loud
    return list(claims).index(claim)


def _noise_note(contrast: Contrast) -> str:
    if contrast.dispersion_from == "assumed":
        return "noise assumed (5 % squared variation): no replicas or history of the old version to measure it"
    return ""


def _rates(side: Side) -> Floats:
    """Events per exposure of every interval that had any."""
    events, exposure = np.cumsum(side.events, axis=0)[-1], np.cumsum(side.exposure, axis=0)[-1]
    used = exposure > 0
    return np.asarray(events[used] / exposure[used], dtype=np.float64)


def _companion(
    candidate: Floats, baseline: Floats, direction: Direction, inflation: float | None = None
) -> tuple[float, float]:
    """Mann-Whitney p and A-hat in the bad direction, at the end, corrected for autocorrelation of the baseline."""
    x, y = candidate[~np.isnan(candidate)], baseline[~np.isnan(baseline)]
    if len(x) < 2 or len(y) < 2:
        return NAN, NAN
    sign = -1.0 if direction is Direction.DOWN_IS_BAD else 1.0
    inflation = rank_inflation(y) if inflation is None else inflation
    _, p, a = mann_whitney(sign * x[None], sign * y[None], inflation)
    if direction is Direction.EITHER:
        p = np.minimum(1.0, 2 * np.minimum(p, mann_whitney(-x[None], -y[None], inflation)[1]))
    return float(p[0]), float(a[0])


def _level_evidence(
    weighing: Weighing, gauge: GaugeResult, path: Floats, threshold: float, alarm: int | None
) -> Evidence:
    spec, look = weighing.spec, len(path) - 1 if alarm is None else alarm
    x, y = gauge.candidate[~np.isnan(gauge.candidate)], gauge.baseline[~np.isnan(gauge.baseline)]
    inflation = rank_inflation(y)
    effect = hodges_lehmann(x, y, inflation)
    p, a_hat = _companion(x, y, spec.direction, inflation)
    judged = bool(weighing.log_prior.max() > -np.inf) and len(x) > 0
    found = Evidence(
        metric=spec.name,
        method="gauge",
        log_evidence=float(path[-1]),
        log_threshold=threshold,
        path=tuple(path.tolist()),
        effect=effect.value,
        effect_low=effect.low,
        effect_high=effect.high,
        effect_kind="difference",
        baseline_level=float(np.cumsum(y)[-1] / len(y)) if len(y) else NAN,
        candidate_level=float(np.cumsum(x)[-1] / len(x)) if len(x) else NAN,
        n_baseline=float(len(y)),
        n_candidate=float(len(x)),
        since_look=likely_onset(gauge.log_ratios, weighing.log_prior, look) if judged else None,
        detectable=detectable_shift(gauge, _deciding(weighing, threshold), threshold),
        mann_whitney_p=p,
        a_hat=a_hat,
        symmetric_log_evidence=float(symmetric_path(gauge.steps, weighing.log_prior)[-1]) if judged else NAN,
        dispersion_from="replicas",
        note=weighing.note,
    )
    words = comparison(spec, found)
    if alarm is None and _beyond(effect.low, effect.high, gauge.margin, spec.direction):
        note = f"{WORTH_KNOWING}: {words}; replicas of one version may differ by so much, so it proves nothing"
        found = replace(found, note="; ".join(filter(None, (weighing.note, note))))
    if alarm is not None and weighing.windows is not None and weighing.windows.path[alarm] > 0:
        words += f", worse through the last {int(weighing.windows.looks[alarm])} looks"
    return replace(found, sentence=words)


def _beyond(low: float, high: float, margin: float, direction: Direction) -> bool:
    """Whether an interval of differences lies beyond the margin, on a side that is bad."""
    rose, fell = low > margin, high < -margin
    return {Direction.UP_IS_BAD: rose, Direction.DOWN_IS_BAD: fell, Direction.EITHER: rose or fell}[direction]


def _trend_evidence(spec: MetricSpec, trend: TrendResult, path: Floats, threshold: float) -> Evidence:
    x, y = trend.candidate[~np.isnan(trend.candidate)], trend.baseline[~np.isnan(trend.baseline)]
    found = Evidence(
        metric=spec.name,
        method="trend",
        log_evidence=float(path[-1]),
        log_threshold=threshold,
        path=tuple(path.tolist()),
        effect=trend.slope.value,
        effect_low=trend.slope.low,
        effect_high=trend.slope.high,
        effect_kind="slope",
        baseline_level=float(np.cumsum(y)[-1] / len(y)) if len(y) else NAN,
        candidate_level=float(np.cumsum(x)[-1] / len(x)) if len(x) else NAN,
        n_baseline=float(len(y)),
        n_candidate=float(len(x)),
        detectable=trend.detectable,
    )
    latest = float(x[-1]) if len(x) else NAN
    return replace(found, sentence=climb(spec, found, trend.margin, time_to_limit(spec, latest, trend.own_slope)))


def _deciding(weighing: Weighing, threshold: float) -> float:
    """The shift that the windows decide on; they have half of the metric's budget."""
    if weighing.windows is None:
        return NAN
    return deciding_shift(weighing.windows, threshold + float(np.log(2.0)))
