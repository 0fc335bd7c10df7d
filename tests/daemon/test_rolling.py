"""A roll-out: servers join and leave, the old version goes, and only what was updated is put back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from analysis.prepare import Cells, LookFacts
from analysis.result import Arm, SourceStatus
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road
from tests.samples import a_plan, a_watch
from watchdog.model import (
    FINAL,
    ActionKind,
    HoldReason,
    MessageKind,
    Mode,
    Severity,
    State,
    StoredLook,
    Strategy,
    Watch,
)
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import ArmWindow, HookCall, HookOutcome, HookResult, Ledger, LookRequest
from watchdog.selector import parse_selector
from watchdog.sources.fold import fold
from watchdog.sources.questions import Ask, Question, Role, Series
from watchdog.strategies.rolling import frozen, updated_servers
from watchdog.telling import message

SERVERS = "abcd"
EVERY = 4  # looks between two servers that get the new version
RATE = 200.0  # requests of one server in a look


@dataclass
class Fleet:
    """Four servers; one after another gets v2, and each serves its part of the traffic."""

    errors: float = 0.02  # of both versions
    bad: float = 0.3
    bad_from: int = 10_000
    updated: set[str] = field(default_factory=set)
    stuck_at: int = 4  # the roll-out never gets further
    back: bool = False
    put_back: list[str] = field(default_factory=list)

    def roll(self, interval: int) -> None:
        if not self.back and interval >= 0:
            self.updated |= set(SERVERS[: min(1 + interval // EVERY, self.stuck_at)])

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        self.roll(request.interval)
        rng = np.random.default_rng(request.interval + 1000)
        rows = []
        for window in request.arms:
            new = window.arm == Arm.CANDIDATE
            serving = SERVERS if request.interval < 0 else [s for s in SERVERS if (s in self.updated) == new]
            for server in serving:
                total = int(rng.poisson(RATE))
                worse = new and request.interval >= self.bad_from
                bad = float(rng.binomial(total, self.bad if worse else self.errors))
                rows.append((window.arm, f"{'v2' if new else 'v1'}-{server}", bad, float(total)))
        return {"errors": counts(rows)}


@dataclass
class PutBack(FakeHook):
    """A hook that puts back the servers it is told of, and no other."""

    fleet: Fleet = field(default_factory=Fleet)

    def run(self, call: HookCall) -> HookResult:
        self.fleet.put_back = list(call.params["updated"])
        self.fleet.updated -= {name.removeprefix("v2-") for name in self.fleet.put_back}
        self.fleet.back = True
        return super().run(call)


def rolling(*, looks: int = 40, act: bool = False) -> Watch:
    watch = a_watch()
    plan = replace(a_plan(planned_looks=looks), baseline_looks=40)
    plan = replace(plan, judge=replace(plan.judge, act_uncalibrated=act))
    return replace(watch, plan=plan, deploy=replace(watch.deploy, strategy=Strategy.ROLLING, share=None))


def walk(ledger: Ledger, clock: FakeClock, watch: Watch, fleet: Fleet) -> Watch:
    ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
    pipeline = a_road(ledger, clock, FakeSource(fleet), {"back": PutBack(fleet=fleet)})
    for _ in range(150):
        now = ledger.watch("d1")
        assert now is not None
        if now.state in FINAL | {State.HELD}:
            break
        clock.advance(max(now.next_look_at - clock.now(), 1.0) if now.state is State.WATCHING else 1.0)
        pipeline.tick()
    ended = ledger.watch("d1")
    assert ended is not None
    return ended


def test_a_roll_out_that_ends_within_the_watch_passes(ledger: Ledger, clock: FakeClock) -> None:
    """Servers leave one arm and join the other: no regression. The old version goes, and its past stands in for it."""
    ended = walk(ledger, clock, rolling(), Fleet())
    assert (ended.state, ended.verdict) == (State.PASSED, "HEALTHY")
    looks = [look for look in ledger.looks("d1") if look.interval >= 0]
    assert [look.interval for look in looks if look.facts.frozen] == list(range(3 * EVERY, 40))
    assert "v1 is gone, and its time before the deploy stands in for it" in ended.sentence
    served = 0.0
    for look in looks:
        cells = look.cells["errors"]
        pairs = zip(cells.arm, cells.total, strict=True)
        served += sum(total for arm, total in pairs if not (look.facts.frozen and arm == Arm.BASELINE))
    assert ended.total_requests == pytest.approx(served)


def test_what_is_worse_while_both_serve_goes_back_and_only_what_was_updated(ledger: Ledger, clock: FakeClock) -> None:
    """Half of them have it when it is noticed: these are named to the hook, and the others are not touched."""
    fleet = Fleet(bad_from=EVERY, bad=0.15, stuck_at=2)
    ended = walk(ledger, clock, rolling(), fleet)
    assert ended.state is State.ROLLED_BACK
    assert fleet.put_back == ["v2-a", "v2-b"]


@pytest.mark.parametrize("act", [False, True])
def test_what_turns_bad_after_the_old_version_went_is_before_and_after(
    act: bool, ledger: Ledger, clock: FakeClock
) -> None:
    """Nobody serves beside it: it is noticed, and acts by itself only where such verdicts may."""
    fleet = Fleet(bad_from=3 * EVERY + 5)
    ended = walk(ledger, clock, rolling(act=act), fleet)
    assert ended.verdict == "DEGRADED"
    if act:
        assert (ended.state, fleet.put_back) == (State.ROLLED_BACK, ["v2-a", "v2-b", "v2-c", "v2-d"])
    else:
        assert (ended.state, ended.hold, fleet.put_back) == (State.HELD, HoldReason.UNCALIBRATED, [])
        assert "v1 is gone" in ended.sentence


def a_look(interval: int, *arms: str, status: SourceStatus = SourceStatus.OK) -> StoredLook:
    rows = [(arm, f"{arm}-0", 1.0, 100.0 + interval) for arm in arms]
    return StoredLook(interval=interval, facts=LookFacts(status=status), cells={"errors": counts(rows)})


def test_each_interval_of_the_past_stands_in_once() -> None:
    """Nothing is counted twice; when the past is used up the new version is alone."""
    past = [a_look(interval, "history") for interval in (-2, -1)]
    gone = [a_look(interval, "candidate") for interval in range(4)]
    filled = frozen(past, gone)
    assert [look.facts.frozen for look in filled] == [True, True, False, False]
    assert [look.cells["errors"].total[-1] for look in filled[:2]] == [98.0, 99.0]
    assert frozen([*past, *filled[:1]], gone[1:3])[0].cells["errors"].total[-1] == 99.0


def test_only_an_old_version_that_is_gone_is_stood_in_for() -> None:
    """Not one that serves, not beside silence, and not where the source did not answer wholly."""
    past = [a_look(-1, "history")]
    looks = [a_look(0, "candidate", "baseline"), a_look(1), a_look(2, "candidate", status=SourceStatus.PARTIAL)]
    assert frozen(past, looks) == looks


def test_the_servers_that_were_updated_are_those_announced_and_those_ever_seen() -> None:
    """Also one that was seen once and has crashed since; not by what an expression has left of its labels."""
    seen = replace(a_look(1, "candidate"), cells={"errors": counts([("candidate", "pod-9", 1.0, 100.0)])})
    looks = [
        a_look(-1, "candidate"),
        seen,
        a_look(2, "candidate", "baseline"),
        StoredLook(interval=3, facts=LookFacts(), cells={"orders": counts([("candidate", "zone=a", 1.0, 9.0)])}),
    ]
    assert updated_servers(looks, ["pod-7"], unnamed={"orders"}) == ["candidate-0", "pod-7", "pod-9"]
    assert updated_servers([], []) == []


def test_servers_that_are_stored_in_groups_are_not_named() -> None:
    """Of more than sixteen nobody knows the names: a list of some of them would leave the others on the new version."""
    metric, window = a_plan().metrics[0], ArmWindow(arm="candidate", start=0.0, end=5.0)
    role = Role(metric="errors", name="total", ask=Ask.COUNT, selector=parse_selector("requests_total"))
    many = [Series({"instance": f"10.0.0.{n}:80"}, 100.0) for n in range(17)]
    crowd = fold(metric, [(Question(role, window), many)], max_replicas=16)
    first = a_look(0, "candidate", "baseline")
    assert updated_servers([first, replace(first, interval=1, cells={"errors": crowd})], ["pod-7"]) == []


@dataclass
class Street:
    """A roll-out on its road, with a hook that is told which servers to put back."""

    ledger: Ledger
    clock: FakeClock
    fleet: Fleet
    mode: Mode = Mode.AUTO
    hook: FakeHook = field(default_factory=FakeHook)

    def __post_init__(self) -> None:
        watch = replace(rolling(), mode=self.mode)
        self.ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
        self.pipeline = a_road(self.ledger, self.clock, FakeSource(self.fleet), {"back": self.hook})

    @property
    def desk(self) -> OperatorDesk:
        return OperatorDesk(ledger=self.ledger, clock=self.clock)

    @property
    def state(self) -> State:
        watch = self.ledger.watch("d1")
        assert watch is not None
        return watch.state

    def on(self, seconds: int, until: Callable[[], bool] = lambda: False) -> None:
        for _ in range(seconds):
            if until():
                return
            self.clock.advance(1.0)
            self.pipeline.tick()

    def named(self) -> list[list[str] | None]:
        """The servers that each attempt was told of; None: of none, so all are meant."""
        return [call.params.get("updated") for call in self.hook.calls if call.kind is ActionKind.ROLLBACK]


@pytest.mark.parametrize("minutes", [0, 30])
def test_what_is_approved_later_puts_back_what_was_updated_meanwhile(
    minutes: int, ledger: Ledger, clock: FakeClock
) -> None:
    """The roll-out goes on while it is held, and nobody looks: then all are put back; at once only those seen."""
    street = Street(ledger, clock, Fleet(bad_from=0, bad=0.3), mode=Mode.APPROVE)
    street.on(60, until=lambda: street.state is State.HELD)
    clock.advance(60.0 * minutes)
    street.on(2)
    street.desk.approve("d1", actor="ann")
    street.on(2)
    assert street.named() == [None if minutes else ["v2-a"]]


def test_a_server_that_crashed_before_the_last_look_is_put_back_too(ledger: Ledger, clock: FakeClock) -> None:
    """It has the new version, and no samples any more."""
    street = Street(ledger, clock, Crashing(bad_from=EVERY + 1, bad=0.02))
    street.on(5 * (EVERY + 3))
    street.desk.rollback("d1", actor="ann", why="it crashes")
    street.on(2)
    assert street.named() == [["v2-a", "v2-b"]]


def test_a_human_who_asks_for_it_gets_the_updated_servers_put_back(ledger: Ledger, clock: FakeClock) -> None:
    """Whoever decides, the hook is told the same; and further tries are told what the first one was."""
    street = Street(ledger, clock, Fleet(), hook=FakeHook(outcome=HookOutcome.RETRY, works=False))
    street.on(30)
    street.desk.rollback("d1", actor="ann", why="not wanted")
    street.on(60)
    assert len(street.named()) == 3
    assert [names for names in street.named() if names != ["v2-a", "v2-b"]] == []


def test_a_rollback_that_is_approved_between_two_tries_takes_what_was_updated_since(
    ledger: Ledger, clock: FakeClock
) -> None:
    """The kill switch held it for an hour after its first try."""
    street = Street(ledger, clock, Fleet(), hook=FakeHook(outcome=HookOutcome.RETRY, works=False))
    street.on(30)
    street.desk.rollback("d1", actor="ann", why="not wanted")
    street.on(1)
    street.desk.pause(actor="ann", why="network")
    street.on(10, until=lambda: street.state is State.HELD)
    clock.advance(3600.0)
    street.desk.resume(actor="ann", why="over")
    street.desk.approve("d1", actor="ann")
    street.on(2)
    assert street.named() == [["v2-a", "v2-b"], None]


@dataclass
class Crashing(Fleet):
    """The first server that was updated crashes."""

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        cells = super().__call__(request)["errors"]
        rows = zip(cells.arm, cells.replica, cells.value, cells.total, strict=True)
        gone = request.interval >= self.bad_from
        return {"errors": counts([row for row in rows if not (gone and row[1] == "v2-a")])}
