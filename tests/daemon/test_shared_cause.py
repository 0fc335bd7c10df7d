"""What both versions share: the old one gets worse than its own past, and nothing goes forward or back by itself."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from analysis.prepare import Cells
from analysis.result import Arm, Design
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_plan, a_watch
from watchdog.model import FINAL, HoldReason, MessageKind, Severity, State, Steps, Strategy, Watch
from watchdog.ports import Ledger, LookRequest
from watchdog.telling import message

USUAL, HURT = 0.01, 0.08


def shop(hurt: frozenset[Arm]) -> FakeSource:
    """1 250 requests a look, a tenth of them v2's; from the third look on some arms fail 8 % instead of 1 %."""

    def answer(request: LookRequest) -> Mapping[str, Cells]:
        rng = np.random.default_rng(request.interval + 1000)
        rows = []
        for window in request.arms:
            rate = HURT if window.arm in hurt and request.interval >= 3 else USUAL
            for replica in range(1 if window.arm == Arm.CANDIDATE else 2):
                total = int(rng.poisson(125 if window.arm == Arm.CANDIDATE else 562))
                rows.append((window.arm, f"{window.arm}-{replica}", float(rng.binomial(total, rate)), float(total)))
        return {"errors": counts(rows)}

    return FakeSource(answer)


def walk(ledger: Ledger, clock: FakeClock, watch: Watch, source: FakeSource) -> tuple[Watch, FakeHook]:
    """Tick until somebody must decide or it has ended."""
    hook = FakeHook()
    ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
    pipeline = a_road(ledger, clock, source, {"back": hook})
    for _ in range(200):
        clock.advance(1.0)
        pipeline.tick()
        standing = ledger.watch(watch.id)
        if standing is not None and standing.state in FINAL | {State.HELD}:
            return standing, hook
    raise AssertionError("no end in sight")


def carrying(migration: str) -> Watch:
    watch = a_watch()
    return replace(watch, deploy=replace(watch.deploy, migration=migration))


@pytest.mark.parametrize(
    ("hurt", "migration", "words"),
    [
        (frozenset({Arm.BASELINE, Arm.CANDIDATE}), "none", "going back may not help"),
        (frozenset({Arm.BASELINE, Arm.CANDIDATE}), "expand", "expand migration"),
        (frozenset({Arm.BASELINE}), "contract", "contract migration"),
    ],
)
def test_an_old_version_that_gets_worse_is_held_paged_and_the_migration_named(
    ledger: Ledger, clock: FakeClock, hurt: frozenset[Arm], migration: str, words: str
) -> None:
    """A lock hurts both, a schema only v1: neither is promoted, excused or rolled back by itself."""
    watch, hook = walk(ledger, clock, carrying(migration), shop(hurt))
    assert (watch.state, watch.hold, hook.effects) == (State.HELD, HoldReason.SHARED_CAUSE, 0)
    page = next(row.message for row, _ in ledger.messages("d1") if row.message.kind is MessageKind.HELD)
    assert page.severity is Severity.PAGE
    assert words in page.sentence
    assert "before the deploy" in page.sentence


def test_the_page_names_the_other_services_that_got_worse_at_the_same_time(ledger: Ledger, clock: FakeClock) -> None:
    """The kiosk is held already when the shop is; a kiosk of another environment is none of our business."""
    both = frozenset({Arm.BASELINE, Arm.CANDIDATE})
    for name, environment in (("kiosk", "production"), ("mail", "staging")):
        other = a_watch(deploy_id=name)
        deploy = replace(other.deploy, service=name, environment=environment)
        ended, _ = walk(ledger, clock, replace(other, deploy=deploy), shop(both))
        assert ended.hold is HoldReason.SHARED_CAUSE
        clock.advance(DEPLOYED_AT - clock.now())
    walk(ledger, clock, a_watch(), shop(both))
    page = next(row.message for row, _ in ledger.messages("d1") if row.message.kind is MessageKind.HELD)
    assert "kiosk got worse at the same time" in page.sentence
    assert "mail" not in page.sentence


def test_a_canary_does_not_grow_while_the_old_version_is_getting_worse(ledger: Ledger, clock: FakeClock) -> None:
    """v2 looks fine beside a v1 that fails on its schema."""
    watch = carrying("contract")
    steps = Steps(shares=(0.1, 0.5, 1.0), bake_s=60.0, hook="back")
    watch, hook = walk(
        ledger, clock, replace(watch, plan=replace(watch.plan, steps=steps)), shop(frozenset({Arm.BASELINE}))
    )
    assert (watch.state, watch.step, hook.calls) == (State.HELD, 0, [])


def test_a_v2_that_is_worse_than_a_worse_v1_is_rolled_back(ledger: Ledger, clock: FakeClock) -> None:
    """A shared cause is no alibi."""

    def answer(request: LookRequest) -> Mapping[str, Cells]:
        rows = []
        for window in request.arms:
            rate = {Arm.CANDIDATE.value: 0.3, Arm.BASELINE.value: 0.02}.get(window.arm, USUAL)
            total = 125.0 if window.arm == Arm.CANDIDATE else 562.0
            rows += [(window.arm, f"{window.arm}-{i}", round(total * rate), total) for i in range(2)]
        return {"errors": counts(rows)}

    watch, hook = walk(ledger, clock, a_watch(), FakeSource(answer))
    assert (watch.verdict, hook.effects) == ("DEGRADED", 1)


def beside_a_control() -> Watch:
    """A direct deploy that is watched beside another service, and whose verdicts may act."""
    watch = a_watch()
    plan = replace(a_plan(design=Design.BEFORE_AFTER), control_labels={"job": "checkout"})
    return replace(watch, plan=plan, deploy=replace(watch.deploy, strategy=Strategy.DIRECT, share=None))


def test_a_direct_deploy_that_is_worse_beside_a_calm_control_is_rolled_back(ledger: Ledger, clock: FakeClock) -> None:
    """Beside its own past it is worse at once; how it stands beside the control takes some looks more to tell, and
    until then nobody is paged."""
    watch, hook = walk(ledger, clock, beside_a_control(), shop(frozenset({Arm.CANDIDATE})))
    assert (watch.hold, hook.effects) == (None, 1)
    assert MessageKind.HELD not in {row.message.kind for row, _ in ledger.messages("d1")}


def test_what_hits_the_control_of_a_direct_deploy_too_is_held(ledger: Ledger, clock: FakeClock) -> None:
    """As soon as the looks are over that a regression of its own would have taken."""
    watch, hook = walk(ledger, clock, beside_a_control(), shop(frozenset({Arm.CANDIDATE, Arm.CONTROL})))
    assert (watch.state, watch.hold, hook.effects) == (State.HELD, HoldReason.SHARED_CAUSE, 0)
    assert "the control series moved alike" in watch.sentence
    assert watch.looks <= 3 + 3 + 6


def test_what_is_held_beside_a_control_is_judged_on() -> None:
    """It may turn out worse than the control later; where the old version itself got worse, a human looks."""
    held = replace(beside_a_control(), state=State.HELD, hold=HoldReason.SHARED_CAUSE)
    assert held.is_judged
    assert not replace(a_watch(), state=State.HELD, hold=HoldReason.SHARED_CAUSE).is_judged
