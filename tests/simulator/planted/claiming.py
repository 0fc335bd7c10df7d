"""Bugs of claims, fences and leases."""

from dataclasses import replace

from sqlalchemy import Connection, update

from tests.simulator.faults import Fault
from tests.simulator.planted.bug import Bugs, Ground
from tests.simulator.traps import Trap
from watchdog import intake
from watchdog.action import ActionEdge
from watchdog.intake import Intake
from watchdog.ledger import claims, commit
from watchdog.ledger.schema import watches
from watchdog.model import ActionState, Change, State, Watch

FOUND = Bugs()


@FOUND.breaks("I3 I6", 35)
def a_running_action_is_claimed_again(ground: Ground) -> None:
    ground.put(claims, "CLAIMABLE", frozenset(ActionState))
    ground.put(claims, "_ROLLBACK_FROM", frozenset(State))


@FOUND.breaks("I3", 1)
def the_kill_switch_is_read_outside_the_claim(ground: Ground) -> None:
    ground.put(claims, "paused", lambda connection: None)


@FOUND.breaks("I6", 5, trap=Trap.LATE_OUTCOME)
def a_stale_fence_is_accepted(ground: Ground) -> None:
    def unfenced(real: object, connection: Connection, change: Change) -> None:
        update = change.action and replace(change.action, fence=None)
        real(connection, replace(change, action=update))  # type: ignore[operator]

    def is_settled(edge: ActionEdge, action: object) -> bool:
        current = edge.ledger.action(action.id)  # type: ignore[attr-defined]
        return current is None or current.state != action.state  # type: ignore[attr-defined]

    ground.wrap(commit, "_write_actions", unfenced)
    ground.put(ActionEdge, "_is_settled", is_settled)


@FOUND.breaks("I6", 29)
def a_fence_does_not_rise(ground: Ground) -> None:
    ground.put(claims, "_next_fence", lambda connection, action: 1)


@FOUND.breaks("I6", 38, needs=(Fault.DELAY,))
def a_lease_is_taken_while_another_holds_it(ground: Ground) -> None:
    def due(real: object, connection: Connection, **named: object) -> list[Watch]:
        claims.void_leases(connection)
        return real(connection, **named)  # type: ignore[operator, no-any-return]

    ground.wrap(claims, "due", due)


@FOUND.breaks("I6", 1)
def a_lease_does_not_raise_the_epoch(ground: Ground) -> None:
    def due(real: object, connection: Connection, **named: object) -> list[Watch]:
        found: list[Watch] = real(connection, **named)  # type: ignore[operator]
        for watch in found:
            lowered = update(watches).where(watches.c.id == watch.id)
            connection.execute(lowered.values(epoch=watch.epoch - 1))
        return [replace(watch, epoch=watch.epoch - 1) for watch in found]

    ground.wrap(claims, "due", due)


@FOUND.breaks("I6", 1, trap=Trap.LATE_LOOK)
def no_epoch_in_the_commit_of_a_look(ground: Ground) -> None:
    ground.wrap(commit, "prepare", lambda real, change: real(replace(change, expect_epoch=None)))


@FOUND.breaks("I3")
def a_rollback_is_claimed_beside_a_newer_deploy(ground: Ground) -> None:
    ground.put(claims, "is_overtaken", lambda connection, watch_id: False)
    ground.put(ActionEdge, "_overtaken_by", lambda edge, action: None)


@FOUND.breaks("I7", 1)
def the_intent_of_a_superseded_deploy_stays(ground: Ground) -> None:
    ground.wrap(intake, "superseded", lambda real, watch, by, intended, now: real(watch, by, None, now))


@FOUND.breaks("I7 I3", 1)
def a_newer_deploy_does_not_supersede(ground: Ground) -> None:
    ground.put(Intake, "_ended_by", lambda desk, watch, around: [])
    ground.put(Intake, "_supersede", lambda desk, recorded, found=None: False)
