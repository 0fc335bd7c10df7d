"""Arrays of a watch that grow look by look, so that its past need not be decoded again: the same bits as `decode`.

Only the ordinary is taken: one look more, of cells that were seen before. Whatever else comes (a new replica, a new
label value, numbers that cannot be) is refused; the whole is then decoded anew, which alone says what is wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from analysis.decode import COUNTS, Arrays, BadSamplesError, Decoded, Floats, Panel, decode, histogram_total
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Kind, MetricSpec, SourceStatus

ROOM = 16  # looks that room is made for at a time
_NO_CELLS = Cells()
Numbers = NDArray[np.float32] | NDArray[np.float64]
_Where = NDArray[np.int64] | slice


class Growing:
    """One watch up to a look. Its numbers are its own: what it gives away does not change when it grows."""

    def __init__(self, observation: Observation, *, warm_up_looks: int = 0) -> None:
        """
        Raises
        ------
        BadSamplesError
            As `decode`.
        """
        known = decode(observation, warm_up_looks=warm_up_looks)
        self._warm_up_looks = warm_up_looks
        self._facts = list(known.facts)
        self._metrics = [
            _Growing(arrays, _cells_of(observation, arrays.spec, warm_up_looks)) for arrays in known.metrics
        ]
        self._head = replace(known, facts=(), metrics=())

    @property
    def looks(self) -> int:
        return len(self._facts)

    @property
    def nbytes(self) -> int:
        """Roughly what it takes in memory."""
        return 2000 + sum(metric.nbytes for metric in self._metrics)

    def add(self, facts: LookFacts, cells: Mapping[str, Cells]) -> bool:
        """One look more; False where it can only be decoded together with the others, and this must be thrown away."""
        wanted = facts.status is SourceStatus.OK and self.looks >= self._warm_up_looks
        with np.errstate(over="ignore"):  # what does not fit into half the space is found so
            taken = all(
                metric.add(cells.get(metric.spec.name, _NO_CELLS) if wanted else _NO_CELLS) for metric in self._metrics
            )
        before = self._facts[-1] if self._facts else None
        self._facts.append(before if before == facts else facts)  # mostly one object for a whole watch
        return taken

    def decoded(self, *, share: float | None) -> Decoded:
        """As `decode` gives it for all looks so far; `share` as it is asked for now."""
        ok = [facts.status is SourceStatus.OK and i >= self._warm_up_looks for i, facts in enumerate(self._facts)]
        return replace(
            self._head,
            looks=self.looks,
            share=share,
            usable=np.array(ok, dtype=bool),
            facts=tuple(self._facts),
            metrics=tuple(metric.arrays() for metric in self._metrics),
        )


@dataclass(slots=True)
class _Rows:
    """One arm: its panel as one row a cell, up to the last interval that has one, and its replicas in their order.

    There is room at the end. Numbers are half as wide as the panel's where that loses nothing, as with all counts below
    16 million. The time before the deploy ends with it: its rows never grow.
    """

    shape: tuple[int, int, int]  # replicas, strata, bounds
    value: Numbers
    total: Numbers
    replicas: tuple[str, ...]

    @classmethod
    def of(cls, panel: Panel, replicas: tuple[str, ...]) -> "_Rows":
        *shape, width = panel.value.shape
        value, total = panel.value.reshape(-1, width), panel.total.reshape(-1, width)
        there = np.flatnonzero(~np.isnan(value).all(axis=0))
        value, total = (numbers[:, : there[-1] + 1 if len(there) else 0] for numbers in (value, total))
        return cls((shape[0], shape[1], shape[2]), _packed(value), _packed(total), replicas)

    def make_room(self, at: int, *, value_fits: bool, total_fits: bool) -> None:
        """For one more interval, of numbers that fit into half the space or do not."""
        self.value, self.total = _roomy(self.value, at, fits=value_fits), _roomy(self.total, at, fits=total_fits)

    def panel(self, width: int) -> Panel:
        value = _whole(self.value, width).reshape(*self.shape, width)
        return Panel(value, _whole(self.total, width).reshape(*self.shape[:2], width))


class _Growing:
    """One metric."""

    def __init__(self, arrays: Arrays, seen: Iterable[Cells]) -> None:
        self.spec, self._strata, self._le, self._first = arrays.spec, arrays.strata, arrays.le, arrays.first
        self._width = next((panel.total.shape[-1] for panel in arrays.panels.values()), 0)
        places = {place for cells in seen for place in zip(cells.arm, _filled(cells.replica, cells), strict=True)}
        self._arms = {
            arm: _Rows.of(panel, tuple(sorted(replica for own, replica in places if own == arm)))
            for arm, panel in arrays.panels.items()
        }
        self._layout: tuple[object, ...] = ()
        self._columns: list[tuple[Arm, _Where, _Where]] = []

    @property
    def nbytes(self) -> int:
        return 1500 + sum(rows.value.nbytes + rows.total.nbytes for rows in self._arms.values())

    def add(self, cells: Cells) -> bool:
        n = len(cells.value)
        if n and not self._lay_out(cells, n):
            return False
        if n and not self._write(np.array(cells.value), np.array(cells.total or (np.nan,) * n)):
            return False
        self._width += 1
        return True

    def arrays(self) -> Arrays:
        panels = {arm: rows.panel(self._width) for arm, rows in self._arms.items()}
        return Arrays(spec=self.spec, strata=self._strata, le=self._le, first=self._first, panels=panels)

    def _lay_out(self, cells: Cells, n: int) -> bool:
        """Find where the cells belong; mostly that is where those of the look before belonged."""
        le = cells.le if self.spec.kind is Kind.LATENCY else ()
        layout = (cells.arm, cells.replica, cells.stratum, le)
        if layout == self._layout:
            return len(cells.total) in (0, n)
        columns = (cells.arm, cells.replica, cells.stratum, cells.le, cells.total)
        if any(len(column) not in (0, n) for column in columns) or len(cells.arm) != n:
            return False
        found = self._placed(cells, le or (np.inf,) * n)
        if found is None:
            return False
        self._layout = (_shared(cells.arm), cells.replica, _shared(cells.stratum), _shared(le))
        self._columns = found
        return True

    def _placed(self, cells: Cells, le: Sequence[float]) -> list[tuple[Arm, _Where, _Where]] | None:
        """By arm: which of the cells are its, and where they stand in one interval of its panel."""
        replica, stratum = _filled(cells.replica, cells), _filled(cells.stratum, cells)
        bounds = self._le.tolist()
        found: dict[Arm, dict[int, int]] = {}
        for i, own in enumerate(cells.arm):
            rows = self._arms.get(Arm(own)) if own in _ARMS else None
            known = rows is not None and replica[i] in rows.replicas and stratum[i] in self._strata and le[i] in bounds
            if rows is None or not known:
                return None
            row = rows.replicas.index(replica[i]) * len(self._strata) + self._strata.index(stratum[i])
            at = row * len(bounds) + bounds.index(le[i])
            if at in found.setdefault(Arm(own), {}):
                return None
            found[Arm(own)][at] = i
        return [(arm, _run(list(at.values())), _run(list(at))) for arm, at in found.items()]

    def _write(self, value: Floats, total: Floats) -> bool:
        """Into the next column, where the numbers can be what they claim to be."""
        if not np.isfinite(value).all():
            return False
        value_fits, total_fits = _is_exact(value), _is_exact(total)
        if self.spec.kind is Kind.LATENCY:  # whose totals are mostly those of the last bucket
            total_fits = total_fits and value_fits
        for arm, mine, at in self._columns:
            rows = self._arms[arm]
            rows.make_room(self._width, value_fits=value_fits, total_fits=total_fits)
            if self.spec.kind is Kind.LATENCY:
                count = self._counted(rows, value[mine], total[mine], at)
                if count is None:
                    return False
                rows.total[:, self._width] = count
            elif _can_be(self.spec, value[mine], total[mine]):
                rows.total[at, self._width] = total[mine]  # of these kinds there is one bound
            else:
                return False
            rows.value[at, self._width] = value[mine]
        return True

    def _counted(self, rows: _Rows, value: Floats, total: Floats, at: _Where) -> Floats | None:
        """As `histogram_total` counts the observations; None where it refuses."""
        bounds = rows.shape[2]
        if len(value) == len(rows.value) and isinstance(at, slice) and self._le[-1] == np.inf:
            buckets = value.reshape(-1, bounds)
            if bool((buckets[:, 0] >= 0).all()) and bool((buckets[:, 1:] >= buckets[:, :-1]).all()):
                return buckets[:, -1]
        new_value, new_total = np.full(len(rows.value), np.nan), np.full(len(rows.value), np.nan)
        new_value[at], new_total[at] = value, total
        try:
            shape = (*rows.shape, 1)
            return histogram_total("", new_value.reshape(shape), new_total.reshape(shape), self._le).ravel()
        except BadSamplesError:
            return None


_ARMS = frozenset(arm.value for arm in Arm)


def _can_be(spec: MetricSpec, value: Floats, total: Floats) -> bool:
    """Whether counts are surely well; what is doubtful is left to `decode`."""
    if spec.kind not in COUNTS and spec.kind is not Kind.LABELS:
        return True
    if bool((value < 0).any()):
        return False
    if spec.configured_share:
        return bool(np.isnan(total).all())
    most = value if spec.kind is Kind.RATIO else np.zeros(len(value))
    return bool((np.isfinite(total) & (total >= most)).all())


def _filled(column: tuple[str, ...], cells: Cells) -> tuple[str, ...]:
    return column or ("",) * len(cells.value)


def _cells_of(observation: Observation, spec: MetricSpec, warm_up_looks: int) -> list[Cells]:
    """The cells of one metric that are weighed."""
    left_out = {i for i, facts in observation.facts.items() if facts.status is not SourceStatus.OK}
    left_out |= set(range(warm_up_looks))
    return [
        cells
        for (name, interval), cells in observation.samples.items()
        if name == spec.name and interval < observation.looks and interval not in left_out and cells.value
    ]


def _roomy(array: Numbers, at: int, *, fits: bool) -> Numbers:
    """The same array where it takes numbers at this place, or one that does."""
    wide = not fits and array.dtype != np.float64
    have = array.shape[1]
    if have > at:
        return array.astype(np.float64) if wide else array
    more = np.full((len(array), at + ROOM), np.nan, dtype=np.float64 if wide else array.dtype)
    more[:, :have] = array
    return more


def _whole(array: Numbers, width: int) -> Floats:
    """A copy of so many intervals, in full width."""
    have = min(width, array.shape[1])
    whole = np.full((len(array), width), np.nan) if have < width else np.empty((len(array), width))
    whole[:, :have] = array[:, :have]
    return whole


def _packed(array: Floats) -> Numbers:
    """The same numbers in half the space, where they are the same."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32) if _is_exact(array) else array


def _is_exact(column: Floats) -> bool:
    """Whether these numbers are the same in half the space; what is absent always is."""
    return bool(((column.astype(np.float32) == column) | np.isnan(column)).all())


def _run(places: list[int]) -> _Where:
    """Places that follow each other as a slice, which takes no memory worth speaking of."""
    first = places[0]
    following = places == list(range(first, first + len(places)))
    return slice(first, first + len(places)) if following else np.array(places)


@lru_cache(maxsize=1024)
def _shared(column: tuple[object, ...]) -> tuple[object, ...]:
    """One object for equal columns, which watches of a kind have in common."""
    return column
