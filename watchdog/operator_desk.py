"""What a human may do to a watch: approve, deny, cancel, roll back, and pull the brake for everything."""

from dataclasses import dataclass, replace

from watchdog.errors import ConflictError, NotFoundError, RefusedError
from watchdog.intended import migrate_down, rollback_action
from watchdog.model import (
    Action,
    ActionKind,
    ActionState,
    ActionUpdate,
    AuditEntry,
    Change,
    Message,
    MessageKind,
    Severity,
    State,
    Watch,
)
from watchdog.ports import Clock, Ledger
from watchdog.telling import ending, message, title

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
        """Let a held rollback go ahead."""
        watch = self._find(deploy_id)
        held = self._held_action(watch)
        return self._move(watch, State.INTENT, "approve", actor, why, update=_to(held, ActionState.INTENT))

    def deny(self, deploy_id: str, *, actor: str, why: str = "") -> Watch:
        """Refuse a held rollback; the new version stays."""
        watch = self._find(deploy_id)
        if watch.state is not State.HELD:
            raise RefusedError(f"{title(watch)} is {watch.state.value}; only a HELD deploy can be denied")
        held = self.ledger.actions(watch_id=watch.id, states=_OPEN)
        update = _to(held[-1], ActionState.CANCELLED) if held else None
        return self._move(watch, State.CANCELLED, "deny", actor, why, update=update)

    def cancel(self, deploy_id: str, *, actor: str, why: str = "") -> Watch:
        """Stop watching; a rollback that nobody has started yet is cancelled with it."""
        watch = self._find(deploy_id)
        if watch.state not in (State.WATCHING, State.HELD, State.INTENT, State.UNKNOWN):
            raise RefusedError(f"{title(watch)} is {watch.state.value}; there is nothing to cancel")
        states = _OPEN | {ActionState.UNKNOWN}
        intended = self.ledger.actions(watch_id=watch.id, states=states)
        update = _to(intended[-1], ActionState.CANCELLED) if intended else None
        return self._move(watch, State.CANCELLED, "cancel", actor, why, update=update)

    def rollback(self, deploy_id: str, *, actor: str, why: str) -> Watch:
        """Roll back now, whatever the metrics say: a human asked."""
        watch = self._find(deploy_id)
        if watch.state is State.HELD and self.ledger.actions(watch_id=watch.id, states=_OPEN):
            return self.approve(deploy_id, actor=actor, why=why)
        if watch.state not in (State.WATCHING, State.HELD):
            raise RefusedError(f"{title(watch)} is {watch.state.value}; a rollback can no longer be started from here")
        intended = rollback_action(watch, ActionState.INTENT, self.clock.now())
        if intended is None:
            missing = "rollback hook" if watch.plan.rollback_hook is None else "previous version"
            raise RefusedError(f"{title(watch)} has no {missing}; there is nothing to roll back with")
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
        return self._record(watch, intended, actor, why)

    def pause(self, *, actor: str, why: str) -> None:
        """Pull the brake: no action is started any more, until resume."""
        self.ledger.set_paused(True, actor=actor, why=why, at=self.clock.now())

    def resume(self, *, actor: str, why: str) -> None:
        self.ledger.set_paused(False, actor=actor, why=why, at=self.clock.now())

    def paused(self) -> str | None:
        return self.ledger.paused()

    def _record(self, watch: Watch, intended: Action, actor: str, why: str) -> Watch:
        """An action that leaves the watch where it is."""
        now = self.clock.now()
        said = f"{title(watch)}: {intended.kind.value} by {actor}" + (f": {why}" if why else "")
        told = message(watch, MessageKind.ACTION, Severity.WARNING, said, key=f"asked:{intended.id}")
        moved = self.ledger.commit(
            Change(
                watch_id=watch.id,
                at=now,
                expect_state=watch.state,
                new_action=intended,
                audit=(_audit(watch, watch.state, intended.kind.value, actor, why, now),),
                messages=(told,),
            )
        )
        if not moved:
            raise ConflictError(f"{title(watch)} changed in the same moment; look again")
        return self._find(watch.id)

    def _find(self, deploy_id: str) -> Watch:
        watch = self.ledger.watch(deploy_id)
        if watch is None:
            raise NotFoundError(f"no deploy {deploy_id!r} is on record", permanent=True)
        return watch

    def _held_action(self, watch: Watch) -> Action:
        if watch.state is not State.HELD:
            raise RefusedError(f"{title(watch)} is {watch.state.value}; only a HELD deploy can be approved")
        held = self.ledger.actions(watch_id=watch.id, states=frozenset({ActionState.HELD}))
        if not held:
            raise RefusedError(f"{title(watch)} is held, but no rollback waits for approval ({watch.hold})")
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
        said = f"{verb} by {actor}" + (f": {why}" if why else "")
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
                    "sentence": f"{title(watch)}: {said}",
                    "hold": None,
                    "hold_until": None,
                    "next_look_at": now,
                    "degraded_at": degraded_at,
                },
                action=update,
                new_action=new_action,
                audit=(_audit(watch, to_state, verb, actor, why, now),),
                messages=(_told(watch, to_state, said, verb),),
            )
        )
        if not moved:
            raise ConflictError(f"{title(watch)} changed in the same moment; look again")
        return self._find(watch.id)


def _to(action: Action, state: ActionState) -> ActionUpdate:
    return ActionUpdate(id=action.id, expect=frozenset({action.state}), to=state)


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


def _told(watch: Watch, to_state: State, said: str, verb: str) -> Message:
    if to_state is State.CANCELLED:
        return ending(replace(watch, state=to_state), to_state, said)
    sentence = f"{title(watch)}: {said}; rolling back to {watch.deploy.previous_version}"
    key = f"operator:{verb}:{watch.generation}"
    return message(watch, MessageKind.ACTION, Severity.WARNING, sentence, state=to_state, key=key)
