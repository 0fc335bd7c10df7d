"""The last look of a watch: whatever is on its way then, it is looked at until it is over."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from analysis.result import VerdictKind
from tests.daemon.test_pipeline import walk as to_its_end
from tests.daemon.test_policy import NOW, verdict
from tests.daemon.test_rollout import Front, Shop, begin, road, rolling, said, standing, stepped, walk
from tests.fakes import FakeClock
from watchdog.intervals import next_due, requests_for
from watchdog.model import FINAL, ActionKind, DecisionKind, MessageKind, Mode, State, Watch
from watchdog.policy import Brakes, decide
from watchdog.ports import HookCall, Ledger


@pytest.mark.parametrize(("looks", "state", "share"), [(16, State.INCONCLUSIVE, 0.25), (26, State.PASSED, 1.0)])
def test_a_watch_whose_step_is_due_at_its_last_look_ends(
    ledger: Ledger, clock: FakeClock, looks: int, state: State, share: float
) -> None:
    """One that would not be the last is not begun any more, and the last one is."""
    front = Front()
    begin(ledger, stepped(looks=looks))
    ended = to_its_end(road(ledger, clock, Shop(front)), ledger, clock)
    assert (ended.state, front.share) == (state, share), ended.sentence


@pytest.mark.parametrize(("bad_from", "state"), [(10_000, State.INCONCLUSIVE), (17, State.ROLLED_BACK)])
def test_a_step_that_takes_effect_after_the_last_look_is_seen_for_its_bake_time(
    ledger: Ledger, clock: FakeClock, bad_from: int, state: State
) -> None:
    """The hook takes until after the end of the plan; the new share is watched, and a fault of it goes back."""
    front = Front()
    begin(ledger, stepped(looks=15))
    jobs: list[Callable[[], None]] = []
    pipeline = replace(road(ledger, clock, Shop(front, bad_from=bad_from)), submit=lambda job, key: jobs.append(job))

    def slowly(call: HookCall) -> None:
        if call.kind is ActionKind.PROMOTE:
            for _ in range(40):
                clock.advance(1.0)
                pipeline.tick()
            assert (standing(ledger).state, standing(ledger).is_over) == (State.WATCHING, True)

    front.on_run = slowly
    for _ in range(200):
        clock.advance(1.0)
        pipeline.tick()
        for job in [jobs.pop() for _ in range(len(jobs))]:
            job()
        if standing(ledger).state in FINAL:
            break
    ended = standing(ledger)
    assert ended.state is state, ended.sentence
    assert ended.step_at is not None
    if state is State.INCONCLUSIVE:
        assert ended.updated_at - ended.step_at >= 40.0
        assert "over at 25 %, before all steps were taken" in said(ledger, MessageKind.ENDED)[0]


def test_a_daemon_that_comes_back_after_the_end_of_a_watch_ends_it(ledger: Ledger, clock: FakeClock) -> None:
    """What is left of the plan is read in one round: no step is begun at its end, and it is not left open."""
    front = Front()
    begin(ledger, stepped(looks=60))
    pipeline = road(ledger, clock, Shop(front))
    walk(pipeline, ledger, clock, seconds=7)
    assert standing(ledger).state is State.WATCHING
    clock.advance(7200.0)
    ended = to_its_end(pipeline, ledger, clock, seconds=10)
    assert (ended.state, ended.looks, front.calls) == (State.INCONCLUSIVE, 60, [])


@pytest.mark.parametrize("watch", [stepped(), rolling(), stepped(mode=Mode.APPROVE)])
def test_a_watch_that_goes_on_always_has_a_next_look(watch: Watch) -> None:
    """However many it has had: what is watched is looked at, or it would stand there for ever."""
    planned = watch.plan.judge.planned_looks
    for looks in (0, planned - 1, planned, planned + 1, planned + 99):
        had = replace(watch, looks=looks)
        assert [one.interval for one in requests_for(had, next_due(had, NOW), lambda _: False)] == [looks]


def test_at_its_last_look_no_roll_out_is_paused_or_let_go_on() -> None:
    """It ends: nobody would look at what a pause or its end brought."""
    watch = rolling()
    over = replace(watch, looks=watch.plan.judge.planned_looks)
    suspicious = replace(verdict(VerdictKind.INCONCLUSIVE), log_evidence=3.0)
    calm = replace(suspicious, log_evidence=0.0)
    for found, brakes in ((suspicious, Brakes()), (calm, Brakes(slowed=True))):
        assert decide(over, found, brakes, NOW).kind is DecisionKind.CONCLUDE
