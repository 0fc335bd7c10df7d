"""A source that hangs costs the watches of other sources nothing, and is told, with several daemons too."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from analysis.prepare import LookFacts
from analysis.result import SourceStatus
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road
from tests.samples import a_watch
from watchdog.model import MessageKind, Severity, State
from watchdog.pipeline import Pipeline
from watchdog.ports import Ledger, LookAnswer, LookRequest
from watchdog.source_order import SourceOrder
from watchdog.telling import message

LEASE_S = 15.0
ROWS = [("baseline", f"v1-{n}", 4.0, 450.0) for n in range(3)] + [("candidate", "v2-0", 45.0, 150.0)]


@dataclass
class Hangs(FakeSource):
    """Takes all the time it is given, second by second, while the other daemons go on."""

    clock: FakeClock = field(default_factory=FakeClock)
    others: list["Daemon"] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:
        self.asked.append(deadline_s)
        for _ in range(math.ceil(deadline_s)):
            self.clock.advance(1.0)
            for other in self.others:
                other.tick()
        return [LookAnswer(facts=LookFacts(status=SourceStatus.DOWN, detail="no answer")) for _ in requests]


@dataclass
class Daemon:
    """One replica; while it waits for a source it does nothing else."""

    pipeline: Pipeline
    busy: bool = False

    def tick(self) -> None:
        if not self.busy:
            self.busy = True
            self.pipeline.tick()
            self.busy = False


def daemons(ledger: Ledger, clock: FakeClock, number: int, order: SourceOrder | None = None) -> list[Daemon]:
    """Replicas that ask a source that hangs, and one that answers."""
    found: list[Daemon] = []
    for at in range(number):
        hanging = Hangs(lambda request: {}, clock=clock)
        road = a_road(ledger, clock, hanging, {"back": FakeHook()})
        sources = {"a-hanging": hanging, "fine": FakeSource(lambda request: {"errors": counts(ROWS)})}
        road = replace(
            road, sources=sources, owner=f"r{at}", lease_s=LEASE_S, order=order or SourceOrder(lease_s=LEASE_S)
        )
        found.append(Daemon(road))
    for daemon in found:
        source = daemon.pipeline.sources["a-hanging"]
        assert isinstance(source, Hangs)
        source.others = [other for other in found if other is not daemon]
    return found


def begin(ledger: Ledger, name: str, source: str) -> None:
    watch = a_watch(deploy_id=name)
    watch = replace(watch, plan=replace(watch.plan, source=source), deploy=replace(watch.deploy, service=name))
    ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_source_that_hangs_is_told_and_the_deploys_of_others_are_judged(
    ledger: Ledger, clock: FakeClock, number: int
) -> None:
    """A lease that ends while a source is asked makes what was heard worthless: so it is asked for less long."""
    begin(ledger, "blind", "a-hanging")
    begin(ledger, "bad", "fine")
    running = daemons(ledger, clock, number)
    began = clock.now()
    while clock.now() < began + 90.0:
        clock.advance(1.0)
        for daemon in running:
            daemon.tick()
    blind, bad = ledger.watch("blind"), ledger.watch("bad")
    assert blind is not None
    assert bad is not None
    assert (blind.state in (State.WATCHING, State.INCONCLUSIVE), blind.reason) == (True, "SOURCE_DOWN")
    assert [row.message.kind for row, _ in ledger.messages("blind")].count(MessageKind.SOURCE_DOWN) == 1
    assert bad.degraded_at is not None
    assert bad.degraded_at - began <= 60.0


def test_who_is_alone_may_wait_longer(ledger: Ledger, clock: FakeClock) -> None:
    """No lease of another daemon ends it: the time before the deploy is asked for with patience."""
    begin(ledger, "blind", "a-hanging")
    (one,) = daemons(ledger, clock, 1, SourceOrder())
    clock.advance(10.0)
    one.tick()
    source = one.pipeline.sources["a-hanging"]
    assert isinstance(source, Hangs)
    assert source.asked == [20.0]


def test_a_source_that_hangs_gets_its_patience_only_now_and_then(ledger: Ledger, clock: FakeClock) -> None:
    """Each of its rounds would be as long, and the next looks of everybody else as late."""
    begin(ledger, "blind", "a-hanging")
    (one,) = daemons(ledger, clock, 1, SourceOrder())
    source = one.pipeline.sources["a-hanging"]
    assert isinstance(source, Hangs)
    while len(source.asked) < 8:
        clock.advance(1.0)
        one.tick()
    assert source.asked == [20.0, 5.0, 5.0, 5.0, 5.0, 5.0, 20.0, 5.0]


def test_what_a_quick_source_said_is_recorded_before_a_slow_one_is_asked(ledger: Ledger, clock: FakeClock) -> None:
    """The verdict on a deploy does not wait for a source that has nothing to do with it."""
    begin(ledger, "blind", "a-hanging")
    begin(ledger, "bad", "fine")
    order = SourceOrder()
    order.took("a-hanging", 5.0)
    (one,) = daemons(ledger, clock, 1, order)
    source = one.pipeline.sources["a-hanging"]
    assert isinstance(source, Hangs)
    known: list[int] = []

    class Asks:
        """Another daemon's turn, in the middle of the asking."""

        def tick(self) -> None:
            bad = ledger.watch("bad")
            assert bad is not None
            known.append(bad.looks)

    source.others = [Asks()]  # type: ignore[list-item]
    clock.advance(12.0)
    one.tick()
    assert known
    assert known[0] > 0


def test_the_quick_sources_are_asked_first_and_one_left_out_before_all() -> None:
    """So that each has its turn, however many hang."""
    order = SourceOrder(lease_s=15.0)
    assert order.of({"b", "a", "c"}) == ["a", "b", "c"]
    order.took("a", 10.0)
    order.took("b", 0.2)
    assert order.of({"b", "a", "c"}) == ["c", "b", "a"]
    order.left_out("a")
    assert order.of({"b", "a"}) == ["a", "b"]
    assert order.left_s(4.0) == pytest.approx(6.0)
    assert SourceOrder().left_s(1e6) == math.inf
