"""Data and schema: a restore point before, the suspect window after, and a migration taken back by an operator only."""

from dataclasses import dataclass, replace

import pytest

from tests.daemon.test_pipeline import Shop
from tests.fakes import FakeClock, FakeHook, FakeSource
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.errors import RefusedError
from watchdog.intended import first_actions
from watchdog.model import ActionKind, ActionState, HoldReason, MessageKind, Mode, Severity, State, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.pipeline import Pipeline
from watchdog.ports import Hook, HookCall, HookOutcome, HookResult, Ledger, ProbeAnswer
from watchdog.telling import message


@dataclass
class Database(FakeHook):
    """A hook that prints what it did, or fails."""

    printed: str = ""

    def run(self, call: HookCall) -> HookResult:
        self.calls.append(call)
        return HookResult(outcome=self.outcome, exit_code=0, output=self.printed)

    def probe(self, call: HookCall) -> ProbeAnswer:
        return ProbeAnswer.UNKNOWN


def walk(ledger: Ledger, clock: FakeClock, watch: Watch, database: Hook, *, errors: float) -> Watch:
    """A deploy from its event to its end or hold."""
    started = message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")
    ledger.record_deploy(watch, [started], [], first_actions(watch, DEPLOYED_AT))
    pipeline = road(ledger, clock, database, errors=errors)
    for _ in range(40):
        clock.advance(1.0)
        pipeline.tick()
        if standing(ledger).state is State.HELD:
            break
    return standing(ledger)


def road(ledger: Ledger, clock: FakeClock, database: Hook, *, errors: float = 0.008) -> Pipeline:
    front = FakeHook()
    return a_road(ledger, clock, FakeSource(Shop(front, candidate_errors=errors)), {"back": front, "db": database})


def standing(ledger: Ledger) -> Watch:
    watch = ledger.watch("d1")
    assert watch is not None
    return watch


def marked() -> Watch:
    watch = a_watch()
    return replace(watch, plan=replace(watch.plan, restore_hook="db"))


def test_a_bad_deploy_names_the_suspect_data_and_the_restore_point(ledger: Ledger, clock: FakeClock) -> None:
    """The mark is made as the watch begins; the message that something is wrong says where to go back to."""
    database = Database(printed="connecting\nlsn 0/16B3748, restore point watchdog_d1\n")
    walk(ledger, clock, marked(), database, errors=0.3)
    (mark,) = [a for a in ledger.actions(watch_id="d1") if a.kind is ActionKind.RESTORE_POINT]
    assert (mark.state, mark.detail) == (ActionState.APPLIED, "lsn 0/16B3748, restore point watchdog_d1")
    assert len(database.calls) == 1
    (told,) = [r.message.sentence for r, _ in ledger.messages("d1") if r.message.kind is MessageKind.DEGRADED]
    assert "data written since" in told
    assert "restore point: lsn 0/16B3748, restore point watchdog_d1" in told


def test_a_restore_point_that_fails_is_told_and_the_watch_goes_on(ledger: Ledger, clock: FakeClock) -> None:
    """No mark is a warning, and no reason to leave a bad version alone."""
    watch = walk(ledger, clock, marked(), Database(outcome=HookOutcome.FAILED), errors=0.3)
    assert watch.state in (State.VERIFYING, State.ROLLED_BACK)
    told = " ".join(r.message.sentence for r, _ in ledger.messages("d1"))
    assert "there may be no point in the data to go back to" in told
    assert "suspect" not in told


def held(ledger: Ledger, clock: FakeClock, database: Hook, *, hook: str | None = "db") -> Watch:
    watch = a_watch()
    deploy = replace(watch.deploy, migration="contract")
    watch = replace(watch, deploy=deploy, plan=replace(watch.plan, migrate_down_hook=hook))
    return walk(ledger, clock, watch, database, errors=0.3)


def test_a_migration_is_taken_back_only_when_an_operator_asks(ledger: Ledger, clock: FakeClock) -> None:
    """The deploy is held; asking runs the hook once, and the code goes back with the approval."""
    database = Database(printed="down to revision 41")
    watch = held(ledger, clock, database)
    assert (watch.state, watch.hold, database.calls) == (State.HELD, HoldReason.MIGRATION, [])
    desk = OperatorDesk(ledger=ledger, clock=clock)
    desk.migrate_down("d1", actor="ann", why="half applied")
    with pytest.raises(RefusedError, match="already"):
        desk.migrate_down("d1", actor="ann")
    road(ledger, clock, database).act()
    (call,) = database.calls
    assert (call.kind, call.from_version, call.to_version) == (ActionKind.MIGRATE_DOWN, "v2", "v1")
    assert standing(ledger).state is State.HELD
    assert "the migration of v2 taken back: down to revision 41" in standing(ledger).sentence
    assert "ann" in {entry.actor for entry in ledger.audit("d1")}
    assert desk.approve("d1", actor="ann").state is State.INTENT


def test_a_rollback_after_a_migration_is_verified_from_when_it_took_effect(ledger: Ledger, clock: FakeClock) -> None:
    """Not from when the migration was taken back, minutes before: the metrics have their time to show it."""
    database = Database(printed="down to revision 41")
    watch = held(ledger, clock, database)
    desk = OperatorDesk(ledger=ledger, clock=clock)
    front = FakeHook()
    pipeline = a_road(ledger, clock, FakeSource(Shop(front, candidate_errors=0.3)), {"back": front, "db": database})
    desk.migrate_down("d1", actor="ann")
    pipeline.act()
    clock.advance(watch.plan.verify_s + 120.0)
    desk.approve("d1", actor="ann")
    pipeline.act()
    for _ in range(60):
        clock.advance(1.0)
        pipeline.tick()
    assert standing(ledger).state is State.ROLLED_BACK


def test_a_rollback_after_hours_of_a_hold_waits_until_the_looks_have_caught_up(
    ledger: Ledger, clock: FakeClock
) -> None:
    """Nobody looked meanwhile: what was missed is read some intervals at a time, and the newest tell."""
    watch = replace(a_watch(), mode=Mode.APPROVE)
    watch = replace(watch, plan=replace(watch.plan, hold_s=24 * 3600.0))
    front = FakeHook()
    started = message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")
    ledger.record_deploy(watch, [started], [])
    pipeline = a_road(ledger, clock, FakeSource(Shop(front, candidate_errors=0.3)), {"back": front})
    for _ in range(40):
        clock.advance(1.0)
        pipeline.tick()
    assert standing(ledger).state is State.HELD
    clock.advance(6 * 3600.0)
    OperatorDesk(ledger=ledger, clock=clock).approve("d1", actor="ann")
    for _ in range(150):
        clock.advance(1.0)
        pipeline.tick()
    assert standing(ledger).state is State.ROLLED_BACK


def test_asking_where_no_hook_takes_it_back_says_what_to_do(ledger: Ledger, clock: FakeClock) -> None:
    """By hand, then."""
    held(ledger, clock, Database(), hook=None)
    with pytest.raises(RefusedError, match="by hand"):
        OperatorDesk(ledger=ledger, clock=clock).migrate_down("d1", actor="ann")


def test_a_deploy_that_is_not_held_keeps_its_migration(ledger: Ledger, clock: FakeClock) -> None:
    """Nobody takes a schema away under a version that serves."""
    watch = a_watch()
    ledger.record_deploy(watch, [], [])
    with pytest.raises(RefusedError, match="HELD"):
        OperatorDesk(ledger=ledger, clock=clock).migrate_down("d1", actor="ann")
