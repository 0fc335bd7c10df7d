"""What the page of one deploy shows: the sentence, the evidence metric by metric, what was done, what was told."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.result import Design, Direction, Kind
from watchdog.model import FINAL, Action, Metric, State, Watch
from watchdog.moments import Moment, arm_names, asked_shares, moments, onset
from watchdog.ports import EvidencePoint, Ledger, StoredVerdict
from watchdog.series import Arms, Drawer, highest
from watchdog.web import scales
from watchdog.web.auth import Caller
from watchdog.web.charts import Line, Mark, Plot, chart, evidence_chart, interval_strip
from watchdog.web.deciding import buttons
from watchdog.web.events import events
from watchdog.web.views import recorded_json, watch_summary

_LN10 = math.log(10.0)
_AUDIT_SHOWN = 500
_MATES_SHOWN = 50
_NOTHING = 1e-6  # the lower end of an interval that reaches to zero is a rounding


def stamp(ledger: Ledger, watch: Watch, paused: str | None) -> str:
    """Everything that this page shows changes with one of these, all of them cheap to read."""
    label = ledger.labels([watch.id]).get(watch.id)
    told = [(row.id, state) for row, state in ledger.messages(watch.id)]
    done = [(a.id, a.state, a.attempt, a.detail) for a in ledger.actions(watch_id=watch.id)]
    mates = [(mate.id, mate.state) for mate in _train(ledger, watch)]
    return repr(
        (
            watch.state,
            watch.updated_at,
            watch.looks,
            watch.next_look_at,
            watch.sentence,
            label,
            told,
            done,
            mates,
            paused,
        )
    )


def deploy_model(ledger: Ledger, drawer: Drawer, watch: Watch, caller: Caller, paused: str | None) -> dict[str, Any]:
    """The whole page."""
    verdicts = ledger.verdicts(watch.id, last=1)
    verdict = verdicts[-1] if verdicts else None
    actions, audit = ledger.actions(watch_id=watch.id), ledger.audit(watch.id, limit=_AUDIT_SHOWN)
    marks = _marks(moments(watch, actions))
    return {
        "deploy": recorded_json(ledger, watch),
        "paused": paused,
        "every_s": watch.plan.step_s,
        "watch_s": watch.plan.watch_s,
        "migration": watch.deploy.migration,
        "hold_until": watch.hold_until if watch.state is State.HELD else None,
        "is_open": watch.state not in FINAL,
        "buttons": buttons(watch, caller, actions),
        "verdict": verdict,
        "notes": [str(note) for note in verdict.payload.get("notes", ())] if verdict is not None else [],
        "together": _together(watch, ledger.evidence_path(watch.id), marks),
        "metrics": _metrics(ledger, drawer, watch, verdict, marks),
        "steps": _steps(watch),
        "shares": _shares_chart(watch, actions, drawer.shares(watch), marks),
        "observed_share": _observed_share(watch),
        "mates": [watch_summary(mate) for mate in _train(ledger, watch) if caller.serves(mate.deploy.service)],
        "actions": actions,
        "events": events(watch, audit, ledger.messages(watch.id)),
    }


def _train(ledger: Ledger, watch: Watch) -> list[Watch]:
    """The others of its release train, in the order of their deploys; of a long one the newest."""
    if watch.deploy.train is None:
        return []
    others = ledger.train(watch.deploy.train, environment=watch.deploy.environment)
    return [mate for mate in others if mate.id != watch.id][-_MATES_SHOWN:]


def _marks(found: Iterable[Moment]) -> list[Mark]:
    return [Mark(x=moment.at_s, name=moment.name, look=moment.look) for moment in found]


def _together(watch: Watch, path: Sequence[EvidencePoint], marks: Sequence[Mark]) -> Any:
    """All metrics together against the budget; nothing before the first look."""
    if not path:
        return None
    threshold = path[-1].log_threshold / _LN10
    points = highest([p.log_evidence / _LN10 for p in path], step_s=watch.plan.step_s)
    last, peak = path[-1].log_evidence / _LN10, max((y for _, y in points if math.isfinite(y)), default=math.nan)
    says = (
        f"Evidence after {len(path)} looks is {scales.evidence(last)}, at most {scales.evidence(peak)}, "
        f"and the watchdog acts at {scales.evidence(threshold)}."
    )
    return evidence_chart("All metrics together", says, points, threshold, marks)


def _metrics(
    ledger: Ledger, drawer: Drawer, watch: Watch, verdict: StoredVerdict | None, marks: Sequence[Mark]
) -> list[dict[str, Any]]:
    """One entry a metric of the plan, the deciding one first."""
    said = verdict.payload.get("evidence", []) if verdict is not None else []
    by_name = {str(e.get("metric")): e for e in said}
    arms, paths = drawer.arms(watch, said), drawer.evidence(watch)
    look = ledger.last_look(watch.id)
    queries = look.queries if look is not None else {}
    ordered = sorted(watch.plan.metrics, key=lambda m: m.spec.name != watch.metric)
    return [
        _metric(
            watch,
            metric,
            by_name.get(metric.spec.name),
            arms[metric.spec.name],
            marks,
            paths.get(metric.spec.name, []),
        )
        | {
            "query": queries.get(metric.spec.name, ""),
            "decides": metric.spec.name == watch.metric and watch.degraded_at is not None,
        }
        for metric in ordered
    ]


def _metric(
    watch: Watch,
    metric: Metric,
    said: Mapping[str, Any] | None,
    arms: Arms,
    marks: Sequence[Mark],
    path: Sequence[float],
) -> dict[str, Any]:
    spec = metric.spec
    write = _writer(arms)
    own = [*marks, *_marks(onset(watch, said))]
    told: dict[str, Any] = {
        "name": spec.name,
        "kind": spec.kind.value,
        "what": f"requests slower than {arms.above:g} {spec.unit}".strip()
        if arms.above is not None
        else _unit(metric, arms),
        "arms": _arms_chart(watch, spec.name, arms, own, write),
        "path": None,
        "strip": None,
        "said": None,
    }
    span = [at for at, _ in (*arms.old, *arms.new)]
    return told if said is None else told | _evidence(watch, metric, said, own, write, span, path)


def _arms_chart(watch: Watch, name: str, arms: Arms, marks: Sequence[Mark], write: scales.Format) -> Any:
    old, new = arm_names(watch)
    says = "; ".join(
        f"{arm} from {write(min(levels))} to {write(max(levels))}" if levels else f"{arm} without data"
        for arm, levels in ((old, _finite(arms.old)), (new, _finite(arms.new)))
    )
    lines = [Line(name=old, look="baseline", points=arms.old), Line(name=new, look="candidate", points=arms.new)]
    return chart(Plot(title=name, says=says, lines=lines, marks=marks, write_y=write))


def _evidence(
    watch: Watch,
    metric: Metric,
    said: Mapping[str, Any],
    marks: Sequence[Mark],
    write: scales.Format,
    span: Sequence[float],
    path: Sequence[float],
) -> dict[str, Any]:
    real = {key: _real(said.get(key)) for key in _NUMBERS}
    threshold, now = real["log_threshold"] / _LN10, real["log_evidence"] / _LN10
    points = highest([v / _LN10 for v in path], step_s=watch.plan.step_s)
    says = f"{scales.evidence(now)} now; this metric alone would decide at {scales.evidence(threshold)}."
    is_ratio = said.get("effect_kind") == "ratio"
    interval = f"{_effect(real['effect_low'], is_ratio)} to {_effect(real['effect_high'], is_ratio)}"
    return {
        "path": evidence_chart(f"Evidence of {metric.spec.name}", says, points, threshold, marks, span=span)
        if points
        else None,
        "strip": interval_strip(
            says=f"{_effect(real['effect'], is_ratio)}, 95 % interval {interval}",
            effect=real["effect"],
            low=real["effect_low"],
            high=real["effect_high"],
            limit=_tolerated(watch, metric, is_ratio=is_ratio),
            ratio=is_ratio,
        ),
        "said": {
            "sentence": str(said.get("sentence") or ""),
            "note": str(said.get("note") or ""),
            "method": str(said.get("method") or ""),
            "effect": _effect(real["effect"], is_ratio) if math.isfinite(real["effect"]) else "",
            "interval": interval,
            "old_level": write(real["baseline_level"]),
            "new_level": write(real["candidate_level"]),
            "n_old": real["n_baseline"],
            "n_new": real["n_candidate"],
            "evidence": scales.evidence(now),
            "threshold": scales.evidence(threshold),
            "detectable": _detectable(said, real["detectable"]),
            "dispersion": scales.number(real["dispersion"]),
            "dispersion_from": str(said.get("dispersion_from") or ""),
        },
    }  # fmt: skip


def _detectable(said: Mapping[str, Any], effect: float) -> str:
    """The effect that would have been seen, as what its test measures."""
    kind = said.get("effect_kind")
    per = " an hour" if kind == "slope" else ""
    return _effect(effect, kind == "ratio") + per if math.isfinite(effect) else ""


_NUMBERS = (
    "log_evidence", "log_threshold", "effect", "effect_low", "effect_high", "baseline_level", "candidate_level",
    "n_baseline", "n_candidate", "detectable", "dispersion",
)  # fmt: skip


def _tolerated(watch: Watch, metric: Metric, *, is_ratio: bool) -> float:
    """The effect up to which the judge calls it no worse; a difference has no margin of its own."""
    if not is_ratio:
        return math.nan
    margin = metric.spec.margin if metric.spec.margin is not None else watch.plan.judge.margin
    return 1.0 - margin if metric.spec.direction is Direction.DOWN_IS_BAD else 1.0 + margin


def _unit(metric: Metric, arms: Arms) -> str:
    if arms.share:
        return "share of events that are bad"
    if metric.spec.kind is Kind.RATE:
        return "events per unit of exposure"
    return f"level, {metric.spec.unit}" if metric.spec.unit else "level"


def _writer(arms: Arms) -> scales.Format:
    return scales.percent if arms.share else scales.number


def _effect(value: float, is_ratio: bool) -> str:
    if not math.isfinite(value):
        return scales.number(value)
    value = 0.0 if abs(value) < _NOTHING else value
    return f"×{scales.number(value)}" if is_ratio else f"{'+' if value >= 0 else ''}{scales.number(value)}"


def _steps(watch: Watch) -> list[dict[str, Any]]:
    """The shares that this deploy goes through, where it grows by itself."""
    if watch.plan.steps is None:
        return []
    return [
        {"share": share, "is_done": i < watch.step, "is_now": i == watch.step}
        for i, share in enumerate(watch.plan.steps.shares)
    ]


def _shares_chart(
    watch: Watch, actions: Sequence[Action], seen: Sequence[tuple[float, float]], marks: Sequence[Mark]
) -> Any:
    """The new version's share of the traffic, asked for and seen; None where none was asked for."""
    asked = asked_shares(watch, actions, seen[-1][0] if seen else 0.0)
    if watch.plan.design is Design.BEFORE_AFTER or not asked or not seen:
        return None
    says = f"asked for at last {scales.percent(asked[-1][1])}, seen at last {scales.percent(seen[-1][1])}"
    lines = [Line(name="asked for", look="asked", points=asked), Line(name="seen", look="candidate", points=seen)]
    return chart(Plot(title="Traffic share", says=says, lines=lines, marks=marks, write_y=scales.percent))


def _observed_share(watch: Watch) -> float | None:
    """Of all requests since the deploy, those that the new version served; only while both serve."""
    if watch.plan.design is Design.BEFORE_AFTER or watch.total_requests <= 0 or watch.state is not State.WATCHING:
        return None
    return watch.exposed_requests / watch.total_requests


def _finite(points: Iterable[tuple[float, float]]) -> list[float]:
    return [y for _, y in points if math.isfinite(y)]


def _real(value: Any) -> float:
    """A number as the ledger stores it: null is NaN, infinities are words."""
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan
