"""A stored watch judged again: the same samples and settings through the same judge as the daemon's."""

import json
from collections.abc import Mapping
from typing import Any

from analysis.judge import judge
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Design, Direction, JudgeSettings, Kind, MetricSpec, SourceStatus, Verdict
from analysis.review.frames import Review, number


def replay(review: Review, watch_id: str, *, looks: int | None = None, **changed: Any) -> Verdict:
    """Judge a stored watch again.

    Parameters
    ----------
    review
        The ledger.
    watch_id
        The deploy's id.
    looks
        Judge as after this many looks; all of them by default.
    **changed
        Judge settings to try instead of the frozen ones, e.g. ``budget=0.001``.

    Returns
    -------
    Verdict
        With the frozen settings and all looks: the stored verdict, evidence equal within 1e-9 (in ln).
    """
    settings = JudgeSettings(**{**review.plan(watch_id)["judge"], **changed})
    return judge([observation_of(review, watch_id, looks=looks)], [settings])[0]


def observation_of(review: Review, watch_id: str, *, looks: int | None = None) -> Observation:
    """What the judge knew of a watch, from the ledger's rows."""
    plan, deploy = review.plan(watch_id), review.deploy(watch_id)
    rows = review.rows("SELECT interval, facts FROM looks WHERE watch_id = :watch", watch_id)
    cells = review.rows("SELECT interval, metric, cells FROM samples WHERE watch_id = :watch", watch_id)
    facts = {int(row["interval"]): _facts(json.loads(row["facts"])) for row in rows}
    closed = max(facts, default=-1) + 1
    judged = closed if looks is None else min(looks, closed)
    announced = deploy["instances"].get("candidate")
    return Observation(
        design=Design(plan["design"]),
        step_s=float(plan["step_s"]),
        metrics=tuple(_spec(metric["spec"]) for metric in plan["metrics"]),
        samples={(r["metric"], r["interval"]): _cells(json.loads(r["cells"])) for r in cells if r["interval"] < judged},
        facts={interval: fact for interval, fact in facts.items() if interval < judged},
        looks=judged,
        share=deploy["share"],
        candidate_expected=len(announced) if announced else None,
    )


def _spec(told: Mapping[str, Any]) -> MetricSpec:
    return MetricSpec(**{**told, "kind": Kind(told["kind"]), "direction": Direction(told["direction"])})


def _facts(told: Mapping[str, Any]) -> LookFacts:
    return LookFacts(**{**told, "status": SourceStatus(told["status"])})


def _cells(told: Mapping[str, Any]) -> Cells:
    return Cells(
        arm=tuple(told["arm"]),
        replica=tuple(told["replica"]),
        stratum=tuple(told["stratum"]),
        le=tuple(map(number, told["le"])),
        value=tuple(map(number, told["value"])),
        total=tuple(map(number, told["total"])),
    )
