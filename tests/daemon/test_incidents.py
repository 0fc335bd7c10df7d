"""The time before a deploy, where it was an incident: no measure for the version that is to end it."""

from dataclasses import replace

import pytest

from analysis.result import Design
from tests.daemon.test_pipeline import begin, standing
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road, called_worse
from tests.samples import DEPLOYED_AT, a_deploy, a_plan, a_watch
from watchdog.incidents import incidents
from watchdog.model import State, Strategy, Watch
from watchdog.ports import Ledger, LookRequest

PAST, LOOKS = 40, 18
WORSE_FROM, WORSE_UNTIL = -30, -10  # intervals of the new version's watch


def direct(design: Design = Design.BEFORE_AFTER) -> Watch:
    """v3 of the shop, everywhere at once, in place of v1."""
    plan = replace(a_plan(design=design, planned_looks=LOOKS), baseline_looks=PAST)
    plan = replace(plan, judge=replace(plan.judge, act_uncalibrated=True))
    strategy = Strategy.DIRECT if design is Design.BEFORE_AFTER else Strategy.CANARY
    return replace(a_watch(), plan=plan, deploy=a_deploy(version="v3", strategy=strategy))


def was_worse(ledger: Ledger, watch: Watch, *, ended_by: str = "") -> None:
    """v2 went live within the time before v3, was worse, and nobody answered."""
    at = watch.live_at + WORSE_FROM * watch.plan.step_s
    other = called_worse(ledger, "v2", at=at, ended_by=ended_by)
    assert other.deploy.service == watch.deploy.service


def answers(request: LookRequest) -> dict[str, object]:
    """1 % errors, 30 % in the incident, and 12 % of the new version."""
    rate = 0.12 if request.interval >= 0 else 0.3 if request.interval >= WORSE_FROM else 0.01
    return {"errors": counts([(window.arm, f"{window.arm}-0", 400 * rate, 400.0) for window in request.arms])}


def test_a_new_version_is_not_measured_by_the_incident_before_it(ledger: Ledger, clock: FakeClock) -> None:
    """12 % errors are fewer than those of the incident, and twelve times the usual ones."""
    watch = direct()
    was_worse(ledger, watch)
    begin(ledger, watch)
    source = FakeSource(answers)  # type: ignore[arg-type]
    pipeline = a_road(ledger, clock, source, {"back": FakeHook()})
    for _ in range(60):
        clock.advance(1.0)
        pipeline.tick()
    stands = standing(ledger)
    assert stands.degraded_at is not None
    assert [look.interval for look in ledger.looks("d1") if look.interval < 0] == list(range(-PAST, WORSE_FROM))


def test_what_a_human_let_stay_is_no_incident(ledger: Ledger, clock: FakeClock) -> None:
    """Nor is what hit another version, where two are compared side by side."""
    watch = direct()
    was_worse(ledger, watch, ended_by="operator.deny")
    assert incidents(ledger, watch) == []
    assert incidents(ledger, direct(Design.CONCURRENT)) == []


def test_an_incident_ends_with_its_recovery_or_with_the_next_deploy(ledger: Ledger, clock: FakeClock) -> None:
    """What came after it was healthy, as far as anybody knows."""
    watch = direct()
    was_worse(ledger, watch)
    (whole,) = incidents(ledger, watch)
    assert whole[0] == pytest.approx(watch.live_at + WORSE_FROM * watch.plan.step_s)
    assert whole[1] == watch.live_at
    at = watch.live_at + WORSE_UNTIL * watch.plan.step_s
    between = replace(a_watch(deploy_id="between"), created_at=at)
    between = replace(between, deploy=replace(between.deploy, version="v2.1", deployed_at=at), state=State.WATCHING)
    ledger.record_deploy(between, [], [])
    assert incidents(ledger, watch) == [(whole[0], at)]


def test_an_alarm_that_nobody_ended_does_not_make_the_next_deploy_blind(ledger: Ledger, clock: FakeClock) -> None:
    """It lasts over all of the time before, or nobody knows: the new version is compared with what there is."""
    watch = direct()
    called_worse(ledger, "v2", at=watch.live_at - 2 * PAST * watch.plan.step_s)
    assert incidents(ledger, watch)
    begin(ledger, watch)
    pipeline = a_road(ledger, clock, FakeSource(answers), {"back": FakeHook()})  # type: ignore[arg-type]
    clock.advance(12.0)
    pipeline.tick()
    assert [look.interval for look in ledger.looks("d1") if look.interval < 0] == list(range(-PAST, 0))


def test_an_alarm_of_days_ago_that_nobody_ended_is_how_the_place_is(ledger: Ledger, clock: FakeClock) -> None:
    """Most of those are of modes that only tell."""
    watch = direct()
    called_worse(ledger, "v2", at=watch.live_at - 2 * 86_400)
    assert incidents(ledger, watch) == []


def test_an_incident_of_long_ago_is_forgotten(ledger: Ledger, clock: FakeClock) -> None:
    """It ended before the time that is asked for."""
    watch = direct()
    called_worse(ledger, "v2", at=watch.live_at - 3 * PAST * watch.plan.step_s)
    since = replace(a_watch(deploy_id="since"), created_at=DEPLOYED_AT - 2 * PAST * watch.plan.step_s)
    since = replace(since, deploy=replace(since.deploy, version="v2.1", deployed_at=since.created_at))
    ledger.record_deploy(since, [], [])
    assert incidents(ledger, watch) == []
