"""What is damaged in the ledger costs only the watch that it belongs to, and is told with what to do."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.daemon.test_pipeline import Shop, begin, kinds, road, walk
from tests.fakes import FakeClock, FakeHook, FakeSink, FakeSource
from tests.samples import a_watch
from watchdog.intended import rollback_action
from watchdog.ledger import open_ledger
from watchdog.memory import Memory
from watchdog.model import ActionState, AuditEntry, Change, HoldReason, MessageKind, Severity, State, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.outbox import Outbox
from watchdog.pipeline import Pipeline
from watchdog.ports import Ledger
from watchdog.telling import message

TORN = '{"arm": ["cand'
NO_TEXT = b"\xff\xfe\x00"
SPOILT = pytest.mark.spoils_its_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.db"


@pytest.fixture
def ledger(path: Path, clock: FakeClock) -> Iterator[Ledger]:
    opened = open_ledger(str(path), clock=clock, owner="me", sinks_for=lambda service: ("log",))
    yield opened
    opened.close()


def damage(
    path: Path,
    watch_id: str,
    text: object,
    *,
    table: str = "samples",
    column: str = "cells",
    key: str = "watch_id",
) -> None:
    """What a disk does now and then, in the oldest row of a watch."""
    with sqlite3.connect(path) as raw:
        (row,) = raw.execute(f"SELECT min(rowid) FROM {table} WHERE {key} = ?", (watch_id,)).fetchone()
        blob = "CAST(? AS TEXT)"
        changed = raw.execute(f"UPDATE {table} SET {column} = {blob} WHERE rowid = ?", (text, row)).rowcount
    raw.close()
    assert changed == 1


def restarted(pipeline: Pipeline) -> Pipeline:
    """The same road with nothing remembered: the stored looks are read again."""
    return replace(pipeline, memory=Memory())


def standing(ledger: Ledger, watch_id: str) -> Watch:
    watch = ledger.watch(watch_id)
    assert watch is not None
    return watch


def two(ledger: Ledger, clock: FakeClock, hook: FakeHook, *, fails_after: int = 4) -> Pipeline:
    """The bad deploy d1 of `shop`, and d2 of `cart` beside it, some looks on."""
    begin(ledger, a_watch())
    other = a_watch(deploy_id="d2")
    begin(ledger, replace(other, deploy=replace(other.deploy, service="cart")))
    pipeline = road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.06, fails_after=fails_after)), hook)
    walk(pipeline, ledger, clock, seconds=14)
    assert [standing(ledger, name).looks for name in ("d1", "d2")] == [2, 2]
    return pipeline


@pytest.mark.parametrize("text", [TORN, NO_TEXT], ids=["torn", "no text"])
@pytest.mark.parametrize(("table", "column"), [("samples", "cells"), ("looks", "facts")])
@SPOILT
def test_a_damaged_look_holds_its_own_watch_and_the_others_go_on(
    ledger: Ledger, clock: FakeClock, path: Path, text: object, table: str, column: str
) -> None:
    """The one beside it is rolled back as ever; it is paged itself, once, and says what to do."""
    hook = FakeHook()
    pipeline = two(ledger, clock, hook)
    damage(path, "d2", text, table=table, column=column)
    watch = walk(restarted(pipeline), ledger, clock)
    assert (watch.state, hook.effects) == (State.ROLLED_BACK, 1)
    hurt = standing(ledger, "d2")
    assert (hurt.state, hurt.hold) == (State.HELD, HoldReason.DAMAGED)
    (page,) = [row.message for row, _ in ledger.messages("d2") if row.message.kind is MessageKind.HELD]
    assert page.severity is Severity.PAGE
    for word in ("cannot be judged any more", "watch it yourself", "approve to go back to v1", "a backup"):
        assert word in page.sentence
    assert [entry.event for entry in ledger.audit("d2")].count("watch.damaged") == 1


@SPOILT
def test_a_human_can_take_a_watch_that_is_held_for_damage_back(ledger: Ledger, clock: FakeClock, path: Path) -> None:
    """The rollback waits for approval, as with any hold."""
    hook = FakeHook()
    pipeline = restarted(two(ledger, clock, hook, fails_after=1000))
    damage(path, "d1", TORN)
    walk(pipeline, ledger, clock, seconds=6)
    assert [a.state for a in ledger.actions(watch_id="d1")] == [ActionState.HELD]
    OperatorDesk(ledger=ledger, clock=clock).approve("d1", actor="ann")
    walk(pipeline, ledger, clock, seconds=3)
    assert hook.effects == 1


@SPOILT
def test_a_rollback_whose_looks_are_damaged_is_not_called_recovered(
    ledger: Ledger, clock: FakeClock, path: Path
) -> None:
    """It took effect, and nobody can prove it: a page, and the watch ends."""
    hook = FakeHook()
    pipeline = two(ledger, clock, hook)
    for _ in range(60):
        if standing(ledger, "d1").state is State.VERIFYING:
            break
        clock.advance(1.0)
        pipeline.tick()
    damage(path, "d1", TORN)
    watch = walk(restarted(pipeline), ledger, clock, seconds=10)
    assert (watch.state, hook.effects) == (State.NOT_RECOVERED, 1)
    assert "cannot be read" in watch.sentence
    assert [row.message.severity for row, _ in ledger.messages("d1")][-1] is Severity.PAGE


@SPOILT
def test_a_damaged_past_does_not_keep_a_source_from_coming_back(ledger: Ledger, clock: FakeClock, path: Path) -> None:
    """It is read before anything is fetched, to know whether the past is there."""
    hook = FakeHook()
    pipeline = two(ledger, clock, hook)
    (source,) = pipeline.sources.values()
    source.down = True  # type: ignore[attr-defined]
    walk(pipeline, ledger, clock, seconds=6)
    damage(path, "d2", TORN)
    source.down = False  # type: ignore[attr-defined]
    assert walk(restarted(pipeline), ledger, clock).state is State.ROLLED_BACK
    assert standing(ledger, "d2").hold is HoldReason.DAMAGED
    assert MessageKind.SOURCE_BACK in kinds(ledger)


@pytest.mark.parametrize(("table", "column", "key"), [("deploys", "body", "id"), ("watches", "hold", "id")])
@SPOILT
def test_a_watch_whose_row_is_damaged_is_put_off_and_the_others_go_on(
    ledger: Ledger, clock: FakeClock, path: Path, caplog: pytest.LogCaptureFixture, table: str, column: str, key: str
) -> None:
    """Every tick asks for all watches that are due; the one beside it is rolled back as ever."""
    hook = FakeHook()
    pipeline = two(ledger, clock, hook)
    damage(path, "d2", TORN, table=table, column=column, key=key)
    watch = walk(restarted(pipeline), ledger, clock)
    assert (watch.state, hook.effects) == (State.ROLLED_BACK, 1)
    told = [record.message for record in caplog.records if record.message.startswith("left out: watch d2 ")]
    assert len(told) == 1
    assert "put a backup" in told[0]


@SPOILT
def test_an_action_whose_row_is_damaged_does_not_keep_the_others_from_starting(
    ledger: Ledger, clock: FakeClock, path: Path
) -> None:
    """Every tick asks for all actions that are due."""
    hook = FakeHook()
    pipeline = two(ledger, clock, hook, fails_after=1000)
    for name in ("d1", "d2"):
        watch, now = standing(ledger, name), clock.now()
        back = rollback_action(watch, ActionState.INTENT, now)
        audit = (AuditEntry(at=now, watch_id=name, actor="daemon", event="decision.roll_back"),)
        told = (message(watch, MessageKind.DEGRADED, Severity.WARNING, "bad", key="degraded"),)
        turned = Change(
            watch_id=name, at=now, expect_state=watch.state, to_state=State.INTENT, new_action=back, audit=audit,
            messages=told,
        )  # fmt: skip
        assert ledger.commit(turned)
    damage(path, "d2", TORN, table="actions", column="params")
    walk(pipeline, ledger, clock, seconds=3)
    assert hook.effects == 1


@SPOILT
def test_a_message_that_is_damaged_does_not_silence_the_others(ledger: Ledger, clock: FakeClock, path: Path) -> None:
    """Nor does one whose watch is: that one is given up, aloud."""
    two(ledger, clock, FakeHook())
    begin(ledger, replace(a_watch(deploy_id="d3"), deploy=replace(a_watch(deploy_id="d3").deploy, service="till")))
    damage(path, "d2", TORN, table="outbox", column="facts")
    damage(path, "d1", TORN, table="deploys", column="body", key="id")
    sink = FakeSink()
    outbox = Outbox(ledger, {"log": sink}, clock)
    for _ in range(3):  # what is given up takes the turn of its sink
        outbox.drain()
    outbox.close()
    assert {delivery.message.watch_id for delivery in sink.told} == {"d3"}
    assert next(state for _, state in ledger.messages("d1")) == "dead"
