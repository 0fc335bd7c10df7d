"""What an instance uses follows what it serves: levels of arms whose instances serve unlike loads are no comparison.

A canary of one instance that is given half of the traffic of five works as hard as all of them, and is no worse for it.
Where the watch counts requests beside a level, looks at which an instance of the new version had so much more to do
than one of the old that the level's own margin would be used up by it are missing for the new version. Less to do
excuses nothing, and is no reason to look away. Levels in a unit of time stand as they are: people wait, whyever.
"""

from dataclasses import replace

import numpy as np

from analysis.conditions import REQUEST_KINDS
from analysis.decode import Arrays, Decoded, Floats
from analysis.few_requests import UNITS, aligned
from analysis.result import Arm, Design, Kind


def with_like_load(watch: Decoded, metric: Arrays, margin: float) -> tuple[Arrays, int]:
    """The metric without the looks of unlike load, and how many looks of the candidate that were.

    margin: the relative worsening of the level that is tolerated. Only arms that run side by side are compared so.
    """
    candidate = metric.panels.get(Arm.CANDIDATE)
    is_used = metric.spec.kind is Kind.GAUGE and metric.spec.unit not in UNITS
    if not is_used or watch.design is not Design.CONCURRENT or candidate is None:
        return metric, 0
    counting = _counting(watch)
    if counting is None:
        return metric, 0
    arms = (Arm.CANDIDATE, Arm.BASELINE)
    new, old = (aligned(_of_an_instance(counting, arm), counting.first, metric) for arm in arms)
    unlike = new > (1.0 + margin) * old
    seen = unlike & ~np.isnan(candidate.value).all(axis=(0, 1, 2))
    if not seen.any():
        return metric, 0
    thinned = replace(candidate, value=np.where(unlike, np.nan, candidate.value))
    return replace(metric, panels={**metric.panels, Arm.CANDIDATE: thinned}), int(np.count_nonzero(seen))


def _counting(watch: Decoded) -> Arrays | None:
    """The metric that counted most requests of both arms."""
    found = [
        (float(np.nansum(other.panels[Arm.BASELINE].total)), -i, other)
        for i, other in enumerate(watch.metrics)
        if other.spec.kind in REQUEST_KINDS
        and not other.spec.configured_share
        and Arm.BASELINE in other.panels
        and Arm.CANDIDATE in other.panels
    ]
    return max(found, key=lambda one: one[:2])[2] if found else None


def _of_an_instance(counting: Arrays, arm: Arm) -> Floats:
    """(intervals,) requests of an arm for each instance that served any; NaN where none did."""
    requests = np.nan_to_num(counting.panels[arm].total)
    served = np.cumsum(requests, axis=1)[:, -1]  # (instances, intervals)
    there = np.count_nonzero(served > 0, axis=0)
    each = np.divide(np.cumsum(served, axis=0)[-1], there, out=np.full(there.shape, np.nan), where=there > 0)
    return np.asarray(each)


def words(name: str, left_out: int, margin: float) -> str:
    """What was left out, for a note; nothing where nothing was.

    >>> words("cpu", 3, 0.5)
    'cpu: 3 looks at which an instance of the new version served over ×1.5 the load of an old one were left out'
    """
    if not left_out:
        return ""
    looks, were = ("1 look", "was") if left_out == 1 else (f"{left_out} looks", "were")
    return (
        f"{name}: {looks} at which an instance of the new version served over ×{1 + margin:g} the load of an old one "
        f"{were} left out"
    )
