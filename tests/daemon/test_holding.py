"""Held is not forgotten: it is judged on where nobody called it worse; and a step waits for a human in mode approve."""

from dataclasses import dataclass, replace

import pytest

from analysis.result import VerdictKind
from tests.daemon.test_policy import verdict
from tests.daemon.test_rollout import STEPS, Front, Shop, begin, road, said, standing, stepped
from tests.fakes import FakeClock, FakeSource
from tests.samples import DEPLOYED_AT
from watchdog.errors import RefusedError
from watchdog.model import (
    FINAL,
    ActionKind,
    ActionState,
    DecisionKind,
    HoldReason,
    MessageKind,
    Mode,
    Severity,
    State,
    Watch,
)
from watchdog.operator_desk import OperatorDesk
from watchdog.pipeline import Pipeline
from watchdog.policy import Brakes, decide
from watchdog.ports import HookCall, HookOutcome, HookResult, Ledger, ProbeAnswer

TWO_STEPS = replace(STEPS, shares=(0.1, 0.5, 1.0))


def walk(pipeline: Pipeline, ledger: Ledger, clock: FakeClock, *, looks: int = 60, until: State | None = None) -> Watch:
    """From look to look, held or not, until it has ended, stands as wanted, or so many looks are over."""
    end = standing(ledger).looks + looks
    for _ in range(6 * looks):
        watch = standing(ledger)
        if watch.state in FINAL or watch.state is until or watch.looks >= end:
            break
        clock.advance(max(watch.next_look_at - clock.now(), 1.0) if watch.is_judged else 1.0)
        pipeline.tick()
    return standing(ledger)


def skewed(*, mode: Mode = Mode.AUTO, migration: str = "none", looks: int = 40) -> Watch:
    """A canary of 25 % whose load balancer gives it 10 %."""
    watch = stepped(mode=mode, looks=looks)
    deploy = replace(watch.deploy, share=0.25, migration=migration)
    return replace(watch, plan=replace(watch.plan, steps=None), deploy=deploy)


def test_a_version_held_for_its_share_goes_back_when_it_turns_bad(ledger: Ledger, clock: FakeClock) -> None:
    """Nobody has to look at it: the hold stops it going forward, and not back."""
    shop = Shop(Front(), bad_from=12)
    begin(ledger, skewed())
    pipeline = road(ledger, clock, shop)
    held = walk(pipeline, ledger, clock, until=State.HELD)
    assert (held.hold, held.looks) == (HoldReason.SHARE_MISMATCH, 5)
    ended = walk(pipeline, ledger, clock)
    assert (ended.state, ended.verdict, shop.front.share) == (State.ROLLED_BACK, "DEGRADED", 0.0)
    assert shop.front.done(ActionKind.ROLLBACK) == 1
    assert ended.degraded_at is not None
    assert DEPLOYED_AT + 60 <= ended.degraded_at <= DEPLOYED_AT + 80


@pytest.mark.parametrize(
    ("mode", "migration", "reason", "severity"),
    [
        (Mode.APPROVE, "none", HoldReason.APPROVAL, Severity.PAGE),
        (Mode.AUTO, "contract", HoldReason.MIGRATION, Severity.PAGE),
        (Mode.NOTIFY, "none", HoldReason.MODE_NOTIFY, Severity.WARNING),
    ],
)
def test_where_it_may_not_go_back_by_itself_the_hold_is_escalated(
    mode: Mode, migration: str, reason: HoldReason, severity: Severity, ledger: Ledger, clock: FakeClock
) -> None:
    """A second page, that it is worse now; then the human's word counts, once."""
    shop = Shop(Front(), bad_from=12)
    begin(ledger, skewed(mode=mode, migration=migration))
    pipeline = road(ledger, clock, shop)
    walk(pipeline, ledger, clock, until=State.HELD)
    held = walk(pipeline, ledger, clock, looks=14)
    assert (held.state, held.hold, held.verdict) == (State.HELD, reason, "DEGRADED")
    told = [row.message for row, _ in ledger.messages("d1") if row.message.kind is MessageKind.HELD]
    assert [message.severity for message in told] == [Severity.PAGE, severity]
    assert [entry.event for entry in ledger.audit("d1")].count("decision.escalate") == 1
    OperatorDesk(ledger=ledger, clock=clock).approve("d1", actor="ann")
    assert walk(pipeline, ledger, clock).state is State.ROLLED_BACK
    assert shop.front.done(ActionKind.ROLLBACK) == 1


def test_a_load_balancer_that_is_mended_lets_the_watch_go_on(ledger: Ledger, clock: FakeClock) -> None:
    """Out of the hold by itself, said; what turns bad afterwards still goes back, once."""
    shop = Shop(Front(), bad_from=35)
    begin(ledger, skewed(looks=60))
    pipeline = road(ledger, clock, shop)
    assert walk(pipeline, ledger, clock, until=State.HELD).hold is HoldReason.SHARE_MISMATCH
    shop.front.share = 0.25
    on = walk(pipeline, ledger, clock, until=State.WATCHING)
    assert (on.state, on.hold, on.looks < 20) == (State.WATCHING, None, True)
    assert any("the watch goes on" in line for line in said(ledger, MessageKind.PROGRESS))
    ended = walk(pipeline, ledger, clock)
    assert (ended.state, shop.front.done(ActionKind.ROLLBACK)) == (State.ROLLED_BACK, 1)


def test_a_hold_that_stays_what_it_was_still_expires_aloud(ledger: Ledger, clock: FakeClock) -> None:
    """Looked at to the end of the watch, then left to a human, then told again."""
    watch = skewed(looks=20)
    begin(ledger, replace(watch, plan=replace(watch.plan, hold_s=600.0)))
    pipeline = road(ledger, clock, Shop(Front()))
    walk(pipeline, ledger, clock, until=State.HELD)
    ended = walk(pipeline, ledger, clock, looks=300)
    assert (ended.state, ended.looks) == (State.CANCELLED, 20)
    assert "nobody decided within 10 min" in ended.sentence


def test_a_promotion_that_failed_leaves_nobody_unwatched(ledger: Ledger, clock: FakeClock) -> None:
    """Held because the hook failed, and bad later on: it goes back."""
    shop = Shop(Front(fails=frozenset({ActionKind.PROMOTE})), bad_from=25)
    begin(ledger, stepped())
    pipeline = road(ledger, clock, shop)
    assert walk(pipeline, ledger, clock, until=State.HELD).hold is HoldReason.PROMOTE_FAILED
    assert walk(pipeline, ledger, clock).state is State.ROLLED_BACK


@dataclass
class Half(Front):
    """A promotion that reaches one of two routers and then fails."""

    def run(self, call: HookCall) -> HookResult:
        if call.kind is not ActionKind.PROMOTE:
            return super().run(call)
        self.calls.append(call)
        self.share = 0.3
        return HookResult(outcome=HookOutcome.FAILED, exit_code=1)

    def probe(self, call: HookCall) -> ProbeAnswer:
        if call.kind is not ActionKind.PROMOTE:
            return super().probe(call)
        return ProbeAnswer.PARTIAL if self.share == 0.3 else ProbeAnswer.NOT_APPLIED


def test_a_promotion_that_failed_halfway_stays_held_for_it_when_the_share_is_mended(
    ledger: Ledger, clock: FakeClock
) -> None:
    """ "Nothing goes forward until somebody has looked": a wrong share that goes away is no look."""
    shop = Shop(Half(idempotent=False), bad_from=30)
    begin(ledger, stepped(TWO_STEPS))
    pipeline = road(ledger, clock, shop)
    assert walk(pipeline, ledger, clock, until=State.HELD).hold is HoldReason.PROMOTE_FAILED
    held = walk(pipeline, ledger, clock, looks=6)
    assert held.hold is HoldReason.PROMOTE_FAILED
    shop.front.share = 0.1
    mended = walk(pipeline, ledger, clock, looks=6)
    assert (mended.state, mended.hold) == (State.HELD, HoldReason.PROMOTE_FAILED)
    assert walk(pipeline, ledger, clock).state is State.ROLLED_BACK, "and it is judged on"


def test_a_step_that_failed_while_its_deploy_was_held_is_not_taken_again_unasked() -> None:
    """The share is mended and the watch goes on: the step was tried, so it is held for that, and not lost again and
    again under the id that it had."""
    watch = replace(stepped(), looks=20, updated_at=DEPLOYED_AT + 100)
    said = decide(
        watch, verdict(VerdictKind.HEALTHY), Brakes(step_failed="the hook failed (exit 1)"), DEPLOYED_AT + 100
    )
    assert (said.kind, said.hold) == (DecisionKind.HOLD, HoldReason.PROMOTE_FAILED)
    assert "the promotion to 25 %: the hook failed" in said.why


def test_a_held_deploy_that_loses_its_source_says_so_and_when_it_is_back(ledger: Ledger, clock: FakeClock) -> None:
    """Whoever has to decide about it must know that nobody sees it any more: told once each way, still held."""
    shop = Shop(Front())
    begin(ledger, skewed())
    source = FakeSource(shop)
    pipeline = replace(road(ledger, clock, shop), sources={"pages": source})
    walk(pipeline, ledger, clock, until=State.HELD)
    source.down = True
    assert walk(pipeline, ledger, clock, looks=4).reason == "SOURCE_DOWN"
    (gone,) = said(ledger, MessageKind.SOURCE_DOWN)
    assert "connection refused" in gone
    source.down = False
    assert walk(pipeline, ledger, clock, looks=4).state is State.HELD
    assert len(said(ledger, MessageKind.SOURCE_DOWN)) == len(said(ledger, MessageKind.SOURCE_BACK)) == 1


# --- mode approve: a step waits for a human ---------------------------------------------------------------


def waiting(ledger: Ledger) -> list[float]:
    """The shares that wait for approval."""
    held = ledger.actions(watch_id="d1", states=frozenset({ActionState.HELD}))
    return [action.params["share"] for action in held if action.kind is ActionKind.PROMOTE]


def until_it_waits(pipeline: Pipeline, ledger: Ledger, clock: FakeClock) -> None:
    for _ in range(200):
        if waiting(ledger) or standing(ledger).state is not State.WATCHING:
            return
        walk(pipeline, ledger, clock, looks=1)


def test_each_step_waits_for_its_approval(ledger: Ledger, clock: FakeClock) -> None:
    """Proposed once, with what would have been seen; taken when somebody says yes; all of it is the end."""
    shop = Shop(Front())
    begin(ledger, stepped(TWO_STEPS, Mode.APPROVE))
    pipeline, desk = road(ledger, clock, shop), OperatorDesk(ledger=ledger, clock=clock)
    until_it_waits(pipeline, ledger, clock)
    assert (waiting(ledger), shop.front.share) == ([0.5], 0.1)
    walk(pipeline, ledger, clock, looks=5)
    assert (waiting(ledger), shop.front.share, standing(ledger).state) == ([0.5], 0.1, State.WATCHING)
    (told,) = [row.message for row, _ in ledger.messages("d1") if row.message.key.startswith("proposed:")]
    assert (told.severity, told.facts["choices"]) == (Severity.WARNING, ["approve", "deny"])
    assert "going on to 50 % once somebody approves" in told.sentence
    desk.approve("d1", actor="ann", why="looks fine")
    walk(pipeline, ledger, clock, looks=1)
    assert (shop.front.share, standing(ledger).step) == (0.5, 1)
    assert [e.actor for e in ledger.audit("d1") if e.event == "operator.approve"] == ["ann"]
    until_it_waits(pipeline, ledger, clock)
    assert waiting(ledger) == [1.0]
    desk.approve("d1", actor="bob")
    assert walk(pipeline, ledger, clock).state is State.PASSED
    assert shop.front.share == 1.0


def test_a_step_that_was_denied_is_not_asked_for_again(ledger: Ledger, clock: FakeClock) -> None:
    """The share stays, the watch goes on to its end."""
    shop = Shop(Front())
    begin(ledger, stepped(TWO_STEPS, Mode.APPROVE, looks=40))
    pipeline, desk = road(ledger, clock, shop), OperatorDesk(ledger=ledger, clock=clock)
    until_it_waits(pipeline, ledger, clock)
    desk.deny("d1", actor="ann", why="after the weekend")
    with pytest.raises(RefusedError, match="no step of it waits"):
        desk.approve_step("d1", actor="ann")
    ended = walk(pipeline, ledger, clock)
    assert (ended.state, ended.looks, shop.front.share) == (State.INCONCLUSIVE, 40, 0.1)
    assert shop.front.done(ActionKind.PROMOTE) == 0


def test_a_human_may_take_longer_than_the_watch(ledger: Ledger, clock: FakeClock) -> None:
    """Looks go on while a step waits, so that what turns bad meanwhile is noticed and the step is off."""
    shop = Shop(Front(), bad_from=50)
    begin(ledger, stepped(TWO_STEPS, Mode.APPROVE, looks=30))
    pipeline, desk = road(ledger, clock, shop), OperatorDesk(ledger=ledger, clock=clock)
    held = walk(pipeline, ledger, clock, until=State.HELD)
    assert held.looks > 50
    assert (held.hold, held.verdict, shop.front.share) == (HoldReason.APPROVAL, "DEGRADED", 0.1)
    desk.approve("d1", actor="ann")  # means the rollback now, and never the step
    assert walk(pipeline, ledger, clock).state is State.ROLLED_BACK
    assert shop.front.done(ActionKind.PROMOTE) == 0


def test_nobody_answers_and_the_watch_ends(ledger: Ledger, clock: FakeClock) -> None:
    """After hold_s the question is closed: inconclusive, at the share it had."""
    watch = stepped(TWO_STEPS, Mode.APPROVE, looks=20)
    begin(ledger, replace(watch, plan=replace(watch.plan, hold_s=150.0)))
    ended = walk(road(ledger, clock, Shop(Front())), ledger, clock, looks=80)
    assert (ended.state, ended.looks) == (State.INCONCLUSIVE, 39)
    assert "before all steps were taken" in ended.sentence
