"""Writes recorded deploys as cases, so that reading them back gives the judge the same numbers to the last bit."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.cases.facts import facts_told
from analysis.prepare import Cells, Observation
from analysis.result import Design, JudgeSettings, MetricSpec

if TYPE_CHECKING:
    import pandas as pd

_STRATEGIES = {Design.CONCURRENT: "concurrent", Design.BEFORE_AFTER: "prepost"}
_CASES_A_FILE = 200  # a file is read as a whole
_COLUMNS = ("case", "metric", "arm", "replica", "t", "value", "total", "le", "stratum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One deploy to write. told: more of it for cases.json, such as the service or the truth; not for the judge."""

    id: str
    observation: Observation
    settings: JudgeSettings
    told: Mapping[str, Any] = field(default_factory=dict)


def write_cases(folder: Path, recordings: Iterable[Recording]) -> int:
    """Write a case folder and return how many cases it has.

    Every row's `t` is the middle of its interval in seconds from the deploy: the place of an interval survives any
    step, which its very start would not (3 · 0.1 // 0.1 is 2). Values are float64.

    Raises
    ------
    FileExistsError
        There is something in the folder already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    described: list[dict[str, Any]] = []
    left = iter(recordings)
    while some := list(islice(left, _CASES_A_FILE)):
        frame = _frame(some)
        frame.to_parquet(folder / f"cases-{len(described) // _CASES_A_FILE:04d}.parquet", compression="zstd")
        described += [_described(one) for one in some]
    if not described:
        _frame([]).to_parquet(folder / "cases-0000.parquet")
    text = json.dumps(described, ensure_ascii=False, indent=1, allow_nan=False)
    (folder / "cases.json").write_text(text, encoding="utf-8")  # last: a folder without it is no case folder
    return len(described)


def _described(one: Recording) -> dict[str, Any]:
    seen = one.observation
    return {
        **one.told,
        "id": one.id,
        "strategy": _STRATEGIES[seen.design],
        "step_seconds": seen.step_s,
        "metrics": [_metric(spec) for spec in seen.metrics],
        "share": seen.share,
        "n_candidate_replicas": seen.candidate_expected,
        "looks": seen.looks,
        "absent_counts": "missing",
        "facts": facts_told(seen.facts),
        "settings": asdict(one.settings),
    }


def _metric(spec: MetricSpec) -> dict[str, Any]:
    told = {name: value for name, value in asdict(spec).items() if value is not None}
    return {**told, "kind": spec.kind.value, "direction": spec.direction.value, "judged_as": spec.kind.value}


def _frame(recordings: Sequence[Recording]) -> "pd.DataFrame":
    import pandas as pd

    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for one in recordings:
        numbers = {spec.name: index for index, spec in enumerate(one.observation.metrics)}
        for (name, interval), cells in _in_order(one.observation):
            if name in numbers:
                t = (interval + 0.5) * one.observation.step_s
                _append(columns, {"case": one.id, "metric": numbers[name], "t": t}, cells)
    texts = {name: pd.Categorical(columns[name]) for name in ("case", "arm", "replica", "stratum")}
    reals = {name: pd.Series(columns[name], dtype="float64") for name in ("t", "value", "total", "le")}
    return pd.DataFrame({**texts, "metric": pd.Series(columns["metric"], dtype="int32"), **reals})[list(_COLUMNS)]


def _in_order(seen: Observation) -> Iterator[tuple[tuple[str, int], Cells]]:
    yield from sorted(seen.samples.items(), key=lambda item: item[0])


def _append(columns: Mapping[str, list[Any]], place: Mapping[str, Any], cells: Cells) -> None:
    n = len(cells.value)
    for name, value in place.items():
        columns[name] += [value] * n
    gaps = {"replica": "", "stratum": ""}
    for name in ("arm", "replica", "stratum", "le", "value", "total"):
        column: tuple[Any, ...] = getattr(cells, name)
        columns[name] += column if len(column) == n else [gaps.get(name, float("nan"))] * n
