"""A daemon's ledger as frames."""

import json
import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from analysis.prepare import Observation
from analysis.result import Design, JudgeSettings
from analysis.review.columns import ACTIONS, AUDIT, DEPLOYS, EVIDENCE, LABELS, SAMPLES, VERDICTS
from analysis.review.database import Database
from analysis.review.nouns import Json, Stored, cells_of, facts_of, frame, moment, number, spec_of

_DEPLOYS = """SELECT w.*, d.body AS deploy, p.body AS plan, d.deployed_at FROM watches w
JOIN deploys d ON d.id = w.deploy_id JOIN plans p ON p.digest = w.plan_digest WHERE {only}
ORDER BY w.created_at, w.id"""
_SAMPLES = """SELECT s.watch_id, s.metric, s.interval, s.cells FROM samples s WHERE {only}
ORDER BY s.watch_id, s.metric, s.interval"""
_VERDICTS = """SELECT v.watch_id, v.look, v.at, v.kind, v.reason, v.metric, v.log_evidence, v.log_threshold, v.sentence
FROM verdicts v WHERE {only} ORDER BY v.watch_id, v.id"""
_LAST = """SELECT v.watch_id, v.payload FROM verdicts v
WHERE {only} AND v.id = (SELECT MAX(n.id) FROM verdicts n WHERE n.watch_id = v.watch_id) ORDER BY v.watch_id"""
_PATHS = "SELECT e.body FROM evidence_paths e WHERE {only}"
_ACTIONS = "SELECT a.* FROM actions a WHERE {only} ORDER BY a.created_at, a.id"
_LABELS = "SELECT l.* FROM labels l WHERE {only} ORDER BY l.watch_id"
_AUDIT = """SELECT a.watch_id AS deploy, a.at, a.actor, a.event, a.before, a.after, a.why FROM audit a
WHERE {only} ORDER BY a.id"""
_FACTS = "SELECT l.interval, l.facts FROM looks l WHERE {only} ORDER BY l.interval"
_QUERIES = """SELECT COALESCE(q.body, l.queries) AS body FROM looks l LEFT JOIN query_texts q ON q.digest = l.queries
WHERE {only} ORDER BY l.interval DESC LIMIT 1"""
_COLUMNS = ("arm", "replica", "stratum", "le", "value", "total")
_DONE = ("APPLIED", "NOT_NEEDED")


class StoredLedger:
    """Frames from the daemon's tables; a daemon may be writing to them meanwhile."""

    def __init__(self, address: str) -> None:
        self.database = Database(address)

    def deploys(self, only: list[str] | None) -> pd.DataFrame:
        return frame([_deploy(row) for row in self.database.rows(_DEPLOYS, only)], DEPLOYS, "id")

    def samples(self, only: list[str] | None) -> pd.DataFrame:
        steps = self.deploys(only)["step_s"].to_dict()
        columns: dict[str, list[Any]] = {name: [] for name in SAMPLES}
        for row in self.database.rows(_SAMPLES, only, key="s.watch_id"):
            cells = json.loads(row["cells"])
            n, interval = len(cells["value"]), row["interval"]
            place = {"deploy": row["watch_id"], "metric": row["metric"], "interval": interval}
            for name, value in (place | {"at_s": (interval + 1) * steps[row["watch_id"]]}).items():
                columns[name] += [value] * n
            for name in _COLUMNS:
                columns[name] += cells[name] if len(cells[name]) == n else [None] * n
        numbers = {name: pd.Series(map(number, columns[name]), dtype="float64") for name in ("le", "value", "total")}
        return pd.DataFrame({**columns, **numbers}, columns=list(SAMPLES))

    def verdicts(self, only: list[str] | None) -> pd.DataFrame:
        deploys = self.deploys(only)
        steps = deploys["step_s"].to_dict()
        rows = [
            row
            | {"deploy": row["watch_id"], "verdict": row["kind"], "at": moment(row["at"])}
            | {"at_s": (row["look"] + 1) * steps[row["watch_id"]]}
            for row in self.database.rows(_VERDICTS, only, key="v.watch_id")
        ]
        made = frame(rows, VERDICTS, ["deploy", "look"])
        return made.astype({"log_evidence": float, "log_threshold": float})

    def evidence(self, only: list[str] | None) -> pd.DataFrame:
        rows = [
            {**one, "deploy": row["watch_id"]}
            for row in self.database.rows(_LAST, only, key="v.watch_id")
            for one in json.loads(row["payload"])["evidence"]
        ]
        made = frame(rows, EVIDENCE, ["deploy", "metric"])
        words = {"method", "effect_kind", "dispersion_from", "note", "sentence"}
        return made.assign(**{name: made[name].map(number).astype(float) for name in EVIDENCE if name not in words})

    def actions(self, only: list[str] | None) -> pd.DataFrame:
        rows = [
            row
            | {"deploy": row["watch_id"]}
            | {name: moment(row[name]) for name in ("created_at", "started_at", "finished_at")}
            for row in self.database.rows(_ACTIONS, only, key="a.watch_id")
        ]
        return frame(rows, ACTIONS, "id")

    def labels(self, only: list[str] | None) -> pd.DataFrame:
        rows = [
            row | {"deploy": row["watch_id"], "label": row["kind"], "at": moment(row["at"])}
            for row in self.database.rows(_LABELS, only, key="l.watch_id")
        ]
        return frame(rows, LABELS, "deploy")

    def audit(self, only: list[str] | None) -> pd.DataFrame:
        rows = [row | {"at": moment(row["at"])} for row in self.database.rows(_AUDIT, only, key="a.watch_id")]
        return frame(rows, AUDIT)

    def paths(self, deploy: str) -> pd.DataFrame:
        """The evidence of each metric after every look, in ln: one row per look, one column per metric."""
        stored = [json.loads(row["body"]) for row in self.database.rows(_PATHS, [deploy], key="e.watch_id")]
        if not stored:  # a ledger of before schema 0006 has them in its verdicts
            last = [json.loads(row["payload"]) for row in self.database.rows(_LAST, [deploy], key="v.watch_id")]
            stored = [{said["metric"]: said["path"] for said in verdict["evidence"]} for verdict in last]
        paths = stored[0] if stored else {}
        columns = {metric: pd.Series([number(x) for x in path], dtype=float) for metric, path in paths.items() if path}
        return pd.DataFrame(columns).rename_axis(index="look", columns="metric")

    def queries(self, deploy: str) -> pd.DataFrame:
        """What was asked of the source for the newest interval, one row per metric."""
        told = [json.loads(row["body"]) for row in self.database.rows(_QUERIES, [deploy], key="l.watch_id")]
        return pd.DataFrame({"query": told[0] if told else {}}).rename_axis(index="metric")

    def stored(self, deploy: str) -> Stored:
        """Everything that the judge was told about one deploy (KeyError where the ledger does not know it)."""
        row = next(iter(self.database.rows(_DEPLOYS, [deploy])), None)
        if row is None:
            raise KeyError(f"the ledger knows nothing of {deploy!r}")
        told, plan = json.loads(row["deploy"]), json.loads(row["plan"])
        facts = {
            int(r["interval"]): facts_of(r["facts"]) for r in self.database.rows(_FACTS, [deploy], key="l.watch_id")
        }
        samples = self.database.rows(_SAMPLES, [deploy], key="s.watch_id")
        announced = told["instances"].get("candidate")
        shares = self._shares(deploy, told, plan)
        seen = Observation(
            design=Design(plan["design"]),
            step_s=float(plan["step_s"]),
            metrics=tuple(spec_of(metric["spec"]) for metric in plan["metrics"]),
            samples={(r["metric"], r["interval"]): cells_of(r["cells"]) for r in samples},
            facts=facts,
            looks=max(facts, default=-1) + 1,
            share=shares[max(shares)] if shares else told["share"],
            candidate_expected=len(announced) if announced else None,
        )
        return Stored(observation=seen, settings=JudgeSettings(**plan["judge"]), shares=shares)

    def _shares(self, deploy: str, told: Json, plan: Json) -> dict[int, float | None]:
        """The share that was asked for when each verdict fell: a promotion counts once it is done."""
        verdicts = self.database.rows(_VERDICTS, [deploy], key="v.watch_id")
        if plan["steps"] is None:
            return {row["look"]: told["share"] for row in verdicts}
        done = [
            (row["finished_at"], int(json.loads(row["params"])["step"]))
            for row in self.database.rows(_ACTIONS, [deploy], key="a.watch_id")
            if row["kind"] == "promote" and row["state"] in _DONE and row["finished_at"] is not None
        ]
        return {row["look"]: plan["steps"]["shares"][_step(done, row["at"])] for row in verdicts}


def _step(done: Iterable[tuple[float, int]], at: float) -> int:
    return max((step for finished_at, step in done if finished_at < at), default=0)


def _deploy(row: Json) -> dict[str, Any]:
    deploy, plan = json.loads(row["deploy"]), json.loads(row["plan"])
    live_at = row["deployed_at"] if row["switched_at"] is None else row["switched_at"]
    return {
        **row,
        **{name: deploy[name] for name in ("version", "previous_version", "strategy")},
        "design": plan["design"],
        "deployed_at": moment(live_at),
        "degraded_after_s": _since(row["degraded_at"], live_at),
        "recovered_after_s": _since(row["recovered_at"], live_at),
        "step_s": plan["step_s"],
        "planned_looks": plan["judge"]["planned_looks"],
        "budget": plan["judge"]["budget"],
    }


def _since(at: float | None, start: float) -> float:
    return math.nan if at is None else at - start
