"""The old version against its own past: what made it worse at the time of the deploy is shared, and no alibi.

Counts of events and of requests above the latency's bounds; levels have no exact null distribution, and their old
version drifts by itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.combine import budget_shares
from analysis.contrast import Comparison, Contrast, compare, contrasts
from analysis.decode import COUNTS, Arrays, Decoded, Panel
from analysis.methods.histogram import all_exceedances, choose_bounds
from analysis.onset import onset_prior
from analysis.result import Arm, Design, JudgeSettings, Kind
from analysis.sentence import bound as words_for_bound

LEAST_PAST = 12  # intervals of history from which the old version is compared with its own past


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """One comparison of the old version with its past. `share` of the budget; `label`: which bound of a latency."""

    name: str
    label: str
    share: float
    contrast: Contrast


def own_pasts(watches: Sequence[Decoded], settings: Sequence[JudgeSettings]) -> list[tuple[Past, ...]]:
    """The old version now against the old version before the deploy, in every watch where both were live at once."""
    asked = [list(_asked(watch, s)) for watch, s in zip(watches, settings, strict=True)]
    complete = iter(contrasts([comparison for own in asked for _, comparison in own]))
    return [
        tuple(Past(name, comparison.label, comparison.share_of_budget, next(complete)) for name, comparison in own)
        for own in asked
    ]


def _asked(watch: Decoded, settings: JudgeSettings) -> Iterator[tuple[str, Comparison]]:
    """The comparisons of one watch, by the names of their metrics."""
    if watch.design is Design.BEFORE_AFTER:
        return
    log_prior = onset_prior(watch.usable, settings.planned_looks)
    shares = budget_shares([metric.spec for metric in watch.metrics])
    for metric, share in zip(watch.metrics, shares, strict=True):
        if metric.first > -LEAST_PAST or metric.spec.configured_share:
            continue
        for label, weight, panels in _counted(metric):
            if Arm.BASELINE not in panels:
                continue
            now = panels[Arm.BASELINE]
            comparison = compare(
                watch,
                metric.spec,
                {Arm.CANDIDATE: now, Arm.BASELINE: panels.get(Arm.HISTORY, now)},
                metric.first,
                settings,
                log_prior,
                label=label,
                weight=1.0,
                share_of_budget=share * weight,
                design=Design.BEFORE_AFTER,
            )
            if comparison is not None:
                yield metric.spec.name, comparison


def _counted(metric: Arrays) -> Iterator[tuple[str, float, Mapping[Arm, Panel]]]:
    """What is counted of a metric: label, weight, panels."""
    spec = metric.spec
    if spec.kind in COUNTS:
        yield "", 1.0, metric.panels
    elif spec.kind is Kind.LATENCY:
        bounds, start = choose_bounds(metric, Design.CONCURRENT)
        if start > 0:  # the past was too thin to choose them from
            return
        unit = f" {spec.unit}" if spec.unit else ""
        slow = all_exceedances(metric, [(bound, bound) for bound in bounds])
        for (bound, weight), panels in zip(bounds.items(), slow, strict=True):
            yield f" above {words_for_bound(bound)}{unit}", weight, panels
