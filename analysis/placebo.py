"""The past of a service cut into placebo deploys: instants that play a deploy on which nothing was deployed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analysis.decode import COUNTS
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, JudgeSettings

OLD_ARMS = (Arm.BASELINE.value, Arm.HISTORY.value)  # PEERS repeat the same requests


@dataclass(frozen=True, slots=True, eq=False)
class Placebo:
    """A deploy that never was. at: interval of the past. apart: its watch overlaps no other such placebo's."""

    at: int
    apart: bool
    observation: Observation


def placebos(
    past: Observation, settings: JudgeSettings, *, baseline_looks: int, design: Design, every: int = 1
) -> Iterator[Placebo]:
    """Cut a past into placebo deploys, the newest first; parameters as of `calibrate.calibrate`.

    Concurrent: every replica of the old version in turn, and those apart take turns from watch to watch.
    """
    series = _old_version(past)
    times = sorted({i for cells in series.values() for i in cells})
    if not times:
        return
    stretches = [(times[0], 0)]
    if design is Design.CONCURRENT:
        stretches.append((0, max(times[-1] + 1, 0)))
    for begin, end in stretches:
        free = math.inf  # start of the last placebo that stands apart
        turn = 0
        earliest = begin + (baseline_looks if design is Design.BEFORE_AFTER else 0)
        for at in range(end - settings.planned_looks, earliest - 1, -every):
            apart = at + settings.planned_looks <= free
            cut = _Cut(past, series, at, settings.planned_looks, baseline_looks)
            if design is Design.BEFORE_AFTER:
                if cut.lived():
                    yield Placebo(at, apart, cut.before_after())
                    free = at if apart else free
                continue
            replicas = cut.replicas()
            for k, replica in enumerate(replicas if len(replicas) > 1 else ()):
                yield Placebo(at, apart and k == turn % len(replicas), cut.concurrent(replica, len(replicas)))
            if apart and len(replicas) > 1:
                free, turn = at, turn + 1


def _old_version(past: Observation) -> dict[str, dict[int, Cells]]:
    """The old version's cells by metric and interval; where an interval has both arms, the baseline's."""
    series: dict[str, dict[int, Cells]] = {spec.name: {} for spec in past.metrics}
    for (name, interval), cells in past.samples.items():
        if name not in series:
            continue
        arm = next((arm for arm in OLD_ARMS if arm in cells.arm), None)
        if arm is not None:
            series[name][interval] = _rows(cells, [i for i, owner in enumerate(cells.arm) if owner == arm])
    return series


def _rows(cells: Cells, kept: Sequence[int]) -> Cells:
    """Some rows of the cells; columns that are left out stay so."""
    columns = (cells.arm, cells.replica, cells.stratum, cells.le, cells.value, cells.total)
    arm, replica, stratum, le, value, total = (tuple(c[i] for i in kept) if c else () for c in columns)
    return Cells(arm, replica, stratum, le, value, total)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """One instant of a past and the intervals around it."""

    past: Observation
    series: dict[str, dict[int, Cells]]
    at: int
    looks: int
    baseline_looks: int

    def lived(self) -> bool:
        """Whether the old version has any sample both before and after."""
        before, after = range(self.at - self.baseline_looks, self.at), range(self.at, self.at + self.looks)
        return all(any(i in cells for cells in self.series.values() for i in span) for span in (before, after))

    def replicas(self) -> list[str]:
        """The old version's replicas that were seen after the instant."""
        return sorted(
            {
                replica
                for cells in self.series.values()
                for i in range(self.at, self.at + self.looks)
                for replica in (cells[i].replica if i in cells else ())
            }
        )

    def before_after(self) -> Observation:
        samples = {}
        for name, cells in self.series.items():
            for i in range(self.at - self.baseline_looks, self.at + self.looks):
                arm = Arm.BASELINE if i < self.at else Arm.CANDIDATE
                if i in cells:
                    samples[name, i - self.at] = replace(cells[i], arm=(arm.value,) * len(cells[i].value))
        return self._observed(Design.BEFORE_AFTER, samples, (Arm.CANDIDATE,), None)

    def concurrent(self, candidate: str, replicas: int) -> Observation:
        samples = {}
        for name, cells in self.series.items():
            for i in range(self.at - self.baseline_looks, self.at + self.looks):
                if i not in cells:
                    continue
                owners = tuple(
                    (Arm.HISTORY if i < self.at else Arm.CANDIDATE if replica == candidate else Arm.BASELINE).value
                    for replica in cells[i].replica or ("",) * len(cells[i].value)
                )
                samples[name, i - self.at] = replace(cells[i], arm=owners)
        return self._observed(Design.CONCURRENT, samples, (Arm.CANDIDATE, Arm.BASELINE), 1 / replicas)

    def _observed(
        self, design: Design, samples: dict[tuple[str, int], Cells], alive: tuple[Arm, ...], share: float | None
    ) -> Observation:
        for spec in self.past.metrics:
            if spec.kind in COUNTS and not spec.configured_share:
                for i in range(self.looks):
                    samples[spec.name, i] = _with_nothing(samples.get((spec.name, i), Cells()), alive)
        return replace(
            self.past,
            design=design,
            samples=samples,
            facts={},
            looks=self.looks,
            share=share,
            candidate_expected=self.past.candidate_expected,
        )


def _with_nothing(cells: Cells, arms: Sequence[Arm]) -> Cells:
    """The cells, and 0 events of 0 for every arm that has none: counts leave no row where nothing was asked."""
    for arm in arms:
        if arm.value not in cells.arm:
            n = len(cells.value)
            cells = Cells(
                (*cells.arm, arm.value),
                (*(cells.replica or ("",) * n), ""),
                (*(cells.stratum or ("",) * n), ""),
                (*(cells.le or (math.nan,) * n), math.nan),
                (*cells.value, 0.0),
                (*(cells.total or (math.nan,) * n), 0.0),
            )
    return cells
