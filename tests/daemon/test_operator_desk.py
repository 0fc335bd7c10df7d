"""What a human may do."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.samples import a_watch
from watchdog.errors import NotFoundError, RefusedError
from watchdog.intended import rollback_action
from watchdog.ledger import open_ledger
from watchdog.model import ActionState, AuditEntry, Change, HoldReason, MessageKind, Severity, State, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import Ledger
from watchdog.telling import message


@pytest.fixture
def ledger(tmp_path: Path, clock: FakeClock) -> Iterator[Ledger]:
    opened = open_ledger(str(tmp_path / "w.db"), clock=clock, owner="me", sinks_for=lambda service: ())
    yield opened
    opened.close()


@pytest.fixture
def desk(ledger: Ledger, clock: FakeClock) -> OperatorDesk:
    return OperatorDesk(ledger=ledger, clock=clock)


def watching(ledger: Ledger, watch: Watch | None = None) -> Watch:
    watch = watch if watch is not None else a_watch()
    ledger.record_deploy(watch, [], [])
    return watch


def held(ledger: Ledger, clock: FakeClock) -> Watch:
    watch = watching(ledger)
    assert ledger.commit(
        Change(
            watch_id=watch.id,
            at=clock.now(),
            expect_state=State.WATCHING,
            to_state=State.HELD,
            fields={"hold": HoldReason.APPROVAL, "hold_until": clock.now() + 7200},
            new_action=rollback_action(watch, ActionState.HELD, clock.now()),
            audit=(AuditEntry(at=clock.now(), watch_id=watch.id, actor="daemon", event="decision.hold"),),
            messages=(message(watch, MessageKind.HELD, Severity.PAGE, "held", key="held"),),
        )
    )
    return watch


def test_an_approved_rollback_becomes_an_intent(ledger: Ledger, clock: FakeClock, desk: OperatorDesk) -> None:
    """Watch and action move together, and the audit names who and why."""
    held(ledger, clock)
    watch = desk.approve("d1", actor="ann", why="seen it too")
    assert (watch.state, watch.hold) == (State.INTENT, None)
    assert [a.state for a in ledger.actions(watch_id="d1")] == [ActionState.INTENT]
    entry = ledger.audit("d1")[-1]
    assert (entry.actor, entry.event, entry.why) == ("ann", "operator.approve", "seen it too")


def test_a_denied_rollback_is_cancelled_with_its_watch(ledger: Ledger, clock: FakeClock, desk: OperatorDesk) -> None:
    """Nothing is left that could still run."""
    held(ledger, clock)
    assert desk.deny("d1", actor="ann").state is State.CANCELLED
    assert [a.state for a in ledger.actions(watch_id="d1")] == [ActionState.CANCELLED]


def test_only_a_held_rollback_can_be_approved_or_denied(ledger: Ledger, desk: OperatorDesk) -> None:
    """The refusal says how the watch stands."""
    watching(ledger)
    for verb in (desk.approve, desk.deny):
        with pytest.raises(RefusedError, match="WATCHING"):
            verb("d1", actor="ann")


def test_a_human_may_roll_back_a_healthy_deploy(ledger: Ledger, desk: OperatorDesk) -> None:
    """Business reasons need no evidence."""
    watching(ledger)
    assert desk.rollback("d1", actor="ann", why="wrong price").state is State.INTENT
    assert [a.to_version for a in ledger.actions(watch_id="d1")] == ["v1"]


def test_a_second_rollback_is_refused(ledger: Ledger, desk: OperatorDesk) -> None:
    """Twice pressed is once done."""
    watching(ledger)
    desk.rollback("d1", actor="ann", why="x")
    with pytest.raises(RefusedError, match="INTENT"):
        desk.rollback("d1", actor="bob", why="x")
    assert len(ledger.actions(watch_id="d1")) == 1


def test_without_a_hook_a_rollback_is_refused_with_the_reason(ledger: Ledger, desk: OperatorDesk) -> None:
    """Better now than after the button was believed."""
    watch = a_watch()
    watching(ledger, replace(watch, plan=replace(watch.plan, rollback_hook=None)))
    with pytest.raises(RefusedError, match="no rollback hook"):
        desk.rollback("d1", actor="ann", why="x")


def test_an_intended_rollback_can_be_cancelled_before_it_starts(ledger: Ledger, desk: OperatorDesk) -> None:
    """The action is cancelled in the same transaction."""
    watching(ledger)
    desk.rollback("d1", actor="ann", why="x")
    assert desk.cancel("d1", actor="ann").state is State.CANCELLED
    assert [a.state for a in ledger.actions(watch_id="d1")] == [ActionState.CANCELLED]


def test_an_ended_watch_cannot_be_cancelled_and_an_unknown_one_not_found(ledger: Ledger, desk: OperatorDesk) -> None:
    """Both say so."""
    watching(ledger)
    desk.cancel("d1", actor="ann")
    with pytest.raises(RefusedError, match="nothing to cancel"):
        desk.cancel("d1", actor="ann")
    with pytest.raises(NotFoundError):
        desk.cancel("d9", actor="ann")


def test_the_kill_switch_says_why_it_is_on(desk: OperatorDesk) -> None:
    """Whoever wonders why nothing happens can read it."""
    assert desk.paused() is None
    desk.pause(actor="ann", why="freeze week")
    assert "freeze week" in (desk.paused() or "")
    desk.resume(actor="ann", why="over")
    assert desk.paused() is None
