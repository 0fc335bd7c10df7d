"""A roll-out that was paused is let go on when its deploy passes; any other end says that it still stands."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from analysis.prepare import Cells
from analysis.result import Arm, Verdict, VerdictKind
from tests.daemon.test_policy import NOW, verdict
from tests.daemon.test_rollout import Front, begin, rolling, said, standing
from tests.fakes import FakeClock, FakeSource, counts
from tests.roads import a_road
from watchdog.holding import held_expires
from watchdog.intended import pace, rollback_action
from watchdog.model import (
    FINAL,
    Action,
    ActionKind,
    ActionState,
    DecisionKind,
    HoldReason,
    MessageKind,
    Severity,
    State,
    Watch,
)
from watchdog.operator_desk import OperatorDesk
from watchdog.pipeline import Pipeline
from watchdog.policy import Brakes, decide
from watchdog.ports import Ledger, LookRequest
from watchdog.rollout import is_paused
from watchdog.settlement import Outcome, settlement

WORDS = "the roll-out is still paused"
HEALTHY = replace(verdict(VerdictKind.HEALTHY), log_evidence=0.4 * 4.6)  # no suspicion, and not gone either


def acted(kind: ActionKind, state: ActionState = ActionState.APPLIED) -> Action:
    action = pace(rolling(), kind, 0, NOW)
    assert action is not None
    return replace(action, state=state)


@pytest.mark.parametrize(
    ("actions", "paused"),
    [
        ([], False),
        ([acted(ActionKind.PAUSE)], True),
        ([acted(ActionKind.PAUSE, ActionState.UNKNOWN)], True),
        ([acted(ActionKind.PAUSE, ActionState.FAILED)], False),
        ([acted(ActionKind.PAUSE, ActionState.INTENT)], False),
        ([acted(ActionKind.PAUSE), acted(ActionKind.RESUME)], False),
        ([acted(ActionKind.PAUSE), acted(ActionKind.RESUME, ActionState.INTENT)], False),
        ([acted(ActionKind.PAUSE), acted(ActionKind.RESUME, ActionState.FAILED)], True),
    ],
)
def test_a_roll_out_is_paused_until_it_was_let_go_on(actions: list[Action], paused: bool) -> None:
    """A pause that nobody carried out stopped nothing, and a resume that failed let nothing go on."""
    assert is_paused(actions) is paused


def test_a_deploy_that_passes_lets_its_roll_out_go_on_first() -> None:
    """What is left of a suspicion at the last look is none: nothing proved to be worse."""
    watch = rolling()
    over = replace(watch, looks=watch.plan.judge.planned_looks)
    assert decide(over, HEALTHY, Brakes(slowed=True), NOW).kind is DecisionKind.RESUME
    assert decide(over, HEALTHY, Brakes(), NOW).kind is DecisionKind.PASS
    assert decide(over, HEALTHY, Brakes(slowed=True, paused="freeze"), NOW).kind is DecisionKind.PASS
    nobody_knows: Verdict = replace(HEALTHY, kind=VerdictKind.INCONCLUSIVE)
    assert decide(over, nobody_knows, Brakes(slowed=True), NOW).kind is DecisionKind.CONCLUDE


@dataclass
class Scare:
    """Two replicas of either version; for its first looks the new one fails a bit more often than the old one."""

    looks: int
    bad: float = 0.018

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        rng = np.random.default_rng(request.interval + 1000)
        rows = []
        for window in request.arms:
            scares = window.arm == Arm.CANDIDATE and request.interval < self.looks
            for replica in range(2):
                bad = float(rng.binomial(400, self.bad if scares else 0.01))
                rows.append((window.arm, f"{window.arm}-{replica}", bad, 400.0))
        return {"errors": counts(rows)}


def scared(ledger: Ledger, clock: FakeClock, front: Front, *, looks: int) -> Pipeline:
    """A roll-out that was paused for a suspicion, which fades as its watch nears its end."""
    watch = rolling()
    judge = replace(watch.plan.judge, planned_looks=looks)
    begin(ledger, replace(watch, plan=replace(watch.plan, judge=judge)))
    pipeline = a_road(ledger, clock, FakeSource(Scare(6)), {"back": front, "front": front})
    while not front.paused:
        clock.advance(1.0)
        pipeline.tick()
    return pipeline


def to_its_end(pipeline: Pipeline, ledger: Ledger, clock: FakeClock) -> Watch:
    for _ in range(120):
        clock.advance(1.0)
        pipeline.tick()
        if standing(ledger).state in FINAL:
            break
    return standing(ledger)


def test_a_roll_out_paused_at_a_suspicion_is_whole_when_its_deploy_has_passed(ledger: Ledger, clock: FakeClock) -> None:
    """The suspicion is not quite gone at the last look: one look more, and the servers that waited get v2."""
    front = Front()
    watch = to_its_end(scared(ledger, clock, front, looks=9), ledger, clock)
    assert (watch.state, watch.looks, front.paused) == (State.PASSED, 10, False)
    assert [call.kind for call in front.calls] == [ActionKind.PAUSE, ActionKind.RESUME]
    assert WORDS not in watch.sentence


@pytest.mark.parametrize("brake", [False, True])
def test_a_roll_out_that_nobody_lets_go_on_is_told_with_the_end(ledger: Ledger, clock: FakeClock, brake: bool) -> None:
    """The resume failed, or the kill switch is on: it passed, and somebody has work left."""
    front = Front(fails=frozenset({ActionKind.RESUME}))
    pipeline = scared(ledger, clock, front, looks=9)
    if brake:
        ledger.set_paused(True, actor="ann", why="freeze", at=clock.now())
    watch = to_its_end(replace(pipeline, edge=replace(pipeline.edge, retries=1)), ledger, clock)
    assert (watch.state, front.paused) == (State.PASSED, True)
    ended = next(row.message for row, _ in ledger.messages("d1") if row.message.kind is MessageKind.ENDED)
    assert (ended.severity, WORDS in ended.sentence) == (Severity.WARNING, True)
    assert WORDS in watch.sentence


def test_whoever_stops_a_watch_is_told_that_the_roll_out_stands(ledger: Ledger, clock: FakeClock) -> None:
    """By the command and in the message."""
    scared(ledger, clock, Front(), looks=60)
    watch = OperatorDesk(ledger=ledger, clock=clock).cancel("d1", actor="ann", why="enough")
    assert WORDS in watch.sentence
    assert WORDS in said(ledger, MessageKind.ENDED)[0]


def test_a_hold_that_expires_and_a_rollback_that_fails_say_that_the_roll_out_stands() -> None:
    """Nothing of ours will let it go on."""
    watch = replace(rolling(), state=State.HELD, hold=HoldReason.KILL_SWITCH, hold_until=NOW)
    assert WORDS in held_expires(watch, None, NOW, paused=True).messages[0].sentence
    intent = rollback_action(rolling(), ActionState.RUNNING, NOW)
    assert intent is not None
    outcome = Outcome(state=ActionState.FAILED, why="no")
    failed = settlement(replace(watch, state=State.RUNNING), intent, outcome, NOW, paused=True)
    assert WORDS in failed.messages[0].sentence
