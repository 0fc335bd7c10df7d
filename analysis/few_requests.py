"""A mean or a quantile of a handful of requests is no level: such looks of a latency gauge are left out.

A gauge in seconds says nothing of how many requests it speaks for. Where the watch counts requests beside it, looks in
which an arm had too few are missing for that arm; where nothing counts them, every look stands.
"""

from dataclasses import replace

import numpy as np

from analysis.decode import Arrays, Decoded, Floats, Panel
from analysis.result import Arm, Kind

FEWEST = 20.0  # requests of an arm in one interval; a p90 of fewer is one or two of them
UNITS = frozenset({"s", "sec", "seconds", "ms", "milliseconds", "us", "µs", "microseconds"})
_COUNT_REQUESTS = frozenset({Kind.RATIO, Kind.RATE, Kind.LATENCY})


def with_enough_requests(watch: Decoded, metric: Arrays) -> tuple[Arrays, int]:
    """The metric without the looks of too few requests, and how many looks of the candidate that were.

    Only levels in a unit of time are thinned out, and only where their own `total` or another metric counts requests.
    """
    if metric.spec.kind is not Kind.GAUGE or metric.spec.unit not in UNITS:
        return metric, 0
    panels: dict[Arm, Panel] = {}
    left_out = 0
    for arm, panel in metric.panels.items():
        requests = _requests(watch, metric, arm)
        few = requests < FEWEST  # not where nobody counts: NaN
        seen = few & ~np.isnan(panel.value).all(axis=(0, 1, 2))
        if arm is Arm.CANDIDATE:
            left_out = int(np.count_nonzero(seen[max(-metric.first, 0) :]))
        panels[arm] = replace(panel, value=np.where(few, np.nan, panel.value)) if seen.any() else panel
    return replace(metric, panels=panels), left_out


def _requests(watch: Decoded, metric: Arrays, arm: Arm) -> Floats:
    """(intervals of the metric,) requests of an arm: counted beside the level, else by the metric that saw the most."""
    own = metric.panels[arm].total
    counted = [_total(own)] if not np.isnan(own).all() else []
    if not counted:
        counted = [
            aligned(_total(other.panels[arm].total), other.first, metric)
            for other in watch.metrics
            if other.spec.kind in _COUNT_REQUESTS and not other.spec.configured_share and arm in other.panels
        ]
    width = metric.panels[arm].value.shape[-1]
    return np.asarray(np.fmax.reduce(counted)) if counted else np.full(width, np.nan)


def _total(total: Floats) -> Floats:
    """(intervals,) over replicas and strata; NaN where nobody counted."""
    flat = total.reshape(-1, total.shape[-1])
    return np.where(np.isnan(flat).all(axis=0), np.nan, np.cumsum(np.nan_to_num(flat), axis=0)[-1])


def aligned(series: Floats, first: int, metric: Arrays) -> Floats:
    """A series that begins at interval `first`, over the intervals of the metric."""
    if first < metric.first:
        return series[metric.first - first :]
    return np.concatenate([np.full(first - metric.first, np.nan), series])


def words(name: str, left_out: int) -> str:
    """What was left out, for a note; nothing where nothing was.

    >>> words("p90", 3)
    'p90: 3 looks with fewer than 20 requests of the new version were left out'
    """
    if not left_out:
        return ""
    looks, were = ("1 look", "was") if left_out == 1 else (f"{left_out} looks", "were")
    return f"{name}: {looks} with fewer than {FEWEST:.0f} requests of the new version {were} left out"
