"""Watches, audit and verdicts as JSON values, for the API, the command and the pages alike."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from watchdog.clean_text import clean
from watchdog.model import RESTING, Action, ActionKind, AuditEntry, Label, Watch
from watchdog.ports import Ledger, StoredVerdict
from watchdog.recovery_steps import recovery_steps
from watchdog.telling import who


def recorded_json(ledger: Ledger, watch: Watch) -> dict[str, Any]:
    """One watch with everything that the ledger holds about it."""
    with ledger.snapshot():
        label = ledger.labels([watch.id]).get(watch.id)
        actions, audit = ledger.actions(watch_id=watch.id), ledger.audit(watch.id)
    return watch_json(watch, actions, audit, label)


def watch_json(
    watch: Watch, actions: Iterable[Action] = (), audit: Iterable[AuditEntry] = (), label: Label | None = None
) -> dict[str, Any]:
    """Everything a reader wants to know about one watch."""
    done = list(actions)
    starts = [a.started_at for a in done if a.kind is ActionKind.ROLLBACK and a.started_at is not None]
    told = {
        "hook_started_at": min(starts, default=None),
        "label": label_json(label),
        "recovery_steps": recovery_steps(watch, done),
        "timeline": timeline(watch, audit),
    }
    return watch_summary(watch) | _object(told)


def label_json(label: Label | None) -> dict[str, Any] | None:
    """What an analyst said of a verdict."""
    if label is None:
        return None
    return {"label": label.kind.value, "note": label.note, "actor": label.actor, "at": label.at}


def watch_summary(watch: Watch) -> dict[str, Any]:
    """Everything that is known without a look at actions and audit."""
    deploy = watch.deploy
    return _object(
        {
            "id": watch.id,
            "service": deploy.service,
            "environment": deploy.environment,
            "version": deploy.version,
            "previous_version": deploy.previous_version,
            "strategy": deploy.strategy.value,
            "mode": watch.mode.value,
            "state": watch.state.value,
            "outcome": watch.state.outcome if watch.state in RESTING else None,
            "verdict": watch.verdict,
            "reason": watch.reason,
            "metric": watch.metric,
            "sentence": watch.sentence,
            "hold": watch.hold.value if watch.hold is not None else None,
            "deployed_at": deploy.deployed_at,
            "received_at": deploy.received_at,
            "degraded_at": watch.degraded_at,
            "recovered_at": watch.recovered_at,
            "time_to_detect_s": _between(watch.live_at, watch.degraded_at),
            "time_to_recover_s": _between(watch.degraded_at, watch.recovered_at),
            "exposed_requests": _count(watch.exposed_requests),
            "affected_requests": _count(watch.affected_requests),
            "total_requests": _count(watch.total_requests),
            "next_look_at": watch.next_look_at,
            "looks": watch.looks,
            "share": watch.share,
            "train": deploy.train,
            "steps": list(watch.plan.steps.shares) if watch.plan.steps is not None else None,
        }
    )


def watch_lines(watch: Watch) -> str:
    """What a shell needs, a line each: the id, the outcome or `undecided`, the sentence."""
    outcome = watch.state.outcome if watch.state in RESTING else "undecided"
    return "".join(f"{clean(line)}\n" for line in (watch.id, outcome, watch.sentence))


def timeline(watch: Watch, audit: Iterable[AuditEntry]) -> list[dict[str, Any]]:
    """What happened, oldest first; it begins with the deploy itself."""
    deploy = watch.deploy
    was = f", before it {deploy.previous_version}" if deploy.previous_version else ""
    live = {"at": deploy.deployed_at, "event": "deployed", "text": f"{deploy.service} {deploy.version} went live{was}"}
    ordered = sorted(audit, key=lambda entry: entry.at)
    return [live, *({"at": e.at, "event": e.event, "text": _text(e)} for e in ordered)]


def audit_json(entry: AuditEntry) -> dict[str, Any]:
    """One line of the audit as it was written."""
    return _object(
        {
            "at": entry.at,
            "actor": entry.actor,
            "event": entry.event,
            "before": entry.before,
            "after": entry.after,
            "why": entry.why,
            "details": entry.details,
        }
    )


def evidence_json(watch_id: str, verdict: StoredVerdict | None) -> dict[str, Any]:
    """The last verdict with the evidence of every metric; `verdict` is null before the first look."""
    if verdict is None:
        return {"id": watch_id, "verdict": None}
    told = {
        "look": verdict.look,
        "at": verdict.at,
        "kind": verdict.kind,
        "reason": verdict.reason,
        "metric": verdict.metric,
        "log_evidence": verdict.log_evidence,
        "log_threshold": verdict.log_threshold,
        "sentence": verdict.sentence,
        "payload": verdict.payload,
    }
    return _object({"id": watch_id, "verdict": told})


def json_safe(value: Any) -> Any:
    """NaN and infinities have no word in JSON and become null; tuples become lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value


def _object(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: json_safe(value) for key, value in told.items()}


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 3)


def _count(requests: float) -> int:
    return round(requests) if math.isfinite(requests) else 0


def _text(entry: AuditEntry) -> str:
    """The reason given, with the turn it made, and by whom where that was not the daemon itself."""
    turn = (
        f"{entry.before} → {entry.after}"
        if entry.before and entry.after and entry.before != entry.after
        else entry.after
    )
    said = f"{turn}: {entry.why}" if turn and entry.why else turn or entry.why
    by = who(entry.actor) if entry.actor == "loopback" else entry.actor
    return said if by == "daemon" else f"{said} (by {by})"
