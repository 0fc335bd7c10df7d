"""Between the decision to roll back and its claim others may have begun: cool-down and breaker are asked again."""

from dataclasses import replace

from tests.daemon.test_action import edge_of
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.samples import a_watch
from watchdog.model import (
    Action,
    ActionKind,
    HoldReason,
    Limits,
    MessageKind,
    Severity,
    State,
    Watch,
)
from watchdog.operator_desk import OperatorDesk
from watchdog.pipeline import Pipeline
from watchdog.ports import Ledger
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry

ONE = Limits(breaker_rollbacks=1)


class LastMoment:
    """A ledger as a replica saw it that decided a moment before the other one's decision was on record."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    def rollbacks_since(self, since: float) -> list[Action]:
        return []


def decided(ledger: Ledger, clock: FakeClock, services: tuple[str, ...]) -> list[Action]:
    """Bad deploys, each decided on by a round that knew nothing of the others."""
    rows = [("baseline", f"v1-{n}", 4.0, 450.0) for n in range(3)] + [("candidate", "v2-0", 30.0, 150.0)]
    blind: Ledger = LastMoment(ledger)  # type: ignore[assignment]
    for number, service in enumerate(services):
        watch = a_watch(deploy_id=f"d{number}")
        ledger.record_deploy(replace(watch, deploy=replace(watch.deploy, service=service)), [], [])
        road = Pipeline(
            ledger=ledger,
            surroundings=Surroundings(ledger=blind, limits=ONE),
            sources={"pages": FakeSource(lambda request: {"errors": counts(rows)})},
            edge=edge_of(ledger, clock, FakeHook()),
            clock=clock,
            owner="me",
            telemetry=Telemetry(),
            submit=lambda job, key: None,
        )
        for _ in range(60):
            if standing(ledger, watch.id).state is not State.WATCHING:
                break
            clock.advance(1.0)
            road.tick()
        assert standing(ledger, watch.id).state is State.INTENT
    return [a for a in ledger.actions() if a.kind is ActionKind.ROLLBACK]


def standing(ledger: Ledger, watch_id: str) -> Watch:
    watch = ledger.watch(watch_id)
    assert watch is not None
    return watch


def test_the_second_of_two_decisions_at_once_is_held_aloud_and_a_human_may_let_it_go(
    ledger: Ledger, clock: FakeClock
) -> None:
    """Two replicas, each sure that the breaker allows one: one rollback, one page with the reason."""
    first, second = decided(ledger, clock, ("shop", "cart"))
    hook = FakeHook()
    edge = edge_of(ledger, clock, hook, limits=ONE)
    edge.carry_out(second.id)
    edge.carry_out(first.id)
    assert [call.service for call in hook.calls] == ["shop"]
    held = standing(ledger, "d1")
    assert (held.state, held.hold) == (State.HELD, HoldReason.BREAKER)
    (page,) = [row.message for row, _ in ledger.messages("d1") if row.message.kind is MessageKind.HELD]
    assert (page.severity, "so many at once" in page.sentence) == (Severity.PAGE, True)
    hook.live = "v2"
    OperatorDesk(ledger=ledger, clock=clock).approve("d1", actor="ann")
    edge.carry_out(second.id)
    assert [call.service for call in hook.calls] == ["shop", "cart"]


def test_another_rollback_of_the_service_within_the_cool_down_is_found_at_the_claim(
    ledger: Ledger, clock: FakeClock
) -> None:
    """Decided while the other one was not on record yet: a loop is a loop."""
    first, second = decided(ledger, clock, ("shop", "cart"))
    later = replace(second, service="shop")
    edge = edge_of(ledger, clock, FakeHook(), limits=Limits())
    edge.carry_out(first.id)
    found = edge._limited(later)
    assert found is not None
    assert found[0] is HoldReason.COOL_DOWN
