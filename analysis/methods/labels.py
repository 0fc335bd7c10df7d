"""New label values: an error code or exception type that the old version never showed.

Label values that appear during the watch are numbered in the order in which either arm first shows them (by name within
one look); number k gets the weight 1 / (k (k + 1)) of the metric's evidence. Which arm showed it plays no part in the
numbering, so that under H0 (nothing is peculiar to the candidate) each label's events still fall on the arms as their
exposures do, and the weighted sum of the labels' count tests (`counts`) is an e-process however many labels there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Arrays, Floats, Panel
from analysis.result import Arm

Flags = NDArray[np.bool_]
MOST = 12  # labels of one watch that are looked into; the next one's weight is below 1 %


@dataclass(frozen=True, slots=True)
class NewLabel:
    """A label value that is new in this watch. `first`: the look in which it first appeared, in either arm."""

    stratum: int
    name: str
    first: int
    weight: float


def new_labels(metric: Arrays) -> list[NewLabel]:
    """The label values that nobody showed before the deploy, whichever arm showed them first.

    To keep only those that the candidate showed first would choose them by the events that are then tested: one that is
    as frequent as the margin allows would be worth up to 1.3 before its test begins. A label's place and weight never
    change when later looks arrive.
    """
    start = max(-metric.first, 0)
    old = _seen(metric, (Arm.BASELINE, Arm.HISTORY, Arm.PEERS))
    seen = old | _seen(metric, (Arm.CANDIDATE,))
    firsts = [(look, name, i) for i, name in enumerate(metric.strata) for look in _first(seen, i, start)]
    arrived = sorted((look, name, i) for look, name, i in firsts if name and not old[i, :start].any())
    return [
        NewLabel(stratum=i, name=name, first=look, weight=1.0 / (k * (k + 1)))
        for k, (look, name, i) in enumerate(arrived[:MOST], start=1)
    ]


def _first(seen: Flags, stratum: int, start: int) -> list[int]:
    at = np.flatnonzero(seen[stratum, start:])
    return [int(at[0])] if len(at) else []


def _seen(metric: Arrays, arms: tuple[Arm, ...]) -> Flags:
    """(strata, intervals) whether any of the arms showed the label."""
    found = np.zeros((len(metric.strata), metric.panel(Arm.CANDIDATE).value.shape[-1]), dtype=bool)
    for arm in arms:
        if arm in metric.panels:
            found |= (np.nan_to_num(metric.panels[arm].value[:, :, 0, :]) > 0).any(axis=0)
    return found


def panels_of(metric: Arrays, stratum: int | None) -> dict[Arm, Panel]:
    """Events of one label (None: of all) per replica, with the exposure of all of the replica's requests."""
    return {arm: _one(panel, stratum) for arm, panel in metric.panels.items()}


def _one(panel: Panel, stratum: int | None) -> Panel:
    events = np.nan_to_num(panel.value[:, :, 0, :])
    mine: Floats = np.add.accumulate(events, axis=1)[:, -1] if stratum is None else events[:, stratum]
    exposure: Floats = np.add.accumulate(np.nan_to_num(panel.total), axis=1)[:, -1]
    return Panel(np.ascontiguousarray(mine)[:, None, None, :], np.ascontiguousarray(exposure)[:, None, :])


def remaining_weight(weights: Sequence[float]) -> float:
    """The part of the evidence that waits for labels not seen yet; it stays at 1.

    >>> round(remaining_weight([0.5, 1 / 6]), 3)
    0.333
    """
    return max(1.0 - float(np.cumsum([0.0, *weights])[-1]), 0.0)
