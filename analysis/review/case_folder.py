"""A folder of recorded cases as frames. What a daemon would have done is not in it: actions and audit are empty."""

import json
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.cases import Case, read_cases
from analysis.hindsight import watch
from analysis.result import Design, JudgeSettings
from analysis.review.columns import ACTIONS, AUDIT, DEPLOYS, EVIDENCE, LABELS, SAMPLES, VERDICTS
from analysis.review.nouns import Stored, frame

_TRUTH = {"AA": "unchanged", "fault": "fault", "implant": "fault"}
_KNOWN = ("environment", "version", "previous_version", "mode")


class CaseFolder:
    """Frames from `cases.json` and the Parquet files beside it, read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def cases(self) -> dict[str, Case]:
        """By id, in the order of cases.json."""
        read = {case.id: case for case in read_cases(self.folder)}
        order = [str(one["id"]) for one in json.loads((self.folder / "cases.json").read_text(encoding="utf-8"))]
        return {name: read[name] for name in order}

    def _some(self, only: list[str] | None) -> list[Case]:
        return [case for name, case in self.cases.items() if only is None or name in set(only)]

    def deploys(self, only: list[str] | None) -> pd.DataFrame:
        return frame([_deploy(case) for case in self._some(only)], DEPLOYS, "id")

    def samples(self, only: list[str] | None) -> pd.DataFrame:
        parts = [_samples(case) for case in self._some(only)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(SAMPLES))

    def verdicts(self, only: list[str] | None) -> pd.DataFrame:
        rows = [
            {**said, "deploy": case.id, "at_s": (said["look"] + 1) * case.step_s}
            for case in self._some(only)
            if (said := case.meta.get("said")) is not None
        ]
        made = frame(rows, VERDICTS, ["deploy", "look"])
        return made.astype({"log_evidence": float, "log_threshold": float})

    def evidence(self, only: list[str] | None) -> pd.DataFrame:  # noqa: ARG002 (cases hold none)
        return frame([], EVIDENCE, ["deploy", "metric"])

    def actions(self, only: list[str] | None) -> pd.DataFrame:  # noqa: ARG002 (cases hold none)
        return frame([], ACTIONS, "id")

    def audit(self, only: list[str] | None) -> pd.DataFrame:  # noqa: ARG002 (cases hold none)
        return frame([], AUDIT)

    def labels(self, only: list[str] | None) -> pd.DataFrame:
        rows = [{"deploy": case.id, "label": word} for case in self._some(only) if (word := case.meta.get("label"))]
        return frame(rows, LABELS, "deploy")

    def paths(self, deploy: str) -> pd.DataFrame:
        """The evidence of each metric after every look, in ln, as it is judged now: cases hold none of then."""
        stored = self.stored(deploy)
        found = watch(stored.observation, stored.settings).evidence
        return pd.DataFrame({e.metric: pd.Series(e.path, dtype=float) for e in found if e.path}).rename_axis(
            index="look", columns="metric"
        )

    def queries(self, deploy: str) -> pd.DataFrame:  # noqa: ARG002 (cases hold none)
        return pd.DataFrame(columns=["query"]).rename_axis(index="metric")

    def stored(self, deploy: str) -> Stored:
        """Everything that the judge may know of a case (KeyError where there is none of this id)."""
        if deploy not in self.cases:
            raise KeyError(f"the ledger knows nothing of {deploy!r}")
        case = self.cases[deploy]
        return Stored(observation=case.unlabelled().observation(), settings=_settings(case), shares={})


def _settings(case: Case) -> JudgeSettings:
    known = {field.name for field in fields(JudgeSettings)}
    return JudgeSettings(**{name: value for name, value in (case.meta.get("settings") or {}).items() if name in known})


def _deploy(case: Case) -> dict[str, Any]:
    meta, settings = case.meta, _settings(case)
    said = meta.get("said") or {}
    return {
        **{name: meta.get(name) for name in _KNOWN},
        **{name: said.get(name) for name in ("verdict", "reason", "metric", "sentence")},
        "id": case.id,
        "service": meta.get("entity") or meta.get("dataset") or "cases",
        "strategy": meta.get("deploy_strategy") or ("canary" if case.design is Design.CONCURRENT else "direct"),
        "design": case.design.value,
        "state": str(meta["outcome"]).upper() if meta.get("outcome") else None,
        "looks": case.looks,
        "deployed_at": pd.NaT if meta.get("deploy_time") is None else pd.to_datetime(meta["deploy_time"], utc=True),
        "step_s": case.step_s,
        "planned_looks": settings.planned_looks,
        "budget": settings.budget,
        "truth": _TRUTH.get(str(meta.get("kind"))),
    }


def _samples(case: Case) -> pd.DataFrame:
    names = [spec.name for spec in case.metrics]
    interval = (case.rows["t"] // case.step_s).astype(int)
    return pd.DataFrame(
        {
            "deploy": case.id,
            "metric": [names[index] for index in case.rows["metric"]],
            "interval": interval,
            "at_s": (interval + 1) * case.step_s,
            **{name: case.rows[name] for name in SAMPLES if name in case.rows and name != "metric"},
        }
    ).reindex(columns=list(SAMPLES))
