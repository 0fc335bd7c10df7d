"""What the outcome of a smoke test, a switch or a promotion changes: forward, held, or over. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from watchdog.baking import bake
from watchdog.intended import percent, rollback_action, switch
from watchdog.model import (
    FINAL,
    GOES_FORWARD_IN,
    Action,
    ActionKind,
    ActionState,
    Follow,
    HoldReason,
    Message,
    MessageKind,
    Severity,
    State,
    Watch,
)
from watchdog.telling import ending, lasting, message, title

FORWARD = frozenset({ActionKind.SMOKE, ActionKind.SWITCH, ActionKind.PROMOTE})
STEERING = frozenset({ActionKind.PROMOTE, ActionKind.PAUSE, ActionKind.RESUME})
BESIDE = STEERING | {ActionKind.RESTORE_POINT}
PENDING = frozenset({ActionState.INTENT, ActionState.RUNNING, ActionState.RETRY_WAIT})
_DONE = frozenset({ActionState.APPLIED, ActionState.NOT_NEEDED})
_MAY_STAND = _DONE | {ActionState.RUNNING, ActionState.RETRY_WAIT, ActionState.UNKNOWN}
_MAY_NOT_HAVE = frozenset({ActionState.FAILED, ActionState.UNKNOWN, ActionState.CANCELLED})


def is_paused(actions: Sequence[Action]) -> bool:
    """Whether a roll-out that was paused has not surely been let go on; actions: oldest first, of any kind."""
    paces = [action for action in actions if action.kind in (ActionKind.PAUSE, ActionKind.RESUME)]
    if not paces:
        return False
    last = paces[-1]
    return last.state in (_MAY_STAND if last.kind is ActionKind.PAUSE else _MAY_NOT_HAVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """What the outcome of a forward action changes beside the action itself."""

    to_state: State | None = None
    fields: dict[str, object] | None = None
    new_action: Action | None = None
    messages: tuple[Message, ...] = ()
    then: Follow | None = None


def advance(watch: Watch, action: Action, state: ActionState, why: str, now: float) -> Advance:
    """What follows from the outcome of a forward action; of a watch that goes forward no more, where the traffic is."""
    if state in (ActionState.RETRY_WAIT, ActionState.CANCELLED, ActionState.INTENT):
        return Advance()
    if watch.state not in GOES_FORWARD_IN:
        return _came_late(watch, action, now) if state in _DONE else Advance()
    if action.kind is ActionKind.SMOKE:
        return _smoked(watch, state, why, now)
    if action.kind is ActionKind.SWITCH:
        return _switched(watch, state, why, now)
    return _promoted(watch, action, state, why, now)


def _smoked(watch: Watch, state: ActionState, why: str, now: float) -> Advance:
    if state is ActionState.APPLIED:
        return Advance(new_action=switch(watch, now))
    told = ending(watch, State.SMOKE_FAILED, f"{why}; the switch was not made")
    return Advance(to_state=State.SMOKE_FAILED, fields={"sentence": told.sentence}, messages=(told,))


def _switched(watch: Watch, state: ActionState, why: str, now: float) -> Advance:
    if state in _DONE:
        span = lasting(watch.plan.watch_s)
        said = f"{title(watch)}: all traffic is on {watch.deploy.version} now; watching for {span}"
        told = message(watch, MessageKind.PROGRESS, Severity.INFO, said, state=State.WATCHING, key="switched")
        first_look = now + watch.plan.step_s + watch.plan.settle_s
        fields: dict[str, object] = {"switched_at": now, "next_look_at": first_look, "sentence": said}
        return Advance(to_state=State.WATCHING, fields=fields, messages=(told,))
    return _hold(watch, HoldReason.SWITCH_FAILED, f"the switch to {watch.deploy.version}: {why}", now)


def _promoted(watch: Watch, action: Action, state: ActionState, why: str, now: float) -> Advance:
    share = float(action.params["share"])
    if state not in _DONE:
        return _hold(watch, HoldReason.PROMOTE_FAILED, f"the promotion to {percent(share)}: {why}", now)
    fields: dict[str, object] = {"step": int(action.params["step"]), "step_at": now}
    moved = replace(watch, step=int(action.params["step"]))
    lines = [str(line) for line in action.params["seen"]]
    if moved.next_share is None:
        said = f"promoted step by step, all traffic is on {watch.deploy.version}; {'; '.join(lines)}"
        fields["sentence"] = f"{title(moved)} passed: {said}"
        told = ending(moved, State.PASSED, said, seen=lines)
        return Advance(to_state=State.PASSED, fields=fields, messages=(told,), then=bake(moved, now))
    said = f"{title(moved)}: promoted from {percent(watch.share)}; {lines[-1]}"
    fields["sentence"] = said
    told = message(moved, MessageKind.PROGRESS, Severity.GOOD, said, key=f"step:{action.params['step']}")
    return Advance(fields=fields, messages=(told,))


def _came_late(watch: Watch, action: Action, now: float) -> Advance:
    """A hook that ran while its deploy was held, ended or sent back: nothing goes on from there, and what it did to the
    traffic is on record and told all the same."""
    if action.kind is ActionKind.PROMOTE:
        fields: dict[str, object] = {"step": int(action.params["step"]), "step_at": now}
        share = percent(float(action.params["share"]))
        moved = replace(watch, step=int(action.params["step"]))
    elif action.kind is ActionKind.SWITCH:
        # once there are looks their intervals are counted from where they are counted from
        fields = {"switched_at": now} if watch.looks == 0 else {}
        share, moved = percent(1.0), watch
    else:
        return Advance()
    stands = "it is held" if watch.state is State.HELD else "it goes back"
    stands = "it is watched no more" if watch.state in FINAL else stands
    said = (
        f"{title(moved)}: {action.deed} took effect, and {stands}: the share of {watch.deploy.version} is {share} now"
    )
    return Advance(
        fields=fields,
        messages=(message(moved, MessageKind.ACTION, Severity.WARNING, said, key=f"late:{action.id}"),),
    )


def _hold(watch: Watch, reason: HoldReason, why: str, now: float) -> Advance:
    sentence = f"{title(watch)}: {why}; nothing goes forward until somebody has looked"
    told = message(
        watch, MessageKind.HELD, Severity.PAGE, sentence, state=State.HELD, key=f"held:{reason.value}:{now:.0f}"
    )
    return Advance(
        to_state=State.HELD,
        fields={"hold": reason, "hold_until": now + watch.plan.hold_s, "sentence": sentence},
        new_action=rollback_action(watch, ActionState.HELD, now),
        messages=(told,),
    )
