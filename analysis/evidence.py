"""What metrics say at their last looks: evidence, effect with interval, amounts, onset and words; of many at once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.count_evidence import count_evidence
from analysis.decode import Floats
from analysis.effect import Effect
from analysis.methods.gauge import GaugeResult
from analysis.methods.ranks import companions, hodges_lehmann, rank_inflations
from analysis.methods.symmetric import symmetric_paths
from analysis.methods.trend import TrendResult
from analysis.methods.windows import deciding_shift
from analysis.onset import likely_onsets
from analysis.power import detectable_shift
from analysis.result import Direction, Evidence, Kind
from analysis.sentence import WORTH_KNOWING, climb, comparison, nothing_new, time_to_limit
from analysis.together import in_groups
from analysis.weigh import Weighed, Weighing

NAN = float("nan")


def evidence_of_metrics(asked: Sequence[Weighed], paths: Floats, ratios: Floats) -> list[Evidence]:
    """What many metrics say at their last looks, in their order.

    paths, ratios: of all tests, (tests, looks) and (grid, tests, looks), as from `evidence_paths`.
    """
    counted = [one for one in asked if one.weighing.contrasts]
    levels = [one for one in asked if one.weighing.gauge is not None]
    of_counts, of_levels = iter(count_evidence(counted, paths, ratios)), iter(_level_evidence(levels))
    found = []
    for one in asked:
        if one.weighing.gauge is not None:
            found.append(next(of_levels))
        elif one.weighing.trend is not None:
            found.append(_trend_evidence(one, one.weighing.trend))
        else:
            found.append(next(of_counts) if one.weighing.contrasts else _no_evidence(one))
    return found


def _no_evidence(one: Weighed) -> Evidence:
    spec = one.weighing.spec
    return Evidence(
        metric=spec.name,
        method="none",
        log_evidence=0.0,
        log_threshold=one.threshold,
        path=tuple(one.path.tolist()),
        note=one.weighing.note,
        sentence=nothing_new(spec) if spec.kind is Kind.LABELS else "",
    )


def _level_evidence(asked: Sequence[Weighed]) -> list[Evidence]:
    gauges = [one.weighing.gauge for one in asked if one.weighing.gauge is not None]
    samples = [(g.candidate[~np.isnan(g.candidate)], g.baseline[~np.isnan(g.baseline)]) for g in gauges]
    inflations = np.array([tau for (tau,) in in_groups([(y,) for _, y in samples], lambda y: (rank_inflations(y),))])
    effects = [hodges_lehmann(x, y, float(tau)) for (x, y), tau in zip(samples, inflations, strict=True)]
    beside = companions(samples, [one.weighing.spec.direction for one in asked], inflations)
    priors = [one.weighing.log_prior for one in asked]
    judged = [bool(prior.max() > -np.inf) and len(x) > 0 for prior, (x, _) in zip(priors, samples, strict=True)]
    onsets = likely_onsets(
        [(g.log_ratios[:, : one.look + 1], p[: one.look + 1]) for one, g, p in zip(asked, gauges, priors, strict=True)]
    )
    symmetric = in_groups([(g.steps, p) for g, p in zip(gauges, priors, strict=True)], _symmetric)
    return [
        _level(one, gauge, x, y, effect, companion, (onset, float(last)) if told else (None, NAN))
        for one, gauge, (x, y), effect, companion, onset, (last,), told in zip(
            asked, gauges, samples, effects, beside, onsets, symmetric, judged, strict=True
        )
    ]


def _symmetric(steps: Floats, log_prior: Floats) -> tuple[Floats]:
    return (symmetric_paths(steps, log_prior)[:, -1],)


def _level(
    one: Weighed,
    gauge: GaugeResult,
    x: Floats,
    y: Floats,
    effect: Effect,
    companion: tuple[float, float],
    told: tuple[int | None, float],
) -> Evidence:
    weighing, spec = one.weighing, one.weighing.spec
    found = Evidence(
        metric=spec.name,
        method="gauge",
        log_evidence=float(one.path[-1]),
        log_threshold=one.threshold,
        path=tuple(one.path.tolist()),
        effect=effect.value,
        effect_low=effect.low,
        effect_high=effect.high,
        effect_kind="difference",
        baseline_level=_mean(y),
        candidate_level=_mean(x),
        n_baseline=float(len(y)),
        n_candidate=float(len(x)),
        since_look=told[0],
        detectable=detectable_shift(gauge, _deciding(weighing, one.threshold), one.threshold),
        mann_whitney_p=companion[0],
        a_hat=companion[1],
        symmetric_log_evidence=told[1],
        dispersion_from="replicas",
        note=weighing.note,
    )
    words = comparison(spec, found)
    if one.alarm is None and _beyond(effect.low, effect.high, gauge.margin, spec.direction):
        note = f"{WORTH_KNOWING}: {words}; replicas of one version may differ by so much, so it proves nothing"
        found = replace(found, note="; ".join(filter(None, (weighing.note, note))))
    if one.alarm is not None and weighing.windows is not None and weighing.windows.path[one.alarm] > 0:
        words += f", worse through the last {int(weighing.windows.looks[one.alarm])} looks"
    return replace(found, sentence=words)


def _mean(values: Floats) -> float:
    return float(np.add.accumulate(values)[-1] / len(values)) if len(values) else NAN


def _beyond(low: float, high: float, margin: float, direction: Direction) -> bool:
    """Whether an interval of differences lies beyond the margin, on a side that is bad."""
    rose, fell = low > margin, high < -margin
    return {Direction.UP_IS_BAD: rose, Direction.DOWN_IS_BAD: fell, Direction.EITHER: rose or fell}[direction]


def _trend_evidence(one: Weighed, trend: TrendResult) -> Evidence:
    spec = one.weighing.spec
    x, y = trend.candidate[~np.isnan(trend.candidate)], trend.baseline[~np.isnan(trend.baseline)]
    found = Evidence(
        metric=spec.name,
        method="trend",
        log_evidence=float(one.path[-1]),
        log_threshold=one.threshold,
        path=tuple(one.path.tolist()),
        effect=trend.slope.value,
        effect_low=trend.slope.low,
        effect_high=trend.slope.high,
        effect_kind="slope",
        baseline_level=_mean(y),
        candidate_level=_mean(x),
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
