"""The turns of the road as values: what a verdict and its decision change, in one transaction. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from analysis.result import Reason, Verdict
from watchdog.blast_radius import radius_fields
from watchdog.intended import pace, promotion, rollback_action
from watchdog.model import (
    Action,
    ActionKind,
    ActionState,
    ActionUpdate,
    AuditEntry,
    Change,
    Decision,
    DecisionKind,
    HoldReason,
    Message,
    MessageKind,
    Severity,
    State,
    StoredLook,
    Watch,
)
from watchdog.telling import ending, look_sentence, message, title

_ENDS = {DecisionKind.PASS: State.PASSED, DecisionKind.CONCLUDE: State.INCONCLUSIVE}
_PACES = {DecisionKind.PAUSE: ActionKind.PAUSE, DecisionKind.RESUME: ActionKind.RESUME}
_QUIET_HOLDS = {HoldReason.MODE_OBSERVE: Severity.INFO, HoldReason.MODE_NOTIFY: Severity.WARNING}


def look_recorded(
    watch: Watch,
    fresh: Sequence[StoredLook],
    history: Sequence[StoredLook],
    verdict: Verdict,
    decision: Decision,
    now: float,
    *,
    earlier: Sequence[Action] = (),
) -> Change:
    """Everything one look changes. `watch` already counts the fresh looks; `history` contains them.

    earlier: what was done beside judging so far (restore point, promotions, pauses), oldest first.
    """
    to_state = _next_state(decision)
    next_look_s = watch.plan.step_s if to_state is None else None
    told = verdict.sentence if to_state is None else f"{verdict.sentence}; {decision.why}"
    suspect = _suspect_data(watch, earlier) if decision.kind in (DecisionKind.ROLL_BACK, DecisionKind.HOLD) else ""
    told += suspect
    fields: dict[str, object] = {
        "looks": watch.looks,
        "sentence": look_sentence(watch, told, next_look_s=next_look_s),
        "verdict": verdict.kind.value,
        "reason": verdict.reason.value if verdict.reason is not None else None,
        "metric": verdict.metric,
    }
    fields |= radius_fields(_with(watch, fields), history)
    if decision.kind in (DecisionKind.ROLL_BACK, DecisionKind.HOLD):
        fields["degraded_at"] = now
    if decision.kind is DecisionKind.HOLD:
        fields |= {"hold": decision.hold, "hold_until": now + watch.plan.hold_s}
    told_watch = _with(watch, fields)
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=State.WATCHING,
        expect_epoch=watch.epoch,
        to_state=to_state,
        fields=fields,
        looks=tuple(fresh),
        verdict=verdict if to_state is not None else _without_paths(verdict),
        new_action=_intended(watch, decision, verdict, earlier, now),
        audit=_audit(watch, decision, to_state, verdict, now),
        messages=(*_source_messages(watch, verdict), *_turn_messages(told_watch, decision, to_state, verdict, suspect)),
    )


def held_expires(watch: Watch, held: Action | None, now: float) -> Change:
    """A hold that nobody decided ends loudly; in observe mode it ends as it began, as a note."""
    why = f"nobody decided within {watch.plan.hold_s / 60:.0f} min; {watch.deploy.version} is still live"
    quiet = watch.hold is HoldReason.MODE_OBSERVE
    kind, severity = (MessageKind.ENDED, Severity.INFO if quiet else Severity.PAGE)
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=State.HELD,
        expect_epoch=watch.epoch,
        to_state=State.CANCELLED,
        fields={"sentence": f"{title(watch)}: {why}"},
        action=_cancel(held),
        audit=(_entry(watch, "watch.hold_expired", State.CANCELLED, why, now),),
        messages=(message(watch, kind, severity, f"{title(watch)}: {why}", state=State.CANCELLED, key="ended"),),
    )


def superseded(watch: Watch, by: str, intended: Action | None, now: float) -> Change:
    """A newer deploy of the same service ends this watch; what it intended and nobody claimed is cancelled."""
    why = f"{by} was deployed meanwhile"
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=watch.state,
        to_state=State.SUPERSEDED,
        fields={"sentence": f"{title(watch)}: superseded, {why}"},
        action=_cancel(intended),
        audit=(_entry(watch, "watch.superseded", State.SUPERSEDED, why, now),),
        messages=(ending(watch, State.SUPERSEDED, why),),
    )


def _without_paths(verdict: Verdict) -> Verdict:
    """A verdict on the way is stored without its evidence paths: they recompute, and would grow with the square."""
    return replace(verdict, evidence=tuple(replace(evidence, path=()) for evidence in verdict.evidence))


def _next_state(decision: Decision) -> State | None:
    if decision.kind is DecisionKind.ROLL_BACK:
        return State.INTENT
    if decision.kind is DecisionKind.HOLD:
        return State.HELD
    return _ENDS.get(decision.kind)


def _intended(
    watch: Watch, decision: Decision, verdict: Verdict, earlier: Sequence[Action], now: float
) -> Action | None:
    if decision.kind is DecisionKind.PROMOTE:
        return promotion(watch, verdict, earlier, now)
    if decision.kind in _PACES:
        return pace(watch, _PACES[decision.kind], len(earlier), now)
    if decision.kind is DecisionKind.ROLL_BACK:
        return rollback_action(watch, ActionState.INTENT, now)
    if decision.kind is DecisionKind.HOLD:
        return rollback_action(watch, ActionState.HELD, now)
    return None


def _cancel(action: Action | None) -> ActionUpdate | None:
    if action is None:
        return None
    return ActionUpdate(id=action.id, expect=frozenset({action.state}), to=ActionState.CANCELLED)


def _with(watch: Watch, fields: dict[str, object]) -> Watch:
    return replace(watch, **fields)  # type: ignore[arg-type]


def _entry(watch: Watch, event: str, to_state: State, why: str, now: float) -> AuditEntry:
    return AuditEntry(
        at=now,
        watch_id=watch.id,
        actor="daemon",
        event=event,
        before=watch.state.value,
        after=to_state.value,
        why=why,
    )


def _audit(
    watch: Watch, decision: Decision, to_state: State | None, verdict: Verdict, now: float
) -> tuple[AuditEntry, ...]:
    if to_state is None and decision.kind is DecisionKind.WAIT:
        return ()
    entry = _entry(watch, f"decision.{decision.kind.value.lower()}", to_state or watch.state, decision.why, now)
    details = {"sentence": verdict.sentence, "look": verdict.look, "log_evidence": verdict.log_evidence}
    return (replace(entry, details=details),)


def _source_messages(watch: Watch, verdict: Verdict) -> tuple[Message, ...]:
    """Told once when the source goes, and once when it is back."""
    was_down = watch.reason == Reason.SOURCE_DOWN.value
    is_down = verdict.reason is Reason.SOURCE_DOWN
    if was_down == is_down:
        return ()
    kind = MessageKind.SOURCE_DOWN if is_down else MessageKind.SOURCE_BACK
    said = verdict.sentence if is_down else "the metrics are back"
    severity = Severity.WARNING if is_down else Severity.INFO
    return (message(watch, kind, severity, f"{title(watch)}: {said}", key=f"{kind.value}:{verdict.look}"),)


def _suspect_data(watch: Watch, earlier: Sequence[Action]) -> str:
    """Where the data was marked before: what was written since then, and the mark to go back to."""
    marks = [a for a in earlier if a.kind is ActionKind.RESTORE_POINT and a.state is ActionState.APPLIED]
    if not marks:
        return ""
    since = datetime.fromtimestamp(watch.live_at, UTC).strftime("%H:%M:%S UTC")
    return f"; data written since {since} is suspect, restore point: {marks[-1].detail}"


def _turn_messages(
    watch: Watch, decision: Decision, to_state: State | None, verdict: Verdict, suspect: str
) -> tuple[Message, ...]:
    if to_state is None:
        return ()
    told = f"{verdict.sentence}; {decision.why}{suspect}"
    if decision.kind in _ENDS:
        said = verdict.sentence if decision.kind is DecisionKind.PASS else told
        return (ending(watch, to_state, said),)
    if decision.kind is DecisionKind.ROLL_BACK:
        return (
            message(
                watch,
                MessageKind.DEGRADED,
                Severity.WARNING,
                f"{title(watch)}: {told}",
                state=to_state,
                key=f"degraded:{watch.generation}",
            ),
        )
    severity = _QUIET_HOLDS.get(decision.hold, Severity.PAGE) if decision.hold is not None else Severity.PAGE
    return (
        message(
            watch, MessageKind.HELD, severity, f"{title(watch)}: {told}", state=to_state, key=f"held:{verdict.look}"
        ),
    )
