"""What an attempt came to, as one transaction: outcome, watch, audit and message together. Pure."""

from dataclasses import dataclass, replace

from watchdog.model import (
    Action,
    ActionKind,
    ActionState,
    ActionUpdate,
    AuditEntry,
    Change,
    HoldReason,
    MessageKind,
    Severity,
    State,
    Watch,
)
from watchdog.rollout import FORWARD, advance
from watchdog.telling import ending, message, title

RETRY_DELAYS_S = (1.0, 5.0, 20.0)

_WATCH_STATE = {
    ActionState.APPLIED: State.VERIFYING,
    ActionState.RETRY_WAIT: State.RETRY_WAIT,
    ActionState.FAILED: State.FAILED,
    ActionState.UNKNOWN: State.UNKNOWN,
    ActionState.INTENT: State.INTENT,
    ActionState.NOT_NEEDED: State.NOT_NEEDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt came to, and why, in one sentence."""

    state: ActionState
    why: str


def settlement(watch: Watch, action: Action, outcome: Outcome, now: float, *, paused: bool = False) -> Change:
    """The change that records an outcome. A rollback's watch moves along; other actions leave it where it is.

    paused: the roll-out is, which the end of the watch says.
    """
    delay = RETRY_DELAYS_S[min(max(action.attempt, 1), len(RETRY_DELAYS_S)) - 1]
    fields: dict[str, object] = {"detail": outcome.why}
    if outcome.state in (ActionState.RETRY_WAIT, ActionState.INTENT):
        fields["next_at"] = now + (delay if outcome.state is ActionState.RETRY_WAIT else 0.0)
    else:
        fields["finished_at"] = now
    if action.kind in FORWARD:
        return _forward_settled(watch, action, outcome, fields, now)
    if action.kind is ActionKind.LOOK_AHEAD:
        return _looked_ahead(watch, action, outcome, fields, now)
    if action.kind is ActionKind.SCHEMA:
        return _schema_told(watch, action, outcome, fields, now)
    to_state = _WATCH_STATE[outcome.state] if action.kind is ActionKind.ROLLBACK else None
    moved = replace(watch, state=to_state) if to_state is not None else watch
    sentence = f"{title(watch)}: {action.deed}: {outcome.why}"
    if action.kind is ActionKind.RESTORE_POINT and outcome.state in (ActionState.FAILED, ActionState.UNKNOWN):
        sentence += "; there may be no point in the data to go back to"
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=watch.state,
        to_state=to_state,
        fields={"sentence": sentence, "next_look_at": now},
        action=_settled(action, outcome, fields),
        audit=(_entry(action, outcome, now),),
        messages=(
            ending(moved, to_state, outcome.why, paused=paused)
            if to_state in (State.FAILED, State.NOT_NEEDED)
            else message(
                moved,
                MessageKind.ACTION,
                Severity.PAGE if outcome.state is ActionState.UNKNOWN else Severity.WARNING,
                sentence,
                key=f"action:{action.id}:{action.attempt}:{outcome.state.value.lower()}",
            ),
        ),
    )


def _looked_ahead(watch: Watch, action: Action, outcome: Outcome, fields: dict[str, object], now: float) -> Change:
    """What would be in the way of a rollback is told at once, while there is time to mend it; the watch goes on."""
    blocked = outcome.state is ActionState.FAILED
    said = f"going back to {action.to_version} would not work now: {outcome.why}"
    return _answered(watch, action, outcome, fields, now, said=said if blocked else "")


def _schema_told(watch: Watch, action: Action, outcome: Outcome, fields: dict[str, object], now: float) -> Change:
    """The schema's version is kept for the time of a rollback; only that it cannot be asked for is worth a word."""
    unknown = outcome.state in (ActionState.FAILED, ActionState.UNKNOWN)
    said = f"the schema's version cannot be told: {outcome.why}; a rollback will not be checked against it"
    return _answered(watch, action, outcome, fields, now, said=said if unknown else "")


def _answered(
    watch: Watch, action: Action, outcome: Outcome, fields: dict[str, object], now: float, *, said: str
) -> Change:
    """A question has its answer, and the watch goes on; said: what is worth a warning."""
    told = message(watch, MessageKind.ACTION, Severity.WARNING, f"{title(watch)}: {said}", key=f"action:{action.id}")
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=watch.state,
        action=_settled(action, outcome, fields),
        audit=(_entry(action, outcome, now),),
        messages=(told,) if said else (),
    )


def _forward_settled(watch: Watch, action: Action, outcome: Outcome, fields: dict[str, object], now: float) -> Change:
    """A smoke test, switch or promotion: the watch takes its next step, holds, or goes on as before."""
    found = advance(watch, action, outcome.state, outcome.why, now)
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=watch.state,
        to_state=found.to_state,
        fields=found.fields or {},
        new_action=found.new_action,
        action=_settled(action, outcome, fields),
        audit=(_entry(action, outcome, now),),
        messages=found.messages,
        then=found.then,
    )


def _settled(action: Action, outcome: Outcome, fields: dict[str, object]) -> ActionUpdate:
    return ActionUpdate(
        id=action.id, expect=frozenset({action.state}), to=outcome.state, fields=fields, fence=action.fence
    )


def _entry(action: Action, outcome: Outcome, now: float) -> AuditEntry:
    return AuditEntry(
        at=now,
        watch_id=action.watch_id,
        actor="daemon",
        event=f"action.{outcome.state.value.lower()}",
        before=action.state.value,
        after=outcome.state.value,
        why=outcome.why if action.kind is ActionKind.ROLLBACK else f"{action.deed}: {outcome.why}",
        details={"action": action.id, "attempt": action.attempt, "fence": action.fence},
    )


def held(watch: Watch, action: Action, reason: HoldReason, why: str, now: float) -> Change:
    """A rollback that may not go ahead, found before a claim of it: held aloud, so that it cannot go stale."""
    if action.attempt:
        why = f"{why}; attempt {action.attempt} before that: {action.detail}"
    before = _WATCH_STATE[action.state]  # not the watch's own: another daemon may have moved both since this was read
    sentence = f"{title(watch)}: {why}"
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=before,
        expect_newest=True,  # a newer deploy ends what is held, and not what waits for its next try
        to_state=State.HELD,
        fields={"sentence": sentence, "hold": reason, "hold_until": now + watch.plan.hold_s},
        action=ActionUpdate(id=action.id, expect=frozenset({action.state}), to=ActionState.HELD),
        audit=(
            AuditEntry(
                at=now,
                watch_id=watch.id,
                actor="daemon",
                event="action.held",
                before=before.value,
                after=State.HELD.value,
                why=why,
                details={"action": action.id},
            ),
        ),
        messages=(
            message(
                watch, MessageKind.HELD, Severity.PAGE, sentence, state=State.HELD, key=f"held:{action.id}:{now:.3f}"
            ),
        ),
    )
