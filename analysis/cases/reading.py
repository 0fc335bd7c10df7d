"""Recorded cases: `cases.json` and the Parquet files beside it, as the judge gets them.

Rows of a metric with a `total` are counts, and an interval without rows had no requests: it is read as 0 of 0. Rows
without are levels, and an absent row is a missing sample. A case that an export wrote says more of itself: which test
each metric got (`judged_as`), what was known of every interval (`facts`), how many were closed (`looks`), and that an
absent count was not zero (`absent_counts: "missing"`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.cases.cells import cut, silent
from analysis.cases.facts import facts_of, put_together
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Design, Direction, Kind, MetricSpec

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_DESIGNS = {"concurrent": Design.CONCURRENT, "prepost": Design.BEFORE_AFTER}
_OPTIONAL = ("margin", "margin_tell", "floor", "weight", "critical", "slo_le", "slower_by", "limit", "configured_share")
_COLUMNS = ("case", "metric", "arm", "replica", "t", "value")
_MORE_COLUMNS = ("total", "le", "stratum")
_KNOWN_TO_THE_JUDGE = ("share", "n_candidate_replicas", "absent_counts")


class BadCasesError(ValueError):
    """The folder is no case folder, or something in it cannot be what it claims to be; the message says what."""


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded deploy, ready for the judge. `meta` holds all of cases.json, the truth included: not for him."""

    id: str
    meta: Mapping[str, Any]
    design: Design
    step_s: float
    metrics: tuple[MetricSpec, ...]
    rows: "pd.DataFrame"
    facts: Mapping[int, LookFacts] = field(default_factory=dict)
    closed: int | None = None  # intervals that were closed, where the case says so

    @property
    def looks(self) -> int:
        """How many intervals were recorded since the deploy; time goes on where only the old version reports."""
        if self.closed is not None:
            return self.closed
        times = self.rows["t"][self.rows["t"] >= 0]
        return int(times.max() // self.step_s) + 1 if len(times) else 0

    def unlabelled(self) -> "Case":
        """The case without its name and without its truth: all that a judge may be handed."""
        told = {key: self.meta[key] for key in _KNOWN_TO_THE_JUDGE if key in self.meta}
        return replace(self, id="", meta=told)

    def samples(self, step_s: float | None = None) -> dict[tuple[str, int], Cells]:
        """All cells by metric name and interval; another step than the recorded one puts intervals together."""
        return dict(cut(self.rows, self.metrics, step_s or self.step_s))

    def observation(self, looks: int | None = None, *, steps: int = 1) -> Observation:
        """What the judge may know after some looks: nothing of later intervals, nothing of the case's truth.

        `steps` recorded intervals make one look; a look that was not recorded whole is not closed.
        """
        step_s, closed = self.step_s * steps, self.looks // steps
        known = closed if looks is None else min(looks, closed)
        samples = {key: cells for key, cells in self.samples(step_s).items() if key[1] < known}
        if self.meta.get("absent_counts") != "missing":
            samples |= silent(samples, self.metrics, self._arms, known)
        return Observation(
            design=self.design,
            step_s=step_s,
            metrics=self.metrics,
            samples=samples,
            facts={i: fact for i, fact in put_together(self.facts, steps).items() if i < known},
            looks=known,
            share=self.meta.get("share"),
            candidate_expected=self.meta.get("n_candidate_replicas", 1),  # a recorded deploy was announced
        )

    @property
    def _arms(self) -> tuple[Arm, ...]:
        """The arms that are alive after the deploy."""
        return (Arm.CANDIDATE,) if self.design is Design.BEFORE_AFTER else (Arm.BASELINE, Arm.CANDIDATE)


def read_cases(folder: Path, *, datasets: Iterable[str] | None = None) -> Iterator[Case]:
    """Read every case of a folder: `cases.json` and all Parquet files beside it, one file in memory at a time.

    Cases that are described and have no rows come last, empty.

    Raises
    ------
    BadCasesError
        The folder is no case folder, or something in it cannot be what it claims to be.
    """
    described = read_descriptions(folder)
    wanted = None if datasets is None else set(datasets)
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise BadCasesError(f"{folder} has no Parquet file beside cases.json")
    seen: set[str] = set()
    for path in files:
        frame = _frame(path)
        unknown = [name for name in map(str, frame["case"].unique()) if name not in described]
        if unknown:
            raise BadCasesError(f"{path}: case {unknown[0]!r} is not described in cases.json")
        kept = [name for name in frame["case"].unique() if _asked(described[str(name)], wanted)]
        frame = _whole(path, frame[frame["case"].isin(kept)])
        places = frame.groupby("case", sort=False, observed=True).indices
        frame = frame.drop(columns="case")
        nothing = frame.iloc[:0]
        for name in sorted(map(str, kept)):
            if name in seen:
                raise BadCasesError(f"{path}: case {name!r} has rows in another Parquet file too")
            seen.add(name)
            yield _case(described[name], frame.iloc[places[name]] if name in places else nothing)
    yield from (_case(meta, nothing) for name, meta in described.items() if name not in seen and _asked(meta, wanted))


def _asked(meta: Mapping[str, Any], datasets: set[str] | None) -> bool:
    return datasets is None or meta.get("dataset") in datasets


def read_descriptions(folder: Path) -> dict[str, Mapping[str, Any]]:
    """All of cases.json by id, the truth of each case included (BadCasesError)."""
    if not folder.is_dir():
        raise BadCasesError(f"there is no folder {folder}")
    try:
        cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
        described = {str(case["id"]): case for case in cases}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadCasesError(f"{folder} is no case folder: cases.json: {error}") from None
    if len(described) != len(cases):
        raise BadCasesError(f"{folder}: cases.json describes a case twice")
    return described


def _case(meta: Mapping[str, Any], rows: "pd.DataFrame") -> Case:
    try:
        design = _DESIGNS[meta["strategy"]]
        step_s = float(meta["step_seconds"])
        counted, bounded = _formats(rows)
        metrics = tuple(
            _spec(described, counted=index in counted, bounded=index in bounded)
            for index, described in enumerate(meta["metrics"])
        )
        facts = facts_of(meta.get("facts", ()))
        closed = None if meta.get("looks") is None else int(meta["looks"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadCasesError(f"case {meta.get('id')!r}: {error!r} in cases.json") from None
    if not step_s > 0 or len({spec.name for spec in metrics}) != len(metrics):
        raise BadCasesError(f"case {meta['id']!r}: its step must be positive, its metric names unique")
    if not rows["metric"].between(0, len(metrics) - 1).all():
        raise BadCasesError(f"case {meta['id']!r}: rows of a metric that cases.json does not describe")
    twice = rows[rows.duplicated(["metric", "arm", "replica", "stratum", "le", "t"])]
    if len(twice):
        name, arm, t = metrics[twice["metric"].iloc[0]].name, twice["arm"].iloc[0], twice["t"].iloc[0]
        raise BadCasesError(f"case {meta['id']!r}: {name}: {arm}: two values at t = {t:g} s")
    return Case(str(meta["id"]), meta, design, step_s, metrics, rows, facts, closed)


def _formats(rows: "pd.DataFrame") -> tuple[set[int], set[int]]:
    """Which metrics come with their exposure, and which with bucket bounds."""
    metric = rows["metric"].to_numpy()
    counted, bounded = (set(metric[rows[name].notna().to_numpy()].tolist()) for name in ("total", "le"))
    return counted, bounded


def _spec(described: Mapping[str, Any], *, counted: bool, bounded: bool) -> MetricSpec:
    """Read a metric's description; a series without exposure is a level, whatever it once counted."""
    unit = str(described.get("unit") or "")
    told = described.get("judged_as")
    kind = Kind(told) if told is not None else _kind(str(described["kind"]), unit, counted=counted, bounded=bounded)
    given = {key: described[key] for key in _OPTIONAL if described.get(key) is not None}
    direction = Direction(described.get("direction") or Direction.UP_IS_BAD)
    return MetricSpec(name=str(described["name"]), kind=kind, direction=direction, unit=unit, **given)


def _kind(told: str, unit: str, *, counted: bool, bounded: bool) -> Kind:
    if bounded:
        return Kind.LATENCY
    if counted and told == Kind.LABELS:
        return Kind.LABELS
    if counted:  # a ratio's events are some of its exposure; a rate's are not
        return Kind.RATE if told == Kind.RATE or unit.startswith("events per") else Kind.RATIO
    return Kind.TREND if told == Kind.TREND else Kind.GAUGE


def _frame(path: Path) -> "pd.DataFrame":
    """One Parquet file as it is."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise BadCasesError(f"{path} cannot be read: {error}") from None
    missing = [name for name in _COLUMNS if name not in frame]
    if missing:
        raise BadCasesError(f"{path} lacks the columns {', '.join(missing)}")
    known = (*_COLUMNS, *_MORE_COLUMNS)
    for name in map(str, frame.columns):  # a misspelt `total` would turn counts into levels
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise BadCasesError(f"{path} has an unknown column {name!r}; {hint}")
    return frame


def _whole(path: Path, frame: "pd.DataFrame") -> "pd.DataFrame":
    """One file's rows as the types they should have (BadCasesError)."""
    try:
        return _typed(frame)
    except (TypeError, ValueError):
        for name, rows in frame.groupby("case", sort=True, observed=True):
            try:
                _typed(rows)
            except (TypeError, ValueError) as error:
                raise BadCasesError(f"{path}: case {name!r}: {error}") from None
        raise


def _typed(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Rows with the optional columns filled in, without rows that are no numbers."""
    import numpy as np

    texts = {name: _shared(rows[name].astype(str)) for name in ("case", "arm", "replica")}
    numbers = {name: rows[name].astype("float64") if name in rows else np.nan for name in ("t", "value", "total", "le")}
    stratum = _shared(rows["stratum"].astype(object).fillna("").astype(str)) if "stratum" in rows else ""
    whole = rows[["metric"]].astype(int).assign(**texts, **numbers, stratum=stratum)
    kept: pd.DataFrame = whole[np.isfinite(whole["value"]) & np.isfinite(whole["t"]) & ~np.isinf(whole["total"])]
    return kept


def _shared(texts: "pd.Series[str]") -> "np.ndarray[tuple[int], np.dtype[np.object_]]":
    """Texts as objects of which equal ones are one and the same: quick to compare, hash and hand to another process."""
    import numpy as np

    codes, different = texts.factorize()
    shared: np.ndarray[tuple[int], np.dtype[np.object_]] = np.asarray(different, dtype=object)[codes]
    return shared
