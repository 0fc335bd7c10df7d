"""What happens to a deploy that is held: judged on where nobody called it worse yet; no hold ends unheard. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from analysis.result import Verdict
from watchdog.model import (
    Action,
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
from watchdog.tally import Tally
from watchdog.telling import and_paused, hold_severity, look_sentence, message, title
from watchdog.traffic_share import in_proportion
from watchdog.turns import cancelled, look_fields, source_messages, without_paths


def look_while_held(
    watch: Watch,
    fresh: Sequence[StoredLook],
    tally: Tally,
    verdict: Verdict,
    decision: Decision,
    held: Action | None,
    now: float,
) -> Change:
    """One more look at a deploy that may not go forward.

    Worse: it goes back, or is held for that with a page of its own. Its traffic as asked for again: it is watched on.
    Else it stays as it is, and only the look is recorded, and told whether the source went or is back.
    """
    fields = look_fields(watch, tally, verdict)
    change = Change(
        watch_id=watch.id,
        at=now,
        expect_state=State.HELD,
        expect_epoch=watch.epoch,
        fields=fields,
        looks=tuple(fresh),
        verdict=without_paths(verdict),
        messages=source_messages(watch, verdict),
    )
    if decision.kind is DecisionKind.ROLL_BACK and held is not None:
        return _turned(change, watch, verdict, decision, State.INTENT, _to_intent(held))
    if decision.kind is DecisionKind.HOLD and _is_graver(decision.hold, watch.hold):
        return _escalated(change, watch, verdict, decision)
    mended = watch.hold is HoldReason.SHARE_MISMATCH and in_proportion(watch, tally)
    if mended and not watch.is_over:
        why = f"{watch.deploy.version} gets the traffic that was asked for again; the watch goes on"
        on = _turned(change, watch, verdict, replace(decision, why=why), State.WATCHING, cancelled(held))
        return replace(on, fields={**on.fields, "generation": watch.generation + 1, "degraded_at": None})
    said = f"{verdict.sentence}; still held: {decision.why if decision.kind is DecisionKind.HOLD else watch.hold}"
    return replace(change, fields={**fields, "sentence": look_sentence(watch, said, next_look_s=None)})


def _is_graver(found: HoldReason | None, held: HoldReason | None) -> bool:
    """Whether a look brings up another reason than the one that holds. Traffic that is not as asked for goes with a
    promotion that failed: nobody goes on from there because it was put right, somebody has to have looked."""
    return found is not held and (found, held) != (HoldReason.SHARE_MISMATCH, HoldReason.PROMOTE_FAILED)


def held_expires(watch: Watch, held: Action | None, now: float, *, paused: bool = False) -> Change:
    """A hold that nobody decided ends loudly; in observe mode it ends as it began, as a note. paused: the roll-out."""
    stands = f"{watch.deploy.version} is still live"
    if watch.awaits_switch:
        stands = f"the switch to {watch.deploy.version} was not made, or failed; look which version is live"
    if held is not None and held.attempt:
        stands = f"attempt {held.attempt} of the rollback before that: {held.detail}; look which version is live"
    why = and_paused(f"nobody decided within {watch.plan.hold_s / 60:.0f} min; {stands}", paused=paused)
    quiet = hold_severity(watch, watch.hold) is Severity.INFO  # in mode observe
    kind, severity = (MessageKind.ENDED, Severity.INFO if quiet else Severity.PAGE)
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=State.HELD,
        expect_epoch=watch.epoch,
        to_state=State.CANCELLED,
        fields={"sentence": f"{title(watch)}: {why}"},
        action=cancelled(held),
        audit=(_entry(watch, "watch.hold_expired", State.CANCELLED, why, now),),
        messages=(message(watch, kind, severity, f"{title(watch)}: {why}", state=State.CANCELLED, key="ended"),),
    )


def _turned(
    change: Change,
    watch: Watch,
    verdict: Verdict,
    decision: Decision,
    to_state: State,
    action: ActionUpdate | None,
) -> Change:
    """Out of the hold: back, or on."""
    now = change.at
    back = to_state is State.INTENT
    said = f"{title(watch)}: {verdict.sentence}; {decision.why}"
    fields = {**change.fields, "sentence": said, "hold": None, "hold_until": None, "next_look_at": now}
    if back:
        fields["degraded_at"] = now
    told = replace(watch, **fields)
    kind, severity = (MessageKind.DEGRADED, Severity.WARNING) if back else (MessageKind.PROGRESS, Severity.INFO)
    return replace(
        change,
        to_state=to_state,
        fields=fields,
        verdict=verdict,
        action=action,
        audit=(_entry(watch, f"decision.{'roll_back' if back else 'wait'}", to_state, decision.why, now),),
        messages=(
            *change.messages,
            message(told, kind, severity, said, state=to_state, key=f"held:{watch.generation}:{verdict.look}"),
        ),
    )


def _escalated(change: Change, watch: Watch, verdict: Verdict, decision: Decision) -> Change:
    """Held for another, graver reason from now on; whoever slept through the first page gets a second one."""
    now = change.at
    said = f"{title(watch)}: {verdict.sentence}; {decision.why}"
    fields = {
        **change.fields,
        "sentence": said,
        "hold": decision.hold,
        "hold_until": now + watch.plan.hold_s,
        "degraded_at": now,
    }
    told: Message = message(
        replace(watch, **fields),
        MessageKind.HELD,
        hold_severity(watch, decision.hold),
        said,
        state=State.HELD,
        key=f"held:{verdict.look}",
    )
    entry = _entry(watch, f"decision.{DecisionKind.ESCALATE.value.lower()}", State.HELD, decision.why, now)
    return replace(change, fields=fields, verdict=verdict, audit=(entry,), messages=(*change.messages, told))


def _to_intent(held: Action) -> ActionUpdate:
    return ActionUpdate(id=held.id, expect=frozenset({ActionState.HELD}), to=ActionState.INTENT)


def _entry(watch: Watch, event: str, to_state: State, why: str, now: float) -> AuditEntry:
    return AuditEntry(
        at=now, watch_id=watch.id, actor="daemon", event=event, before=watch.state.value, after=to_state.value, why=why
    )
