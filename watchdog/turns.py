"""The turns of the road as values: what a verdict and its decision change, in one transaction. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from analysis.result import Reason, Verdict
from analysis.sentence import WORTH_KNOWING
from watchdog.baking import bake
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
    Message,
    MessageKind,
    Severity,
    State,
    StoredLook,
    Watch,
)
from watchdog.rollout import is_paused
from watchdog.tally import Tally
from watchdog.telling import (
    and_paused,
    ending,
    found_worse,
    hold_severity,
    look_sentence,
    message,
    reasons,
    title,
)

_ENDS = {DecisionKind.PASS: State.PASSED, DecisionKind.CONCLUDE: State.INCONCLUSIVE}
_PACES = {DecisionKind.PAUSE: ActionKind.PAUSE, DecisionKind.RESUME: ActionKind.RESUME}


def look_recorded(
    watch: Watch,
    fresh: Sequence[StoredLook],
    tally: Tally,
    verdict: Verdict,
    decision: Decision,
    now: float,
    *,
    earlier: Sequence[Action] = (),
) -> Change:
    """Everything one look changes. `watch` already counts the fresh looks, as `tally` does.

    earlier: what was done beside judging so far (restore point, promotions, pauses), oldest first.
    """
    to_state = _next_state(decision)
    paused = is_paused(earlier) and decision.kind in _ENDS
    next_look_s = watch.plan.step_s if to_state is None else None
    told = verdict.sentence if to_state is None else f"{verdict.sentence}; {and_paused(decision.why, paused=paused)}"
    suspect = _suspect_data(watch, earlier) if decision.kind in (DecisionKind.ROLL_BACK, DecisionKind.HOLD) else ""
    told += suspect
    if any(look.facts.frozen for look in fresh):
        told += f"; {watch.deploy.previous_version} is gone, and its time before the deploy stands in for it"
    fields = look_fields(watch, tally, verdict) | {"sentence": look_sentence(watch, told, next_look_s=next_look_s)}
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
        then=bake(told_watch, now) if to_state is State.PASSED else None,
        verdict=verdict if to_state is not None else without_paths(verdict),
        new_action=_intended(watch, decision, verdict, earlier, now),
        audit=_audit(watch, decision, to_state, verdict, now),
        messages=(
            *source_messages(watch, verdict),
            *_turn_messages(told_watch, decision, to_state, verdict, suspect, paused=paused),
        ),
    )


def look_fields(watch: Watch, tally: Tally, verdict: Verdict) -> dict[str, object]:
    """What one look says of its watch, whatever follows from it."""
    fields: dict[str, object] = {
        "looks": watch.looks,
        "verdict": verdict.kind.value,
        "reason": verdict.reason.value if verdict.reason is not None else None,
        "metric": verdict.metric,
    }
    return fields | tally.radius_fields(_with(watch, fields))


def superseded(watch: Watch, by: str, intended: Action | None, now: float) -> Change:
    """A newer deploy of the same service ends this watch; what it intended and nobody claimed is cancelled."""
    why = f"{by} was deployed meanwhile"
    said = f"superseded, {why}"
    if (found := found_worse(watch)) is not None:
        stood = "nobody decided" if watch.state is State.HELD else "its rollback had not begun"
        why = said = f"{found}, {stood}; {why}"
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=watch.state,
        to_state=State.SUPERSEDED,
        fields={"sentence": f"{title(watch)}: {said}"},
        action=cancelled(intended),
        audit=(_entry(watch, "watch.superseded", State.SUPERSEDED, why, now),),
        messages=(ending(watch, State.SUPERSEDED, why),),
    )


def without_paths(verdict: Verdict) -> Verdict:
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
        state = ActionState.INTENT if decision.hold is None else ActionState.HELD
        return replace(promotion(watch, verdict, earlier, now), state=state)
    if decision.kind in _PACES:
        return pace(watch, _PACES[decision.kind], len(earlier), now)
    if decision.kind is DecisionKind.ROLL_BACK:
        return rollback_action(watch, ActionState.INTENT, now)
    if decision.kind is DecisionKind.HOLD:
        return rollback_action(watch, ActionState.HELD, now)
    return None


def cancelled(action: Action | None) -> ActionUpdate | None:
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


def source_messages(watch: Watch, verdict: Verdict) -> tuple[Message, ...]:
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


def _proposal(watch: Watch, decision: Decision, verdict: Verdict) -> Message:
    """A step that a human must approve; until then the deploy stays where it is, and is watched on."""
    return message(
        watch,
        MessageKind.PROGRESS,
        Severity.WARNING,
        f"{title(watch)}: {verdict.sentence}; {decision.why}",
        key=f"proposed:{watch.step + 1}",
        choices=["approve", "deny"],
    )


def _turn_messages(
    watch: Watch, decision: Decision, to_state: State | None, verdict: Verdict, suspect: str, *, paused: bool
) -> tuple[Message, ...]:
    if to_state is None and decision.kind is DecisionKind.PROMOTE and decision.hold is not None:
        return (_proposal(watch, decision, verdict),)
    if to_state is None:
        return ()
    told = f"{verdict.sentence}; {decision.why}{suspect}"
    facts = reasons(watch, verdict)
    if decision.kind in _ENDS:
        said = verdict.sentence if decision.kind is DecisionKind.PASS else told
        if worth_knowing := [note for note in verdict.notes if note.startswith(WORTH_KNOWING)]:
            facts["worth_knowing"] = worth_knowing
        return (ending(watch, to_state, said, paused=paused, **facts),)
    if decision.kind is DecisionKind.ROLL_BACK:
        return (
            message(
                watch,
                MessageKind.DEGRADED,
                Severity.WARNING,
                f"{title(watch)}: {told}",
                state=to_state,
                key=f"degraded:{watch.generation}",
                **facts,
            ),
        )
    severity = hold_severity(watch, decision.hold)
    return (
        message(
            watch,
            MessageKind.HELD,
            severity,
            f"{title(watch)}: {told}",
            state=to_state,
            key=f"held:{verdict.look}",
            **facts,
        ),
    )
