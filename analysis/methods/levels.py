"""Levels per replica as arrays: of one metric, and of many metrics of like shape on top of each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Arrays, Floats, Panel
from analysis.result import Arm, Design, Direction, JudgeSettings, MetricSpec
from analysis.sums import total
from analysis.together import AT_ONCE, alike, on_top

PERCENT, SHARE = 2.0, 1.0  # points of a resource's percent; of "percent" alone, a share of requests
FLOORS = {"%": PERCENT, "percent": SHARE, "s": 0.01, "seconds": 0.01, "ms": 10.0, "milliseconds": 10.0}


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One level metric of one watch. log_prior, usable: (looks,)."""

    metric: Arrays
    design: Design
    settings: JudgeSettings
    log_prior: Floats
    usable: NDArray[np.bool_]

    @property
    def start(self) -> int:
        """Intervals before the deploy."""
        return max(-self.metric.first, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Levels of one shape, direction and design on top of each other.

    arms: (levels, replicas x strata, intervals) by arm; log_prior, usable: (levels, looks); margin, floor: (levels,)
    the relative margin, and the smallest worsening that matters.
    """

    design: Design
    direction: Direction
    start: int
    arms: Mapping[Arm, Floats]
    log_prior: Floats
    usable: NDArray[np.bool_]
    margin: Floats
    floor: Floats

    @classmethod
    def of(cls, asked: Sequence[Level]) -> "Levels":
        first = asked[0]
        return cls(
            design=first.design,
            direction=first.metric.spec.direction,
            start=first.start,
            arms={arm: on_top([levels(one.metric.panels[arm]) for one in asked]) for arm in first.metric.panels},
            log_prior=on_top([one.log_prior for one in asked]),
            usable=np.array([one.usable for one in asked]),
            margin=np.array([margin_of(one.metric.spec, one.settings) for one in asked]),
            floor=np.array([floor_of(one.metric.spec) for one in asked]),
        )

    @property
    def looks(self) -> int:
        return int(self.usable.shape[1])

    def candidate(self) -> Floats:
        """(levels, looks) the new version's mean level; NaN where it has none, or the look is not usable."""
        return np.where(self.usable, mean_level(self.arms[Arm.CANDIDATE])[:, self.start :], np.nan)

    def past(self) -> Floats:
        """(levels, start) the old version before the deploy: its baseline, and what is known from before that."""
        past = mean_level(self.arms[Arm.BASELINE])[:, : self.start]
        if Arm.HISTORY not in self.arms:
            return past
        older = mean_level(self.arms[Arm.HISTORY])[:, : self.start]
        return np.asarray(np.where(np.isnan(past), older, past))


def levels_alike(asked: Sequence[Level]) -> Iterator[tuple[list[int], Levels]]:
    """Those of like shape together, with their places."""
    for members in alike([_shape_of(one) for one in asked], AT_ONCE):
        yield members, Levels.of([asked[i] for i in members])


def _shape_of(one: Level) -> tuple[object, ...]:
    panels = tuple([(arm, panel.value.shape) for arm, panel in one.metric.panels.items()])
    return one.design, one.metric.spec.direction, one.metric.first, len(one.usable), panels


def margin_of(spec: MetricSpec, settings: JudgeSettings) -> float:
    return settings.margin if spec.margin is None else spec.margin


def floor_of(spec: MetricSpec) -> float:
    """Smallest worsening that matters, in the metric's unit: as given, else by its unit."""
    if spec.floor is not None:
        return spec.floor
    unit = spec.unit.strip().lower()
    if unit.startswith(("min-max", "minmax")):
        return 0.01
    return FLOORS.get(unit, PERCENT if unit.startswith(("percent", "%")) else 0.0)


def is_always_zero(metric: Arrays) -> bool:
    """Whether all that is known of the old version is 0 and no floor is set: no worsening then has a size."""
    if floor_of(metric.spec) > 0 or metric.spec.direction is Direction.DOWN_IS_BAD:
        return False
    old = [metric.panels[arm].value for arm in (Arm.BASELINE, Arm.HISTORY, Arm.PEERS) if arm in metric.panels]
    return any(bool((value == 0).any()) for value in old) and not any(bool((np.abs(value) > 0).any()) for value in old)


def signs(direction: Direction) -> tuple[float, ...]:
    return {Direction.UP_IS_BAD: (1.0,), Direction.DOWN_IS_BAD: (-1.0,), Direction.EITHER: (1.0, -1.0)}[direction]


def levels(panel: Panel) -> Floats:
    """(replicas x strata, intervals): every stratum of a replica is a level of its own."""
    return panel.value[:, :, 0, :].reshape(-1, panel.value.shape[-1])


def over_rows(values: Floats) -> Floats:
    """Sums over the rows of (levels, rows, intervals)."""
    return total(values, axis=1)


def mean_level(values: Floats) -> Floats:
    """(..., intervals) mean over the rows of (..., rows, intervals) that are not NaN; NaN where there are none."""
    present = ~np.isnan(values)
    count = np.count_nonzero(present, axis=-2)
    summed = total(np.where(present, values, 0.0), axis=-2)
    return np.asarray(np.divide(summed, count, out=np.full(count.shape, np.nan), where=count > 0))
