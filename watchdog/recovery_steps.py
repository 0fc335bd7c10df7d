"""What to do now about a deploy that needs a human: step by step, with the commands. Pure."""

from collections.abc import Sequence

from watchdog.model import Action, ActionKind, ActionState, HoldReason, State, Watch
from watchdog.telling import utc

_LOUD = frozenset({State.HELD, State.FAILED, State.UNKNOWN, State.NOT_RECOVERED})
_FORWARD_ONLY = frozenset({"contract", "irreversible", "unknown"})


def recovery_steps(watch: Watch, actions: Sequence[Action]) -> list[str]:
    """What is left to do, in order; nothing where the deploy goes on by itself or ended well."""
    steps: list[str] = []
    if watch.state in _LOUD:
        steps += _code(watch)
        steps += _schema(watch, actions)
    if watch.state in _LOUD | {State.ROLLED_BACK}:
        steps += _data(watch, actions)
    return steps


def _code(watch: Watch) -> list[str]:
    """Which version shall serve."""
    deploy, ask = watch.deploy, f"deploy-watchdog {{}} {watch.id}"
    can_go_back = watch.plan.rollback_hook is not None and deploy.previous_version is not None
    if watch.state is State.UNKNOWN:
        return [
            f"Nobody knows whether the rollback took effect: look which version of {deploy.service} serves.",
            f"Once you know and have set it right: `{ask.format('cancel')}`.",
        ]
    if watch.state in (State.FAILED, State.NOT_RECOVERED):
        return [
            (
                f"Look which version of {deploy.service} serves, and put {deploy.previous_version or 'a good version'} "
                "back by hand: the watchdog tries no further."
            ),
            f"Then look at the hook {watch.plan.rollback_hook}: its output is in the timeline.",
        ]
    if deploy.migration in _FORWARD_ONLY or watch.hold is HoldReason.MIGRATION:
        first = "Fix forward, or switch the new feature off: going back may do harm."
        back = f"Only if you are sure that {deploy.previous_version} works with the schema: `{ask.format('approve')}`."
        return [first, back] if can_go_back else [first]
    stay = f"To stay on {deploy.version}: `{ask.format('deny')}`."
    if watch.awaits_switch:
        look = f"The switch to {deploy.version} was not made, or failed: look which version of {deploy.service} serves."
        back = f"To put all traffic on {deploy.previous_version}: `{ask.format('approve')}`."
        leave = f"To leave the traffic where it is: `{ask.format('deny')}`."
        return [look, back, leave] if can_go_back else [look, leave]
    if not can_go_back:
        return [
            f"The watchdog has no way back ({_lack(watch)}): put a good version of {deploy.service} back by hand.",
            stay,
        ]
    return [f"To go back to {deploy.previous_version}: `{ask.format('approve')}`.", stay]


def _lack(watch: Watch) -> str:
    return "no rollback_hook" if watch.plan.rollback_hook is None else "no previous version is known"


def _schema(watch: Watch, actions: Sequence[Action]) -> list[str]:
    if watch.deploy.migration == "none" or watch.plan.migrate_down_hook is None or watch.state is not State.HELD:
        return []
    done = [a for a in actions if a.kind is ActionKind.MIGRATE_DOWN and a.state is ActionState.APPLIED]
    if done:
        return [f"The migration was taken back: {done[-1].detail}. Now the code can go back."]
    return [(f"To take the migration back first, while {watch.deploy.version} can live without it: "
            f"`deploy-watchdog migrate-down {watch.id}`.")]  # fmt: skip


def _data(watch: Watch, actions: Sequence[Action]) -> list[str]:
    marks = [a for a in actions if a.kind is ActionKind.RESTORE_POINT and a.state is ActionState.APPLIED]
    if not marks:
        return []
    until = f" until {utc(watch.recovered_at)}" if watch.recovered_at is not None else ""
    return [
        (
            f"Data written from {utc(watch.live_at)}{until} by {watch.deploy.version} is suspect; "
            f"the restore point before it: {marks[-1].detail}."
        ),
        (
            "Recover a copy beside production to that point (PostgreSQL: recovery_target_name, "
            "recovery_target_action = 'promote'), compare, and bring over what is wrong; restoring production itself "
            "loses what was written since."
        ),
    ]
