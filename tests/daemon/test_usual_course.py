"""A direct deploy at an hour that is bad on every day: held with the reason; put back where it is worse than that."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from analysis.prepare import Cells
from analysis.result import Design
from tests.daemon.test_intake import a_config
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_deploy, a_plan, a_watch
from watchdog import pipeline
from watchdog.baking import bake
from watchdog.earlier_days import DAY_S
from watchdog.model import FINAL, Bake, HoldReason, MessageKind, Mode, Severity, State, Strategy, Watch
from watchdog.planning import Pace, plan_for
from watchdog.ports import Ledger, LookRequest, Source
from watchdog.telling import message

BAD_FROM_S = 40.0  # after the deploy: the hour at which it gets worse
WORKDAYS = frozenset({1, 2, 3})


@dataclass
class Shop:
    """120 requests a second; 1 % of them fail, on some days `usually` from a time of the day on, today `errors`."""

    hook: FakeHook
    errors: float = 0.05
    usually: float = 0.05
    bad_days: frozenset[int] = WORKDAYS
    asked_days: int = 0

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        rng = np.random.default_rng([request.interval + 1000, int(request.arms[0].start)])
        rows = []
        for window in request.arms:
            day = round((DEPLOYED_AT - window.start) / DAY_S)
            self.asked_days += day > 0
            since = window.start + day * DAY_S - DEPLOYED_AT
            bad = self.errors if day == 0 else self.usually if day in self.bad_days else 0.01
            total = int(rng.poisson(600))
            rate = bad if since >= BAD_FROM_S and (day > 0 or self.hook.live == "v2") else 0.01
            rows.append((window.arm, "a", float(rng.binomial(total, rate)), float(total)))
        return {"errors": counts(rows)}


def a_direct_watch(*, earlier_days: int = 3, mode: Mode = Mode.AUTO) -> Watch:
    plan = replace(a_plan(design=Design.BEFORE_AFTER, planned_looks=30), earlier_days=earlier_days)
    return replace(a_watch(), deploy=a_deploy(strategy=Strategy.DIRECT), plan=plan, mode=mode)


def walk(ledger: Ledger, clock: FakeClock, watch: Watch, source: Source, hook: FakeHook, *, seconds: int) -> Watch:
    ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
    road = a_road(ledger, clock, source, {"back": hook})
    for _ in range(seconds):
        clock.advance(1.0)
        road.tick()
    standing = ledger.watch(watch.id)
    assert standing is not None
    return standing


def test_the_usual_course_of_the_day_is_held_and_said(ledger: Ledger, clock: FakeClock) -> None:
    """The same errors at this hour of three earlier days: nobody goes back, a human is told why."""
    hook = FakeHook()
    watch = walk(ledger, clock, a_direct_watch(), FakeSource(Shop(hook)), hook, seconds=160)
    assert (watch.state, watch.hold, hook.calls) == (State.HELD, HoldReason.USUAL_COURSE, [])
    told = [r.message for r, _ in ledger.messages("d1") if r.message.kind is MessageKind.HELD]
    assert [one.severity for one in told] == [Severity.PAGE]
    assert "at these hours it got worse on 3 of 3 earlier days too (errors" in told[0].sentence
    assert "the usual course of the day" in watch.sentence


@pytest.mark.parametrize(
    ("days", "bad_days"),
    [(3, frozenset[int]()), (3, frozenset({1})), (0, WORKDAYS)],
    ids=["calm", "one incident", "not wanted"],
)
def test_what_earlier_days_do_not_explain_goes_back(
    ledger: Ledger, clock: FakeClock, days: int, bad_days: frozenset[int]
) -> None:
    """As soon as without them: the past is asked only about an alarm, and answers at once."""
    hook = FakeHook()
    shop = Shop(hook, bad_days=bad_days)
    watch = walk(ledger, clock, a_direct_watch(earlier_days=days), FakeSource(shop), hook, seconds=160)
    assert (watch.state, hook.effects) == (State.ROLLED_BACK, 1)
    assert (shop.asked_days > 0) == (days > 0)
    assert watch.degraded_at is not None
    assert watch.degraded_at - DEPLOYED_AT <= BAD_FROM_S + 15.0


def test_what_turns_out_worse_than_usual_goes_back_out_of_the_hold(ledger: Ledger, clock: FakeClock) -> None:
    """Every day errors double at this hour; this version fails three times as often as that."""
    hook = FakeHook()
    shop = Shop(hook, errors=0.09, usually=0.03)
    watch = walk(ledger, clock, a_direct_watch(), FakeSource(shop), hook, seconds=200)
    assert (watch.state, hook.effects) == (State.ROLLED_BACK, 1)
    assert MessageKind.HELD in {r.message.kind for r, _ in ledger.messages("d1")}


def test_earlier_days_are_asked_about_an_alarm_only(ledger: Ledger, clock: FakeClock) -> None:
    """A healthy deploy costs no question more than before."""
    hook = FakeHook()
    shop = Shop(hook, errors=0.01)
    watch = walk(ledger, clock, a_direct_watch(), FakeSource(shop), hook, seconds=160)
    assert (watch.state, shop.asked_days) == (State.PASSED, 0)


@dataclass
class Forgetful(FakeSource):
    """A source that is down as soon as it is asked for yesterday."""

    def fetch(self, requests, *, deadline_s):  # type: ignore[no-untyped-def]
        self.down = any(window.start < DEPLOYED_AT - DAY_S / 2 for r in requests for window in r.arms)
        return super().fetch(requests, deadline_s=deadline_s)


def test_a_source_that_does_not_answer_excuses_nobody(ledger: Ledger, clock: FakeClock) -> None:
    """It goes back as if there were no earlier days."""
    hook = FakeHook()
    watch = walk(ledger, clock, a_direct_watch(), Forgetful(Shop(hook)), hook, seconds=160)
    assert (watch.state, hook.effects) == (State.ROLLED_BACK, 1)


@pytest.mark.parametrize(
    ("mode", "hold", "severity"),
    [
        (Mode.OBSERVE, HoldReason.MODE_OBSERVE, Severity.INFO),
        (Mode.APPROVE, HoldReason.APPROVAL, Severity.PAGE),
    ],
)
def test_a_careful_mode_keeps_its_own_reason_and_says_the_course(
    ledger: Ledger, clock: FakeClock, mode: Mode, hold: HoldReason, severity: Severity
) -> None:
    """Who would be asked anyway is asked with the reason beside it."""
    hook = FakeHook()
    watch = walk(ledger, clock, a_direct_watch(mode=mode), FakeSource(Shop(hook)), hook, seconds=160)
    assert (watch.state, watch.hold, hook.calls) == (State.HELD, hold, [])
    told = [r.message for r, _ in ledger.messages("d1") if r.message.kind is MessageKind.HELD]
    assert [one.severity for one in told] == [severity]
    assert "the usual course of the day" in told[0].sentence


def test_an_uncalibrated_alarm_says_the_course_too(ledger: Ledger, clock: FakeClock) -> None:
    """It would have been held anyway; now with the reason that matters."""
    hook = FakeHook()
    watch = a_direct_watch()
    strict = replace(watch, plan=replace(watch.plan, judge=replace(watch.plan.judge, act_uncalibrated=False)))
    found = walk(ledger, clock, strict, FakeSource(Shop(hook)), hook, seconds=160)
    assert (found.state, found.hold) == (State.HELD, HoldReason.USUAL_COURSE)
    assert "the usual course of the day" in found.sentence


def test_only_a_source_that_keeps_days_is_asked_for_them() -> None:
    """A page that is read now has no yesterday."""
    config = a_config()
    pace = Pace(step_s=5.0, settle_s=1.0)
    assert plan_for("shop", config, pace, Strategy.DIRECT).earlier_days == 0
    assert plan_for("shop", config, replace(pace, keeps_days=True), Strategy.DIRECT).earlier_days == 3


def test_no_state_is_left_open(ledger: Ledger, clock: FakeClock) -> None:
    """A hold that nobody decides ends loudly, as every other."""
    hook = FakeHook()
    watch = a_direct_watch()
    short = replace(watch, plan=replace(watch.plan, hold_s=60.0))
    found = walk(ledger, clock, short, FakeSource(Shop(hook)), hook, seconds=260)
    assert found.state in FINAL
    assert hook.calls == []


def test_the_bake_of_a_canary_asks_earlier_days_too() -> None:
    """It compares with the time before the deploy for hours, and the day goes on meanwhile."""
    watch = a_watch()
    wanted = Bake(for_s=7200.0, look_s=300.0, baseline_s=7200.0, budget=0.0025)
    follow = bake(replace(watch, plan=replace(watch.plan, earlier_days=3, bake=wanted)), DEPLOYED_AT + 900.0)
    assert follow is not None
    assert (follow.watch.plan.design, follow.watch.plan.earlier_days) == (Design.BEFORE_AFTER, 3)


def test_whatever_goes_wrong_with_earlier_days_keeps_no_bad_deploy_live(
    ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of our own in a brake is no brake."""

    def breaks(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "usual_course", breaks)
    hook = FakeHook()
    watch = walk(ledger, clock, a_direct_watch(), FakeSource(Shop(hook)), hook, seconds=160)
    assert (watch.state, hook.effects) == (State.ROLLED_BACK, 1)
