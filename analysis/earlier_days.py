"""Is a worsening after a deploy the usual course of the day? Asked of the same hours of earlier days.

A veto and no test of its own: it is asked only about an alarm that before and after have raised already, by the metric
that raised it, and says nothing where earlier days are calm, missing or too few. Two things must hold: most of the
earlier days got worse by themselves at these hours, and beside them the deploy is not worse.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.judge import judge
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, Evidence, JudgeSettings, Reason

Day = Mapping[tuple[str, int], Cells]  # of one earlier day, by metric and interval: the cells of the whole service
LEAST_DAYS = 2  # that got worse: once is an incident
AHEAD = 6  # looks further than the watch has come: no two days begin their busy hour in the same minute
EXCUSE = 0.1  # a calm day is taken for a bad one with at most this chance; an excuse needs less proof than an alarm


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """Earlier days that got worse alike. `evidence`: all of them together, these hours against the time before."""

    worse: int
    known: int
    evidence: Evidence


def usual(own: Observation, days: Sequence[Day], settings: JudgeSettings, *, metric: str) -> Usual | None:
    """What the same hours of earlier days say of an alarm by `metric`; None where they do not explain it.

    Each day is judged as if it had been deployed at this hour, up to AHEAD looks beyond the watch's last one; then the
    watch is judged beside all of them as its control series.
    """
    specs = tuple(spec for spec in own.metrics if spec.name == metric)
    if own.design is not Design.BEFORE_AFTER or not specs:
        return None
    watch = replace(own, metrics=specs, samples={key: c for key, c in own.samples.items() if key[0] == metric})
    known = [day for day in days if _tells(day, watch)]
    played = replace(settings, budget=EXCUSE, judge_absence=False, act_uncalibrated=True)
    verdicts = judge([_as_deploy(watch, [day]) for day in known], [played] * len(known))
    worse = sum(verdict.alarm_look is not None for verdict in verdicts)
    if worse < LEAST_DAYS or 2 * worse <= len(known):
        return None
    beside = judge([_beside(watch, known)], [replace(settings, judge_absence=False)])[0]
    if beside.alarm_look is not None or beside.reason is Reason.MISCONFIGURED:
        return None
    together = judge([_as_deploy(watch, known)], [played])[0]
    return Usual(worse=worse, known=len(known), evidence=together.evidence[0])


def _tells(day: Day, watch: Observation) -> bool:
    """Whether a day has samples both before the hour and after it."""
    at = {interval for (name, interval), cells in day.items() if cells.value and name == watch.metrics[0].name}
    return any(interval < 0 for interval in at) and any(0 <= interval < watch.looks for interval in at)


def _as_deploy(watch: Observation, days: Sequence[Day]) -> Observation:
    """Earlier days as if they had been deployed at this hour."""
    samples = {}
    for key in {key for day in days for key in day if key[1] < watch.looks + AHEAD}:
        arm = Arm.BASELINE if key[1] < 0 else Arm.CANDIDATE
        samples[key] = _joined(_of_arm(day[key], arm, n) for n, day in enumerate(days) if key in day)
    return replace(watch, samples=samples, facts={}, candidate_expected=None, looks=watch.looks + AHEAD)


def _beside(watch: Observation, days: Sequence[Day]) -> Observation:
    """The watch with earlier days as its control series, in place of any that it has."""
    samples = {}
    for key, cells in watch.samples.items():
        control = [_of_arm(day[key], Arm.CONTROL, n) for n, day in enumerate(days) if key in day]
        samples[key] = _joined([_without(cells, Arm.CONTROL), *control])
    return replace(watch, samples=samples)


def _of_arm(cells: Cells, arm: Arm, day: int) -> Cells:
    """Cells of one day as those of one arm; its replicas are not those of another day."""
    n = len(cells.value)
    replica = cells.replica or ("",) * n
    return _full(replace(cells, arm=(arm.value,) * n, replica=tuple(f"{day}:{name}" for name in replica)))


def _without(cells: Cells, arm: Arm) -> Cells:
    kept = [i for i, own in enumerate(cells.arm) if own != arm.value]
    full = _full(cells)
    return Cells(*(tuple(getattr(full, name)[i] for i in kept) for name in Cells.__slots__))


def _full(cells: Cells) -> Cells:
    """Cells with every column as long as the values."""
    n = len(cells.value)
    return replace(
        cells,
        replica=cells.replica or ("",) * n,
        stratum=cells.stratum or ("",) * n,
        le=cells.le or (float("inf"),) * n,
        total=cells.total or (float("nan"),) * n,
    )


def _joined(parts: Iterable[Cells]) -> Cells:
    found = list(parts)
    return Cells(*(tuple(v for part in found for v in getattr(part, name)) for name in Cells.__slots__))
