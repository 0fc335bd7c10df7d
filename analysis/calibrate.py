"""Placebo deploys: how often the judge would have rolled back a service on which nothing was deployed.

Every instant of the old version's past that leaves enough before and after plays a deploy, and the judge as shipped
judges it; every alarm is a false one. It is the only check that assumes no model of the noise. Two designs: before
against after, and, where the old version has several replicas, one of them as candidate against the others.

Placebos that share samples are no independent evidence: the point estimate uses all of them, the exact interval
(Clopper and Pearson 1934) those alone whose watches do not overlap, chosen by time, never by outcome.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from analysis.evaluate import exact_interval
from analysis.judge import judge
from analysis.placebo import OLD_ARMS, Placebo, placebos
from analysis.prepare import Observation
from analysis.result import Design, JudgeSettings, Reason, Verdict, VerdictKind
from analysis.sentence import count, percent

CONFIDENCE = 0.95  # of the limit below which a rate is called proven
_BATCH = 32
_NOT_JUDGED = frozenset({Reason.NO_DATA, Reason.SOURCE_DOWN, Reason.MISCONFIGURED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often placebos were rolled back: of all, and of those whose watches do not overlap."""

    name: str  # the deciding metric; "" for the service, whatever decided
    placebos: int
    hits: int
    apart: int
    apart_hits: int

    @property
    def rate(self) -> float:
        """Share of all placebos; NaN where there is none."""
        return self.hits / self.placebos if self.placebos else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval, from the placebos that do not overlap."""
        return exact_interval(self.apart_hits, self.apart)

    @property
    def proven(self) -> float:
        """The rate is at most this, with 95 % confidence (exact, one-sided): 1 where there is no placebo.

        >>> round(Rate(name="", placebos=30, hits=0, apart=30, apart_hits=0).proven, 3)
        0.095
        """
        return exact_interval(self.apart_hits, self.apart, 2 * CONFIDENCE - 1)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What placebo deploys on a service's own past said."""

    design: Design
    budget: float
    days: float  # length of the past that the placebos cover
    service: Rate
    metrics: tuple[Rate, ...]
    not_judged: int = 0  # placebos that had no usable samples; counted nowhere else
    needed_looks: int = 0  # intervals that one placebo takes
    past_looks: int = 0  # intervals that the past has

    @property
    def placebo_rate(self) -> float | None:
        """What `JudgeSettings.placebo_rate` takes: the limit that is proven, never less than what was seen.

        None without a placebo. A short clean past gives a large figure: it proves little.
        """
        return max(self.service.proven, self.service.rate) if self.service.placebos else None

    @property
    def within_budget(self) -> bool | None:
        """True or False where the past proves it; None where it is too short to tell."""
        if self.placebo_rate is None:
            return None
        if self.placebo_rate <= self.budget:
            return True
        low = exact_interval(self.service.apart_hits, self.service.apart, 2 * CONFIDENCE - 1)[0]
        return False if low > self.budget else None

    @property
    def sentence(self) -> str:
        """The result for people, and what it proves."""
        if not self.service.placebos:
            why = (
                f"{count(self.not_judged)} placebo deploys had no usable samples"
                if self.not_judged
                else (
                    f"a placebo deploy takes {count(self.needed_looks)} looks, the longest usable past has "
                    f"{count(self.past_looks)}"
                )
            )
            return f"no placebo deploy could be judged: {why}; nothing is known of false rollbacks"
        one = self.service
        times = f"{count(one.hits)} time{'' if one.hits == 1 else 's'}"
        placebos = f"{count(one.placebos)} placebo deploy{'' if one.placebos == 1 else 's'}"
        return (
            f"on {placebos} of the last {_days(self.days)} it would have rolled back {times} ({percent(one.rate)}). "
            f"{_apart(one)}, which proves {self._proof}"
        )

    @property
    def _proof(self) -> str:
        budget = f"the budget of {percent(self.budget)}"
        if self.within_budget is False:
            return f"a rate above {budget}"
        if self.within_budget:
            return f"a rate of at most {percent(self.service.proven)}, within {budget}"
        needed = f"{count(needed_placebos(self.budget))} without a rollback, so a longer past"
        return f"a rate of at most {percent(self.service.proven)}; {budget} takes {needed}"


def needed_placebos(budget: float) -> int:
    """How many independent placebos without one rollback prove the budget.

    >>> needed_placebos(0.01), needed_placebos(0.1)
    (299, 29)
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-budget))


def _apart(one: Rate) -> str:
    if one.apart == 1:
        return f"The one that overlaps no other was {'rolled back' if one.apart_hits else 'not rolled back'}"
    hits = "none was" if not one.apart_hits else "1 was" if one.apart_hits == 1 else f"{count(one.apart_hits)} were"
    return f"Of the {count(one.apart)} that do not overlap, {hits} rolled back"


def _days(days: float) -> str:
    if days >= 2:
        return f"{days:.0f} days"
    return f"{24 * days:.0f} hours" if 24 * days >= 2 else f"{24 * 60 * days:.0f} minutes"


def calibrate(
    past: Observation,
    settings: JudgeSettings,
    *,
    baseline_looks: int,
    design: Design = Design.BEFORE_AFTER,
    every: int = 1,
    progress: Callable[[int], None] = lambda judged: None,
) -> Calibration:
    """Judge placebo deploys on the old version's past.

    Parameters
    ----------
    past
        Samples of the old version (arms baseline and history); those of a candidate are not looked at. Before/after
        placebos lie wholly before the deploy (intervals < 0), concurrent ones also beside the candidate.
    settings
        As the service's deploys are judged; `planned_looks` is the length of a placebo's watch.
    baseline_looks
        Intervals before a placebo that are its past.
    every
        Only every so many intervals plays the deploy, counted back from the newest.
    progress
        Told after every batch how many placebos are judged.

    Raises
    ------
    ValueError
        No baseline, or no step.
    """
    if baseline_looks < 1 or every < 1:
        raise ValueError("baseline_looks and every must be at least 1")
    acting = replace(settings, act_uncalibrated=True, placebo_rate=None)
    hits: dict[str, list[bool]] = {}  # deciding metric -> for every such rollback, whether it stands apart
    judged, apart, not_judged, seen = 0, 0, 0, []
    for batch in _batches(placebos(past, settings, baseline_looks=baseline_looks, design=design, every=every)):
        verdicts = judge([placebo.observation for placebo in batch], [acting] * len(batch))
        for placebo, verdict in zip(batch, verdicts, strict=True):
            if verdict.alarm_look is None and verdict.reason in _NOT_JUDGED:
                not_judged += 1
                continue
            judged, apart = judged + 1, apart + placebo.apart
            seen.append(placebo.at)
            if _rolled_back(verdict):
                hits.setdefault(verdict.metric or "", []).append(placebo.apart)
        progress(judged + not_judged)
    found = [one for outcomes in hits.values() for one in outcomes]
    looks, span = settings.planned_looks, _span(past, design)
    return Calibration(
        design=design,
        budget=settings.budget,
        days=_covered(span, seen, baseline_looks, looks) * past.step_s / 86400,
        service=Rate(name="", placebos=judged, hits=len(found), apart=apart, apart_hits=sum(found)),
        metrics=tuple(
            Rate(name=name, placebos=judged, hits=len(one), apart=apart, apart_hits=sum(one))
            for name in (spec.name for spec in past.metrics)
            for one in (hits.get(name, []),)
        ),
        not_judged=not_judged,
        needed_looks=baseline_looks + looks,
        past_looks=len(span),
    )


def _rolled_back(verdict: Verdict) -> bool:
    return verdict.kind is VerdictKind.DEGRADED


def _batches(found: Iterator[Placebo]) -> Iterator[list[Placebo]]:
    batch: list[Placebo] = []
    for placebo in found:
        batch.append(placebo)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _covered(span: range, seen: Sequence[int], before: int, after: int) -> int:
    """Intervals that placebos looked at; those before the first sample, when nothing was kept yet, are no past."""
    if not seen:
        return 0
    return max(min(max(seen) + after, span.stop) - max(min(seen) - before, span.start), 0)


def _span(past: Observation, design: Design) -> range:
    """Intervals from the old version's first sample to its last that placebos may use."""
    names = {spec.name for spec in past.metrics}
    at = [i for (name, i), cells in past.samples.items() if name in names and set(cells.arm) & set(OLD_ARMS)]
    at = [i for i in at if i < 0 or design is Design.CONCURRENT]
    return range(min(at), max(at) + 1) if at else range(0)


def pool(found: Sequence[tuple[str, Calibration]]) -> Calibration:
    """Several pasts as one: all placebos for the estimate, and for the interval one past of every group alone.

    Parameters
    ----------
    found
        Each past's group (pasts of one group share an experiment or a series, and are no independent evidence) and
        its calibration; all of one design and budget.

    Raises
    ------
    ValueError
        Nothing to pool, or designs or budgets differ.
    """
    if len({(one.design, one.budget) for _, one in found}) != 1:
        raise ValueError("found: calibrations of one design and one budget are needed")
    best: dict[str, Calibration] = {}
    for group, one in found:
        if group not in best or one.service.apart > best[group].service.apart:
            best[group] = one
    names = dict.fromkeys(rate.name for _, one in found for rate in one.metrics)
    first = found[0][1]
    return replace(
        first,
        days=sum(one.days for one in best.values()),
        service=_sum("", [one.service for _, one in found], [one.service for one in best.values()]),
        metrics=tuple(
            _sum(name, _of(name, [one for _, one in found]), _of(name, list(best.values()))) for name in names
        ),
        not_judged=sum(one.not_judged for _, one in found),
        needed_looks=max(one.needed_looks for _, one in found),
        past_looks=max(one.past_looks for _, one in found),
    )


def _of(name: str, found: Sequence[Calibration]) -> list[Rate]:
    return [rate for one in found for rate in one.metrics if rate.name == name]


def _sum(name: str, every: Sequence[Rate], independent: Sequence[Rate]) -> Rate:
    return Rate(
        name=name,
        placebos=sum(rate.placebos for rate in every),
        hits=sum(rate.hits for rate in every),
        apart=sum(rate.apart for rate in independent),
        apart_hits=sum(rate.apart_hits for rate in independent),
    )
