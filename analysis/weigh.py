"""One metric of one watch: which tests it needs, and what they say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.apart import Apart
from analysis.contrast import Comparison, Contrast, compare, contrasts
from analysis.control import control_contrast, less_control
from analysis.decode import COUNTS, Arrays, Decoded, Floats, Panel
from analysis.few_requests import with_enough_requests
from analysis.few_requests import words as words_for_few
from analysis.like_load import with_like_load
from analysis.like_load import words as words_for_load
from analysis.log_sums import log_mean
from analysis.methods.counts import CountTest
from analysis.methods.gauge import GaugeResult, judge_gauges
from analysis.methods.histogram import all_exceedances, choose_bounds, layouts, questions
from analysis.methods.labels import remaining_weight
from analysis.methods.levels import Level, is_always_zero, levels_alike, margin_of
from analysis.methods.trend import TrendResult, judge_trend
from analysis.methods.windows import Lasting, persistence
from analysis.new_labels import label_comparisons
from analysis.onset import LEVELS_FROM_THE_START, onset_prior
from analysis.result import Arm, JudgeSettings, Kind, MetricSpec
from analysis.sentence import always_zero, coarse_buckets, no_common_bounds
from analysis.sentence import bound as words_for_bound

NAN = float("nan")
LEVELS = frozenset({Kind.GAUGE, Kind.TREND})


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A metric whose tests are chosen but not yet complete: noise and levels are computed for all watches together."""

    spec: MetricSpec
    share: float
    comparisons: tuple[Comparison | Contrast, ...]
    level: Level | None
    trend: TrendResult | None
    log_prior: Floats
    note: str = ""  # what about the metric's series its reader should know


@dataclass(frozen=True, slots=True, eq=False)
class Weighing:
    """A metric on the scales: its count tests (judged with all others at once), or its level's or slope's evidence."""

    spec: MetricSpec
    share: float
    contrasts: tuple[Contrast, ...]
    gauge: GaugeResult | None
    windows: Lasting | None  # a level's staying worse
    trend: TrendResult | None
    log_prior: Floats
    note: str = ""

    @property
    def tests(self) -> list[CountTest]:
        return [test for contrast in self.contrasts for test in contrast.tests]


@dataclass(frozen=True, slots=True, eq=False)
class Unlike:
    """What a metric says of that which the old version does not serve, and its part of the budget."""

    metric: str
    label: str
    share: float
    apart: Apart

    @property
    def name(self) -> str:
        return f"{self.metric}{self.label}"

    @property
    def tests(self) -> list[CountTest]:
        return [self.apart.alone, self.apart.whole]


def aparts(weighings: Sequence[Weighing]) -> tuple[Unlike, ...]:
    """What has no counterpart, of all metrics of one watch, in the order of their names."""
    return tuple(
        Unlike(one.spec.name, contrast.label, one.share * contrast.weight / len(contrast.apart), apart)
        for one in sorted(weighings, key=lambda weighing: weighing.spec.name)
        for contrast in one.contrasts
        for apart in contrast.apart
    )


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """A metric after its last look. `first`: of its tests' rows among all; `alarm`: the look where it decided."""

    weighing: Weighing
    path: Floats
    first: int
    log_budget: float
    alarm: int | None

    @property
    def threshold(self) -> float:
        """ln of the e-value at which the metric alone would decide."""
        share = self.weighing.share
        return self.log_budget - (np.log(share) if share > 0 else -50.0)

    @property
    def look(self) -> int:
        """The look that is spoken of."""
        return len(self.path) - 1 if self.alarm is None else self.alarm


def set_up_beside(watch: Decoded, metric: Arrays, settings: JudgeSettings, log_prior: Floats, share: float) -> Draft:
    """The tests of one metric beside its control series; as without one where the control tells nothing."""
    if metric.spec.kind in COUNTS or metric.spec.kind is Kind.LATENCY:
        beside = set_up(watch, metric, settings, log_prior, share, build=control_contrast)
        if beside.comparisons:
            return beside
    rest = less_control(metric) if metric.spec.kind in LEVELS else None
    return set_up(watch, metric if rest is None else rest, settings, log_prior, share)


def set_up(
    watch: Decoded,
    metric: Arrays,
    settings: JudgeSettings,
    log_prior: Floats,
    share: float,
    *,
    build: Callable[..., Comparison | Contrast | None] = compare,
) -> Draft:
    """Choose the tests of one metric by its kind."""
    spec = metric.spec
    chosen: tuple[Comparison | Contrast, ...] = ()
    level, trend, note = None, None, ""
    if spec.kind is Kind.LABELS:
        chosen = tuple(label_comparisons(watch, metric, settings, log_prior, share))
        return Draft(spec, share, chosen, level, trend, log_prior)
    if spec.kind in COUNTS or spec.kind is Kind.LATENCY:
        asked, note = _asked(watch, metric, settings.start_up_looks)
        found = [
            build(
                watch,
                one.spec,
                one.panels,
                metric.first,
                settings,
                log_prior,
                label=one.label,
                weight=one.weight,
                share_of_budget=share * one.weight,  # of the limits of all bounds together
            )
            for one in asked
        ]
        chosen = tuple(one for one in found if one is not None)
    elif spec.kind is Kind.TREND:
        trend = judge_trend(
            metric, watch.design, settings, watch.usable, step_s=watch.step_s, log_needed=_log_needed(settings, share)
        )
    else:
        log_prior = onset_prior(watch.usable, settings.planned_looks, LEVELS_FROM_THE_START)
        metric, left_out = with_enough_requests(watch, metric)
        zero = always_zero(spec.name) if is_always_zero(metric) else ""
        margin = margin_of(spec, settings)
        metric, unlike = with_like_load(watch, metric, margin)
        notes = (words_for_few(spec.name, left_out), words_for_load(spec.name, unlike, margin), zero)
        note = "; ".join(filter(None, notes))
        level = Level(metric, watch.design, settings, log_prior, watch.usable)
    return Draft(spec, share, chosen, level, trend, log_prior, note)


def weighings(drafts: Sequence[Draft]) -> list[Weighing]:
    """Complete the comparisons and levels of many metrics, of as many watches as there are."""
    complete = iter(contrasts([one for draft in drafts for one in draft.comparisons]))
    levels = iter(_levels([draft.level for draft in drafts if draft.level is not None]))
    judged = [next(levels) if draft.level is not None else (None, None) for draft in drafts]
    return [
        Weighing(
            spec=draft.spec,
            share=draft.share,
            contrasts=tuple(next(complete) for _ in draft.comparisons),
            gauge=gauge,
            windows=windows,
            trend=draft.trend,
            log_prior=draft.log_prior,
            note=draft.note,
        )
        for draft, (gauge, windows) in zip(drafts, judged, strict=True)
    ]


def _levels(asked: Sequence[Level]) -> list[tuple[GaugeResult | None, Lasting | None]]:
    """What every level's strength and its lasting say; nothing where an arm was never seen."""
    found: list[tuple[GaugeResult | None, Lasting | None]] = [(None, None)] * len(asked)
    for members, group in levels_alike(asked):
        gauges = judge_gauges(group)
        if gauges is None:
            continue
        lasting = persistence(group, gauges.noise)
        for k, i in enumerate(members):
            if gauges.told[k]:
                found[i] = gauges.one(k), lasting[k]
    return found


def _log_needed(settings: JudgeSettings, share: float) -> float:
    """ln of the e-value at which a metric decides alone; one without a share never does."""
    return float(-np.log(settings.budget) - (np.log(share) if share > 0 else -50.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """One count comparison of a metric: of its events, or of its requests above one bound."""

    spec: MetricSpec
    label: str
    weight: float
    panels: Mapping[Arm, Panel]


def _asked(watch: Decoded, metric: Arrays, start_up_looks: int) -> tuple[list[_Asked], str]:
    """What is asked of a metric that is counted, and what its reader should know of its buckets."""
    spec = metric.spec
    if spec.kind is not Kind.LATENCY:
        return [_Asked(spec, "", 1.0, metric.panels)], ""
    apart = layouts(metric)
    if apart is not None:
        return [], no_common_bounds(spec.name, *apart)
    bounds, start = choose_bounds(metric, watch.design)
    unit = f" {spec.unit}" if spec.unit else ""
    chosen = questions(metric, bounds)
    found = []
    slow = all_exceedances(metric, [(one.le, one.candidate_le) for one in chosen])
    for one, counted in zip(chosen, slow, strict=True):
        panels = {arm: _from_look(panel, metric.first, start) for arm, panel in counted.items()}
        if Arm.CANDIDATE in panels:
            panels[Arm.CANDIDATE] = _started(panels[Arm.CANDIDATE], start_up_looks)
        label = f" above {words_for_bound(one.candidate_le)}{unit}"
        if one.in_time:
            label += f" against {words_for_bound(one.le)}{unit}"
        own = replace(spec, margin=0.0) if one.in_time else spec  # the margin lies between the bounds
        found.append(_Asked(own, label, one.weight, panels))
    steps = [(one.le, one.candidate_le) for one in chosen if one.in_time]
    return found, coarse_buckets(spec, steps) if bounds else ""


def _from_look(panel: Panel, first: int, start: int) -> Panel:
    """Without the looks 0..start-1, whose bounds were not known yet."""
    if start <= 0:
        return panel
    value, total = panel.value.copy(), panel.total.copy()
    zero = max(-first, 0)
    value[..., zero : zero + start], total[..., zero : zero + start] = np.nan, np.nan
    return Panel(value, total)


def _started(candidate: Panel, start_up_looks: int) -> Panel:
    """Without the candidate's first looks that had requests, nor those of each instance that joins later: while it
    starts it is slow for reasons that pass. Where none of those that serve is older, they stand for the candidate."""
    serves = np.any(candidate.total > 0, axis=1)
    young = np.cumsum(serves, axis=1) <= start_up_looks
    first = np.cumsum(serves.any(axis=0)) <= start_up_looks
    joined = young & (serves & ~young).any(axis=0)
    starting = (joined | first)[:, None]
    return Panel(np.where(starting[:, :, None], np.nan, candidate.value), np.where(starting, np.nan, candidate.total))


def path_of(weighing: Weighing, test_paths: Sequence[Floats]) -> Floats:
    """ln e-value of the metric: the average over its bounds and directions."""
    if weighing.gauge is not None:
        return weighing.gauge.path
    if weighing.trend is not None:
        return weighing.trend.path
    if not weighing.contrasts:
        return np.zeros(len(weighing.log_prior))
    weights = [c.weight / len(c.tests) for c in weighing.contrasts for _ in c.tests]
    paths = list(test_paths)
    if weighing.spec.kind is Kind.LABELS:
        paths, weights = [*paths, np.zeros(len(paths[0]))], [*weights, remaining_weight(weights)]
    return log_mean(np.stack(paths), np.log(weights))
