"""The one decoder: stored samples in, dense arrays out. Daemon, backtest and notebooks all come through here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Design, Kind, MetricSpec, SourceStatus

Floats = NDArray[np.float64]
COUNTS = frozenset({Kind.RATIO, Kind.RATE})
_ROUNDING = 1e-9
_ARMS = frozenset(str(arm) for arm in Arm)
_UNKNOWN = LookFacts()
_T = TypeVar("_T")


class BadSamplesError(ValueError):
    """The samples cannot be what they claim to be; the message names the array."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One arm's values of one metric; NaN where a cell is absent.

    value: (replicas, strata, bounds, intervals), bounds is 1 but for histograms. total: (replicas, strata, intervals).
    """

    value: Floats
    total: Floats

    @property
    def replicas(self) -> int:
        return int(self.value.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """One metric of one watch; every panel has the same strata, bounds and intervals (`first`..looks-1)."""

    spec: MetricSpec
    strata: tuple[str, ...]
    le: Floats
    first: int
    panels: Mapping[Arm, Panel]

    def panel(self, arm: Arm) -> Panel:
        found = self.panels.get(arm)
        if found is not None:
            return found
        width = next((p.value.shape[-1] for p in self.panels.values()), 0)
        shape = (0, len(self.strata), max(1, len(self.le)), width)
        return Panel(np.zeros(shape), np.zeros((0, len(self.strata), width)))


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One watch as arrays. usable: (looks,) intervals whose source answered wholly, after the warm-up."""

    design: Design
    step_s: float
    looks: int
    share: float | None
    candidate_expected: int | None
    usable: NDArray[np.bool_]
    facts: tuple[LookFacts, ...]
    metrics: tuple[Arrays, ...]

    def __reduce__(self) -> tuple[Callable[..., "Decoded"], tuple[object, ...]]:
        """Pickled as one array instead of dozens: a third of the time, where other processes judge."""
        panels = [(metric, arm, panel) for metric in self.metrics for arm, panel in metric.panels.items()]
        shapes = tuple([(arm.value, panel.value.shape, panel.total.shape) for _, arm, panel in panels])
        parts = [part.ravel() for _, _, panel in panels for part in (panel.value, panel.total)]
        metrics = tuple([(m.spec, m.strata, m.le, m.first, len(m.panels)) for m in self.metrics])
        whole = np.concatenate(parts) if parts else np.zeros(0)
        head = (self.design, self.step_s, self.looks, self.share, self.candidate_expected, self.usable, self.facts)
        return _unpacked, (head, metrics, shapes, whole)


def _unpacked(
    head: tuple[Any, ...],
    metrics: Sequence[tuple[MetricSpec, tuple[str, ...], Floats, int, int]],
    shapes: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]],
    whole: Floats,
) -> Decoded:
    """What `Decoded.__reduce__` took apart."""
    at, told, found = 0, iter(shapes), []
    for spec, strata, le, first, arms in metrics:
        panels = {}
        for arm, value, total in islice(told, arms):
            middle = at + prod(value)
            end = middle + prod(total)
            panels[Arm(arm)] = Panel(whole[at:middle].reshape(value), whole[middle:end].reshape(total))
            at = end
        found.append(Arrays(spec, strata, le, first, panels))
    return Decoded(*(*head, tuple(found)))


def decode(observation: Observation, *, warm_up_looks: int = 0) -> Decoded:
    """Turn an observation into arrays, refusing what cannot be.

    Raises
    ------
    BadSamplesError
        NaN, infinite or negative values, more bad events than events, falling buckets, one cell twice, a step or a
        share that is none.
    """
    _check_frame(observation)
    looks = observation.looks
    facts = tuple(observation.facts.get(i, _UNKNOWN) for i in range(looks))
    usable = np.array([f.status is SourceStatus.OK and i >= warm_up_looks for i, f in enumerate(facts)], dtype=bool)
    excluded = {i for i, f in observation.facts.items() if f.status is not SourceStatus.OK}
    excluded |= set(range(min(warm_up_looks, looks)))
    by_metric: dict[str, list[tuple[int, Cells]]] = {spec.name: [] for spec in observation.metrics}
    for (name, interval), cells in observation.samples.items():
        if interval < looks and interval not in excluded and name in by_metric and cells.value:
            by_metric[name].append((interval, cells))
    metrics = tuple(_decode_metric(spec, by_metric[spec.name], looks) for spec in observation.metrics)
    return Decoded(
        design=observation.design,
        step_s=observation.step_s,
        looks=looks,
        share=observation.share,
        candidate_expected=observation.candidate_expected,
        usable=usable,
        facts=facts,
        metrics=metrics,
    )


def _check_frame(observation: Observation) -> None:
    """What holds for all metrics together."""
    names = [spec.name for spec in observation.metrics]
    if len(set(names)) != len(names):
        raise BadSamplesError("metrics: the same name twice")
    if not 0 < observation.step_s < np.inf:
        raise BadSamplesError(f"step_s: {observation.step_s:g} is no length of an interval")
    shares = {observation.share, *(facts.share for facts in observation.facts.values())} - {None}
    for share in shares:
        if share is not None and not 0 <= share <= 1:
            raise BadSamplesError(f"share: {share:g} is no share of the traffic")


def _decode_metric(spec: MetricSpec, looks_cells: list[tuple[int, Cells]], looks: int) -> Arrays:
    first = min([0, *(interval for interval, _ in looks_cells)])
    columns = _columns(spec, looks_cells)
    places = columns.places
    strata = tuple(sorted({place.stratum for place in places})) or ("",)
    le = np.array(sorted({place.le for place in places}) if spec.kind is Kind.LATENCY else [np.inf], dtype=np.float64)
    if spec.kind is Kind.LATENCY and np.isnan(le).any():
        raise BadSamplesError(f"{spec.name}: le: NaN is not a bucket bound")
    panels = {}
    for arm in Arm:
        if any(place.arm == arm for place in places):
            panels[arm] = _panel(spec, arm, columns, strata, le, first, looks)
    return Arrays(spec=spec, strata=strata, le=le, first=first, panels=panels)


class _Place(NamedTuple):
    """What a cell belongs to, whatever its interval."""

    arm: str
    replica: str
    stratum: str
    le: float


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """All cells of one metric as parallel columns; `place` counts in `places`."""

    places: tuple[_Place, ...]
    place: NDArray[np.int64]
    interval: NDArray[np.int64]
    value: Floats
    total: Floats


def _columns(spec: MetricSpec, looks_cells: Sequence[tuple[int, Cells]]) -> _Columns:
    """Put the intervals one after another. Most name the same cells as others before: they are read only once."""
    number: dict[_Place, int] = {}
    layouts: dict[tuple[object, ...], list[int]] = {}
    place: list[int] = []
    value: list[float] = []
    total: list[float] = []
    for _, cells in looks_cells:
        n = len(cells.value)
        key = (cells.arm, cells.replica, cells.stratum, cells.le if spec.kind is Kind.LATENCY else len(cells.le), n)
        layout = layouts.get(key)
        if layout is None:
            layout = layouts[key] = _layout(spec, cells, number)
        place += layout
        value += cells.value
        total += _column(spec, "total", cells.total, n, np.nan)
    widths = np.array([len(cells.value) for _, cells in looks_cells], dtype=np.int64)
    return _Columns(
        places=tuple(number),
        place=np.array(place, dtype=np.int64),
        interval=np.repeat(np.array([interval for interval, _ in looks_cells], dtype=np.int64), widths),
        value=np.array(value, dtype=np.float64),
        total=np.array(total, dtype=np.float64),
    )


def _layout(spec: MetricSpec, cells: Cells, number: dict[_Place, int]) -> list[int]:
    """The number of each cell's place; places not seen before are numbered on."""
    n = len(cells.value)
    arm = _column(spec, "arm", cells.arm, n, None)
    replica = _column(spec, "replica", cells.replica, n, "")
    stratum = _column(spec, "stratum", cells.stratum, n, "")
    le = _column(spec, "le", cells.le, n, np.inf)
    if spec.kind is not Kind.LATENCY:
        le = (np.inf,) * n
    unknown = set(arm) - _ARMS
    if unknown:
        raise BadSamplesError(f"{spec.name}: arm: {min(unknown)!r} is no arm")
    layout = [number.setdefault(_Place(*cell), len(number)) for cell in zip(arm, replica, stratum, le, strict=True)]
    if len(set(layout)) != n:
        twice = next(arm[i] for i, cell in enumerate(layout) if cell in layout[:i])
        raise BadSamplesError(f"{spec.name}: {twice}: the same cell twice (replica, stratum, le) in one interval")
    return layout


def _column(spec: MetricSpec, name: str, column: tuple[_T, ...], n: int, default: _T | None) -> tuple[_T, ...]:
    if len(column) == n:
        return column
    if column or default is None:
        raise BadSamplesError(f"{spec.name}: {name}: {len(column)} cells, value has {n}")
    return (default,) * n


def _panel(
    spec: MetricSpec, arm: Arm, columns: _Columns, strata: Sequence[str], le: Floats, first: int, looks: int
) -> Panel:
    own = [place if place.arm == arm else None for place in columns.places]
    replicas = sorted({place.replica for place in own if place is not None})
    full = (len(replicas), len(strata), len(le), looks - first)
    begins = np.array([-1 if place is None else _begin(place, replicas, strata, le, full) for place in own])
    begin = begins[columns.place]
    mine = np.flatnonzero(begin >= 0)
    at = begin[mine] + columns.interval[mine] - first
    where = f"{spec.name}: {arm.value}"
    value, total = np.full(full, np.nan), np.full(full, np.nan)
    value.ravel()[at] = _finite(f"{where} value", columns.value[mine])
    total.ravel()[at] = columns.total[mine]
    if spec.kind is Kind.LATENCY:
        return Panel(value, histogram_total(where, value, total, le))
    if spec.kind in COUNTS or spec.kind is Kind.LABELS:
        _check_counts(where, spec, value, total)
    return Panel(value, np.ascontiguousarray(total[:, :, 0, :]))


def _begin(
    place: _Place, replicas: Sequence[str], strata: Sequence[str], le: Floats, full: tuple[int, int, int, int]
) -> int:
    """Where the intervals of one cell begin in a panel that is read as one row."""
    index = (replicas.index(place.replica), strata.index(place.stratum), int(np.searchsorted(le, place.le)), 0)
    return int(np.ravel_multi_index(index, full))


def _finite(where: str, numbers: Floats) -> Floats:
    if not np.isfinite(numbers).all():
        raise BadSamplesError(f"{where}: {numbers[~np.isfinite(numbers)][0]} is not a number")
    return numbers


def _check_counts(where: str, spec: MetricSpec, value: Floats, total: Floats) -> None:
    present = ~np.isnan(value)
    if (value[present] < 0).any():
        raise BadSamplesError(f"{where} value: negative count")
    if spec.configured_share and np.isnan(total[present]).all():
        return
    if not np.isfinite(total[present]).all():
        raise BadSamplesError(f"{where} total: {spec.kind.value} needs an exposure beside every count")
    if (total[present] < 0).any():
        raise BadSamplesError(f"{where} total: negative count")
    if spec.kind is Kind.RATIO and (value[present] > total[present] * (1 + _ROUNDING) + _ROUNDING).any():
        raise BadSamplesError(f"{where} value: more bad events than events")


def histogram_total(where: str, value: Floats, total: Floats, le: Floats) -> Floats:
    """Number of observations per (replica, stratum, interval): the +Inf bucket, else the given total."""
    if (value[~np.isnan(value)] < 0).any():
        raise BadSamplesError(f"{where} value: negative count")
    filled = np.fmax.accumulate(value, axis=2)
    if (value < filled - _ROUNDING * (1 + filled)).any():
        raise BadSamplesError(f"{where} value: bucket counts fall as le rises")
    count = value[:, :, -1, :] if le[-1] == np.inf else np.full(value[:, :, 0, :].shape, np.nan)
    given = np.fmax.reduce(total, axis=2)
    count = np.where(np.isnan(count), given, count)
    present = ~np.isnan(value).all(axis=2)
    if np.isnan(count[present]).any():
        raise BadSamplesError(f"{where} le: a histogram without its +Inf bucket")
    if (filled[:, :, -1, :][present] > count[present] * (1 + _ROUNDING) + _ROUNDING).any():
        raise BadSamplesError(f"{where} total: fewer observations than the buckets hold")
    return np.ascontiguousarray(count)
