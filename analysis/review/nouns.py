"""Stored texts as the nouns of the core: what the judge was told about one deploy."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Direction, JudgeSettings, Kind, MetricSpec, SourceStatus

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One deploy as the judge knew it after its last look, and the shares of its traffic at earlier looks."""

    observation: Observation
    settings: JudgeSettings
    shares: Mapping[int, float | None]  # by look, where a verdict was stored


class Store(Protocol):
    """Where deploys are kept. Frames have the columns of `columns`; `only` restricts them to some deploys."""

    def deploys(self, only: list[str] | None) -> pd.DataFrame: ...
    def samples(self, only: list[str] | None) -> pd.DataFrame: ...
    def verdicts(self, only: list[str] | None) -> pd.DataFrame: ...
    def evidence(self, only: list[str] | None) -> pd.DataFrame: ...
    def actions(self, only: list[str] | None) -> pd.DataFrame: ...
    def labels(self, only: list[str] | None) -> pd.DataFrame: ...
    def audit(self, only: list[str] | None) -> pd.DataFrame: ...
    def paths(self, deploy: str) -> pd.DataFrame: ...
    def queries(self, deploy: str) -> pd.DataFrame: ...
    def stored(self, deploy: str) -> Stored: ...


def number(value: float | str | None) -> float:
    """A stored number: null is NaN, and infinities are words.

    >>> number("inf"), number(2)
    (inf, 2.0)
    """
    return math.nan if value is None else float(value)


def spec_of(told: Json) -> MetricSpec:
    return MetricSpec(**{**told, "kind": Kind(told["kind"]), "direction": Direction(told["direction"])})


def facts_of(text: str) -> LookFacts:
    told = json.loads(text)
    return LookFacts(**{**told, "status": SourceStatus(told["status"])})


def cells_of(text: str) -> Cells:
    told = json.loads(text)
    return Cells(
        arm=tuple(told["arm"]),
        replica=tuple(told["replica"]),
        stratum=tuple(told["stratum"]),
        le=tuple(map(number, told["le"])),
        value=tuple(map(number, told["value"])),
        total=tuple(map(number, told["total"])),
    )


def frame(rows: list[dict[str, Any]], columns: Mapping[str, str], index: list[str] | str | None = None) -> pd.DataFrame:
    """A frame of these columns in this order, also where there is no row; other keys of the rows are left out."""
    names = [*([index] if isinstance(index, str) else index or []), *columns]
    made = pd.DataFrame([{name: row.get(name) for name in names} for row in rows], columns=names)
    return made if index is None else made.set_index(index)


def moment(at: Any) -> Any:
    """Unix seconds as a moment in UTC; NaT where there is none."""
    return pd.NaT if at is None or at != at else pd.Timestamp(at, unit="s", tz="UTC")  # noqa: PLR0124 (NaN)
