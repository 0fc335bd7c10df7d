"""One place, one service in one environment: what stands there, however long its history is."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import create_engine

from tests.fakes import FakeClock
from tests.samples import a_watch
from watchdog.ledger import SqlLedger, open_ledger, queries, rows, schema
from watchdog.model import State, Watch

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


def steps_among(past: int) -> dict[str, int]:
    """How many steps SQLite takes for what an event asks, where the place and its environment have so long a past."""
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    taken = {}
    with engine.begin() as connection:
        newest, others = deployed(past, State.WATCHING), [deployed(i, State.SUPERSEDED) for i in range(past)]
        others += [
            replace(one, id=f"o{one.id}", deploy=replace(one.deploy, id=f"o{one.id}", service="cart")) for one in others
        ]
        plan = rows.plan_row(newest.plan)
        connection.execute(schema.plans.insert(), [plan])
        connection.execute(schema.deploys.insert(), [rows.deploy_row(one.deploy) for one in (newest, *others)])
        told = [rows.watch_row(one, plan["digest"]) for one in (newest, *others)]
        connection.execute(schema.watches.insert(), told)
        connection.connection.driver_connection.set_progress_handler(step, 1)  # type: ignore[union-attr]
        steps = 0
        found = queries.standing(connection, "shop", "production", ACTIVE, BACK, 0.0)
        taken["standing"], steps = steps, 0
        assert [watch.id for watch in found] == [newest.id]
        found = queries.find_watches(
            connection, service="shop", environment="production", states=None,
            limit=20, before=None, before_id=None, services=None,
        )  # fmt: skip
        taken["the last twenty"] = steps
        assert len(found) == 20
    engine.dispose()
    return taken


def test_a_deploy_event_costs_the_same_however_often_its_service_was_deployed() -> None:
    """Nothing walks through a past of thousands: of the service, or of others that were deployed since."""
    short, long = steps_among(50), steps_among(2000)
    assert all(long[what] < 1.2 * short[what] + 50 for what in short), (short, long)
