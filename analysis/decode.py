"""The one decoder: stored samples in, dense arrays out. Daemon, backtest and notebooks all come through here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Design, Kind, MetricSpec, SourceStatus

Floats = NDArray[np.float64]
COUNTS = frozenset({Kind.RATIO, Kind.RATE})
_ROUNDING = 1e-9
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


def decode(observation: Observation, *, warm_up_looks: int = 0) -> Decoded:
    """Turn an observation into arrays, refusing what cannot be.

    Raises
    ------
    BadSamplesError
        NaN, infinite or negative values, more bad events than events, falling buckets, one cell twice.
    """
    _check_names(observation.metrics)
    looks = observation.looks
    facts = tuple(observation.facts.get(i, LookFacts()) for i in range(looks))
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


def _check_names(metrics: tuple[MetricSpec, ...]) -> None:
    names = [spec.name for spec in metrics]
    if len(set(names)) != len(names):
        raise BadSamplesError("metrics: the same name twice")


def _decode_metric(spec: MetricSpec, looks_cells: list[tuple[int, Cells]], looks: int) -> Arrays:
    first = min([0, *(interval for interval, _ in looks_cells)])
    width = looks - first
    columns = _Columns(spec, looks_cells)
    strata = tuple(sorted(set(columns.stratum))) or ("",)
    le = np.array(sorted(set(columns.le)) if spec.kind is Kind.LATENCY else [np.inf], dtype=np.float64)
    if spec.kind is Kind.LATENCY and np.isnan(le).any():
        raise BadSamplesError(f"{spec.name}: le: NaN is not a bucket bound")
    stratum_at = {name: i for i, name in enumerate(strata)}
    le_at = {bound: i for i, bound in enumerate(le.tolist())}
    panels = {}
    for arm in Arm:
        rows = [i for i, name in enumerate(columns.arm) if name == arm]
        if rows:
            shape = (len(strata), len(le), width)
            panels[arm] = _panel(spec, arm, columns, rows, stratum_at, le_at, first, shape)
    return Arrays(spec=spec, strata=strata, le=le, first=first, panels=panels)


class _Columns:
    """All cells of one metric as parallel columns."""

    def __init__(self, spec: MetricSpec, looks_cells: Iterable[tuple[int, Cells]]) -> None:
        self.interval: list[int] = []
        self.arm: list[str] = []
        self.replica: list[str] = []
        self.stratum: list[str] = []
        self.le: list[float] = []
        self.value: list[float] = []
        self.total: list[float] = []
        for interval, cells in looks_cells:
            n = len(cells.value)
            self.interval += [interval] * n
            self.arm += _column(spec, "arm", cells.arm, n, None)
            self.replica += _column(spec, "replica", cells.replica, n, "")
            self.stratum += _column(spec, "stratum", cells.stratum, n, "")
            self.le += _column(spec, "le", cells.le, n, np.inf)
            self.value += cells.value
            self.total += _column(spec, "total", cells.total, n, np.nan)
        unknown = set(self.arm) - set(Arm)
        if unknown:
            raise BadSamplesError(f"{spec.name}: arm: {min(unknown)!r} is no arm")


def _column(spec: MetricSpec, name: str, column: tuple[_T, ...], n: int, default: _T | None) -> tuple[_T, ...]:
    if len(column) == n:
        return column
    if column or default is None:
        raise BadSamplesError(f"{spec.name}: {name}: {len(column)} cells, value has {n}")
    return (default,) * n


def _panel(
    spec: MetricSpec,
    arm: Arm,
    columns: _Columns,
    rows: list[int],
    stratum_at: Mapping[str, int],
    le_at: Mapping[float, int],
    first: int,
    shape: tuple[int, int, int],
) -> Panel:
    replicas = sorted({columns.replica[i] for i in rows})
    replica_at = {name: i for i, name in enumerate(replicas)}
    index = (
        np.array([replica_at[columns.replica[i]] for i in rows]),
        np.array([stratum_at[columns.stratum[i]] for i in rows]),
        np.array([le_at[columns.le[i]] if spec.kind is Kind.LATENCY else 0 for i in rows]),
        np.array([columns.interval[i] - first for i in rows]),
    )
    where = f"{spec.name}: {arm.value}"
    full = (len(replicas), *shape)
    flat = np.ravel_multi_index(index, full)
    if len(np.unique(flat)) != len(flat):
        raise BadSamplesError(f"{where}: the same cell twice (replica, stratum, le) in one interval")
    value, total = np.full(full, np.nan), np.full(full, np.nan)
    value[index] = _numbers(f"{where} value", [columns.value[i] for i in rows])
    total[index] = [columns.total[i] for i in rows]
    if spec.kind is Kind.LATENCY:
        return Panel(value, _histogram_total(where, value, total, le_at))
    if spec.kind in COUNTS:
        _check_counts(where, spec, value, total)
    return Panel(value, np.ascontiguousarray(total[:, :, 0, :]))


def _numbers(where: str, column: list[float]) -> Floats:
    numbers = np.array(column, dtype=np.float64)
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


def _histogram_total(where: str, value: Floats, total: Floats, le_at: Mapping[float, int]) -> Floats:
    """Number of observations per (replica, stratum, interval): the +Inf bucket, else the given total."""
    if (value[~np.isnan(value)] < 0).any():
        raise BadSamplesError(f"{where} value: negative count")
    filled = np.fmax.accumulate(value, axis=2)
    if (value < filled - _ROUNDING * (1 + filled)).any():
        raise BadSamplesError(f"{where} value: bucket counts fall as le rises")
    infinite = le_at.get(np.inf)
    count = value[:, :, infinite, :] if infinite is not None else np.full(value[:, :, 0, :].shape, np.nan)
    given = np.fmax.reduce(total, axis=2)
    count = np.where(np.isnan(count), given, count)
    present = ~np.isnan(value).all(axis=2)
    if np.isnan(count[present]).any():
        raise BadSamplesError(f"{where} le: a histogram without its +Inf bucket")
    if (filled[:, :, -1, :][present] > count[present] * (1 + _ROUNDING) + _ROUNDING).any():
        raise BadSamplesError(f"{where} total: fewer observations than the buckets hold")
    return np.ascontiguousarray(count)
