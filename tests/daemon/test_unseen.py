"""Nothing goes forward on what nobody has looked at: a backlog that can be read, a share the source did not show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.prepare import LookFacts
from analysis.result import SourceStatus, VerdictKind
from tests.daemon.test_policy import NOW, verdict
from tests.daemon.test_rollout import Front, Shop, begin, road, said, standing, stepped
from tests.fakes import FakeClock, FakeSource
from tests.roads import a_road
from tests.samples import a_watch
from watchdog.intervals import MAX_LOOKS_PER_TICK, is_behind
from watchdog.model import DecisionKind, MessageKind, State
from watchdog.policy import Brakes, decide
from watchdog.ports import Ledger, LookAnswer, LookRequest


def test_a_daemon_that_was_away_promotes_nothing_before_it_has_read_what_can_be_read(
    ledger: Ledger, clock: FakeClock
) -> None:
    """The first sixty looks of the backlog are good, and it has been bad since then: it goes back, and never grew."""
    front = Front()
    begin(ledger, stepped(looks=360))
    pipeline = road(ledger, clock, Shop(front, bad_from=5 + MAX_LOOKS_PER_TICK + 15))
    for _ in range(30):
        clock.advance(1.0)
        pipeline.tick()
    clock.advance(1500.0)
    grown = set()
    for _ in range(4):
        clock.advance(1.0)
        pipeline.tick()
        grown.add(standing(ledger).step)
    assert standing(ledger).state in (State.VERIFYING, State.ROLLED_BACK)
    assert (grown, front.share) == ({0}, 0.0)


def test_a_backlog_of_good_looks_delays_a_step_and_no_more(ledger: Ledger, clock: FakeClock) -> None:
    """Once all of it is read, the step is taken."""
    front = Front()
    begin(ledger, stepped(looks=360))
    pipeline = road(ledger, clock, Shop(front))
    clock.advance(1000.0)
    for looks, share in ((60, 0.1), (120, 0.1), (180, 0.1), (200, 0.25)):
        clock.advance(1.0)
        pipeline.tick()
        assert (standing(ledger).looks, front.share) == (looks, share)


def test_a_train_passes_nothing_before_all_that_can_be_read_is_read() -> None:
    """A deploy whose plan is over waits for its train; what has closed since is its time too. A lone one has none."""
    over = replace(a_watch(), looks=18)
    waiting = replace(over, deploy=replace(over.deploy, train="t"))
    late = over.live_at + 500.0
    assert (is_behind(over, late), is_behind(waiting, late)) == (False, True)
    healthy = verdict(VerdictKind.HEALTHY)
    assert decide(waiting, healthy, Brakes(behind=True), NOW).kind is DecisionKind.WAIT
    assert decide(waiting, healthy, Brakes(), NOW).kind is DecisionKind.PASS


@dataclass
class Outage(FakeSource):
    """A source that is down from the first look after a step, for some looks."""

    looks: int = 9
    since: int | None = None

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:
        down = LookAnswer(facts=LookFacts(status=SourceStatus.DOWN, detail="refused"))
        answers = super().fetch(requests, deadline_s=deadline_s)
        return [down if self._is_out(asked) else told for asked, told in zip(requests, answers, strict=True)]

    def _is_out(self, asked: LookRequest) -> bool:
        return self.since is not None and self.since < asked.interval <= self.since + self.looks


def test_a_share_that_the_source_did_not_show_is_not_left_for_the_next(ledger: Ledger, clock: FakeClock) -> None:
    """The source goes down with the step and is away for all of its bake time: the next one waits for its looks."""
    front = Front()
    begin(ledger, stepped())
    source = Outage(Shop(front))
    pipeline = a_road(ledger, clock, source, {"back": front, "front": front})
    for _ in range(300):
        clock.advance(1.0)
        pipeline.tick()
        watch = standing(ledger)
        if watch.step == 1 and source.since is None:
            source.since = watch.looks
        if watch.step == 2:
            break
    seen = [look for look in ledger.looks("d1") if look.facts.share == 0.25 and look.facts.status is SourceStatus.OK]
    assert len(seen) >= watch.plan.judge.min_looks
    assert "up to 25 % an increase" in said(ledger, MessageKind.PROGRESS)[1]
