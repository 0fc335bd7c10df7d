"""What stands at a place, what goes on and what was rolled back, however long the record is."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import Connection, create_engine, func, select

from analysis.prepare import LookFacts
from tests.fakes import FakeClock
from tests.samples import a_watch
from watchdog.intended import rollback_action
from watchdog.ledger import SqlLedger, claims, open_ledger, queries, rows, schema
from watchdog.model import ActionState, Change, State, StoredLook, Watch

ENDS = (State.SUPERSEDED, State.ROLLED_BACK)
ACTIVE, BACK = frozenset({State.WATCHING, State.HELD}), frozenset({State.ROLLED_BACK})


@pytest.fixture
def ledger(home: str) -> Iterator[SqlLedger]:
    ledger = open_ledger(home, max_skew_s=math.inf, clock=FakeClock(), owner="me", sinks_for=lambda service: ())
    yield ledger
    ledger.close()


def deployed(number: int, state: State, *, environment: str = "production", updated_at: float = 0.0) -> Watch:
    watch = a_watch(deploy_id=f"d{number}", state=state)
    deploy = replace(watch.deploy, environment=environment)
    return replace(watch, deploy=deploy, created_at=float(number), updated_at=updated_at)


def test_what_stands_at_a_place_is_what_goes_on_what_went_back_lately_and_the_newest(ledger: SqlLedger) -> None:
    """The newest first; nothing of another environment."""
    for watch in (
        deployed(0, State.ROLLED_BACK, updated_at=10.0),
        deployed(1, State.ROLLED_BACK, updated_at=50.0),
        deployed(2, State.PASSED),
        deployed(3, State.WATCHING),
        deployed(4, State.HELD, environment="staging"),
        deployed(5, State.SUPERSEDED),
    ):
        ledger.record_deploy(watch, [], [])
    place = {"service": "shop", "environment": "production"}

    def found(**more: object) -> list[str]:
        return [watch.id for watch in ledger.standing(**place, states=ACTIVE, **more)]  # type: ignore[arg-type]

    assert found() == ["d5", "d3"]
    assert found(lately=BACK, since=50.0) == ["d5", "d3", "d1"]
    assert found(lately=BACK, since=5.0) == ["d5", "d3", "d1", "d0"]
    assert ledger.standing(service="cart", environment="production", states=ACTIVE) == []


@contextmanager
def a_record_of(past: int) -> Iterator[Connection]:
    """One watch that goes on, after so many deploys of its service, and as many of another in its environment; every
    second one of them was rolled back."""
    newest, others = deployed(past, State.WATCHING), [deployed(i, ENDS[i % 2]) for i in range(past)]
    others += [
        replace(
            one, id=f"o{one.id}", deploy=replace(one.deploy, id=f"o{one.id}", service="cart"), created_at=2.0 * past
        )
        for one in others
    ]
    actions = [rollback_action(one, ActionState.APPLIED, one.created_at) for one in others]
    plan = rows.plan_row(newest.plan)
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(schema.plans.insert(), [plan])
        connection.execute(schema.deploys.insert(), [rows.deploy_row(one.deploy) for one in (newest, *others)])
        told = [rows.watch_row(one, plan["digest"]) for one in (newest, *others)]
        connection.execute(schema.watches.insert(), told)
        connection.execute(schema.actions.insert(), [rows.action_row(action) for action in actions if action])
        yield connection
    engine.dispose()


def steps_of(connection: Connection, work: Callable[[Connection], object]) -> int:
    """How many steps SQLite's machine takes for it."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    connection.connection.driver_connection.set_progress_handler(step, 1)  # type: ignore[union-attr]
    assert work(connection)
    connection.connection.driver_connection.set_progress_handler(None, 1)  # type: ignore[union-attr]
    return steps


def latest(connection: Connection) -> list[Watch]:
    return queries.find_watches(
        connection, service="shop", environment="production", states=None,
        limit=20, before=None, before_id=None, services=None,
    )  # fmt: skip


ASKED: Mapping[str, Callable[[Connection], object]] = {
    "what stands at a place": lambda c: queries.standing(c, "shop", "production", ACTIVE, BACK, 1e9),
    "the last of a place": latest,
    "who is to be looked at": lambda c: claims.due(c, owner="me", now=1e10, lease_s=15.0, limit=500),
    "how many go on": queries.active,
    "who else is hurt": lambda c: not queries.hurt(c, "production", "SHARED_CAUSE", 0.0),
    "what was rolled back lately": lambda c: not queries.rollbacks_since(c, 1e9),
}


@pytest.mark.parametrize("what", ASKED)
def test_what_is_asked_all_the_time_costs_the_same_after_thousands_of_deploys(what: str) -> None:
    """With every second, event or alarm: nothing walks through the past, of this service or of others since."""
    with a_record_of(50) as connection:
        short = steps_of(connection, ASKED[what])
    with a_record_of(2000) as connection:
        long = steps_of(connection, ASKED[what])
    assert long < 1.2 * short + 50, (short, long)


def test_what_was_asked_is_stored_once_for_all_looks_that_asked_the_same(ledger: SqlLedger) -> None:
    """It is the larger part of a look, and the same for most looks of a watch."""
    ledger.record_deploy(deployed(1, State.WATCHING), [], [])
    asked = [{"errors": "sum(a)"}, {"errors": "sum(a)"}, {"errors": "sum(b)"}, {}]
    looks = [StoredLook(interval=i, facts=LookFacts(), cells={}, queries=queries) for i, queries in enumerate(asked)]
    for look in looks:
        change = Change(watch_id="d1", at=1.0, expect_state=State.WATCHING, fields={}, looks=(look,))
        assert ledger.commit(change)
    assert [look.queries for look in ledger.looks("d1")] == asked
    assert [look.queries for look in ledger.looks("d1", after=0)] == asked[1:]
    newest = ledger.last_look("d1")
    assert newest is not None
    assert newest.queries == {}
    with ledger._database.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.query_texts)).scalar() == 3


def test_looks_of_an_older_ledger_keep_the_text_they_hold(ledger: SqlLedger) -> None:
    """Until schema 0005 each look held its own."""
    ledger.record_deploy(deployed(1, State.WATCHING), [], [])
    held = {"watch_id": "d1", "interval": 0, "facts": "{}", "queries": '{"errors":"sum(a)"}'}
    with ledger._database.write() as connection:
        connection.execute(schema.looks.insert(), [held])
    assert [look.queries for look in ledger.looks("d1")] == [{"errors": "sum(a)"}]
