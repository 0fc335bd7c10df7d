"""The time before the deploy, where its one heavy question fails: asked for again, and judged with from then on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from analysis import review
from analysis.hindsight import watch as judged_afterwards
from analysis.prepare import LookFacts
from analysis.result import Design, SourceStatus, VerdictKind
from tests.daemon.test_memory import stored
from tests.daemon.test_pipeline import Shop, begin, road, standing, walk
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.samples import DEPLOYED_AT, a_deploy, a_plan, a_watch
from watchdog.export import recording
from watchdog.intervals import kept
from watchdog.judging import observation
from watchdog.ledger import open_ledger
from watchdog.ledger.encode import dumps, loads
from watchdog.memory import Memory
from watchdog.model import State, StoredLook, Strategy, Watch
from watchdog.ports import Ledger, LookAnswer, LookRequest

PAST = 20
NEVER = 10_000


@dataclass
class Heavy(FakeSource):
    """Answers the time before the deploy only when asked for it often enough; `part`: whether a look suffers too."""

    fails: int = 1
    status: SourceStatus = SourceStatus.PARTIAL
    part: Callable[[int, bool], bool] = lambda interval, with_past: False
    asked_at: list[int] = field(default_factory=list)  # the look beside which the past was asked for

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:
        answers = super().fetch(requests, deadline_s=deadline_s)
        with_past = any(request.interval < 0 for request in requests)
        if with_past:
            self.asked_at.append(next(request.interval for request in requests if request.interval >= 0))
        fails = len(self.asked_at) <= self.fails
        return [
            self._spoilt(answer)
            if (fails and request.interval < 0) or self.part(request.interval, fails and with_past)
            else answer
            for request, answer in zip(requests, answers, strict=True)
        ]

    def _spoilt(self, answer: LookAnswer) -> LookAnswer:
        facts = LookFacts(status=self.status, detail="latency: it did not answer within 5.0 s")
        return replace(answer, facts=facts, cells={} if self.status is SourceStatus.DOWN else answer.cells)


def watched(design: Design, *, looks: int = 18) -> Watch:
    watch = a_watch()
    plan = replace(a_plan(design=design, planned_looks=looks), baseline_looks=PAST)
    return replace(watch, plan=plan, deploy=a_deploy(strategy=STRATEGY[design]))


STRATEGY = {Design.BEFORE_AFTER: Strategy.DIRECT, Design.CONCURRENT: Strategy.CANARY}


def past_of(ledger: Ledger) -> Mapping[int, LookFacts]:
    return {look.interval: look.facts for look in ledger.looks("d1") if look.interval < 0}


def test_a_past_that_failed_once_does_not_leave_a_bad_deploy_unjudged(ledger: Ledger, clock: FakeClock) -> None:
    """One metric of the first request is too slow, and past and look are told in part: it is asked for again."""
    hook = FakeHook()
    begin(ledger, watched(Design.BEFORE_AFTER))
    source = Heavy(Shop(hook, candidate_errors=0.06), fails=1, part=lambda interval, fails: fails)
    watch = walk(road(ledger, clock, source, hook), ledger, clock)
    assert (watch.verdict, hook.effects) == ("DEGRADED", 1), watch.sentence
    assert source.asked_at == [0, 1]
    past = past_of(ledger)
    assert list(past) == list(range(-PAST, 0))
    assert {(facts.status, facts.known_from) for facts in past.values()} == {(SourceStatus.OK, 1)}


@pytest.mark.parametrize("status", [SourceStatus.PARTIAL, SourceStatus.DOWN])
def test_a_past_that_fails_alone_beside_a_whole_look_is_asked_for_again(
    ledger: Ledger, clock: FakeClock, status: SourceStatus
) -> None:
    """History is a query of its own; that the look beside it came well says nothing of it."""
    hook = FakeHook()
    begin(ledger, watched(Design.CONCURRENT))
    source = Heavy(Shop(hook, candidate_errors=0.008), fails=3, status=status)
    walk(road(ledger, clock, source, hook), ledger, clock, seconds=60)
    assert source.asked_at == [0, 1, 2, 4]
    assert {facts.known_from for facts in past_of(ledger).values()} == {4}


@pytest.mark.parametrize("in_part", [False, True])
def test_a_source_that_never_has_the_past_is_asked_ever_more_seldom(
    ledger: Ledger, clock: FakeClock, *, in_part: bool
) -> None:
    """It is the heaviest question; nor does a metric that fails at every look make it asked with each."""
    hook = FakeHook()
    begin(ledger, watched(Design.BEFORE_AFTER, looks=40))
    source = Heavy(Shop(hook, candidate_errors=0.008), fails=NEVER, part=lambda interval, fails: in_part)
    watch = walk(road(ledger, clock, source, hook), ledger, clock)
    assert watch.state is State.INCONCLUSIVE
    assert source.asked_at == [0, 1, 2, 4, 8, 16, 32]
    assert past_of(ledger) == {}


def test_after_a_long_stop_no_turn_of_the_past_is_missed(ledger: Ledger, clock: FakeClock) -> None:
    """Looks are caught up several at a time, and the turn may be any of them."""
    hook = FakeHook()
    begin(ledger, watched(Design.CONCURRENT))
    source = Heavy(Shop(hook, candidate_errors=0.008), fails=3)
    pipeline = road(ledger, clock, source, hook)
    walk(pipeline, ledger, clock, seconds=17)
    assert source.asked_at == [0, 1, 2]
    clock.advance(12.0)
    walk(pipeline, ledger, clock, seconds=3)
    assert source.asked_at == [0, 1, 2, 3]
    assert {facts.known_from for facts in past_of(ledger).values()} == {3}


def test_a_past_that_an_older_version_stored_in_part_is_left_alone(ledger: Ledger, clock: FakeClock) -> None:
    """A closed interval never changes: asking again would only lose every look that came with it."""
    hook = FakeHook()
    begin(ledger, watched(Design.CONCURRENT))
    source = Heavy(Shop(hook, candidate_errors=0.008), fails=NEVER)
    pipeline = road(ledger, clock, source, hook)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("watchdog.collecting.kept", lambda looks: [look for look in looks if look.cells])
        walk(pipeline, ledger, clock, seconds=7)
    watch = walk(pipeline, ledger, clock)
    assert {facts.status for facts in past_of(ledger).values()} == {SourceStatus.PARTIAL}
    assert source.asked_at == [0]
    assert (watch.state, watch.looks) == (State.PASSED, 18)


def test_only_whole_intervals_of_the_past_are_kept() -> None:
    """Gaps after the deploy are facts as well; before it they are nothing."""
    looks = [a_look(i, status) for i in (-1, 0) for status in SourceStatus]
    found = [(look.interval, look.facts.status) for look in kept(looks)]
    assert found == [(-1, SourceStatus.OK), *((0, status) for status in SourceStatus)]
    assert kept([replace(looks[0], cells={})]) == []


def a_look(interval: int, status: SourceStatus) -> StoredLook:
    cells = {"errors": counts([("baseline", "a", 1.0, 100.0)])}
    return StoredLook(interval=interval, facts=LookFacts(status=status), cells=cells)


@pytest.mark.parametrize("design", Design)
def test_a_late_past_is_judged_the_same_from_memory_from_the_ledger_and_over_restarts(
    tmp_path: Path, design: Design
) -> None:
    """What the looks before it left in memory changes nothing of what is said and written after it came."""

    def run(name: str, memory: Callable[[], Memory], new_every_s: int = NEVER) -> list[list[tuple[object, ...]]]:
        clock, hook = FakeClock(DEPLOYED_AT), FakeHook()
        source = Heavy(Shop(hook, candidate_errors=0.02, fails_after=6), fails=3)
        opened = open_ledger(str(tmp_path / name), clock=clock, owner="me", sinks_for=lambda service: ())
        begin(opened, watched(design))
        pipeline = replace(road(opened, clock, source, hook), memory=memory())
        for second in range(130):
            clock.advance(1.0)
            if second % new_every_s == new_every_s - 1:
                pipeline = replace(pipeline, memory=memory())
            pipeline.tick()
        assert source.asked_at == [0, 1, 2, 4]
        opened.close()
        return stored(tmp_path / name)

    written = run("remembered.db", Memory)
    assert run("never.db", lambda: Memory(most_bytes=0)) == written
    assert run("restarted.db", Memory, new_every_s=7) == written


def test_while_it_is_remembered_the_ledger_is_not_read_for_the_past(
    ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of watches are looked at in a round."""
    hook = FakeHook()
    begin(ledger, watched(Design.CONCURRENT, looks=40))
    pipeline = road(ledger, clock, Heavy(Shop(hook, candidate_errors=0.008), fails=NEVER), hook)
    walk(pipeline, ledger, clock, seconds=7)
    read: list[str] = []
    looks = ledger.looks

    def counted(_: Ledger, watch_id: str) -> list[StoredLook]:
        read.append(watch_id)
        return looks(watch_id)

    monkeypatch.setattr(type(ledger), "looks", counted)
    walk(pipeline, ledger, clock, seconds=100)
    assert standing(ledger).looks == 21
    assert read == []


def test_what_was_said_before_the_past_came_replays_without_it(
    ledger: Ledger, clock: FakeClock, tmp_path: Path
) -> None:
    """A verdict is a function of what was known then, in the review, in a hand-out and in hindsight."""
    hook = FakeHook()
    begin(ledger, watched(Design.BEFORE_AFTER))
    watch = walk(road(ledger, clock, Heavy(Shop(hook, candidate_errors=0.06), fails=3), hook), ledger, clock)
    assert watch.verdict == "DEGRADED"
    said = ledger.verdicts("d1")
    assert [verdict.reason for verdict in said[:4]] == ["NO_DATA"] * 4
    assert review.recompute(review.open(tmp_path / "w.db"))["bit_for_bit"].all()
    assert min(recording(ledger, watch, said[3]).observation.facts) == 0
    assert min(recording(ledger, watch, said[4]).observation.facts) == -PAST
    seen = observation(watch, ledger.looks("d1"))
    alarm = judged_afterwards(seen, watch.plan.judge)
    assert (alarm.kind, alarm.look) == (VerdictKind.DEGRADED, 4)


def test_a_look_says_since_when_it_is_known_only_where_it_came_late() -> None:
    """What an older daemon beside us can read stays readable to it."""
    assert "known_from" not in dumps(LookFacts())
    assert loads(LookFacts, dumps(LookFacts(known_from=4))) == LookFacts(known_from=4)
