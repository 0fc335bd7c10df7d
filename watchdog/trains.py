"""Release trains: deploys that were sent out together end together, and go back in the reverse order of their deploys.

A rollback of one is a rollback of all that still go on; each is an action of its own. Where one cannot go back, those
deployed before it stay too, for it was built on them: held, with the reason, until a human says otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from watchdog.bad_target import target_worse_at
from watchdog.intended import rollback_action
from watchdog.model import (
    DEFAULT_LIMITS,
    STILL_JUDGED,
    Action,
    ActionKind,
    ActionState,
    ActionUpdate,
    AuditEntry,
    Change,
    Decision,
    DecisionKind,
    HoldReason,
    Limits,
    MessageKind,
    Severity,
    State,
    Watch,
)
from watchdog.policy import Brakes, roll_back_or_hold
from watchdog.ports import Ledger
from watchdog.settlement import held
from watchdog.telling import hold_severity, message, title

ALONE = "alone"  # parameter of a rollback that a human wants whatever becomes of the rest of the train
_OPEN = frozenset({State.SMOKE, State.INTENT, State.RUNNING, State.RETRY_WAIT, State.UNKNOWN})
_ON_ITS_WAY = frozenset({State.SMOKE, State.WATCHING, State.INTENT, State.RUNNING, State.RETRY_WAIT})
_GOES_BACK = frozenset(
    {
        *(State.INTENT, State.RUNNING, State.RETRY_WAIT, State.VERIFYING, State.UNKNOWN),
        *(State.ROLLED_BACK, State.NOT_RECOVERED, State.FAILED),
    }
)
_OUT_OF_THE_WAY = frozenset(
    {
        *(State.VERIFYING, State.ROLLED_BACK, State.NOT_RECOVERED),  # it has gone back
        *(State.NOT_NEEDED, State.SUPERSEDED, State.SMOKE_FAILED),  # its version is not live, or not the newest
    }
)
_STAYS = {
    State.FAILED: "its rollback failed",
    State.UNKNOWN: "nobody knows whether its rollback took effect",
    State.CANCELLED: "it was left as it is",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trains:
    """What the deploys of one release train mean for each other."""

    ledger: Ledger
    limits: Limits = DEFAULT_LIMITS

    def open_mates(self, watch: Watch) -> tuple[str, ...]:
        """The others of its train that are not through yet: as long as one may turn bad, none of them passes."""
        return tuple(title(mate) for mate in self._all(watch) if mate.id != watch.id and _is_open(mate))

    def recalled_by(self, watch: Watch) -> str:
        """The deploy whose train had gone back before this one came to it, in words; nothing where there is none.

        A train that was put back and is sent again under the same name is not meant: then its services are on newer
        deploys, or the time in which it would have been judged is over.
        """
        for mate in self._all(watch):
            in_time = mate.live_at <= watch.live_at <= mate.live_at + mate.plan.watch_s
            if mate.id != watch.id and mate.state in _GOES_BACK and in_time and self._is_newest(mate):
                back = [a for a in self.ledger.actions(watch_id=mate.id) if a.kind is ActionKind.ROLLBACK]
                if back and not back[-1].params.get(ALONE):
                    return title(mate)
        return ""

    def _is_newest(self, watch: Watch) -> bool:
        place = watch.deploy
        newest = self.ledger.watches(service=place.service, environment=place.environment, limit=1)
        return [found.id for found in newest] == [watch.id]

    def clears(self, action: Action, now: float) -> bool:
        """Whether a rollback may start now, as far as its train is concerned.

        1. every other deploy of the train that still goes on gets its own intent, or is held with the reason why not;
        2. those deployed after it go back first: as long as one is on its way, this one waits;
        3. where one of them stays, this one is held.
        """
        watch = self.ledger.watch(action.watch_id)
        if (
            watch is None
            or watch.deploy.train is None
            or action.params.get(ALONE)
            or action.state is ActionState.RETRY_WAIT
        ):
            return True
        self._gather(watch, now)
        train = self._all(watch)
        after = train[[mate.id for mate in train].index(watch.id) + 1 :]
        later = [mate for mate in after if not mate.awaits_switch]
        staying = [mate for mate in later if mate.state not in _OUT_OF_THE_WAY | _ON_ITS_WAY and not _is_asked(mate)]
        if staying:
            self._hold(watch, action, staying, now)
            return False
        return all(mate.state in _OUT_OF_THE_WAY for mate in later)

    def _all(self, watch: Watch) -> list[Watch]:
        name = watch.deploy.train
        return [] if name is None else self.ledger.train(name, environment=watch.deploy.environment)

    def _gather(self, culprit: Watch, now: float) -> None:
        """Let the others of the train follow: from the culprit's recorded intent, so that a crash loses none."""
        for mate in self._all(culprit):
            if mate.id == culprit.id or not (mate.state in (State.SMOKE, State.WATCHING) or _only_stopped(mate)):
                continue
            decision = self._decision(mate, now)
            if mate.state is not State.HELD or decision.kind is DecisionKind.ROLL_BACK:
                held_back = self.ledger.actions(watch_id=mate.id, states=frozenset({ActionState.HELD}))
                self.ledger.commit(following(mate, culprit, decision, held_back, now))

    def _decision(self, mate: Watch, now: float) -> Decision:
        if mate.state is State.SMOKE:
            return Decision(kind=DecisionKind.HOLD, why="it has no traffic yet and gets none", hold=HoldReason.TRAIN)
        brakes = Brakes(
            paused=self.ledger.paused(),
            target_worse_at=target_worse_at(self.ledger, mate.deploy, self.limits, now),
            recent=self.ledger.rollbacks_since(now - self.limits.reach_s),
            active=self.ledger.active(),
            limits=self.limits,
            migration=mate.deploy.migration,
        )
        return roll_back_or_hold(mate, brakes, now)

    def _hold(self, watch: Watch, action: Action, staying: Sequence[Watch], now: float) -> None:
        if action.state is not ActionState.INTENT:
            return
        why = (
            f"train {watch.deploy.train} goes back only in part: {'; '.join(map(_stays, staying))}. "
            f"{watch.deploy.service} was deployed before and stays with it; approve to take it back all the same"
        )
        self.ledger.commit(held(watch, action, HoldReason.TRAIN, why, now))


def following(mate: Watch, culprit: Watch, decision: Decision, held_back: Sequence[Action], now: float) -> Change:
    """A deploy goes back with its train, or is held because it cannot. held_back: its actions that wait for a human."""
    waiting = next((action for action in held_back if action.kind is ActionKind.ROLLBACK), None)
    goes = decision.kind is DecisionKind.ROLL_BACK
    to_state = State.INTENT if goes else State.HELD
    why = f"train {mate.deploy.train} goes back because of {title(culprit)}; {decision.why}"
    fields: dict[str, object] = {"sentence": f"{title(mate)}: {why}", "degraded_at": now, "next_look_at": now}
    fields |= {"hold": None, "hold_until": None}
    if not goes:
        fields |= {"hold": decision.hold, "hold_until": now + mate.plan.hold_s}
    entry = AuditEntry(
        at=now,
        watch_id=mate.id,
        actor="daemon",
        event=f"train.{decision.kind.value.lower()}",
        before=mate.state.value,
        after=to_state.value,
        why=why,
        details={"train": mate.deploy.train, "because_of": culprit.id},
    )
    kind, severity = (
        (MessageKind.ACTION, Severity.WARNING) if goes else (MessageKind.HELD, hold_severity(mate, decision.hold))
    )
    told = replace(mate, degraded_at=now)
    intended = rollback_action(mate, ActionState.INTENT if goes else ActionState.HELD, now)
    return Change(
        watch_id=mate.id,
        at=now,
        expect_state=mate.state,
        to_state=to_state,
        fields=fields,
        new_action=intended if waiting is None else None,
        action=ActionUpdate(id=waiting.id, expect=frozenset({ActionState.HELD}), to=ActionState.INTENT)
        if waiting is not None
        else None,
        audit=(entry,),
        messages=(message(told, kind, severity, f"{title(mate)}: {why}", state=to_state, key=f"train:{culprit.id}"),),
    )


def _is_open(mate: Watch) -> bool:
    """Whether it may still turn bad, as far as anybody looks."""
    if mate.state is State.HELD:
        return mate.hold is not HoldReason.MODE_OBSERVE  # there nobody decides
    return mate.state in _OPEN or (mate.state is State.WATCHING and not _is_through(mate))


def _is_through(mate: Watch) -> bool:
    """Its own watch is over, or only the last step is left, which it takes together with the others."""
    waits = mate.is_before_its_last_step and mate.verdict == "HEALTHY"
    return waits or mate.is_over


def _only_stopped(mate: Watch) -> bool:
    """Held because it may not go forward, not because it may not go back."""
    return mate.state is State.HELD and mate.hold in STILL_JUDGED


def _is_asked(mate: Watch) -> bool:
    """Held only until somebody approves: it may still go back."""
    return mate.state is State.HELD and mate.hold is HoldReason.APPROVAL


def _stays(mate: Watch) -> str:
    why = _STAYS.get(mate.state, f"it is {mate.state.value}")
    if mate.state is State.HELD and mate.hold is not None:
        why = f"it is held ({mate.hold.value})"
    return f"{title(mate)}, deployed after it, stays: {why}"
