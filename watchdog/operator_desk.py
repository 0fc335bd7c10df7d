"""What a human may do to a watch: approve, deny, cancel, roll back, and pull the brake for everything."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from watchdog.errors import ConflictError, NotFoundError, RefusedError
from watchdog.intended import DECLINED, SCHEMA_KNOWN, UNTIL_KNOWN, migrate_down, rollback_action
from watchdog.model import (
    Action,
    ActionKind,
    ActionState,
    ActionUpdate,
    AuditEntry,
    Change,
    HoldReason,
    Message,
    MessageKind,
    Severity,
    State,
    Watch,
)
from watchdog.other_rollbacks import BY_HAND
from watchdog.policy import no_longer_safe
from watchdog.ports import Clock, Ledger
from watchdog.rollout import is_paused
from watchdog.telling import and_paused, ending, message, title, who
from watchdog.trains import ALONE

_OVERRIDES = {  # what an approval does not ask again
    HoldReason.TRAIN: {ALONE: True},
    HoldReason.MIGRATION: {SCHEMA_KNOWN: True, UNTIL_KNOWN: True},
}
_DONE = {"approve": "approved", "deny": "denied", "cancel": "stopped", "rollback": "rollback asked for"}
_OPEN = frozenset({ActionState.INTENT, ActionState.HELD})


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorDesk:
    """Every method records who and why, and answers with the watch as it stands afterwards.

    Raises NotFoundError for an unknown deploy, RefusedError where its state does not allow the request, and
    ConflictError where the watch changed in the same moment.
    """

    ledger: Ledger
    clock: Clock

    def approve(self, deploy_id: str, *, actor: str, why: str = "") -> Watch:
        """Let a held rollback go ahead, or the next step of a deploy that waits for it."""
        watch = self._find(deploy_id)
        if self._proposed(watch) is not None:
            return self.approve_step(deploy_id, actor=actor, why=why)
        # whoever approves has read in the hold that it was no longer safe, if it was not
        told = no_longer_safe(watch, watch.degraded_at or watch.created_at)
        return self._approve_rollback(watch, actor, why, {UNTIL_KNOWN: True} if told else {})

    def deny(self, deploy_id: str, *, actor: str, why: str = "") -> Watch:
        """Refuse a held rollback, and the new version stays; or the next step, and its share stays."""
        watch = self._find(deploy_id)
        if self._proposed(watch) is not None:
            return self.deny_step(deploy_id, actor=actor, why=why)
        if watch.state is not State.HELD:
            raise RefusedError(f"{title(watch)} is {watch.state.value}; only a HELD deploy can be denied")
        held = self._open(watch)
        update = _to(held[-1], ActionState.CANCELLED) if held else None
        return self._move(watch, State.CANCELLED, "deny", actor, why, update=update)

    def approve_step(self, deploy_id: str, *, actor: str, why: str = "") -> Watch:
        """Let the next step be taken, and nothing else, whatever has happened since."""
        return self._decide_step(deploy_id, "approve", ActionState.INTENT, actor, why)

    def deny_step(self, deploy_id: str, *, actor: str, why: str = "") -> Watch:
        """Refuse the next step: its share stays as it is, and it is watched to its end."""
        return self._decide_step(deploy_id, "deny", ActionState.CANCELLED, actor, why)

    def cancel(self, deploy_id: str, *, actor: str, why: str = "") -> Watch:
        """Stop watching; a rollback that nobody has started yet is cancelled with it."""
        watch = self._find(deploy_id)
        if watch.state not in (State.SMOKE, State.WATCHING, State.HELD, State.INTENT, State.UNKNOWN):
            raise RefusedError(f"{title(watch)} is {watch.state.value}; there is nothing to cancel")
        intended = self._open(watch, _OPEN | {ActionState.UNKNOWN})
        update = _to(intended[-1], ActionState.CANCELLED) if intended else None
        return self._move(watch, State.CANCELLED, "cancel", actor, why, update=update)

    def rollback(self, deploy_id: str, *, actor: str, why: str) -> Watch:
        """Roll back now, whatever the metrics say: a human asked."""
        watch = self._find(deploy_id)
        if watch.state is State.HELD and self._open(watch):
            return self._approve_rollback(watch, actor, why, {UNTIL_KNOWN: True})
        if watch.state not in (State.WATCHING, State.HELD):
            raise RefusedError(f"{title(watch)} is {watch.state.value}; a rollback can no longer be started from here")
        intended = rollback_action(watch, ActionState.INTENT, self.clock.now())
        if intended is None:
            missing = "rollback hook" if watch.plan.rollback_hook is None else "previous version"
            raise RefusedError(f"{title(watch)} has no {missing}; there is nothing to roll back with")
        alone = {ALONE: True} if watch.deploy.train is not None else {}  # this one was asked for, not its train
        intended = replace(intended, params={**intended.params, BY_HAND: True, UNTIL_KNOWN: True} | alone)
        return self._move(watch, State.INTENT, "rollback", actor, why, new_action=intended)

    def migrate_down(self, deploy_id: str, *, actor: str, why: str = "") -> Watch:
        """Take the deploy's migration back; the code stays until the held rollback is approved."""
        watch = self._find(deploy_id)
        if watch.state is not State.HELD:
            raise RefusedError(
                f"{title(watch)} is {watch.state.value}; a migration is taken back only while it is HELD"
            )
        earlier = [a for a in self.ledger.actions(watch_id=watch.id) if a.kind is ActionKind.MIGRATE_DOWN]
        if any(a.state in (ActionState.INTENT, ActionState.RUNNING, ActionState.RETRY_WAIT) for a in earlier):
            raise RefusedError(f"the migration of {title(watch)} is being taken back already")
        intended = migrate_down(watch, self.clock.now(), earlier=len(earlier))
        if intended is None:
            raise RefusedError(f"{title(watch)} has no migrate_down_hook; the migration has to be taken back by hand")
        return self._record(watch, intended.kind.value, actor, why, new_action=intended)

    def pause(self, *, actor: str, why: str) -> None:
        """Pull the brake: no action is started any more, until resume."""
        self.ledger.set_paused(True, actor=actor, why=why, at=self.clock.now())

    def resume(self, *, actor: str, why: str) -> None:
        self.ledger.set_paused(False, actor=actor, why=why, at=self.clock.now())

    def paused(self) -> str | None:
        return self.ledger.paused()

    def _record(
        self,
        watch: Watch,
        verb: str,
        actor: str,
        why: str,
        *,
        of: Action | None = None,
        to: ActionState = ActionState.INTENT,
        new_action: Action | None = None,
    ) -> Watch:
        """What leaves the watch where it is: a new action, or a word about one that waits."""
        now = self.clock.now()
        deed = verb if of is None else f"{verb} the {of.deed}"
        said = f"{title(watch)}: {deed}, by {who(actor)}" + (f": {why}" if why else "")
        about = new_action.id if new_action is not None else f"{now:.3f}"
        told = message(watch, MessageKind.ACTION, Severity.WARNING, said, key=f"asked:{about}")
        entry = _audit(watch, watch.state, verb, actor, why, now)
        moved = self.ledger.commit(
            Change(
                watch_id=watch.id,
                at=now,
                expect_state=watch.state,
                new_action=new_action,
                action=_said_of(of, to) if of is not None else None,
                audit=(replace(entry, details={"action": of.id, "deed": of.deed}) if of is not None else entry,),
                messages=(told,),
            )
        )
        if not moved:
            raise ConflictError(f"{title(watch)} changed in the same moment; look again")
        return self._find(watch.id)

    def _approve_rollback(self, watch: Watch, actor: str, why: str, known: Mapping[str, bool]) -> Watch:
        """known: what the rollback is not asked about again, beside what it was held for."""
        held = self._held_action(watch)
        override = _OVERRIDES.get(watch.hold, {}) if watch.hold is not None else {}
        params = {**held.params, BY_HAND: True, **override, **known}
        return self._move(
            watch, State.INTENT, "approve", actor, why, update=_to(held, ActionState.INTENT, params=params)
        )

    def _decide_step(self, deploy_id: str, verb: str, to: ActionState, actor: str, why: str) -> Watch:
        watch = self._find(deploy_id)
        proposed = self._proposed(watch)
        if proposed is None:
            raise RefusedError(f"{title(watch)} is {watch.state.value}; no step of it waits for approval")
        return self._record(watch, verb, actor, why, of=proposed, to=to)

    def _proposed(self, watch: Watch) -> Action | None:
        """The next step, where it waits for a human."""
        if watch.state is not State.WATCHING:
            return None
        held = self.ledger.actions(watch_id=watch.id, states=frozenset({ActionState.HELD}))
        return next((action for action in held if action.kind is ActionKind.PROMOTE), None)

    def _open(self, watch: Watch, states: frozenset[ActionState] = _OPEN) -> list[Action]:
        """Rollbacks that nobody has started, or whose outcome nobody knows."""
        found = self.ledger.actions(watch_id=watch.id, states=states)
        return [action for action in found if action.kind is ActionKind.ROLLBACK]

    def _find(self, deploy_id: str) -> Watch:
        watch = self.ledger.watch(deploy_id)
        if watch is None:
            raise NotFoundError(f"no deploy {deploy_id!r} is on record", permanent=True)
        return watch

    def _held_action(self, watch: Watch) -> Action:
        if watch.state is not State.HELD:
            raise RefusedError(f"{title(watch)} is {watch.state.value}; only a HELD deploy can be approved")
        held = self._open(watch, frozenset({ActionState.HELD}))
        if not held:
            why = "its service has no rollback_hook" if watch.plan.rollback_hook is None else f"held by {watch.hold}"
            raise RefusedError(f"{title(watch)} is held, but no rollback waits for approval: {why}")
        return held[-1]

    def _move(
        self,
        watch: Watch,
        to_state: State,
        verb: str,
        actor: str,
        why: str,
        *,
        update: ActionUpdate | None = None,
        new_action: Action | None = None,
    ) -> Watch:
        now = self.clock.now()
        said = f"{_DONE[verb]} by {who(actor)}" + (f": {why}" if why else "")
        paused = to_state is State.CANCELLED and is_paused(self.ledger.actions(watch_id=watch.id))
        degraded_at = watch.degraded_at
        if to_state is State.INTENT and degraded_at is None:
            degraded_at = now
        moved = self.ledger.commit(
            Change(
                watch_id=watch.id,
                at=now,
                expect_state=watch.state,
                to_state=to_state,
                fields={
                    "sentence": f"{title(watch)}: {and_paused(said, paused=paused)}",
                    "hold": None,
                    "hold_until": None,
                    "next_look_at": now,
                    "degraded_at": degraded_at,
                },
                action=update,
                new_action=new_action,
                audit=(_audit(watch, to_state, verb, actor, why, now),),
                messages=(_told(watch, to_state, said, f"operator:{verb}:{now:.3f}", paused=paused),),
            )
        )
        if not moved:
            raise ConflictError(f"{title(watch)} changed in the same moment; look again")
        return self._find(watch.id)


def _said_of(step: Action, to: ActionState) -> ActionUpdate:
    """A human's word about a step that waits; one that was declined is not proposed again."""
    return _to(step, to, params={**step.params, DECLINED: True}) if to is ActionState.CANCELLED else _to(step, to)


def _to(action: Action, state: ActionState, **fields: object) -> ActionUpdate:
    return ActionUpdate(id=action.id, expect=frozenset({action.state}), to=state, fields=fields)


def _audit(watch: Watch, to_state: State, verb: str, actor: str, why: str, now: float) -> AuditEntry:
    return AuditEntry(
        at=now,
        watch_id=watch.id,
        actor=actor,
        event=f"operator.{verb}",
        before=watch.state.value,
        after=to_state.value,
        why=why,
    )


def _told(watch: Watch, to_state: State, said: str, key: str, *, paused: bool) -> Message:
    if to_state is State.CANCELLED:
        return ending(replace(watch, state=to_state), to_state, said, paused=paused)
    sentence = f"{title(watch)}: {said}; rolling back to {watch.deploy.previous_version}"
    return message(watch, MessageKind.ACTION, Severity.WARNING, sentence, state=to_state, key=key)
