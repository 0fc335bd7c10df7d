"""Series into cells: where answers of a live source become what is stored and judged."""

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

from analysis.prepare import Cells
from analysis.result import Kind
from watchdog.model import Metric
from watchdog.sources.questions import INSTANCE, LE, Ask, Question, Role, Series

Answered = tuple[Question, Sequence[Series]]
Place = tuple[str, str, str]  # arm, replica, stratum
Placed = tuple[Place, Role, Series]
Row = tuple[str, str, str, float, float, float]  # a place, le, value, total

EXPOSURE = {Kind.RATIO: ("bad", "total"), Kind.RATE: ("events", "exposure")}


def fold(metric: Metric, answers: Sequence[Answered], *, max_replicas: int) -> Cells:
    """Build one metric's cells of one interval; empty where nothing is known."""
    placed = _known(_placed(answers, max_replicas))
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


def _placed(answers: Sequence[Answered], max_replicas: int) -> list[Placed]:
    """Each series with its place: its instance or, where an arm has too many of them, a group of them."""
    placed: list[Placed] = []
    instances: dict[str, set[str]] = defaultdict(set)
    for (role, window), series in answers:
        arm, by = window.arm, role.by
        for one in series:
            labels = one.labels
            instance = labels[INSTANCE] if INSTANCE in labels else _without_instance(role, labels)
            instances[arm].add(instance)
            stratum = ",".join([labels.get(label, "") for label in by]) if by else ""
            placed.append(((arm, instance, stratum), role, one))
    crowded = {arm for arm, found in instances.items() if len(found) > max_replicas}
    return [_in_a_group(one, max_replicas) if one[0][0] in crowded else one for one in placed] if crowded else placed


def _without_instance(role: Role, labels: Mapping[str, str]) -> str:
    """For an expression whatever labels it has left."""
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items())) if role.ask is Ask.EXPRESSION else ""


def _in_a_group(placed: Placed, groups: int) -> Placed:
    """The group follows from the name alone, so an instance stays in its group while others come and go."""
    (arm, instance, stratum), role, one = placed
    return (arm, f"group-{zlib.crc32(instance.encode()) % groups}", stratum), role, one


def _known(placed: list[Placed]) -> list[Placed]:
    """Leave out a place of which any part is NaN or infinite: a counter that nobody can read is not one at zero."""
    unknown = {place for place, _, one in placed if not math.isfinite(one.value)}
    return [found for found in placed if found[0] not in unknown] if unknown else placed


def _counts(placed: Iterable[Placed], part: str, whole: str, *, bounded: bool) -> list[Row]:
    """Events with their exposure. A place without exposure is unknown; one without events had none."""
    parts: dict[Place, float] = defaultdict(float)
    wholes: dict[Place, float] = defaultdict(float)
    for place, role, series in placed:
        if role.name == whole:
            wholes[place] += series.value
        elif role.name == part:
            parts[place] += series.value
    rows = []
    for place, total in sorted(wholes.items()):
        events = parts.get(place, 0.0)
        # a page is not read at one instant: the last event may be counted as bad and not yet as a request
        rows.append((*place, math.nan, min(events, total) if bounded else events, total))
    return rows


def _by_label(placed: Iterable[Placed]) -> list[Row]:
    """Events by label value; all requests of a replica stand once, in the row without a label."""
    events: dict[Place, float] = defaultdict(float)
    totals: dict[tuple[str, str], float] = defaultdict(float)
    for (arm, replica, label), role, series in placed:
        if role.name == "total":
            totals[arm, replica] += series.value
        else:
            events[arm, replica, label] += series.value
    rows = [(arm, replica, "", math.nan, 0.0, total) for (arm, replica), total in sorted(totals.items())]
    seen = ((place, n) for place, n in sorted(events.items()) if n > 0 and place[2] and place[:2] in totals)
    return rows + [(*place, math.nan, n, 0.0) for place, n in seen]


def _buckets(placed: Iterable[Placed]) -> list[Row]:
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
        rising = list(accumulate([counts[bound] for bound in bounds], max))
        rows += [(*place, bound, count, rising[-1]) for bound, count in zip(bounds, rising, strict=True)]
    return rows


def _levels(placed: Iterable[Placed]) -> list[Row]:
    values: dict[Place, list[float]] = defaultdict(list)
    for place, _, series in placed:
        values[place].append(series.value)
    return [(*place, math.nan, math.fsum(found) / len(found), math.nan) for place, found in sorted(values.items())]


@lru_cache(maxsize=4096)  # services have few layouts; of each its bounds come again with every look
def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
