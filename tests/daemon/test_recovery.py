"""After a rollback where only before and after are known: what proves it, what cannot, and that the words are true."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from analysis.prepare import Cells, LookFacts
from analysis.result import Design, SourceStatus
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_plan, a_watch
from watchdog.model import FINAL, MessageKind, Severity, State, Strategy, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.pipeline import Pipeline
from watchdog.ports import HookCall, Ledger, LookAnswer, LookRequest
from watchdog.telling import message

USUAL = 0.01


@dataclass
class Service(FakeSource):
    """1 000 requests a look; from some look on it is down, or fails more, until it is put right."""

    errors: float = USUAL
    bad: float = 0.3
    bad_from: float = float("inf")
    down_from: float = float("inf")
    right_from: float = float("inf")
    unread_from: float = float("inf")  # looks of which the source knows nothing

    answer: Callable[[LookRequest], Mapping[str, Cells]] = field(init=False)

    def __post_init__(self) -> None:
        self.answer = self._cells

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:
        answers = []
        for request in requests:
            if request.interval >= self.unread_from:
                answers.append(LookAnswer(facts=LookFacts(status=SourceStatus.DOWN)))
                continue
            cells = self._cells(request)
            up = 3 if cells else 0
            facts = LookFacts(baseline_up=up, candidate_up=up, candidate_down=3 - up)
            answers.append(LookAnswer(facts=facts, cells=cells))
        return answers

    def _cells(self, request: LookRequest) -> Mapping[str, Cells]:
        look = request.interval
        if self.down_from <= look < self.right_from:
            return {}
        rate = self.bad if self.bad_from <= look < self.right_from else self.errors
        rng = np.random.default_rng(look + 5000)
        return {
            "errors": counts([(arm.arm, "a", float(rng.binomial(1000, rate)), 1000.0) for arm in request.arms]),
        }


@dataclass
class Street:
    """A direct deploy of v2 on its road; the hook puts the service right, where going back helps."""

    ledger: Ledger
    clock: FakeClock
    service: Service
    helps: bool = True
    hook: FakeHook = field(default_factory=FakeHook)
    pipeline: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        watch = direct()
        told = [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")]
        self.ledger.record_deploy(watch, told, [])
        self.hook.on_run = self._back
        self.pipeline = a_road(self.ledger, self.clock, self.service, {"back": self.hook})

    def _back(self, call: HookCall) -> None:
        if self.helps:
            self.service.right_from = self.next_look()

    def next_look(self) -> int:
        return int((self.clock.now() - DEPLOYED_AT) // direct().plan.step_s) + 1

    def on(self, seconds: int, until: Callable[[], bool] = lambda: False) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.pipeline.tick()
            if until() or self.watch.state in FINAL:
                return

    def ask_back(self) -> None:
        OperatorDesk(ledger=self.ledger, clock=self.clock).rollback("d1", actor="ann", why="not wanted")

    @property
    def watch(self) -> Watch:
        found = self.ledger.watch("d1")
        assert found is not None
        return found

    @property
    def closing(self) -> str:
        told = [row.message.sentence for row, _ in self.ledger.messages("d1") if row.message.kind is MessageKind.ENDED]
        return told[-1]


def direct() -> Watch:
    watch = a_watch()
    plan = a_plan(design=Design.BEFORE_AFTER, planned_looks=60)
    return replace(watch, plan=plan, deploy=replace(watch.deploy, strategy=Strategy.DIRECT, share=None))


def test_after_a_full_outage_the_proof_is_that_the_traffic_is_back(ledger: Ledger, clock: FakeClock) -> None:
    """There is no level that it had fallen to: nobody was served any more."""
    street = Street(ledger, clock, Service(down_from=5))
    street.on(300)
    assert (street.watch.state, street.watch.reason) == (State.ROLLED_BACK, "CANDIDATE_ABSENT")
    assert "back on v1, seen by the metrics" in street.watch.sentence


def test_an_outage_that_going_back_does_not_end_is_not_recovered(ledger: Ledger, clock: FakeClock) -> None:
    """Nobody is served by v1 either."""
    street = Street(ledger, clock, Service(down_from=5), helps=False)
    street.on(300)
    assert street.watch.state is State.NOT_RECOVERED
    assert "has not recovered, look now" in street.closing


def test_a_service_that_comes_back_and_fails_at_everything_is_not_recovered(ledger: Ledger, clock: FakeClock) -> None:
    """Traffic alone is no proof where all of it goes wrong."""
    street = Street(ledger, clock, Service(down_from=5))
    street.on(300, until=lambda: street.watch.state is State.VERIFYING)
    street.service.errors = 0.9
    street.on(300)
    assert street.watch.state is State.NOT_RECOVERED


@pytest.mark.parametrize("errors", [0.0, USUAL])
def test_a_rollback_with_nothing_to_recover_from_ends_well_and_says_so(
    ledger: Ledger, clock: FakeClock, errors: float
) -> None:
    """Asked for by a human for another reason: no metric was worse, so none can show that it is over."""
    street = Street(ledger, clock, Service(errors=errors))
    street.on(60)
    street.ask_back()
    street.on(300)
    watch = street.watch
    assert watch.state is State.ROLLED_BACK
    if errors == 0.0:
        said = "by the word of hook back; nothing was seen to be worse before, so nothing could be seen in the metrics"
        assert said in watch.sentence
        assert watch.recovered_at is None
        assert watch.exposed_requests == pytest.approx(12_400, abs=1000)  # v1 served what came after the hook's word


def test_a_rollback_after_which_it_is_worse_than_before_the_deploy_is_not_recovered(
    ledger: Ledger, clock: FakeClock
) -> None:
    """Nothing was wrong with v2, and something is with what was put back."""
    street = Street(ledger, clock, Service(errors=0.0))
    street.on(60)
    street.ask_back()
    street.on(10, until=lambda: street.watch.state is State.VERIFYING)
    street.service.errors = 0.2
    street.on(300)
    assert street.watch.state is State.NOT_RECOVERED


def test_a_bad_deploy_that_goes_on_being_bad_after_its_rollback_is_not_recovered(
    ledger: Ledger, clock: FakeClock
) -> None:
    """It was not this deploy, or going back does not undo it."""
    street = Street(ledger, clock, Service(bad_from=4), helps=False)
    street.on(300)
    assert (street.watch.state, street.watch.verdict) == (State.NOT_RECOVERED, "DEGRADED")
    assert "has not recovered, look now" in street.closing
    assert "the metrics did not show that it took effect" in street.closing


@pytest.mark.parametrize("bad_from", [4.0, float("inf")])
def test_a_source_that_dies_after_the_rollback_is_not_told_as_a_service_that_has_not_recovered(
    ledger: Ledger, clock: FakeClock, bad_from: float
) -> None:
    """Nobody measured anything: a human looks, and is told why."""
    street = Street(ledger, clock, Service(bad_from=bad_from))
    street.on(60, until=lambda: street.watch.state is State.VERIFYING)
    if street.watch.state is State.WATCHING:
        street.ask_back()
    street.service.unread_from = street.next_look()
    street.on(300)
    assert street.watch.state is State.NOT_RECOVERED
    assert "nobody could see whether it recovered: the source does not answer" in street.closing
    assert "has not recovered" not in street.closing


def deployed(street: Street, version: str, *, awaits_switch: bool = False) -> None:
    """Another deploy of the service, in this moment."""
    now, first = street.clock.now(), direct()
    deploy = replace(first.deploy, id="d2", version=version, previous_version="v2", deployed_at=now, received_at=now)
    newer = replace(first, id="d2", deploy=deploy, created_at=now, updated_at=now, next_look_at=now + 1e6)
    if awaits_switch:
        newer = replace(newer, plan=replace(newer.plan, switch_hook="back"), state=State.SMOKE)
    told = [message(newer, MessageKind.STARTED, Severity.INFO, "on", key="started")]
    street.ledger.record_deploy(newer, told, [])


def bad_and_going_back(ledger: Ledger, clock: FakeClock) -> Street:
    """The hook says that it is done; nothing in the metrics says so yet."""
    street = Street(ledger, clock, Service(bad_from=4), helps=False)
    street.on(300, until=lambda: street.watch.state is State.VERIFYING)
    return street


def test_what_a_newer_deploy_brought_is_no_proof_of_a_rollback(ledger: Ledger, clock: FakeClock) -> None:
    """v3 has mended it while v2's rollback was waited for: nothing is back on v1."""
    street = bad_and_going_back(ledger, clock)
    deployed(street, "v3")
    street.service.right_from = street.next_look()
    street.on(300)
    assert (street.watch.state, street.watch.recovered_at) == (State.ROLLED_BACK, None)
    assert "v3 was deployed meanwhile" in street.watch.sentence
    assert "back on v1" not in street.watch.sentence


@pytest.mark.parametrize(("version", "awaits_switch"), [("v1", False), ("v3", True)])
def test_the_rollback_reported_as_a_deploy_and_a_colour_without_traffic_leave_the_proof(
    ledger: Ledger, clock: FakeClock, version: str, awaits_switch: bool
) -> None:
    """A platform sends an event for v1 when it is back; v3 waits for its switch: what serves now is v1."""
    street = bad_and_going_back(ledger, clock)
    deployed(street, version, awaits_switch=awaits_switch)
    street.service.right_from = street.next_look()
    street.pipeline = replace(street.pipeline, submit=lambda job, key: None)
    street.on(300)
    assert street.watch.state is State.ROLLED_BACK
    assert "back on v1, seen by the metrics" in street.watch.sentence
