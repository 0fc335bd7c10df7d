"""What was decided for a deploy, and came to be done only after it had ended, been overtaken or held for hours."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tests.daemon.test_data_safety import Database, held
from tests.daemon.test_data_safety import road as data_road
from tests.daemon.test_rollout import Front, Shop, begin, road, standing, stepped
from tests.fakes import FakeClock, FakeHook
from tests.samples import DEPLOYED_AT, a_deploy, a_watch
from watchdog.action import ActionEdge
from watchdog.intended import first_actions
from watchdog.model import Action, ActionKind, ActionState, Change, HoldReason, MessageKind, Severity, State
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import HookCall, HookOutcome, Ledger, ProbeAnswer
from watchdog.telling import message, title
from watchdog.turns import superseded


def overtake(ledger: Ledger, clock: FakeClock) -> None:
    """v3 is deployed, and ends what stands there."""
    now = clock.now()
    deploy = replace(a_deploy(deploy_id="d3", version="v3"), previous_version="v2", migration="none")
    newer = replace(a_watch(deploy_id="d3"), deploy=deploy, created_at=now, updated_at=now, next_look_at=now + 1e6)
    open_ = [a for a in ledger.actions(watch_id="d1") if a.kind is ActionKind.ROLLBACK]
    ended = superseded(standing(ledger), "v3", open_[-1] if open_ else None, now)
    began = message(newer, MessageKind.STARTED, Severity.INFO, "on", key="started")
    ledger.record_deploy(newer, [began], [], ended=[ended])


def cancel(ledger: Ledger, clock: FakeClock) -> None:
    OperatorDesk(ledger=ledger, clock=clock).cancel("d1", actor="ann", why="stop it")


def only(ledger: Ledger, kind: ActionKind) -> Action:
    (found,) = (action for action in ledger.actions(watch_id="d1") if action.kind is kind)
    return found


@pytest.mark.parametrize(
    ("state", "verdict", "told"),
    [
        (State.HELD, "DEGRADED", "was worse (errors 4.9 % vs 1.0 %), nobody decided; v3 was deployed meanwhile"),
        (State.INTENT, "DEGRADED", "was worse (errors 4.9 % vs 1.0 %), its rollback had not begun; v3 was deployed"),
        (State.HELD, "INCONCLUSIVE", "superseded, v3 was deployed meanwhile"),
        (State.WATCHING, "INCONCLUSIVE", "superseded, v3 was deployed meanwhile"),
    ],
)
def test_a_deploy_that_was_worse_is_not_forgotten_with_the_next(state: State, verdict: str, told: str) -> None:
    """What was found stays in its sentence, in a few words; what nobody found is not said."""
    watch = a_watch(state=state)
    said = f"{title(watch)}: errors 4.9 % vs 1.0 % (×4.8, 2.6–8.6; 489 vs 4 620 requests), evidence 325 of 100; held"
    found = replace(watch, verdict=verdict, degraded_at=1.0 if verdict == "DEGRADED" else None, sentence=said)
    change = superseded(found, "v3", None, 2.0)
    assert str(change.fields["sentence"]).startswith(f"{title(watch)}: {told}")
    assert told.removeprefix("superseded, ") in change.messages[0].sentence


@pytest.mark.parametrize("meanwhile", [overtake, cancel])
def test_a_step_that_was_overtaken_while_its_probe_was_asked_is_not_taken(
    ledger: Ledger, clock: FakeClock, meanwhile: Callable[[Ledger, FakeClock], None]
) -> None:
    """What was read before the claim is read again in it."""
    happened: list[float] = []

    @dataclass
    class Slow(Front):
        def probe(self, call: HookCall) -> ProbeAnswer:
            if call.kind is ActionKind.PROMOTE and not happened:
                happened.append(clock.now())
                meanwhile(ledger, clock)
            return super().probe(call)

    front = Slow()
    begin(ledger, stepped())
    pipeline = road(ledger, clock, Shop(front))
    for _ in range(200):
        clock.advance(1.0)
        pipeline.tick()
    assert happened
    assert (front.share, front.done(ActionKind.PROMOTE)) == (0.1, 0)
    assert only(ledger, ActionKind.PROMOTE).state is ActionState.CANCELLED


class Racing:
    """A ledger whose watch is cancelled between the reading and the writing of an outcome."""

    def __init__(self, ledger: Ledger, clock: FakeClock) -> None:
        self._ledger, self._clock, self.cancelled = ledger, clock, False

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    def commit(self, change: Change) -> bool:
        if change.action is not None and change.action.to is ActionState.APPLIED and not self.cancelled:
            self.cancelled = True
            cancel(self._ledger, self._clock)
        return self._ledger.commit(change)


def test_what_came_of_a_hook_is_recorded_though_its_watch_moved_meanwhile(ledger: Ledger, clock: FakeClock) -> None:
    """A restore point was marked; that the watch was stopped in the same moment makes nobody forget where it is."""
    watch = a_watch()
    watch = replace(watch, plan=replace(watch.plan, restore_hook="db"))
    began = message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")
    ledger.record_deploy(watch, [began], [], first_actions(watch, DEPLOYED_AT))
    racing = Racing(ledger, clock)
    edge = ActionEdge(ledger=racing, hooks={"db": Database(printed="wal 0/15")}, clock=clock, owner="me")  # type: ignore[arg-type]
    edge.carry_out(only(ledger, ActionKind.RESTORE_POINT).id)
    assert racing.cancelled
    found = only(ledger, ActionKind.RESTORE_POINT)
    assert (found.state, found.detail) == (ActionState.APPLIED, "wal 0/15")
    assert standing(ledger).state is State.CANCELLED


def test_a_migration_is_not_taken_back_under_a_newer_deploy(ledger: Ledger, clock: FakeClock) -> None:
    """Asked for under the kill switch, which is released when v3 has long been built on the new schema."""
    database = Database(printed="down to revision 41")
    held(ledger, clock, database)
    desk = OperatorDesk(ledger=ledger, clock=clock)
    desk.pause(actor="ann", why="incident")
    desk.migrate_down("d1", actor="ann")
    overtake(ledger, clock)
    clock.advance(3 * 3600)
    desk.resume(actor="bob", why="over")
    data_road(ledger, clock, database).act()
    assert database.calls == []
    assert only(ledger, ActionKind.MIGRATE_DOWN).state is ActionState.CANCELLED
    assert "its migration stays" in ledger.messages("d1")[-1][0].message.sentence


def test_a_claim_takes_no_migration_back_of_a_deploy_that_has_ended(ledger: Ledger, clock: FakeClock) -> None:
    """It ends between the look at it and the claim."""
    database = Database()
    held(ledger, clock, database)
    OperatorDesk(ledger=ledger, clock=clock).migrate_down("d1", actor="ann")

    def end(name: str) -> None:
        if name == "action-before-claim":
            OperatorDesk(ledger=ledger, clock=clock).deny("d1", actor="ann", why="it stays")

    edge = ActionEdge(ledger=ledger, hooks={"db": database}, clock=clock, owner="me", failpoint=end)
    edge.carry_out(only(ledger, ActionKind.MIGRATE_DOWN).id)
    assert database.calls == []


def test_a_migration_of_which_nobody_knew_is_not_taken_back_after_all(ledger: Ledger, clock: FakeClock) -> None:
    """It hung, somebody denied the rollback, and days later the probe can tell: nothing is run again by itself."""
    database = Database(outcome=HookOutcome.TIMED_OUT)
    held(ledger, clock, database)
    desk = OperatorDesk(ledger=ledger, clock=clock)
    desk.migrate_down("d1", actor="ann")
    pipeline = data_road(ledger, clock, database)
    pipeline.act()
    assert only(ledger, ActionKind.MIGRATE_DOWN).state is ActionState.UNKNOWN
    desk.deny("d1", actor="ann", why="the migration stays")
    database.probe = lambda call: ProbeAnswer.NOT_APPLIED  # type: ignore[method-assign]
    for _ in range(3):
        clock.advance(86400)
        pipeline.ask_unknown()
        pipeline.act()
    assert len(database.calls) == 1
    assert only(ledger, ActionKind.MIGRATE_DOWN).state is ActionState.CANCELLED


def test_a_switch_that_waits_can_be_cancelled(ledger: Ledger, clock: FakeClock) -> None:
    """The smoke test passed two hours ago, and the kill switch is released now."""
    watch = a_watch(state=State.SMOKE)
    watch = replace(watch, plan=replace(watch.plan, smoke_hook="front", switch_hook="front"))
    ledger.record_deploy(
        watch,
        [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")],
        [],
        first_actions(watch, DEPLOYED_AT),
    )
    front = Front(share=0.0)
    pipeline = road(ledger, clock, Shop(front))
    pipeline.act()
    desk = OperatorDesk(ledger=ledger, clock=clock)
    desk.pause(actor="ann", why="network")
    pipeline.act()
    assert only(ledger, ActionKind.SWITCH).state is ActionState.INTENT
    assert desk.cancel("d1", actor="ann").state is State.CANCELLED
    desk.resume(actor="ann", why="over")
    clock.advance(7200)
    pipeline.act()
    assert (front.share, only(ledger, ActionKind.SWITCH).state) == (0.0, ActionState.CANCELLED)


def held_after_one_try(ledger: Ledger, clock: FakeClock, hook: FakeHook, smoke: FakeHook | None = None) -> ActionEdge:
    """A rollback whose first try came to nothing, and whose second came under the kill switch."""
    watch = a_watch()
    watch = replace(watch, plan=replace(watch.plan, smoke_hook="smoke"))
    ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
    desk = OperatorDesk(ledger=ledger, clock=clock)
    desk.rollback("d1", actor="ann", why="bad")
    edge = ActionEdge(ledger=ledger, hooks={"back": hook, "smoke": smoke or FakeHook()}, clock=clock, owner="me")
    intended = only(ledger, ActionKind.ROLLBACK)
    edge.carry_out(intended.id)
    desk.pause(actor="ann", why="network")
    clock.advance(60.0)
    edge.carry_out(intended.id)
    assert standing(ledger).hold is HoldReason.KILL_SWITCH
    desk.resume(actor="ann", why="over")
    return edge


def test_the_way_back_is_looked_at_again_when_a_tried_rollback_was_held(ledger: Ledger, clock: FakeClock) -> None:
    """The old colour was taken down in the two hours: going back now would make it worse."""
    hook, smoke = FakeHook(works=False, outcome=HookOutcome.RETRY), FakeHook()
    edge = held_after_one_try(ledger, clock, hook, smoke)
    clock.advance(7000.0)
    smoke.outcome = HookOutcome.FAILED
    OperatorDesk(ledger=ledger, clock=clock).approve("d1", actor="ann")
    edge.carry_out(only(ledger, ActionKind.ROLLBACK).id)
    assert standing(ledger).hold is HoldReason.TARGET_GONE
    assert len(hook.calls) == 1


def test_a_rollback_that_was_held_between_two_tries_began_when_it_was_approved(
    ledger: Ledger, clock: FakeClock
) -> None:
    """The cool-down of its service and the breaker count from when production really changed."""
    hook = FakeHook(works=False, outcome=HookOutcome.RETRY)
    edge = held_after_one_try(ledger, clock, hook)
    clock.advance(7000.0)
    hook.works, hook.outcome = True, HookOutcome.OK
    OperatorDesk(ledger=ledger, clock=clock).approve("d1", actor="ann")
    edge.carry_out(only(ledger, ActionKind.ROLLBACK).id)
    assert (hook.effects, only(ledger, ActionKind.ROLLBACK).started_at) == (1, clock.now())


def test_where_nobody_knows_what_the_last_try_did_no_version_is_called_live(ledger: Ledger, clock: FakeClock) -> None:
    """The hold expires: production may be on either."""
    hook = FakeHook(outcome=HookOutcome.TIMED_OUT, probe_speaks=False, idempotent=True)
    held_after_one_try(ledger, clock, hook)
    pipeline = road(ledger, clock, Shop(Front()))
    clock.advance(standing(ledger).plan.hold_s + 10.0)
    pipeline.tick()
    ended = standing(ledger)
    assert ended.state is State.CANCELLED
    assert "look which version is live" in ended.sentence
    assert "is still live" not in ended.sentence
