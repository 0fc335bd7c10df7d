"""A recorded case's rows, cut into the cells that the judge gets."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from analysis.prepare import Cells
from analysis.result import Arm, Kind, MetricSpec

if TYPE_CHECKING:
    import pandas as pd

_PLACE = ("arm", "replica", "stratum", "le")
_COUNTED = {Kind.RATIO, Kind.RATE, Kind.LATENCY, Kind.LABELS}  # summed where levels are averaged


def cut(rows: "pd.DataFrame", metrics: Sequence[MetricSpec], step_s: float) -> Iterator[tuple[tuple[str, int], Cells]]:
    """Cut a case's rows into cells, each a run of rows of one metric and interval."""
    import numpy as np

    placed = rows.assign(interval=(rows["t"] // step_s).astype(int))
    if placed.duplicated(["metric", "interval", *_PLACE]).any():
        placed = _put_together(placed, metrics)
    placed = placed.sort_values(["metric", "interval"], kind="stable")
    metric, interval = placed["metric"].to_numpy(), placed["interval"].to_numpy()
    arm, replica, stratum, le, value, total = (tuple(placed[name].tolist()) for name in (*_PLACE, "value", "total"))
    begins = np.flatnonzero(np.diff(metric, prepend=-1) | np.diff(interval, prepend=0))
    for begin, end in pairwise([*begins.tolist(), len(metric)]):
        spec, run = metrics[metric[begin]], slice(begin, end)
        exposure = total[run] if spec.kind in _COUNTED else (math.nan,) * (end - begin)
        key = (spec.name, int(interval[begin]))
        yield key, Cells(arm[run], replica[run], stratum[run], le[run], value[run], exposure)


def _put_together(placed: "pd.DataFrame", metrics: Sequence[MetricSpec]) -> "pd.DataFrame":
    """Several values in one place: summed where they count, averaged where they are levels."""
    by = placed.groupby(["metric", "interval", *_PLACE], sort=True, dropna=False)
    both = by.agg(value=("value", "mean"), total=("total", "sum"), summed=("value", "sum")).reset_index()
    counted = both["metric"].isin([index for index, spec in enumerate(metrics) if spec.kind in _COUNTED])
    return both.assign(value=both["value"].where(~counted, both["summed"]))


def silent(
    samples: Mapping[tuple[str, int], Cells], metrics: Sequence[MetricSpec], arms: Sequence[Arm], known: int
) -> dict[tuple[str, int], Cells]:
    """Intervals in which an arm had no requests: counts leave no row where there was nothing to count."""
    filled = {}
    for spec in metrics:
        if spec.kind not in (Kind.RATIO, Kind.RATE):
            continue
        place = {arm.value: ("0", "") for arm in arms}  # the replica and stratum of an arm that were seen last
        for interval in range(known):
            cells = samples.get((spec.name, interval), Cells())
            place |= {a: (r, s) for a, r, s in zip(cells.arm, cells.replica, cells.stratum, strict=True)}
            missing = [arm for arm in arms if arm.value not in cells.arm]
            for arm in missing:
                cells = _with_nothing(cells, arm, *place[arm.value])
            if missing:
                filled[spec.name, interval] = cells
    return filled


def _with_nothing(cells: Cells, arm: Arm, replica: str, stratum: str) -> Cells:
    """The cells with 0 events of 0 added for one arm."""
    return Cells(
        arm=(*cells.arm, arm.value),
        replica=(*cells.replica, replica),
        stratum=(*cells.stratum, stratum),
        le=(*cells.le, math.nan),
        value=(*cells.value, 0.0),
        total=(*cells.total, 0.0),
    )
