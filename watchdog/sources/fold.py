"""Series into cells: where answers of a live source become what is stored and judged."""

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from analysis.prepare import Cells
from analysis.result import Kind
from watchdog.model import Metric
from watchdog.sources.questions import INSTANCE, LE, Ask, Question, Series

Answered = tuple[Question, Sequence[Series]]
Place = tuple[str, str, str]  # arm, replica, stratum
Row = tuple[str, str, str, float, float, float]  # a place, le, value, total

EXPOSURE = {Kind.RATIO: ("bad", "total"), Kind.RATE: ("events", "exposure")}


def fold(metric: Metric, answers: Sequence[Answered], *, max_replicas: int) -> Cells:
    """Build one metric's cells of one interval; empty where nothing is known."""
    placed = list(_known(list(_placed(answers, max_replicas))))
    kind = metric.spec.kind
    if kind is Kind.LATENCY:
        rows = _buckets(placed)
    elif kind is Kind.LABELS:
        rows = _by_label(placed)
    elif kind in EXPOSURE:
        rows = _counts(placed, *EXPOSURE[kind], bounded=kind is Kind.RATIO)
    else:
        rows = _levels(placed)
    columns = list(zip(*rows, strict=True))
    return Cells(*columns) if columns else Cells()


def _placed(answers: Sequence[Answered], max_replicas: int) -> Iterable[tuple[Place, Question, Series]]:
    instances = [[_instance(question, one) for one in series] for question, series in answers]
    names = _replicas([question.arm for question, _ in answers], instances, max_replicas)
    for (question, series), own in zip(answers, instances, strict=True):
        for one, instance in zip(series, own, strict=True):
            stratum = ",".join([one.labels.get(label, "") for label in question.by]) if question.by else ""
            yield (question.arm, names[question.arm][instance], stratum), question, one


def _known(placed: Sequence[tuple[Place, Question, Series]]) -> Iterable[tuple[Place, Question, Series]]:
    """Leave out a place of which any part is NaN or infinite: a counter that nobody can read is not one at zero."""
    unknown = {place for place, _, one in placed if not math.isfinite(one.value)}
    return (found for found in placed if found[0] not in unknown) if unknown else placed


def _instance(question: Question, series: Series) -> str:
    """The instance, or for an expression without one whatever labels it has left."""
    found = series.labels.get(INSTANCE)
    if found is not None or question.ask is not Ask.EXPRESSION:
        return found or ""
    return ",".join(f"{k}={v}" for k, v in sorted(series.labels.items()))


def _replicas(arms: Sequence[str], told: Sequence[Sequence[str]], max_replicas: int) -> dict[str, dict[str, str]]:
    """Name each arm's replicas: its instances or, where they are too many, groups of them.

    The group follows from the name alone, so an instance stays in its group while others come and go.
    """
    instances: dict[str, set[str]] = defaultdict(set)
    for arm, names in zip(arms, told, strict=True):
        instances[arm].update(names)
    return {
        arm: {
            name: name if len(found) <= max_replicas else f"group-{zlib.crc32(name.encode()) % max_replicas}"
            for name in found
        }
        for arm, found in instances.items()
    }


def _counts(placed: Iterable[tuple[Place, Question, Series]], part: str, whole: str, *, bounded: bool) -> list[Row]:
    """Events with their exposure. A place without exposure is unknown; one without events had none."""
    sums: dict[tuple[str, Place], float] = defaultdict(float)
    for place, question, series in placed:
        sums[question.role, place] += series.value
    rows = []
    for (role, place), total in sorted(sums.items()):
        if role == whole:
            events = sums.get((part, place), 0.0)
            # a page is not read at one instant: the last event may be counted as bad and not yet as a request
            rows.append((*place, math.nan, min(events, total) if bounded else events, total))
    return rows


def _by_label(placed: Iterable[tuple[Place, Question, Series]]) -> list[Row]:
    """Events by label value; all requests of a replica stand once, in the row without a label."""
    events: dict[Place, float] = defaultdict(float)
    totals: dict[tuple[str, str], float] = defaultdict(float)
    for (arm, replica, label), question, series in placed:
        if question.role == "total":
            totals[arm, replica] += series.value
        else:
            events[arm, replica, label] += series.value
    rows = [(arm, replica, "", math.nan, 0.0, total) for (arm, replica), total in sorted(totals.items())]
    seen = ((place, n) for place, n in sorted(events.items()) if n > 0 and place[2] and place[:2] in totals)
    return rows + [(*place, math.nan, n, 0.0) for place, n in seen]


def _buckets(placed: Iterable[tuple[Place, Question, Series]]) -> list[Row]:
    """Cumulative counts by bound; without the bound +Inf nobody knows how many events there were."""
    sums: dict[Place, dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for place, _, series in placed:
        bound = _bound(series.labels.get(LE, ""))
        if not math.isnan(bound):
            sums[place][bound] += series.value
    rows: list[Row] = []
    for place, counts in sorted(sums.items()):
        bounds = sorted(counts)
        if bounds[-1] != math.inf:
            continue
        rising = list(accumulate((counts[bound] for bound in bounds), max))
        rows += [(*place, bound, count, rising[-1]) for bound, count in zip(bounds, rising, strict=True)]
    return rows


def _levels(placed: Iterable[tuple[Place, Question, Series]]) -> list[Row]:
    values: dict[Place, list[float]] = defaultdict(list)
    for place, _, series in placed:
        values[place].append(series.value)
    return [(*place, math.nan, math.fsum(found) / len(found), math.nan) for place, found in sorted(values.items())]


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
