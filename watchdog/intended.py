"""Intended actions: the way back, the switch, the next step. Each has an id that all its attempts share. Pure."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace

from analysis.result import Verdict
from analysis.sentence import seen
from watchdog.model import Action, ActionKind, ActionState, State, Watch

SCHEMA_KNOWN = "schema_known"  # parameter of a rollback that a human approved although the schema had changed
UNTIL_KNOWN = "until_known"  # the same, although the time in which going back was safe is over
DECLINED = "declined"  # parameter of a step that a human said no to


def rollback_action(watch: Watch, state: ActionState, now: float, *, generation: int | None = None) -> Action | None:
    """The rollback of a watch, with an id that every later attempt shares. None: no hook or nowhere to go."""
    generation = watch.generation if generation is None else generation
    if watch.plan.rollback_hook is None or watch.deploy.previous_version is None:
        return None
    seed = f"{watch.id}|{ActionKind.ROLLBACK.value}|{generation}"
    return Action(
        id=hashlib.sha256(seed.encode()).hexdigest()[:32],
        watch_id=watch.id,
        kind=ActionKind.ROLLBACK,
        state=state,
        hook=watch.plan.rollback_hook,
        service=watch.deploy.service,
        environment=watch.deploy.environment,
        from_version=watch.deploy.version,
        to_version=watch.deploy.previous_version,
        created_at=now,
        next_at=now,
        params={} if watch.deploy.train is None else {"train": watch.deploy.train},
    )


def first_actions(watch: Watch, now: float, *, looks_ahead: Collection[str] = ()) -> tuple[Action, ...]:
    """What a new deploy begins with: a mark in the data to go back to, what comes before our own switch, and a look at
    the way back. `looks_ahead`: the hooks that can say beforehand whether it is open."""
    restore, back = watch.plan.restore_hook, watch.plan.rollback_hook
    schema = watch.plan.schema_hook
    asked = None if schema is None else _forward(watch, ActionKind.SCHEMA, schema, now)
    mark = None if restore is None else _forward(watch, ActionKind.RESTORE_POINT, restore, now)
    ahead = None
    if back in looks_ahead and back is not None and watch.deploy.previous_version is not None:
        ahead = _backward(watch, ActionKind.LOOK_AHEAD, back, now)
    return tuple(action for action in (mark, asked, before_the_switch(watch, now), ahead) if action is not None)


def migrate_down(watch: Watch, now: float, *, earlier: int) -> Action | None:
    """The migration taken back; `earlier`: how often an operator asked for it before. None: there is no hook."""
    hook = watch.plan.migrate_down_hook
    return None if hook is None else _backward(watch, ActionKind.MIGRATE_DOWN, hook, now, step=earlier)


def before_the_switch(watch: Watch, now: float) -> Action | None:
    """The first action of a deploy that we switch ourselves: its smoke test, or the switch where there is none."""
    if watch.state is not State.SMOKE:
        return None
    if watch.plan.smoke_hook is not None:
        return _forward(watch, ActionKind.SMOKE, watch.plan.smoke_hook, now)
    return switch(watch, now)


def promotion(watch: Watch, verdict: Verdict, earlier: Sequence[Action], now: float) -> Action:
    """The intent to give the candidate its next share. It carries what would have been seen at every step so far."""
    steps, share = watch.plan.steps, watch.next_share
    if steps is None or share is None:
        raise ValueError(f"{watch.id} has no further step")
    before = [action for action in earlier if action.kind is ActionKind.PROMOTE]
    told = [line for action in before[-1:] for line in action.params.get("seen", ())]
    since = "at" if watch.step == 0 else "up to"  # the looks at smaller shares are part of what would have shown it
    params: dict[str, object] = {
        "share": share,
        "percent": round(100 * share, 6),
        "step": watch.step + 1,
        "seen": [*told, f"{since} {percent(watch.share)} {_would_have_seen(watch, verdict)}"],
    }
    again = sum(
        action.params.get("step") == watch.step + 1 for action in before
    )  # taken back while the deploy was held
    place = f"{watch.step + 1}" + (f".{again}" if again else "")
    return replace(_forward(watch, ActionKind.PROMOTE, steps.hook, now, step=place), params=params)


def pace(watch: Watch, kind: ActionKind, earlier: int, now: float) -> Action | None:
    """The intent to pause a roll-out or to let it go on; `earlier`: how often that was intended before."""
    hook = watch.plan.pause_hook
    return None if hook is None else _forward(watch, kind, hook, now, step=earlier)


def switch(watch: Watch, now: float) -> Action:
    if watch.plan.switch_hook is None:
        raise ValueError(f"{watch.id} has no switch of ours")
    return _forward(watch, ActionKind.SWITCH, watch.plan.switch_hook, now)


def percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:g} %"


def _backward(watch: Watch, kind: ActionKind, hook: str, now: float, *, step: int = 0) -> Action:
    forward = _forward(watch, kind, hook, now, step=step)
    return replace(forward, from_version=forward.to_version, to_version=forward.from_version)


def _forward(watch: Watch, kind: ActionKind, hook: str, now: float, *, step: int | str = 0) -> Action:
    return Action(
        id=hashlib.sha256(f"{watch.id}|{kind.value}|{step}".encode()).hexdigest()[:32],
        watch_id=watch.id,
        kind=kind,
        state=ActionState.INTENT,
        hook=hook,
        service=watch.deploy.service,
        environment=watch.deploy.environment,
        from_version=watch.deploy.previous_version or "",
        to_version=watch.deploy.version,
        created_at=now,
        next_at=now,
    )


def _would_have_seen(watch: Watch, verdict: Verdict) -> str:
    spec = next((m.spec for m in watch.plan.metrics if m.spec.name == verdict.metric), None)
    found = next((e for e in verdict.evidence if e.metric == verdict.metric), None)
    words = seen(spec, found) if spec is not None and found is not None else ""
    return words or "nobody could tell, with too little traffic"
