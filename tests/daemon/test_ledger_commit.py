"""One change is one transaction: all of it, or nothing."""

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import exc

from analysis.prepare import Cells, LookFacts
from analysis.result import Reason, SourceStatus, Verdict, VerdictKind
from tests.fakes import FakeClock
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.errors import LedgerError, LedgerRefusedError, NotFoundError
from watchdog.ledger import SqlLedger, open_ledger, open_readonly, verify_chain
from watchdog.ledger.engine import ledger_error
from watchdog.model import (
    ACTION_TRANSITIONS,
    TRANSITIONS,
    Action,
    ActionKind,
    ActionState,
    ActionUpdate,
    AuditEntry,
    Change,
    Claim,
    HoldReason,
    Message,
    MessageKind,
    Recorded,
    Severity,
    State,
    StoredLook,
)

AT = DEPLOYED_AT + 10.0


def entry(event: str = "watch.moved") -> AuditEntry:
    return AuditEntry(at=AT, watch_id="d1", actor="test", event=event, details={"n": 1, "x": 0.1})


def told(key: str = "moved") -> Message:
    return Message(
        key=key, watch_id="d1", kind=MessageKind.PROGRESS, severity=Severity.INFO, sentence="said", facts={"n": 1}
    )


def a_look(interval: int) -> StoredLook:
    cells = Cells(
        arm=("baseline", "candidate"),
        replica=("a", "b"),
        stratum=("/", "/"),
        le=(math.inf, 0.1),
        value=(1.0 / 3.0, 2.0**60 + 0.0),
        total=(5e-324, -0.0),
    )
    facts = LookFacts(status=SourceStatus.PARTIAL, baseline_up=3, detail="two shards of three")
    return StoredLook(interval=interval, facts=facts, cells={"errors": cells, "none": Cells()}, queries={"errors": "q"})


def a_verdict(look: int, **changes: Any) -> Verdict:
    fields: dict[str, Any] = {
        "kind": VerdictKind.DEGRADED,
        "reason": Reason.METRICS,
        "metric": "errors",
        "look": look,
        "alarm_look": look,
        "log_evidence": 5.5,
        "log_threshold": 4.6,
        "sentence": "worse",
    }
    return Verdict(**fields | changes)


def an_action(action_id: str = "a1", state: ActionState = ActionState.INTENT) -> Action:
    return Action(
        id=action_id,
        watch_id="d1",
        kind=ActionKind.ROLLBACK,
        state=state,
        hook="back",
        service="shop",
        environment="production",
        from_version="v2",
        to_version="v1",
        created_at=AT,
        params={"share": 0.1},
    )


def move(source: State, target: State | None, **parts: Any) -> Change:
    carried: dict[str, Any] = {"audit": (entry(),), "messages": (told(),)}
    return Change(watch_id="d1", at=AT, expect_state=source, to_state=target, **carried | parts)


def opened(home: str, **more: Any) -> SqlLedger:
    return open_ledger(
        home,
        max_skew_s=math.inf,
        clock=FakeClock(),
        owner="me",
        sinks_for=lambda service: ("team", f"{service}-log"),
        **more,
    )


def snapshot(ledger: SqlLedger) -> list[object]:
    """Everything a reader can see."""
    return [
        ledger.watch("d1"),
        ledger.looks("d1"),
        ledger.verdicts("d1"),
        ledger.actions(),
        ledger.audit(),
        ledger.messages("d1"),
        ledger.counts(),
    ]


@pytest.fixture
def ledger(home: str) -> Iterator[SqlLedger]:
    ledger = opened(home)
    yield ledger
    ledger.close()


def test_a_deploy_is_recorded_once(ledger: SqlLedger) -> None:
    """The same body again is SAME, another body under the same id is CONFLICT, and neither writes anything."""
    watch = a_watch()
    assert ledger.record_deploy(watch, [told("started")], [entry("deploy.received")]) is Recorded.CREATED
    before = snapshot(ledger)
    assert ledger.record_deploy(watch, [told("started")], [entry()]) is Recorded.SAME
    other = replace(watch, deploy=replace(watch.deploy, body_digest="1" * 64))
    assert ledger.record_deploy(other, [told("again")], [entry()]) is Recorded.CONFLICT
    assert snapshot(ledger) == before
    assert ledger.watch("d1") == watch


def test_a_restart_sees_everything(home: str) -> None:
    """All that was committed is there for the next process, and for a reader beside it, value for value."""
    ledger = opened(home)
    ledger.record_deploy(a_watch(), [told("started")], [entry()])
    change = move(
        State.WATCHING,
        State.INTENT,
        fields={"looks": 2, "sentence": "worse", "degraded_at": AT, "hold": HoldReason.APPROVAL, "verdict": "DEGRADED"},
        looks=(a_look(-1), a_look(0)),
        verdict=a_verdict(0, log_evidence=math.inf, log_threshold=math.nan),
        new_action=an_action(),
    )
    assert ledger.commit(change)
    ledger.set_paused(True, actor="me", why="incident", at=AT)
    before = snapshot(ledger)
    reader = open_readonly(home)
    assert str(snapshot(reader)) == str(before)  # as text, for NaN equals nothing
    reader.close()
    ledger.close()
    again = opened(home)
    assert str(snapshot(again)) == str(before)
    assert again.paused() == "incident"
    assert again.looks("d1") == [a_look(-1), a_look(0)]
    assert again.looks("d1", after=-1) == [a_look(0)]
    stored = again.verdicts("d1", last=1)[0]
    assert (stored.log_evidence, math.isnan(stored.log_threshold)) == (math.inf, True)
    assert stored.payload["metric"] == "errors"
    watch = again.watch("d1")
    assert watch is not None
    assert (watch.state, watch.hold, watch.degraded_at) == (State.INTENT, HoldReason.APPROVAL, AT)
    again.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLedger]:
    """One ledger for the big tables of cases, which are refused before any database is asked."""
    ledger = opened(str(tmp_path_factory.mktemp("shared") / "w.db"))
    yield ledger
    ledger.close()


def of(watch_id: str, change: Change) -> Change:
    """The same change of another watch."""
    return replace(
        change,
        watch_id=watch_id,
        audit=tuple(replace(item, watch_id=watch_id) for item in change.audit),
        messages=tuple(replace(item, watch_id=watch_id) for item in change.messages),
    )


@pytest.mark.parametrize(("source", "target"), list(itertools.product(State, State)))
def test_only_the_transitions_of_the_table_happen(shared: SqlLedger, source: State, target: State) -> None:
    """Every pair of states: allowed ones move the watch, all others are a ValueError and change nothing."""
    watch = a_watch(deploy_id=f"{source}-{target}", state=source)
    shared.record_deploy(watch, [], [])
    change = of(watch.id, move(source, target))
    if target in TRANSITIONS.get(source, frozenset()):
        assert shared.commit(change)
        assert shared.watch(watch.id) == replace(watch, state=target, updated_at=AT)
        assert [item.event for item in shared.audit(watch.id)] == ["watch.moved"]
        assert len(shared.messages(watch.id)) == 2
    else:
        with pytest.raises(ValueError, match="cannot go from"):
            shared.commit(change)
        assert shared.watch(watch.id) == watch


@pytest.mark.parametrize(("source", "target"), list(itertools.product(ActionState, ActionState)))
def test_only_the_action_transitions_of_the_table_happen(
    shared: SqlLedger, source: ActionState, target: ActionState
) -> None:
    """Every pair of action states; RUNNING is reached by claim_action alone, the same state only takes fields."""
    watch_id = f"action-{source}-{target}"
    shared.record_deploy(a_watch(deploy_id=watch_id), [], [])
    action = replace(an_action(f"of-{watch_id}", source), watch_id=watch_id)
    assert shared.commit(of(watch_id, move(State.WATCHING, None, new_action=action)))
    update = ActionUpdate(id=action.id, expect=frozenset({source}), to=target, fields={"detail": "why"})
    change = of(watch_id, move(State.WATCHING, None, action=update))
    allowed = target is source or (
        target in ACTION_TRANSITIONS.get(source, frozenset()) and target is not ActionState.RUNNING
    )
    if allowed:
        assert shared.commit(change)
        assert shared.action(action.id) == replace(action, state=target, detail="why")
    else:
        with pytest.raises(ValueError, match=r"cannot go from|only claim_action"):
            shared.commit(change)
        assert shared.action(action.id) == action


@pytest.mark.parametrize(
    "parts",
    [
        {"audit": ()},
        {"messages": ()},
        {"fields": {"colour": "red"}},
        {"fields": {"epoch": 7}},
        {"fields": {"state": "PASSED"}},
        {"fields": {"exposed_requests": math.nan}},
        {"fields": {"sentence": None}},
        {"messages": (replace(told(), watch_id="d2"),)},
        {"new_action": replace(an_action(), watch_id="d2")},
        {"action": ActionUpdate(id="a1", expect=frozenset(), to=ActionState.HELD)},
        {
            "action": ActionUpdate(
                id="a1", expect=frozenset({ActionState.INTENT}), to=ActionState.HELD, fields={"fence": 9}
            )
        },
    ],
)
def test_a_mistake_of_the_caller_is_told_and_writes_nothing(ledger: SqlLedger, parts: dict[str, Any]) -> None:
    """A transition without audit or message, an unknown field, a foreign message: ValueError."""
    ledger.record_deploy(a_watch(), [], [])
    before = snapshot(ledger)
    with pytest.raises(ValueError, match=r"\w"):
        ledger.commit(move(State.WATCHING, State.INTENT, **parts))
    assert snapshot(ledger) == before


def losing(name: str) -> Change:
    full: dict[str, Any] = {
        "looks": (a_look(1),),
        "verdict": a_verdict(1),
        "new_action": an_action("a2"),
        "fields": {"looks": 9},
    }
    held = ActionUpdate(id="a1", expect=frozenset({ActionState.HELD}), to=ActionState.INTENT)
    changes = {
        "another state": move(State.HELD, State.INTENT, **full),
        "an older epoch": move(State.WATCHING, State.INTENT, expect_epoch=6, **full),
        "a closed interval": move(State.WATCHING, State.INTENT, **full | {"looks": (a_look(1), a_look(0))}),
        "a known action": move(State.WATCHING, State.INTENT, **full | {"new_action": an_action("a1")}),
        "an action's other state": move(State.WATCHING, State.INTENT, **full, action=held),
        "an unknown action": move(State.WATCHING, State.INTENT, **full, action=replace(held, id="a9")),
    }
    return changes[name]


@pytest.mark.parametrize(
    "name",
    [
        "another state",
        "an older epoch",
        "a closed interval",
        "a known action",
        "an action's other state",
        "an unknown action",
    ],
)
def test_a_lost_comparison_writes_nothing(ledger: SqlLedger, name: str) -> None:
    """Whatever part of a change no longer fits, none of it is written and the answer is False."""
    ledger.record_deploy(a_watch(), [told("started")], [entry()])
    assert ledger.commit(move(State.WATCHING, None, looks=(a_look(0),), new_action=an_action()))
    before = snapshot(ledger)
    assert ledger.commit(losing(name)) is False
    assert snapshot(ledger) == before


def test_the_epoch_of_the_lease_is_compared(ledger: SqlLedger) -> None:
    """A writer whose lease was taken over is refused; the new holder is not."""
    ledger.record_deploy(a_watch(), [], [])
    first = ledger.claim_due(owner="one", now=AT, lease_s=5.0, limit=1)[0]
    second = ledger.claim_due(owner="two", now=AT + 6.0, lease_s=5.0, limit=1)[0]
    assert not ledger.commit(move(State.WATCHING, State.PASSED, expect_epoch=first.epoch))
    assert ledger.commit(move(State.WATCHING, State.PASSED, expect_epoch=second.epoch))


def test_a_watch_nobody_recorded_is_told(ledger: SqlLedger) -> None:
    """An unknown watch is no lost race."""
    with pytest.raises(NotFoundError):
        ledger.commit(move(State.WATCHING, None))


class FaultError(RuntimeError):
    """What the injected failure raises."""


@pytest.mark.parametrize(
    "point", ["ledger-record-before-commit", "ledger-change-before-commit", "ledger-claim-before-commit"]
)
def test_a_fault_before_the_commit_leaves_nothing(home: str, point: str) -> None:
    """State, samples, verdict, action, audit and outbox rows come together or not at all."""
    armed = False

    def failpoint(name: str) -> None:
        if armed and name == point:
            raise FaultError(name)

    ledger = opened(home, failpoint=failpoint)
    if point != "ledger-record-before-commit":
        ledger.record_deploy(a_watch(), [told("started")], [entry()])
    if point == "ledger-claim-before-commit":
        ledger.commit(move(State.WATCHING, State.INTENT, new_action=an_action()))
    before, armed = snapshot(ledger), True
    full = move(State.WATCHING, State.INTENT, looks=(a_look(0),), verdict=a_verdict(0), new_action=an_action())
    writes = {
        "ledger-record-before-commit": lambda: ledger.record_deploy(a_watch(), [told("started")], [entry()]),
        "ledger-change-before-commit": lambda: ledger.commit(full),
        "ledger-claim-before-commit": lambda: ledger.claim_action(
            Claim(action_id="a1", owner="me", now=AT, timeout_s=5.0)
        ),
    }
    with pytest.raises(FaultError):
        writes[point]()
    assert snapshot(ledger) == before
    assert verify_chain(ledger.audit_chain()).problem is None
    ledger.close()


def break_table(ledger: SqlLedger, table: str, *, mend: bool = False) -> None:
    """Make the database refuse writes to a table as it does on a full disk, or take them again."""
    verb = "UPDATE" if table == "watches" else "INSERT"
    trigger = f"CREATE TRIGGER broken BEFORE {verb} ON {table}"
    function = (
        "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'disk is full' USING ERRCODE = '53100'; END $$"
    )
    if ledger._database.is_shared:
        drop = f"DROP TRIGGER broken ON {table}"
        statements = [drop] if mend else [function, f"{trigger} FOR EACH STATEMENT EXECUTE FUNCTION full_disk()"]
    else:
        sqlite = f"{trigger} BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        statements = ["DROP TRIGGER broken"] if mend else [sqlite]
    with ledger._database.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("table", ["watches", "looks", "samples", "verdicts", "actions", "audit", "outbox"])
def test_a_write_that_fails_in_any_table_undoes_the_others(ledger: SqlLedger, table: str) -> None:
    """The database itself refuses one row; the transaction leaves nothing, and the next one goes through."""
    ledger.record_deploy(a_watch(), [], [])
    before = snapshot(ledger)
    full = move(State.WATCHING, State.INTENT, looks=(a_look(0),), verdict=a_verdict(0), new_action=an_action())
    break_table(ledger, table)
    with pytest.raises(LedgerError, match="free space"):
        ledger.commit(full)
    assert snapshot(ledger) == before
    break_table(ledger, table, mend=True)
    assert ledger.commit(full)


def test_the_newest_watches_come_first_and_filters_hold(ledger: SqlLedger) -> None:
    """Filters by service, environment and state; pages by creation time."""
    for number in range(5):
        state = State.PASSED if number % 2 else State.WATCHING
        ledger.record_deploy(replace(a_watch(deploy_id=f"d{number}", state=state), created_at=float(number)), [], [])
    assert [watch.id for watch in ledger.watches(limit=2)] == ["d4", "d3"]
    assert [watch.id for watch in ledger.watches(limit=2, before=3.0)] == ["d2", "d1"]
    assert [watch.id for watch in ledger.watches(states=frozenset({State.PASSED}))] == ["d3", "d1"]
    assert ledger.watches(service="other") == []
    assert len(ledger.watches(service="shop", environment="production")) == 5
    assert ledger.counts() == {"WATCHING": 3, "PASSED": 2}


def three(ledger: SqlLedger) -> list[Change]:
    """One look of each of three watches."""
    for i in (1, 2, 3):
        watch = a_watch(deploy_id=f"d{i}")
        deploy = replace(watch.deploy, service=f"shop-{i}")
        ledger.record_deploy(replace(watch, deploy=deploy), [], [])
    return [
        Change(watch_id=f"d{i}", at=AT, expect_state=State.WATCHING, looks=(a_look(0),), verdict=a_verdict(0),
               fields={"looks": 1}, audit=(entry(f"look {i}"),))
        for i in (3, 1, 2)
    ]  # fmt: skip


def test_changes_written_together_are_won_and_lost_each_by_itself(ledger: SqlLedger) -> None:
    """One commit; a watch that is no longer as expected leaves nothing and keeps nobody from being written."""
    changes = three(ledger)
    changes[1] = replace(changes[1], expect_state=State.HELD)
    assert ledger.commit_all(changes) == [True, False, True]
    assert [len(ledger.looks(f"d{i}")) for i in (1, 2, 3)] == [0, 1, 1]
    assert [len(ledger.verdicts(f"d{i}")) for i in (1, 2, 3)] == [0, 1, 1]
    assert {row.event for row in ledger.audit()} == {"look 2", "look 3"}
    assert verify_chain(ledger.audit_chain()).problem is None
    assert ledger.commit_all([]) == []


def test_an_interval_that_was_closed_meanwhile_loses_alone(ledger: SqlLedger) -> None:
    """The whole commit is taken back, and each change is then written by itself."""
    changes = three(ledger)
    assert ledger.commit(replace(changes[1], verdict=None, audit=()))
    assert ledger.commit_all(changes) == [True, False, True]
    assert [len(ledger.verdicts(f"d{i}")) for i in (1, 2, 3)] == [0, 1, 1]
    assert verify_chain(ledger.audit_chain()).problem is None


def test_many_watches_are_read_at_once(ledger: SqlLedger) -> None:
    """By id; what is not on record is absent."""
    three(ledger)
    found = ledger.watches_of(["d1", "d3", "d9"])
    assert found == {name: ledger.watch(name) for name in ("d1", "d3")}


def recorded(ledger: SqlLedger, name: str) -> None:
    received = replace(entry("deploy.received"), watch_id=name)
    assert ledger.record_deploy(a_watch(deploy_id=name), [], [received]) is Recorded.CREATED


def test_reads_in_a_snapshot_are_of_one_moment(ledger: SqlLedger) -> None:
    """What is written meanwhile, even by the same thread, is seen afterwards and not half of it within."""
    recorded(ledger, "d1")
    with ledger.snapshot():
        assert ledger.counts() == {"WATCHING": 1}
        recorded(ledger, "d2")
        with ledger.snapshot():  # the same one
            assert ledger.watch("d2") is None
        assert ledger.counts() == {"WATCHING": 1}
        assert ledger.audit("d2") == []
    assert ledger.counts() == {"WATCHING": 2}
    assert len(ledger.audit("d2")) == 1


def test_a_snapshot_is_one_threads_own_and_ends_whatever_happens(ledger: SqlLedger) -> None:
    """Others see what is there now; so does this thread once its snapshot broke off."""
    recorded(ledger, "d1")

    def breaks_off() -> None:
        with ThreadPoolExecutor(1) as other, ledger.snapshot():
            assert ledger.watch("d2") is None
            recorded(ledger, "d2")
            assert other.submit(ledger.watch, "d2").result() is not None
            raise KeyError("d2")

    with pytest.raises(KeyError):
        breaks_off()
    assert ledger.watch("d2") is not None


def test_what_postgresql_s_driver_refuses_is_the_fault_of_that_write() -> None:
    """It has no state, as a lost connection has none; and the ledger is there all the same."""
    refused = exc.DataError("INSERT", {}, psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"))
    assert type(ledger_error(refused)) is LedgerRefusedError
    lost = exc.OperationalError("INSERT", {}, psycopg.OperationalError("connection refused"))
    assert type(ledger_error(lost)) is LedgerError
