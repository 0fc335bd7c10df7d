"""Bugs on the edge that changes production."""

from functools import partial

from tests.simulator.faults import Fault
from tests.simulator.planted.bug import Bugs, Ground
from tests.simulator.production import Production
from tests.simulator.traps import Trap
from watchdog import action, recovery
from watchdog.action import ActionEdge
from watchdog.model import Action, ActionState
from watchdog.pipeline import Pipeline
from watchdog.ports import HookOutcome, ProbeAnswer
from watchdog.settlement import Outcome

FOUND = Bugs()


@FOUND.breaks("I1", 124, needs=(Fault.CRASH,))
def no_probe_before_a_retry(ground: Ground) -> None:
    ground.put(ActionEdge, "_judge_interrupted", lambda s, found, hook, answer: s._again(found, "interrupted"))
    ground.wrap(
        ActionEdge, "_attempt", lambda real, s, found, hook, before, at: real(s, found, hook, ProbeAnswer.UNKNOWN, at)
    )


@FOUND.breaks("I1 P2", 389, needs=(Fault.HOOK_FAILS,))
def a_failed_hook_is_not_asked_what_it_did(ground: Ground) -> None:
    def believe(edge: ActionEdge, found: object, hook: object, result: object, after: object) -> Outcome:
        if result.outcome is HookOutcome.OK:  # type: ignore[attr-defined]
            return Outcome(state=ActionState.APPLIED, why="it says so")
        return edge._again(found, "it says that it failed")  # type: ignore[arg-type]

    ground.put(ActionEdge, "_judge", believe)


@FOUND.breaks("I1", 433, needs=(Fault.HOOK_FAILS,))
def what_nobody_knows_is_tried_again(ground: Ground) -> None:
    ground.put(ActionEdge, "_unsure", lambda s, found, hook, why: s._again(found, why))


@FOUND.breaks("I1 P2", 82, trap=Trap.ORPHAN)
def a_hook_that_outlived_its_daemon_is_overlooked(ground: Ground) -> None:
    ground.put(Production, "still_running", lambda *_: False)


@FOUND.breaks("I1 I6", 12, trap=Trap.NEIGHBOUR)
def the_attempt_of_another_replica_is_adopted_too_early(ground: Ground) -> None:
    ground.put(ActionEdge, "_is_over", lambda *_: True)
    ground.put(Pipeline, "adopt_orphans", _adopt_all)
    ground.put(action, "GRACE_S", -8.0)


def _adopt_all(pipeline: Pipeline) -> None:
    for found in pipeline.ledger.actions(states=frozenset({ActionState.RUNNING})):
        pipeline.submit(partial(_adopt_now, pipeline.edge, found), found.id)


def _adopt_now(edge: ActionEdge, found: Action) -> None:
    edge.adopt(found)


@FOUND.breaks("I2", 5, trap=Trap.STALE_CLAIM)
def a_stale_claim_starts_its_hook(ground: Ground) -> None:
    ground.put(action, "CLAIM_FRESH_S", 1e9)


@FOUND.breaks("I3", 491, needs=(Fault.HOOK_FAILS,))
def retries_never_end(ground: Ground) -> None:
    ground.put(ActionEdge, "_again", lambda s, found, why: Outcome(state=ActionState.RETRY_WAIT, why=why))


@FOUND.breaks("P1", 16, needs=(Fault.CRASH,))
def an_orphaned_attempt_is_forgotten(ground: Ground) -> None:
    ground.put(Pipeline, "_adopt", lambda *_: None)


@FOUND.breaks("P2", 99, needs=(Fault.HOOK_LIES,))
def recovered_without_having_looked(ground: Ground) -> None:
    ground.put(recovery, "_is_proven", lambda watch, looks, applied_at, newer: True)
