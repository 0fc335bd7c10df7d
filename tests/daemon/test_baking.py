"""The bake: what has passed is looked at slowly for hours more, within the deploy's budget."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from analysis.prepare import Cells
from analysis.result import Arm, Design
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_plan, a_watch
from watchdog.app import load_config
from watchdog.baking import BAKES
from watchdog.config import Config
from watchdog.errors import ConfigError
from watchdog.intake import DeployRequest, Intake
from watchdog.ledger import open_ledger
from watchdog.model import FINAL, Bake, HoldReason, MessageKind, Plan, Severity, State, Steps, Watch
from watchdog.pipeline import Pipeline
from watchdog.planning import Pace
from watchdog.ports import Ledger, LookRequest
from watchdog.telling import message

HOUR = 3600.0
BAKE = Bake(for_s=2 * HOUR, look_s=300.0, baseline_s=3 * HOUR, budget=0.0025)


class Crash(BaseException):
    """The daemon dies here."""


@dataclass
class Shop:
    """200 requests a second; from some time on the new version fails more."""

    hook: FakeHook
    bad_from: float = float("inf")
    errors: float = 0.08

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        rng = np.random.default_rng(request.interval + 1000)
        rows = []
        for window in request.arms:
            bad = window.start >= self.bad_from and self.hook.live == "v2"
            seconds = window.end - window.start
            for replica in range(2):
                total = int(rng.poisson(100 * seconds))
                failed = float(rng.binomial(total, self.errors if bad else 0.02))
                rows.append((window.arm, f"{window.arm}-{replica}", failed, float(total)))
        return {"errors": counts(rows)}


def a_baking(*, act: bool = True, bake: Bake | None = BAKE) -> Watch:
    watch = a_watch()
    plan = replace(a_plan(planned_looks=12), bake=bake)
    plan = replace(plan, judge=replace(plan.judge, budget=0.0075, act_uncalibrated=act), baseline_looks=20)
    return replace(watch, plan=plan, deploy=replace(watch.deploy, share=0.5))


def begin(ledger: Ledger, watch: Watch) -> None:
    ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])


def road(ledger: Ledger, clock: FakeClock, shop: Shop) -> Pipeline:
    return a_road(ledger, clock, FakeSource(shop), {"back": shop.hook, "front": shop.hook})


def walk(pipeline: Pipeline, ledger: Ledger, clock: FakeClock) -> dict[str, Watch]:
    """From look to look until everything rests."""
    for _ in range(300):
        going = [watch for watch in ledger.watches() if watch.state not in FINAL | {State.HELD}]
        if not going:
            break
        looking = all(watch.state is State.WATCHING for watch in going)
        ahead = min(watch.next_look_at for watch in going) - clock.now()
        clock.advance(max(ahead, 1.0) if looking else 5.0)
        pipeline.tick()
    return {watch.id: watch for watch in ledger.watches()}


def test_a_deploy_that_passed_bakes_and_passes_again(ledger: Ledger, clock: FakeClock) -> None:
    """The outcome is there at once; the bake is a watch of its own, over hours, from the deploy on, beside the past."""
    begin(ledger, a_baking())
    ended = walk(road(ledger, clock, Shop(FakeHook())), ledger, clock)
    assert {name: watch.state for name, watch in ended.items()} == {"d1": State.PASSED, "d1~bake": State.PASSED}
    baked = ended["d1~bake"]
    assert ended["d1"].updated_at < DEPLOYED_AT + 90 < DEPLOYED_AT + 2 * HOUR <= baked.updated_at
    assert (baked.looks, baked.plan.design) == (24, Design.BEFORE_AFTER)
    assert baked.sentence.startswith("shop v2 (bake): ")
    looks = ledger.looks("d1~bake")
    assert (looks[0].interval, looks[-1].interval) == (-36, 23)
    arms = {interval: set(look.cells["errors"].arm) for look in looks for interval in [look.interval < 0]}
    assert arms == {True: {Arm.BASELINE}, False: {Arm.CANDIDATE}}
    told = [row.message.sentence for row, _ in ledger.messages("d1~bake")]
    assert told[0] == "shop v2 (bake): passed, and looked at every 5 min until 2 h after the deploy"


@pytest.mark.parametrize("act", [True, False])
def test_a_late_fault_is_noticed_hours_after_the_pass(act: bool, ledger: Ledger, clock: FakeClock) -> None:
    """An hour in errors rise: it goes back where such verdicts may act, else a human is paged."""
    hook = FakeHook()
    begin(ledger, a_baking(act=act))
    ended = walk(road(ledger, clock, Shop(hook, bad_from=DEPLOYED_AT + HOUR)), ledger, clock)
    assert ended["d1"].state is State.PASSED
    assert ended["d1~bake"].state is (State.ROLLED_BACK if act else State.HELD)
    assert ended["d1~bake"].hold is (None if act else HoldReason.UNCALIBRATED)
    assert hook.effects == (1 if act else 0)
    noticed = ended["d1~bake"].degraded_at
    assert noticed is not None
    assert DEPLOYED_AT + HOUR < noticed <= DEPLOYED_AT + HOUR + 900
    assert [row.message.severity for row, _ in ledger.messages("d1~bake")].count(Severity.PAGE) == (0 if act else 1)


def test_who_grew_step_by_step_bakes_too(ledger: Ledger, clock: FakeClock) -> None:
    """The last promotion is the pass; the bake follows from it."""
    hook = FakeHook(live="v1", works=False, probe_speaks=False)
    watch = a_baking()
    steps = Steps(shares=(0.5, 1.0), bake_s=20.0, hook="front")
    begin(ledger, replace(watch, plan=replace(watch.plan, steps=steps)))
    ended = walk(road(ledger, clock, Shop(hook)), ledger, clock)
    assert {name: watch.state for name, watch in ended.items()} == {"d1": State.PASSED, "d1~bake": State.PASSED}
    assert ended["d1~bake"].plan.steps is None


def test_without_the_table_nothing_bakes(ledger: Ledger, clock: FakeClock) -> None:
    """As shipped."""
    begin(ledger, a_baking(bake=None))
    assert list(walk(road(ledger, clock, Shop(FakeHook())), ledger, clock)) == ["d1"]


def test_pass_and_bake_are_one_transaction(ledger: Ledger, clock: FakeClock, tmp_path: Path) -> None:
    """A daemon that dies with the pass on its lips has neither; its successor records both."""
    begin(ledger, a_baking())
    ledger.close()
    armed = [True]

    def die(name: str) -> None:
        if name == "ledger-change-before-commit" and armed and inner.watch("d1") is not None:
            watch = inner.watch("d1")
            if watch is not None and watch.looks == 11:
                armed.clear()
                raise Crash

    inner = open_ledger(
        str(tmp_path / "w.db"), clock=clock, owner="me", sinks_for=lambda service: ("log",), failpoint=die
    )
    pipeline = road(inner, clock, Shop(FakeHook()))
    with pytest.raises(Crash):
        walk(pipeline, inner, clock)
    assert [watch.state for watch in inner.watches()] == [State.WATCHING]
    clock.advance(60.0)
    assert set(walk(pipeline, inner, clock)) == {"d1", "d1~bake"}
    inner.close()


CONFIG = """
[sources.pages]
kind = "scrape"
[[sources.pages.targets]]
url = "http://127.0.0.1:9/metrics"
[hooks.back]
kind = "dry_run"
[services.shop]
source = "pages"
mode = "auto"
rollback_hook = "back"
watch_s = {watch_s}
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = "b"
total = "t"
[services.shop.bake]
{bake}
"""


def configured(folder: Path, bake: str, *, watch_s: int = 900) -> Config:
    (folder / "c.toml").write_text(CONFIG.format(bake=bake, watch_s=watch_s))
    return load_config(folder / "c.toml", {})


def test_a_bake_that_cannot_begin_stops_no_other_watch(ledger: Ledger, clock: FakeClock) -> None:
    """Its id is taken, which no sender can bring about: only its own deploy waits, however many share the commit."""
    begin(ledger, a_baking())
    for name in ("d1~bake", "z9"):
        other = a_watch(deploy_id=name)
        begin(ledger, replace(other, deploy=replace(other.deploy, service=name)))
    ended = walk(road(ledger, clock, Shop(FakeHook())), ledger, clock)
    assert [name for name, watch in ended.items() if watch.state is State.WATCHING] == ["d1"]


def passed(ledger: Ledger, clock: FakeClock, folder: Path) -> tuple[Intake, Plan, Watch]:
    """v2 of a configured shop has passed: its intake, the deploy's plan, and the bake that goes on."""
    config = configured(folder, "for_s = 7200\nbudget_share = 0.2", watch_s=600)
    intake = Intake(config=config, paces={"pages": Pace(step_s=5.0, settle_s=1.0)}, ledger=ledger, clock=clock)
    _, watch = intake.receive(DeployRequest(service="shop", version="v2", previous_version="v1", share=0.5), actor="ci")
    pipeline = road(ledger, clock, Shop(FakeHook()))
    for _ in range(130):
        clock.advance(5.0)
        pipeline.tick()
    baking = ledger.watch(f"{watch.id}{BAKES}")
    assert baking is not None
    return intake, watch.plan, baking


def test_a_newer_deploy_is_not_ended_by_the_bake_of_the_one_before(
    ledger: Ledger, clock: FakeClock, tmp_path: Path
) -> None:
    """v2 passed by a replica's clock that is ahead of the one that takes v3's event."""
    intake, _, baking = passed(ledger, clock, tmp_path)
    behind = replace(intake, clock=FakeClock(baking.updated_at - 0.5))
    _, newer = behind.receive(DeployRequest(service="shop", version="v3", share=0.5), actor="ci")
    assert {w.id: w.state for w in ledger.watches(limit=2)} == {
        newer.id: State.WATCHING,
        baking.id: State.SUPERSEDED,
    }


def test_no_sender_can_give_a_deploy_the_id_of_a_bake() -> None:
    """So none is ever in its way."""
    with pytest.raises(ValidationError, match="expected 1 to 128 of"):
        DeployRequest(id=f"d1{BAKES}", service="shop", version="v2")


def test_both_watches_share_one_budget_and_a_new_deploy_ends_the_bake(
    ledger: Ledger, clock: FakeClock, tmp_path: Path
) -> None:
    """Together they have what [judge] allows; the next version is what production is about."""
    intake, plan, baking = passed(ledger, clock, tmp_path)
    assert plan.bake is not None
    assert (plan.judge.budget, plan.bake.budget) == pytest.approx((0.008, 0.002))
    assert baking.state is State.WATCHING
    assert baking.plan.judge.budget == pytest.approx(0.002)
    clock.advance(60.0)
    _, newer = intake.receive(DeployRequest(service="shop", version="v3", share=0.5), actor="ci")
    assert newer.deploy.previous_version == "v2"
    after = ledger.watch(baking.id)
    assert after is not None
    assert after.state is State.SUPERSEDED


@pytest.mark.parametrize(
    ("bake", "said"),
    [
        ({"for_s": 600.0}, r"bake.for_s: expected more than watch_s = 900"),
        ({"for_s": 1000.0, "look_s": 600.0}, r"bake.for_s: expected at least two looks, 1200"),
        ({"budget_share": 1.0}, r"bake.budget_share"),
        ({"budget_share": 0.0}, r"bake.budget_share"),
    ],
)
def test_a_bake_that_makes_no_sense_is_refused(bake: Mapping[str, float], said: str, tmp_path: Path) -> None:
    """Told by file, line and key."""
    with pytest.raises(ConfigError, match=said):
        configured(tmp_path, "\n".join(f"{key} = {value}" for key, value in bake.items()))
