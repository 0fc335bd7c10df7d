"""A promotion whose hook takes long: no share is called wrong meanwhile, and what it did is on record at any rate."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from analysis.result import VerdictKind
from tests.daemon.test_policy import NOW, verdict
from tests.daemon.test_rollout import STEPS, Front, Shop, begin, blue_green, road, said, standing, stepped
from tests.fakes import FakeClock
from watchdog.intended import promotion, switch
from watchdog.model import ActionState, HoldReason, MessageKind, Severity, State, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import HookCall, Ledger
from watchdog.rollout import advance

TWO_STEPS = replace(STEPS, shares=(0.1, 0.5, 1.0))


class SlowRoad:
    """Its hook shifts the traffic at once, and returns after some seconds of ticks; `meanwhile` happens before them."""

    def __init__(self, ledger: Ledger, clock: FakeClock, seconds: int) -> None:
        self.front = Front(timeout_s=120.0, on_run=self._on_run)
        self.meanwhile: Callable[[], object] = lambda: None
        self._ledger, self._clock, self._seconds = ledger, clock, seconds
        self._jobs: list[Callable[[], None]] = []
        self._pipeline = replace(road(ledger, clock, Shop(self.front)), submit=lambda job, key: self._jobs.append(job))

    def _on_run(self, call: HookCall) -> None:
        self.front.share = float(call.params["share"])
        self.meanwhile()
        for _ in range(self._seconds):
            self._tick()

    def _tick(self) -> None:
        self._clock.advance(1.0)
        self._pipeline.tick()

    def on(self, until: Callable[[Watch], bool]) -> Watch:
        for _ in range(300):
            self._tick()
            for job in [self._jobs.pop() for _ in range(len(self._jobs))]:
                job()
            if until(standing(self._ledger)):
                break
        return standing(self._ledger)


def test_the_traffic_of_a_promotion_under_way_is_not_called_wrong(ledger: Ledger, clock: FakeClock) -> None:
    """The load balancer shifts at once, its hook returns a minute later: nobody is paged, and the deploy grows."""
    begin(ledger, stepped(TWO_STEPS))
    slow = SlowRoad(ledger, clock, 60)
    watch = slow.on(until=lambda watch: watch.step == 1 or watch.state is not State.WATCHING)
    assert (watch.state, watch.step) == (State.WATCHING, 1), watch.sentence
    watch = slow.on(until=lambda watch: watch.state is not State.WATCHING)
    assert (watch.state, said(ledger, MessageKind.HELD)) == (State.PASSED, [])


def test_a_promotion_that_lands_after_its_watch_was_ended_is_told(ledger: Ledger, clock: FakeClock) -> None:
    """Whoever cancelled it reads which share stays behind."""
    begin(ledger, stepped(TWO_STEPS))
    slow = SlowRoad(ledger, clock, 5)
    slow.meanwhile = lambda: OperatorDesk(ledger=ledger, clock=clock).cancel("d1", actor="ann")
    watch = slow.on(until=lambda watch: watch.state is State.CANCELLED)
    assert (watch.state, watch.share, slow.front.share) == (State.CANCELLED, 0.5, 0.5)
    assert "the share of v2 is 50 % now" in said(ledger, MessageKind.ACTION)[-1]


@pytest.mark.parametrize("state", [State.HELD, State.CANCELLED, State.SUPERSEDED, State.VERIFYING])
@pytest.mark.parametrize("outcome", [ActionState.APPLIED, ActionState.NOT_NEEDED])
def test_what_took_effect_late_moves_the_share_on_record(state: State, outcome: ActionState) -> None:
    """Held, ended or on its way back: the step is written and told, and the watch stays where it is."""
    watch = replace(stepped(TWO_STEPS), state=state, hold=HoldReason.SHARE_MISMATCH)
    healthy = verdict(VerdictKind.HEALTHY)
    found = advance(watch, promotion(watch, healthy, [], NOW), outcome, "done", NOW + 9)
    assert (found.to_state, found.fields, found.new_action) == (None, {"step": 1, "step_at": NOW + 9}, None)
    assert [told.severity for told in found.messages] == [Severity.WARNING]
    failed = advance(watch, promotion(watch, healthy, [], NOW), ActionState.FAILED, "no", NOW + 9)
    assert (failed.fields, failed.messages) == (None, ())


@pytest.mark.parametrize("looks", [0, 3])
def test_a_switch_that_takes_effect_late_is_told(looks: int) -> None:
    """And on record, unless intervals are already counted from another moment."""
    watch = replace(blue_green(smoke=False), looks=looks)
    late = replace(watch, state=State.HELD, hold=HoldReason.SWITCH_FAILED)
    found = advance(late, switch(watch, NOW), ActionState.APPLIED, "done", NOW)
    assert found.fields == ({"switched_at": NOW} if looks == 0 else {})
    assert "100 % now" in found.messages[0].sentence
