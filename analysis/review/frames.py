"""A ledger as pandas frames, read-only: deploys, samples, verdicts, evidence, actions, audit."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from analysis.result import Evidence

_CELLS = ("arm", "replica", "stratum", "le", "value", "total")


class Review:
    """One ledger, opened for reading only; a daemon may be writing to it meanwhile.

    Parameters
    ----------
    ledger
        The path of a SQLite ledger, or an SQLAlchemy URL.
    """

    def __init__(self, ledger: str | Path) -> None:
        self.engine = _open(ledger)

    def deploys(self) -> pd.DataFrame:
        """One row per deploy, newest last, indexed by its id: what it was, what became of it, what it cost."""
        rows = self.rows(
            "SELECT w.*, d.body AS deploy, p.body AS plan, d.deployed_at FROM watches w "
            "JOIN deploys d ON d.id = w.deploy_id JOIN plans p ON p.digest = w.plan_digest ORDER BY w.created_at, w.id"
        )
        return pd.DataFrame([_deploy_row(row) for row in rows]).set_index("id")

    def plan(self, watch_id: str) -> dict[str, Any]:
        """The settings that were frozen when the watch began."""
        row = self._row(
            "SELECT p.body FROM plans p JOIN watches w ON w.plan_digest = p.digest WHERE w.id = :watch", watch_id
        )
        found: dict[str, Any] = json.loads(row["body"])
        return found

    def deploy(self, watch_id: str) -> dict[str, Any]:
        """The deploy as it was announced."""
        row = self._row(
            "SELECT d.body FROM deploys d JOIN watches w ON w.deploy_id = d.id WHERE w.id = :watch", watch_id
        )
        found: dict[str, Any] = json.loads(row["body"])
        return found

    def moments(self, watch_id: str) -> dict[str, float]:
        """When things happened, in seconds after the deploy; NaN where they did not."""
        row = self._row(
            "SELECT w.degraded_at, w.recovered_at, d.deployed_at FROM watches w "
            "JOIN deploys d ON d.id = w.deploy_id WHERE w.id = :watch",
            watch_id,
        )
        start = row["deployed_at"]
        return {
            "deploy": 0.0,
            "degraded": _since(row["degraded_at"], start),
            "recovered": _since(row["recovered_at"], start),
        }

    def looks(self, watch_id: str) -> pd.DataFrame:
        """One row per closed interval, indexed by its number: what the source said about it."""
        rows = self.rows("SELECT interval, facts FROM looks WHERE watch_id = :watch ORDER BY interval", watch_id)
        return pd.DataFrame([{"interval": r["interval"], **json.loads(r["facts"])} for r in rows]).set_index("interval")

    def samples(self, watch_id: str) -> pd.DataFrame:
        """Every stored value, one row per (metric, interval, arm, replica, stratum, le).

        `at_s` is the interval's end in seconds after the deploy.
        """
        step_s = float(self.plan(watch_id)["step_s"])
        rows = self.rows(
            "SELECT interval, metric, cells FROM samples WHERE watch_id = :watch ORDER BY metric, interval", watch_id
        )
        parts = [_cells_frame(row, step_s) for row in rows]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["metric", "interval", *_CELLS])

    def levels(self, watch_id: str, metric: str) -> pd.DataFrame:
        """One metric per interval, one column per arm: bad share, rate, share of slow requests, or mean level."""
        kind = self.spec(watch_id, metric)["kind"]
        rows = self.samples(watch_id)
        mine = rows[rows["metric"] == metric]
        if kind in ("gauge", "trend"):
            return mine.pivot_table(index="at_s", columns="arm", values="value", aggfunc="mean")
        if kind == "latency":
            at_bound = mine[mine["le"] == slow_bound(mine)]
            mine = at_bound.assign(value=at_bound["total"] - at_bound["value"])
        value = mine.pivot_table(index="at_s", columns="arm", values="value", aggfunc="sum")
        total = mine.pivot_table(index="at_s", columns="arm", values="total", aggfunc="sum")
        return value / total.where(total > 0)

    def spec(self, watch_id: str, metric: str) -> dict[str, Any]:
        """What the judge was told about one metric."""
        specs: list[dict[str, Any]] = [m["spec"] for m in self.plan(watch_id)["metrics"]]
        return next(spec for spec in specs if spec["name"] == metric)

    def verdicts(self, watch_id: str) -> pd.DataFrame:
        """One row per look, indexed by the look's number: the judge's word and the evidence behind it, in ln."""
        rows = self.rows(
            "SELECT look, at, kind, reason, metric, log_evidence, log_threshold, sentence FROM verdicts "
            "WHERE watch_id = :watch ORDER BY id",
            watch_id,
        )
        return pd.DataFrame(rows).assign(at=lambda v: _times(v["at"])).set_index("look")

    def last_verdict(self, watch_id: str) -> dict[str, Any]:
        """The whole of the last verdict, as it was stored."""
        row = self._row("SELECT payload FROM verdicts WHERE watch_id = :watch ORDER BY id DESC LIMIT 1", watch_id)
        found: dict[str, Any] = json.loads(row["payload"])
        return found

    def evidence(self, watch_id: str) -> pd.DataFrame:
        """One row per metric of the last verdict: effect with interval, evidence, numbers behind it, sentence."""
        rows = [{k: v for k, v in e.items() if k != "path"} for e in self.last_verdict(watch_id)["evidence"]]
        frame = pd.DataFrame(rows).set_index("metric")
        floats = [field.name for field in fields(Evidence) if field.type is float]
        return frame.assign(**{name: frame[name].map(number).astype(float) for name in floats if name in frame})

    def paths(self, watch_id: str) -> pd.DataFrame:
        """The evidence of each metric after every look, in ln: one row per look, one column per metric."""
        found = self.last_verdict(watch_id)["evidence"]
        columns = {e["metric"]: pd.Series([number(x) for x in e["path"]], dtype=float) for e in found if e["path"]}
        return pd.DataFrame(columns).rename_axis(index="look", columns="metric")

    def actions(self, watch_id: str) -> pd.DataFrame:
        """Every production change that was intended for the deploy, with its attempts and outcome."""
        rows = self.rows("SELECT * FROM actions WHERE watch_id = :watch ORDER BY created_at", watch_id)
        return pd.DataFrame(rows)

    def audit(self, watch_id: str) -> pd.DataFrame:
        """Who did what and why, in order."""
        rows = self.rows(
            "SELECT at, actor, event, before, after, why FROM audit WHERE watch_id = :watch ORDER BY id", watch_id
        )
        return pd.DataFrame(rows).assign(at=lambda a: _times(a["at"]))

    def rows(self, query: str, watch_id: str | None = None) -> list[dict[str, Any]]:
        """Ask the ledger; `:watch` in the query is the watch's id."""
        with self.engine.connect() as connection:
            found = connection.execute(text(query), {"watch": watch_id} if watch_id is not None else {})
            return [dict(row) for row in found.mappings()]

    def _row(self, query: str, watch_id: str) -> dict[str, Any]:
        rows = self.rows(query, watch_id)
        if not rows:
            raise KeyError(f"the ledger knows nothing of {watch_id!r}")
        return rows[0]


def slow_bound(cells: pd.DataFrame) -> float:
    """The bucket bound just above the old version's 90th percentile, as the blast radius counts slow requests."""
    under = cells[cells["arm"] != "candidate"].groupby("le")["value"].sum()
    above = under.index[(under >= 0.9 * under.get(math.inf, math.nan)).to_numpy() & (under.index < math.inf)]
    return float(above.min()) if len(above) else math.inf


def number(value: float | str | None) -> float:
    """A stored number: null is NaN, and infinities are words."""
    return math.nan if value is None else float(value)


def _open(ledger: str | Path) -> Engine:
    if "://" in str(ledger):
        return create_engine(str(ledger))
    path = Path(ledger).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no ledger at {path}")
    return create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")


def _deploy_row(row: Mapping[str, Any]) -> dict[str, Any]:
    deploy, plan = json.loads(row["deploy"]), json.loads(row["plan"])
    told = ("service", "environment", "version", "previous_version", "strategy")
    kept = ("mode", "state", "verdict", "reason", "metric", "hold", "looks")
    costs = ("exposed_requests", "affected_requests", "total_requests", "sentence")
    return {
        "id": row["id"],
        **{name: deploy[name] for name in told},
        "design": plan["design"],
        **{name: row[name] for name in kept},
        "deployed_at": pd.Timestamp(row["deployed_at"], unit="s", tz="UTC"),
        "degraded_after_s": _since(row["degraded_at"], row["deployed_at"]),
        "recovered_after_s": _since(row["recovered_at"], row["deployed_at"]),
        **{name: row[name] for name in costs},
    }


def _since(at: float | None, start: float) -> float:
    return math.nan if at is None else at - start


def _cells_frame(row: Mapping[str, Any], step_s: float) -> pd.DataFrame:
    cells = json.loads(row["cells"])
    words = {name: cells[name] for name in ("arm", "replica", "stratum")}
    numbers = {name: [number(x) for x in cells[name]] for name in ("le", "value", "total")}
    told = {"metric": row["metric"], "interval": row["interval"], "at_s": (row["interval"] + 1) * step_s}
    return pd.DataFrame({**words, **numbers}).assign(**told)


def _times(at: "pd.Series[float]") -> "pd.Series[pd.Timestamp]":
    return pd.to_datetime(at, unit="s", utc=True)
