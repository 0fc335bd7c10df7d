"""A roll-out: servers join and leave, the old version goes, and only what was updated is put back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from analysis.prepare import Cells, LookFacts
from analysis.result import Arm, SourceStatus
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road
from tests.samples import a_plan, a_watch
from watchdog.model import FINAL, HoldReason, MessageKind, Severity, State, StoredLook, Strategy, Watch
from watchdog.ports import HookCall, HookResult, Ledger, LookRequest
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


def test_the_servers_that_were_updated_are_those_announced_and_those_seen() -> None:
    """Of the last look that says anything."""
    looks = [
        a_look(0, "candidate", "baseline"),
        a_look(1, "candidate"),
        StoredLook(interval=2, facts=LookFacts(), cells={}),
    ]
    assert updated_servers(looks, ["pod-7"]) == ["candidate-0", "pod-7"]
    assert updated_servers([], []) == []
