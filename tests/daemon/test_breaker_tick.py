"""Many services that turn bad in the same tick: the breaker counts them one after the other."""

from dataclasses import replace
from pathlib import Path

from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.action import ActionEdge
from watchdog.ledger import open_ledger
from watchdog.model import DEFAULT_LIMITS, HoldReason, MessageKind, Severity, State
from watchdog.pipeline import Pipeline
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry
from watchdog.telling import message

SERVICES = 6


def test_no_more_go_back_in_one_tick_than_the_breaker_allows(tmp_path: Path) -> None:
    """Six services fail alike at the same moment: three are rolled back, the others held with the reason."""
    clock = FakeClock(DEPLOYED_AT)
    ledger = open_ledger(str(tmp_path / "w.db"), clock=clock, owner="me", sinks_for=lambda service: ("log",))
    rows = [("baseline", f"v1-{n}", 4.0, 450.0) for n in range(3)] + [("candidate", "v2-0", 30.0, 150.0)]
    source = FakeSource(lambda request: {"errors": counts(rows)})
    hook = FakeHook()
    road = Pipeline(
        ledger=ledger,
        surroundings=Surroundings(ledger=ledger),
        sources={"pages": source},
        edge=ActionEdge(ledger=ledger, hooks={"back": hook}, clock=clock, owner="me"),
        clock=clock,
        owner="me",
        telemetry=Telemetry(),
        submit=lambda job, key: None,
    )
    for number in range(SERVICES):
        watch = a_watch(deploy_id=f"d{number}")
        watch = replace(watch, deploy=replace(watch.deploy, service=f"shop-{number}"))
        ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
    for _ in range(60):
        clock.advance(1.0)
        road.tick()
    states = [watch.state for watch in ledger.watches()]
    assert states.count(State.INTENT) == DEFAULT_LIMITS.breaker_rollbacks
    assert states.count(State.HELD) == SERVICES - DEFAULT_LIMITS.breaker_rollbacks
    held = [watch.hold for watch in ledger.watches() if watch.state is State.HELD]
    assert set(held) == {HoldReason.BREAKER}
    ledger.close()
