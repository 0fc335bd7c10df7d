"""Stored samples summed by arm and interval, many intervals at a time. Pure.

A watch of a thousand looks has some ten thousand samples, nearly all with the same columns as those before them: their
numbers are read and added up together, as arrays.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from analysis.result import Arm, Kind
from analysis.sentence import bound as written
from watchdog.model import Metric
from watchdog.ports import CellKeys, RawSamples

AT_ONCE = 2000  # samples; their texts are some megabytes, of wide histograms some ten
_OLD = (Arm.BASELINE.value, Arm.HISTORY.value)

Part = tuple[float, float]  # what is counted, of what
Sums = dict[int, Part]  # by interval
_Numbers = NDArray[np.float64]


def batched(samples: Iterable[RawSamples], size: int = AT_ONCE) -> Iterator[list[RawSamples]]:
    """In their order, `size` at a time, so that a long watch with wide histograms does not fill the memory."""
    left = iter(samples)
    while batch := list(islice(left, size)):
        yield batch


def by_columns(samples: Iterable[RawSamples]) -> Iterator[tuple[str, list[RawSamples]]]:
    """The samples of one metric that have the same columns, with the metric's name."""
    found: defaultdict[tuple[str, CellKeys], list[RawSamples]] = defaultdict(list)
    for sample in samples:
        found[sample.metric, sample.keys].append(sample)
    for (metric, _), alike in found.items():
        yield metric, alike


@dataclass(frozen=True, slots=True)
class _Cells:
    """Where one arm's cells stand in the columns."""

    own: Sequence[int]
    under: Sequence[int]  # of a histogram: at the bound
    infinite: Sequence[int]
    once: Sequence[int]  # one for each replica and stratum


@dataclass(slots=True, kw_only=True)
class Summing:
    """Adds up one metric's cells. Which cells belong together is found once for all intervals with the same columns."""

    kind: Kind
    bound: float | None = None
    _places: dict[CellKeys, tuple[_Cells | None, _Cells | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, metric: Metric, bounds: Mapping[str, float]) -> "Summing":
        spec = metric.spec
        return cls(kind=spec.kind, bound=bounds.get(spec.name, spec.slo_le) if spec.kind is Kind.LATENCY else None)

    def both(self, alike: Sequence[RawSamples]) -> tuple[Sums, Sums]:
        """The sums of the old version and of the new one, of samples with the same columns; none where no cells are."""
        keys = alike[0].keys
        places = self._places.get(keys)
        if places is None:
            arms = set(keys.arm)
            old = next((arm for arm in _OLD if arm in arms), None)
            new = Arm.CANDIDATE.value if Arm.CANDIDATE.value in arms else None
            places = self._places[keys] = self._of_arm(keys, old), self._of_arm(keys, new)
        values = _numbers([sample.value_json for sample in alike])
        old_sums, new_sums = (self._sums(alike, values, cells) for cells in places)
        return old_sums, new_sums

    def _of_arm(self, keys: CellKeys, arm: str | None) -> _Cells | None:
        own = [i for i, name in enumerate(keys.arm) if name == arm]
        if not own:
            return None
        le = keys.le
        first = {(keys.replica[i] if keys.replica else "", keys.stratum[i] if keys.stratum else ""): i for i in own}
        return _Cells(
            own=own,
            under=[i for i in own if le and self._is_bound(le[i])] if self.bound is not None else [],
            infinite=[i for i in own if le and le[i] == "inf"],
            once=list(first.values()),
        )

    def _is_bound(self, le: object) -> bool:
        """Whether a cell's bound is the one that the judge names; it writes those of native histograms rounded."""
        return isinstance(le, float | int) and (le == self.bound or float(written(le)) == self.bound)

    def _sums(self, alike: Sequence[RawSamples], values: _Numbers, cells: _Cells | None) -> Sums:
        if cells is None or (self.kind is Kind.LATENCY and self.bound is None):
            return {}
        counted, of = self._parts(alike, values, cells)
        parts = dict(
            zip([sample.interval for sample in alike], zip(counted.tolist(), of.tolist(), strict=True), strict=True)
        )
        if self.kind in (Kind.GAUGE, Kind.TREND):  # a level that nobody told is none; nothing counted is still a count
            return {interval: part for interval, part in parts.items() if part[1] > 0}
        return parts

    def _parts(self, alike: Sequence[RawSamples], values: _Numbers, cells: _Cells) -> tuple[_Numbers, _Numbers]:
        own = values[:, cells.own]
        if self.kind in (Kind.GAUGE, Kind.TREND):
            told = np.isfinite(own)
            return np.where(told, own, 0.0).sum(axis=1), told.sum(axis=1)
        if self.kind is not Kind.LATENCY:  # without exposure: events per interval
            return own.sum(axis=1), _of(alike, cells.own)
        count = values[:, cells.infinite].sum(axis=1) if cells.infinite else _of(alike, cells.once)
        return np.maximum(0.0, count - values[:, cells.under].sum(axis=1)), count


def _of(alike: Sequence[RawSamples], places: Sequence[int]) -> _Numbers:
    """The totals of some columns; nothing where there are none. Few kinds need them, so that they are read here."""
    totals = _numbers([sample.total_json for sample in alike])
    return np.nan_to_num(totals[:, places]).sum(axis=1) if totals.shape[1] else np.zeros(len(alike))


def _numbers(texts: Sequence[str]) -> _Numbers:
    """Lists of one length as rows: null is NaN, and infinities are words, as the ledger writes them."""
    rows = from_json(f"[{','.join(texts)}]")
    return np.array(rows, dtype=np.float64).reshape(len(texts), -1)
