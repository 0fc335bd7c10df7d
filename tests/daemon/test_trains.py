"""Release trains: judged to a common end, put back in reverse order, and what stays is said."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from analysis.prepare import Cells
from analysis.result import Arm, Design
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_plan, a_watch
from watchdog.baking import bake
from watchdog.model import (
    FINAL,
    ActionKind,
    Bake,
    DecisionKind,
    HoldReason,
    MessageKind,
    Mode,
    Severity,
    State,
    Steps,
    Strategy,
    Watch,
)
from watchdog.operator_desk import OperatorDesk
from watchdog.pipeline import Pipeline
from watchdog.policy import Brakes, roll_back_or_hold
from watchdog.ports import HookCall, HookOutcome, Ledger, LookRequest
from watchdog.telling import message

SERVICES = ("accounts", "basket", "checkout")  # in the order in which they are deployed, 20 s apart
PLANNED = 20  # looks


class Crash(BaseException):
    """The daemon dies here."""


@dataclass
class Town:
    """Three services, each with a hook of its own; errors of the new version by service."""

    errors: dict[str, float] = field(default_factory=dict)
    bad_from: float = DEPLOYED_AT + 60.0  # by then all have been deployed
    hooks: dict[str, FakeHook] = field(default_factory=lambda: {name: FakeHook() for name in SERVICES})
    went_back: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for hook in self.hooks.values():
            hook.on_run = self._note

    def _note(self, call: HookCall) -> None:
        self.went_back.append(call.service)

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        rng = np.random.default_rng([SERVICES.index(request.service), request.interval + 1000])
        back = self.hooks[request.service].live == "v1"
        rows = []
        for window in request.arms:
            new = window.arm == Arm.CANDIDATE
            if new and back and len(request.arms) > 1:
                continue
            bad = (
                self.errors.get(request.service, 0.008) if new and window.start >= self.bad_from and not back else 0.008
            )
            for replica in range(2):
                total = int(rng.poisson(300))
                rows.append((window.arm, f"{window.arm}-{replica}", float(rng.binomial(total, bad)), float(total)))
        return {"errors": counts(rows)}


def road(
    ledger: Ledger, clock: FakeClock, town: Town, failpoint: Callable[[str], None] = lambda name: None
) -> Pipeline:
    return a_road(ledger, clock, FakeSource(town), dict(town.hooks), failpoint=failpoint)


def a_member(service: str, *, train: str | None = "monday", planned: int = PLANNED) -> Watch:
    at = DEPLOYED_AT + 20.0 * SERVICES.index(service)
    watch = a_watch(deploy_id=service)
    deploy = replace(watch.deploy, service=service, deployed_at=at, received_at=at, train=train, share=0.5)
    plan = replace(a_plan(planned_looks=planned), rollback_hook=service, baseline_looks=20)
    return replace(watch, deploy=deploy, plan=plan, created_at=at, updated_at=at, next_look_at=at + 6.0)


def before_after(watch: Watch) -> Watch:
    plan = replace(
        a_plan(design=Design.BEFORE_AFTER, planned_looks=PLANNED), rollback_hook=watch.deploy.service, baseline_looks=30
    )
    return replace(watch, plan=plan, deploy=replace(watch.deploy, strategy=Strategy.DIRECT, share=None))


def begin(ledger: Ledger, *watches: Watch) -> None:
    for watch in watches:
        ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])


@dataclass
class Walk:
    """Time goes on, from look to look; deploys come when they were deployed."""

    ledger: Ledger
    clock: FakeClock
    town: Town
    coming: list[Watch]
    failpoint: Callable[[str], None] = lambda name: None
    pipeline: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline = road(self.ledger, self.clock, self.town, self.failpoint)

    def until(self, arrived: Callable[[], bool], *, ticks: int = 400) -> None:
        for _ in range(ticks):
            self.clock.advance(self._pause())
            while self.coming and self.coming[0].deploy.deployed_at <= self.clock.now():
                begin(self.ledger, self.coming.pop(0))
            self.pipeline.tick()
            if not self.coming and arrived():
                return
        raise AssertionError(f"the walk did not get there: {states(self.ledger)}")

    def _pause(self) -> float:
        """Nothing happens between two looks, as long as all are watched."""
        going = [watch for watch in self.ledger.watches() if watch.state not in FINAL]
        if not going or any(watch.state is not State.WATCHING for watch in going):
            return 1.0
        ahead = [watch.next_look_at for watch in going] + [watch.deploy.deployed_at for watch in self.coming]
        return max(min(ahead) - self.clock.now(), 1.0)


def states(ledger: Ledger) -> list[State]:
    return [standing(ledger, service).state for service in SERVICES]


def standing(ledger: Ledger, service: str) -> Watch:
    watch = ledger.watch(service)
    assert watch is not None
    return watch


def ended(ledger: Ledger) -> Callable[[], bool]:
    return lambda: set(states(ledger)) <= FINAL


def resting(ledger: Ledger) -> Callable[[], bool]:
    return lambda: set(states(ledger)) <= FINAL | {State.HELD}


def hold_of(ledger: Ledger, service: str) -> HoldReason | None:
    return standing(ledger, service).hold


@pytest.mark.parametrize("bad", ["accounts", "checkout"])
def test_whichever_is_worse_all_go_back_the_last_one_first(bad: str, ledger: Ledger, clock: FakeClock) -> None:
    """One verdict, three rollbacks in the reverse order of the deploys, each with the reason."""
    town = Town(errors={bad: 0.08})
    Walk(ledger, clock, town, [*map(a_member, SERVICES)]).until(ended(ledger))
    assert states(ledger) == [State.ROLLED_BACK] * 3
    assert town.went_back == ["checkout", "basket", "accounts"]
    assert [hook.effects for hook in town.hooks.values()] == [1, 1, 1]
    for service in SERVICES:
        why = [
            entry.why for entry in ledger.audit(service) if f"train monday goes back because of {bad} v2" in entry.why
        ]
        assert len(why) == (service != bad)


def test_who_comes_to_a_train_that_went_back_follows(ledger: Ledger, clock: FakeClock) -> None:
    """The first one is rolled back before the others are even deployed; they were built on it, so they go back too."""
    town = Town(errors={"accounts": 0.5}, bad_from=0.0)
    Walk(ledger, clock, town, [*map(a_member, SERVICES)]).until(ended(ledger))
    assert states(ledger) == [State.ROLLED_BACK] * 3
    assert town.went_back[0] == "accounts"
    why = [entry.why for entry in ledger.audit("checkout") if entry.event == "decision.roll_back"]
    assert [reason.startswith("train monday goes back because of accounts v2") for reason in why] == [True]


def test_a_train_sent_again_under_its_name_starts_afresh(ledger: Ledger, clock: FakeClock) -> None:
    """The mended version of what went back is judged by itself, and so is what comes with it."""
    town = Town(errors={"accounts": 0.5}, bad_from=0.0)
    walk = Walk(ledger, clock, town, [a_member("accounts")])
    walk.until(lambda: standing(ledger, "accounts").state in FINAL)
    town.errors.clear()
    again = []
    for number, service in enumerate(("accounts", "basket")):
        town.hooks[service].live = "v2"
        at = clock.now() + 10.0 + number
        deploy = replace(a_member(service).deploy, id=f"{service}-again", deployed_at=at, received_at=at)
        again.append(
            replace(a_member(service), id=deploy.id, deploy=deploy, created_at=at, updated_at=at, next_look_at=at + 6)
        )
    walk.coming += again
    walk.until(lambda: all(watch.state in FINAL for watch in ledger.watches()))
    assert {watch.id: watch.state for watch in ledger.watches()} == {
        "accounts": State.ROLLED_BACK,
        "accounts-again": State.PASSED,
        "basket-again": State.PASSED,
    }


def test_a_train_is_one_rollback_to_the_breaker(ledger: Ledger, clock: FakeClock) -> None:
    """Three services that go back together are one decision: a fourth deploy may still go back by itself."""
    town = Town(errors={"checkout": 0.08})
    walk = Walk(ledger, clock, town, [*map(a_member, SERVICES)])
    walk.until(ended(ledger))
    recent = ledger.rollbacks_since(DEPLOYED_AT)
    assert len(recent) == 3
    other = replace(a_watch(deploy_id="other"), deploy=replace(a_watch().deploy, id="other", service="other"))
    assert roll_back_or_hold(other, Brakes(recent=recent, active=4), clock.now()).kind is DecisionKind.ROLL_BACK
    strangers = [replace(action, params={}) for action in recent]
    assert roll_back_or_hold(other, Brakes(recent=strangers, active=4), clock.now()).hold is HoldReason.BREAKER


def test_nobody_passes_before_the_last_one_is_through(ledger: Ledger, clock: FakeClock) -> None:
    """A member whose own watch is over goes on being judged; a late fault of the last one takes the first one back."""
    town = Town()
    walk = Walk(ledger, clock, town, [*map(a_member, SERVICES)])
    walk.until(lambda: standing(ledger, "accounts").looks > PLANNED)
    assert states(ledger) == [State.WATCHING] * 3
    town.errors["checkout"] = 0.3
    walk.until(ended(ledger))
    assert states(ledger) == [State.ROLLED_BACK] * 3


def test_a_healthy_train_passes_together(ledger: Ledger, clock: FakeClock) -> None:
    """All end, and none before the last one's watch was over."""
    Walk(ledger, clock, Town(), [*map(a_member, SERVICES)]).until(ended(ledger))
    assert states(ledger) == [State.PASSED] * 3
    last_end = DEPLOYED_AT + 40.0 + PLANNED * 5.0
    assert all(standing(ledger, service).updated_at >= last_end for service in SERVICES)


def test_what_cannot_go_back_keeps_what_it_was_built_on(ledger: Ledger, clock: FakeClock) -> None:
    """A migration holds the middle one: the last goes back, the first is held and paged, until a human approves."""
    town = Town(errors={"checkout": 0.08})
    middle = a_member("basket")
    middle = replace(middle, deploy=replace(middle.deploy, migration="contract"))
    walk = Walk(ledger, clock, town, [a_member("accounts"), middle, a_member("checkout")])
    walk.until(resting(ledger))
    assert states(ledger) == [State.HELD, State.HELD, State.ROLLED_BACK]
    assert (standing(ledger, "accounts").hold, standing(ledger, "basket").hold) == (
        HoldReason.TRAIN,
        HoldReason.MIGRATION,
    )
    assert "goes back only in part: basket v2" in standing(ledger, "accounts").sentence
    assert "it is held (MIGRATION)" in standing(ledger, "accounts").sentence
    paged = [row.message for row, _ in ledger.messages("accounts") if row.message.severity is Severity.PAGE]
    assert [told.kind for told in paged] == [MessageKind.HELD]
    OperatorDesk(ledger=ledger, clock=clock).approve("accounts", actor="ann")
    walk.until(lambda: standing(ledger, "accounts").state in FINAL)
    assert states(ledger) == [State.ROLLED_BACK, State.HELD, State.ROLLED_BACK]
    assert town.went_back == ["checkout", "accounts"]


def test_a_rollback_that_fails_stops_the_train_there(ledger: Ledger, clock: FakeClock) -> None:
    """The last one's hook fails for good: those before it stay with it, and say why."""
    town = Town(errors={"accounts": 0.08})
    town.hooks["checkout"].works = False
    town.hooks["checkout"].outcome = HookOutcome.FAILED
    Walk(ledger, clock, town, [*map(a_member, SERVICES)]).until(resting(ledger))
    assert states(ledger) == [State.HELD, State.HELD, State.FAILED]
    assert "deployed after it, stays: its rollback failed" in standing(ledger, "basket").sentence
    assert set(town.went_back) == {"checkout"}


def test_members_that_need_approval_go_back_in_order_once_approved(ledger: Ledger, clock: FakeClock) -> None:
    """Each service has its own guard: the others wait for it, whatever the order in which they are approved."""
    town = Town(errors={"basket": 0.08})
    members = [replace(a_member(service), mode=Mode.APPROVE) for service in SERVICES]
    walk, desk = Walk(ledger, clock, town, members), OperatorDesk(ledger=ledger, clock=clock)
    walk.until(lambda: standing(ledger, "basket").state is State.HELD)
    assert states(ledger) == [State.WATCHING, State.HELD, State.WATCHING]
    desk.approve("basket", actor="ann")
    walk.until(lambda: standing(ledger, "accounts").state is State.HELD)
    desk.approve("accounts", actor="ann")
    walk.until(lambda: True)
    assert states(ledger) == [State.INTENT, State.INTENT, State.HELD]
    assert town.went_back == []
    desk.approve("checkout", actor="bob")
    walk.until(ended(ledger))
    assert town.went_back == ["checkout", "basket", "accounts"]


def test_an_operator_who_asks_for_one_gets_one(ledger: Ledger, clock: FakeClock) -> None:
    """`rollback` of a member while nothing is wrong leaves the others where they are."""
    walk = Walk(ledger, clock, Town(), [*map(a_member, SERVICES)])
    walk.until(lambda: standing(ledger, "accounts").looks > 8)
    OperatorDesk(ledger=ledger, clock=clock).rollback("accounts", actor="ann", why="not wanted")
    walk.until(ended(ledger))
    assert states(ledger) == [State.ROLLED_BACK, State.PASSED, State.PASSED]


def test_a_colour_without_traffic_gets_none_and_stops_nobody(ledger: Ledger, clock: FakeClock) -> None:
    """The last one has not been switched yet when the train goes back: it is held, and nothing waits for it."""
    town = Town(errors={"accounts": 0.08})
    last = before_after(a_member("checkout"))
    plan = replace(last.plan, switch_hook="checkout", smoke_hook="checkout")
    last = replace(last, plan=plan, state=State.SMOKE, deploy=replace(last.deploy, strategy=Strategy.BLUE_GREEN))
    Walk(ledger, clock, town, [a_member("accounts"), a_member("basket"), last]).until(resting(ledger))
    assert states(ledger) == [State.ROLLED_BACK, State.ROLLED_BACK, State.HELD]
    assert "it has no traffic yet and gets none" in standing(ledger, "checkout").sentence


def test_a_member_that_was_only_stopped_follows(ledger: Ledger, clock: FakeClock) -> None:
    """Held because its share is wrong, not because it may not go back: it goes back with the others, once."""
    town = Town(errors={"basket": 0.08})
    skewed = a_member("accounts")
    skewed = replace(skewed, deploy=replace(skewed.deploy, share=0.05))
    walk = Walk(ledger, clock, town, [skewed, a_member("basket"), a_member("checkout")])
    walk.until(ended(ledger))
    assert any(e.event == "decision.hold" and "were asked for" in e.why for e in ledger.audit("accounts"))
    assert states(ledger) == [State.ROLLED_BACK] * 3
    assert town.hooks["accounts"].effects == 1


@pytest.mark.parametrize("point", ["tick-committed", "outcome-committed"])
def test_a_crash_between_the_members_loses_none(point: str, ledger: Ledger, clock: FakeClock) -> None:
    """The others follow from the recorded intent: wherever the daemon dies, all go back, each once."""
    armed = [point]

    def die(name: str) -> None:
        if name in armed and any(watch.state is not State.WATCHING for watch in ledger.watches()):
            armed.remove(name)
            raise Crash

    town = Town(errors={"basket": 0.08})
    walk = Walk(ledger, clock, town, [*map(a_member, SERVICES)], die)
    with pytest.raises(Crash):
        walk.until(ended(ledger))
    clock.advance(120.0)
    after = Walk(ledger, clock, town, walk.coming)
    after.pipeline.adopt_orphans()
    after.until(ended(ledger))
    assert states(ledger) == [State.ROLLED_BACK] * 3
    assert [hook.effects for hook in town.hooks.values()] == [1, 1, 1]
    assert town.went_back == ["checkout", "basket", "accounts"]


def test_the_last_step_is_taken_together(ledger: Ledger, clock: FakeClock) -> None:
    """A canary that grows by itself stops before all of the traffic until the others are through."""
    town = Town()
    town.hooks["accounts"].probe_speaks = False  # a hook that sets shares; this fake knows none
    town.hooks["accounts"].works = False
    first = a_member("accounts")
    steps = Steps(shares=(0.5, 0.6, 1.0), bake_s=35.0, hook="accounts")
    first = replace(first, plan=replace(first.plan, steps=steps))
    walk = Walk(ledger, clock, town, [first, replace(a_member("basket"), plan=a_member("basket", planned=45).plan)])
    walk.until(lambda: standing(ledger, "basket").looks == 38)
    assert (standing(ledger, "accounts").step, standing(ledger, "accounts").state) == (1, State.WATCHING)
    walk.until(lambda: all(watch.state in FINAL for watch in ledger.watches()))
    assert [watch.state for watch in ledger.watches()] == [State.PASSED] * 2
    shares = [a.params["share"] for a in ledger.actions(watch_id="accounts") if a.kind is ActionKind.PROMOTE]
    assert shares == [0.6, 1.0]


def test_of_two_independent_deploys_the_one_whose_own_arms_differ_goes_back(ledger: Ledger, clock: FakeClock) -> None:
    """Canaries of the same time: each is judged by its own arms, and the good ones pass."""
    town = Town(errors={"basket": 0.08})
    Walk(ledger, clock, town, [a_member(service, train=None) for service in SERVICES]).until(ended(ledger))
    assert states(ledger) == [State.PASSED, State.ROLLED_BACK, State.PASSED]


@pytest.mark.parametrize("uncalibrated", [False, True])
def test_where_only_before_and_after_are_known_both_are_named(
    uncalibrated: bool, ledger: Ledger, clock: FakeClock
) -> None:
    """A direct deploy got worse while another one had just gone live: nobody can tell which, so a human is asked."""
    town = Town(errors={"basket": 0.08})
    mine = before_after(a_member("basket", train=None))
    if uncalibrated:
        mine = replace(mine, plan=replace(mine.plan, judge=replace(mine.plan.judge, act_uncalibrated=False)))
    walk = Walk(ledger, clock, town, [before_after(a_member("accounts", train=None)), mine])
    walk.until(lambda: standing(ledger, "basket").state is not State.WATCHING)
    held = standing(ledger, "basket")
    assert (held.state, held.hold) == (
        State.HELD,
        HoldReason.UNCALIBRATED if uncalibrated else HoldReason.TWO_DEPLOYS,
    )
    assert held.sentence.startswith("basket v2: ")
    assert "accounts v2 went live in the same time" in held.sentence
    assert town.went_back == []


@pytest.mark.parametrize("cleared", ["side by side", "too long ago", "after it got worse"])
def test_a_deploy_that_cannot_be_the_cause_is_not_named(cleared: str, ledger: Ledger, clock: FakeClock) -> None:
    """Healthy by its own arms, over before, or live only after it had got worse: the direct deploy goes back."""
    town = Town(errors={"basket": 0.08})
    other = a_member("accounts", train=None) if cleared == "side by side" else before_after(a_member("accounts"))
    at = {"side by side": -60.0, "too long ago": -3000.0, "after it got worse": 75.0}[cleared]
    other = replace(
        other,
        deploy=replace(other.deploy, deployed_at=DEPLOYED_AT + at, train=None),
        verdict="HEALTHY" if cleared == "side by side" else None,
        state=State.PASSED,
    )
    begin(ledger, other)
    walk = Walk(ledger, clock, town, [before_after(a_member("basket", train=None))])
    walk.until(lambda: standing(ledger, "basket").state in FINAL)
    assert standing(ledger, "basket").state is State.ROLLED_BACK


@pytest.mark.parametrize(
    ("found", "state"), [("HEALTHY", State.WATCHING), (None, State.WATCHING), ("HEALTHY", State.CANCELLED)]
)
def test_a_deploy_that_passed_hours_ago_is_not_named_because_it_bakes(
    found: str | None, state: State, ledger: Ledger, clock: FakeClock
) -> None:
    """It is looked at for six hours more and nothing is wrong with it: the direct deploy goes back by itself."""
    baking = replace(a_bake_of("accounts", ago=5 * 3600.0), verdict=found, state=state)
    town = Town(errors={"basket": 0.08})
    begin(ledger, baking)
    walk = Walk(ledger, clock, town, [before_after(a_member("basket", train=None))])
    walk.until(lambda: standing(ledger, "basket").state in FINAL | {State.HELD})
    assert standing(ledger, "basket").state is State.ROLLED_BACK


def test_a_deploy_whose_bake_finds_it_worse_is_named(ledger: Ledger, clock: FakeClock) -> None:
    """Its late fault may as well be what hurts the direct deploy: a human decides which one goes back."""
    worse = replace(a_bake_of("accounts", ago=5 * 3600.0), verdict="DEGRADED", state=State.HELD)
    town = Town(errors={"basket": 0.08})
    begin(ledger, replace(worse, hold=HoldReason.UNCALIBRATED, hold_until=DEPLOYED_AT + 7200.0))
    walk = Walk(ledger, clock, town, [before_after(a_member("basket", train=None))])
    walk.until(lambda: standing(ledger, "basket").state in FINAL | {State.HELD})
    held = standing(ledger, "basket")
    assert (held.state, held.hold) == (State.HELD, HoldReason.TWO_DEPLOYS)
    assert "accounts v2 (bake)" in held.sentence


def a_bake_of(service: str, *, ago: float) -> Watch:
    """What follows a canary that passed: it bakes for six hours from its deploy on."""
    member = a_member(service, train=None)
    wanted = Bake(for_s=6 * 3600.0, look_s=300.0, baseline_s=3600.0, budget=0.0025)
    deploy = replace(member.deploy, deployed_at=DEPLOYED_AT - ago, received_at=DEPLOYED_AT - ago)
    passed = replace(member, deploy=deploy, plan=replace(member.plan, bake=wanted), state=State.PASSED)
    follow = bake(passed, DEPLOYED_AT - ago + 900.0)
    assert follow is not None
    return replace(follow.watch, next_look_at=DEPLOYED_AT + 1e6)
