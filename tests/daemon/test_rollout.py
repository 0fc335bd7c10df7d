"""Forward, step by step: promotion, switch, smoke test, pause; and that nothing goes forward once it goes back."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydantic import BaseModel

from analysis import review
from analysis.decode import Decoded
from analysis.judge import judge_decoded
from analysis.prepare import Cells
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec, Verdict, VerdictKind
from tests.fakes import FakeClock, FakeSource, NoOptions, counts
from tests.roads import a_road
from tests.samples import DEPLOYED_AT, a_plan, a_watch
from watchdog.export import step_at
from watchdog.intended import first_actions, promotion
from watchdog.model import (
    FINAL,
    ActionKind,
    ActionState,
    ActionUpdate,
    Change,
    HoldReason,
    LowTraffic,
    MessageKind,
    Metric,
    Mode,
    Severity,
    State,
    Steps,
    Strategy,
    Watch,
)
from watchdog.operator_desk import OperatorDesk
from watchdog.pipeline import Pipeline
from watchdog.ports import HookCall, HookOutcome, HookResult, Ledger, LookRequest, ProbeAnswer
from watchdog.recovery_steps import recovery_steps
from watchdog.telling import message

STEPS = Steps(shares=(0.1, 0.25, 0.5, 1.0), bake_s=40.0, hook="front")


@dataclass
class Front:
    """A load balancer over v1 and v2: its hook sets shares, switches, pauses, and tests whether a version answers."""

    share: float = 0.1
    lies: bool = False  # says that it promoted, and did not
    moved_on: bool = False  # says that production stands otherwise than a promotion expects
    fails: frozenset[ActionKind] = frozenset()
    dead: frozenset[str] = frozenset()  # versions whose smoke test fails
    paused: bool = False
    calls: list[HookCall] = field(default_factory=list)
    probed: list[ActionKind] = field(default_factory=list)
    has_probe: bool = True
    idempotent: bool = True
    acts_elsewhere: bool = False
    timeout_s: float = 30.0
    kind: ClassVar[str] = "fake"
    Options: ClassVar[type[BaseModel]] = NoOptions
    on_run: Callable[[HookCall], None] = lambda call: None

    def run(self, call: HookCall) -> HookResult:
        self.calls.append(call)
        self.on_run(call)
        failed = call.kind in self.fails or (call.kind is ActionKind.SMOKE and call.to_version in self.dead)
        if failed:
            return HookResult(
                outcome=HookOutcome.FAILED, exit_code=1, output=f"asking\n{call.to_version} does not answer\n"
            )
        if not self.lies or call.kind is ActionKind.ROLLBACK:
            self._set(call)
        return HookResult(outcome=HookOutcome.OK, exit_code=0)

    def _set(self, call: HookCall) -> None:
        if call.kind is ActionKind.ROLLBACK:
            self.share = 0.0
        elif call.kind is ActionKind.SWITCH:
            self.share = 1.0
        elif call.kind is ActionKind.PROMOTE:
            self.share = float(call.params["share"])
        elif call.kind in (ActionKind.PAUSE, ActionKind.RESUME):
            self.paused = call.kind is ActionKind.PAUSE

    def probe(self, call: HookCall) -> ProbeAnswer:
        self.probed.append(call.kind)
        if call.kind is ActionKind.ROLLBACK:
            return ProbeAnswer.APPLIED if self.share == 0 else ProbeAnswer.NOT_APPLIED
        if call.kind is ActionKind.PROMOTE and self.moved_on:
            return ProbeAnswer.MOVED_ON
        if call.kind is ActionKind.PROMOTE and not self.lies:
            return ProbeAnswer.APPLIED if self.share == call.params["share"] else ProbeAnswer.NOT_APPLIED
        return ProbeAnswer.UNKNOWN

    def still_running(self, action_id: str) -> bool:
        return False

    def done(self, kind: ActionKind) -> int:
        return sum(call.kind is kind for call in self.calls)


@dataclass
class Shop:
    """1 500 requests a look over both arms; the candidate's error rate from some look on is the fault."""

    front: Front
    errors: float = 0.008
    bad_from: int = 10_000
    bad: float = 0.3
    requests: float = 1500.0

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        rng = np.random.default_rng(request.interval + 1000)
        rows = []
        for window in request.arms:
            part = self.front.share if window.arm == Arm.CANDIDATE else 1 - self.front.share
            if request.interval < 0 or len(request.arms) == 1:
                part = 1.0
            bad = window.arm == Arm.CANDIDATE and request.interval >= self.bad_from and self.front.share > 0
            for replica in range(2):
                total = int(rng.poisson(self.requests * part / 2))
                rows.append(
                    (
                        window.arm,
                        f"{window.arm}-{replica}",
                        float(rng.binomial(total, self.bad if bad else self.errors)),
                        float(total),
                    )
                )
        return {"errors": counts(rows)}


def road(
    ledger: Ledger, clock: FakeClock, shop: Shop, failpoint: Callable[[str], None] = lambda name: None
) -> Pipeline:
    return a_road(ledger, clock, FakeSource(shop), {"back": shop.front, "front": shop.front}, failpoint=failpoint)


def begin(ledger: Ledger, watch: Watch) -> None:
    started = message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")
    ledger.record_deploy(watch, [started], [], first_actions(watch, DEPLOYED_AT))


def stepped(steps: Steps = STEPS, mode: Mode = Mode.AUTO, *, looks: int = 120) -> Watch:
    return replace(a_watch(), plan=replace(a_plan(planned_looks=looks), steps=steps), mode=mode)


def blue_green(*, smoke: bool = True) -> Watch:
    watch = a_watch()
    plan = replace(
        a_plan(design=Design.BEFORE_AFTER),
        switch_hook="front",
        smoke_hook="front" if smoke else None,
        baseline_looks=60,
    )
    deploy = replace(watch.deploy, strategy=Strategy.BLUE_GREEN, share=None)
    return replace(watch, plan=plan, deploy=deploy, state=State.SMOKE)


def rolling() -> Watch:
    watch = a_watch()
    deploy = replace(watch.deploy, strategy=Strategy.ROLLING, share=None)
    return replace(watch, plan=replace(a_plan(planned_looks=60), pause_hook="front"), deploy=deploy)


def walk(pipeline: Pipeline, ledger: Ledger, clock: FakeClock, *, seconds: int = 700) -> Watch:
    for _ in range(seconds):
        if standing(ledger).state is State.WATCHING:  # nothing happens between two looks
            clock.advance(max(standing(ledger).next_look_at - clock.now() - 1.0, 0.0))
        clock.advance(1.0)
        pipeline.tick()
        if standing(ledger).state in FINAL | {State.HELD}:
            break
    return standing(ledger)


def standing(ledger: Ledger) -> Watch:
    watch = ledger.watch("d1")
    assert watch is not None
    return watch


def said(ledger: Ledger, kind: MessageKind) -> list[str]:
    return [row.message.sentence for row, _ in ledger.messages("d1") if row.message.kind is kind]


def test_a_healthy_canary_grows_to_all_traffic_and_says_what_each_step_would_have_shown(
    ledger: Ledger, clock: FakeClock
) -> None:
    """10 → 25 → 50 → 100 %, no step before its bake time; the closing sentence has a clause for each."""
    front = Front()
    begin(ledger, stepped())
    watch = walk(road(ledger, clock, Shop(front)), ledger, clock)
    assert (watch.state, front.share, watch.share) == (State.PASSED, 1.0, 1.0)
    assert [call.params["share"] for call in front.calls] == [0.25, 0.5, 1.0]
    assert {call.kind for call in front.calls} == {ActionKind.PROMOTE}
    assert len(said(ledger, MessageKind.PROGRESS)) == 2
    for share in ("; at 10 %", "; up to 25 %", "; up to 50 %"):
        assert share in watch.sentence
    assert watch.sentence.count("would have been seen") == 3
    assert clock.now() - DEPLOYED_AT >= 3 * STEPS.bake_s


def test_a_replay_knows_the_share_that_each_look_was_judged_with(
    ledger: Ledger, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten percent until the first promotion is done, and so on; what notebooks and `export` say of every look."""
    judged: dict[int, float | None] = {}

    def noted(watches: Sequence[Decoded], settings: Sequence[JudgeSettings]) -> list[Verdict]:
        judged.update({seen.looks - 1: seen.share for seen in watches})
        return judge_decoded(watches, settings)

    monkeypatch.setattr("watchdog.judging.judge_decoded", noted)
    begin(ledger, stepped())
    walk(road(ledger, clock, Shop(Front())), ledger, clock)
    assert sorted(set(judged.values()), key=lambda share: share or 0.0) == [0.1, 0.25, 0.5]
    assert review.open(tmp_path / "w.db").stored("d1").shares == judged
    actions = ledger.actions(watch_id="d1")
    steps = {said.look: step_at(actions, said.at) for said in ledger.verdicts("d1")}
    assert {look: STEPS.shares[step] for look, step in steps.items()} == judged


@dataclass
class Sign:
    """Beside the errors sign-ups, by version; the visits are not told apart by version, so the asked share counts."""

    shop: Shop
    lost: float = 0.0

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        rng = np.random.default_rng(request.interval + 5000)
        rows = []
        for window in request.arms:
            candidate, share = window.arm == Arm.CANDIDATE, self.shop.front.share
            part = (share if candidate else 1 - share) if request.interval >= 0 else 1.0
            kept = 1 - self.lost if candidate else 1.0
            rows.append((window.arm, "all", float(rng.poisson(1000.0 * 0.2 * part * kept)), 1000.0))
        return {**self.shop(request), "signups": counts(rows)}


@pytest.mark.parametrize(("lost", "state"), [(0.0, State.PASSED), (0.5, State.ROLLED_BACK)])
def test_what_is_counted_by_the_asked_share_knows_the_share_of_every_look(
    ledger: Ledger, clock: FakeClock, lost: float, state: State
) -> None:
    """At 50 % the looks at 10 % are not taken for lost sign-ups; half of them lost is seen."""
    orders = MetricSpec(name="signups", kind=Kind.RATE, direction=Direction.DOWN_IS_BAD, configured_share=True)
    watch = stepped()
    plan = replace(watch.plan, metrics=(*watch.plan.metrics, Metric(spec=orders, series={})))
    begin(ledger, replace(watch, plan=plan))
    front = Front()
    pipeline = replace(road(ledger, clock, Shop(front)), sources={"pages": FakeSource(Sign(Shop(front), lost))})
    ended = walk(pipeline, ledger, clock)
    assert ended.state is state, ended.sentence
    shares = [look.facts.share for look in ledger.looks("d1") if 0 <= look.interval < ended.looks - 1]
    assert shares[0] == 0.1
    if state is State.PASSED:
        told = [share for share in shares if share is not None]
        assert set(told) == {0.1, 0.25, 0.5}
        assert told == sorted(told)
        assert 0 < shares.count(None) <= 2 * 3  # the looks in which the share changed


def test_a_fault_that_begins_at_a_later_step_is_undone_and_never_promoted_again(
    ledger: Ledger, clock: FakeClock
) -> None:
    """The share stands at 25 % when it breaks; it goes to 0 and stays there."""
    front = Front()
    begin(ledger, stepped())
    watch = walk(road(ledger, clock, Shop(front, bad_from=14)), ledger, clock)
    assert (watch.state, front.share, watch.step) == (State.ROLLED_BACK, 0.0, 1)
    assert [call.kind for call in front.calls] == [ActionKind.PROMOTE, ActionKind.ROLLBACK]
    assert "25 %" in watch.sentence


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.NOTIFY])
def test_who_only_tells_grows_nothing(ledger: Ledger, clock: FakeClock, mode: Mode) -> None:
    """These modes watch at the share they were given, and say that the steps were not taken."""
    front = Front()
    begin(ledger, stepped(mode=mode, looks=15))
    watch = walk(road(ledger, clock, Shop(front)), ledger, clock)
    assert (watch.state, front.calls) == (State.INCONCLUSIVE, [])
    assert "before all steps were taken" in watch.sentence


def test_the_kill_switch_stops_growing_and_resume_lets_it_go_on(ledger: Ledger, clock: FakeClock) -> None:
    """Nothing is asked of the hook while the brake is on."""
    front = Front()
    begin(ledger, stepped())
    pipeline = road(ledger, clock, Shop(front))
    ledger.set_paused(True, actor="me", why="a look", at=clock.now())
    walk(pipeline, ledger, clock, seconds=11)
    assert front.calls == []
    ledger.set_paused(False, actor="me", why="fine", at=clock.now())
    assert walk(pipeline, ledger, clock).state is State.PASSED


def test_a_promotion_that_fails_is_held_paged_and_can_be_rolled_back(ledger: Ledger, clock: FakeClock) -> None:
    """Somebody is called; approving the held rollback takes the candidate out."""
    front = Front(fails=frozenset({ActionKind.PROMOTE}))
    begin(ledger, stepped())
    pipeline = road(ledger, clock, Shop(front))
    watch = walk(pipeline, ledger, clock)
    assert (watch.state, watch.hold, front.share) == (State.HELD, HoldReason.PROMOTE_FAILED, 0.1)
    assert "25 %" in said(ledger, MessageKind.HELD)[0]
    OperatorDesk(ledger=ledger, clock=clock).approve("d1", actor="me")
    for _ in range(60):
        clock.advance(1.0)
        pipeline.tick()
    assert (standing(ledger).state, front.share) == (State.ROLLED_BACK, 0.0)


def test_a_promotion_that_lies_about_the_share_is_said_and_held(ledger: Ledger, clock: FakeClock) -> None:
    """The hook says done, the requests say otherwise."""
    front = Front(lies=True)
    begin(ledger, stepped())
    watch = walk(road(ledger, clock, Shop(front)), ledger, clock)
    assert (watch.state, watch.hold) == (State.HELD, HoldReason.SHARE_MISMATCH)
    assert "25 % were asked for" in watch.sentence
    assert front.done(ActionKind.PROMOTE) == 1


def test_a_promotion_that_finds_the_candidate_taken_out_is_held_and_not_counted_as_done(
    ledger: Ledger, clock: FakeClock
) -> None:
    """Somebody took v2 out by hand: it is not brought back, and nobody is told that it was promoted."""
    front = Front(moved_on=True)
    begin(ledger, stepped())
    watch = walk(road(ledger, clock, Shop(front)), ledger, clock)
    assert (watch.state, watch.hold, watch.step) == (State.HELD, HoldReason.PROMOTE_FAILED, 0)
    assert front.calls == []


def test_a_step_that_the_daemon_took_back_while_the_deploy_was_held_is_taken_later(
    ledger: Ledger, clock: FakeClock
) -> None:
    """Only a human's no lasts: a step that was called off because the deploy was held for a while is intended anew."""
    front = Front()
    watch = stepped()
    begin(ledger, watch)
    verdict = Verdict(
        kind=VerdictKind.HEALTHY, reason=None, metric=None, look=0, alarm_look=None, log_evidence=0.0,
        log_threshold=4.6, sentence="healthy",
    )  # fmt: skip
    before = promotion(watch, verdict, [], clock.now())
    ledger.commit(Change(watch_id="d1", at=clock.now(), expect_state=State.WATCHING, new_action=before))
    off = ActionUpdate(id=before.id, expect=frozenset({ActionState.INTENT}), to=ActionState.CANCELLED)
    ledger.commit(Change(watch_id="d1", at=clock.now(), expect_state=State.WATCHING, action=off))
    assert walk(road(ledger, clock, Shop(front)), ledger, clock).state is State.PASSED
    assert front.share == 1.0


def test_with_too_little_traffic_it_waits(ledger: Ledger, clock: FakeClock) -> None:
    """Nobody could tell, so nothing grows."""
    front = Front()
    begin(ledger, stepped(looks=20))
    watch = walk(road(ledger, clock, Shop(front, requests=12.0)), ledger, clock)
    assert (watch.state, front.calls) == (State.INCONCLUSIVE, [])


def test_with_too_little_traffic_it_advances_no_further_than_configured(ledger: Ledger, clock: FakeClock) -> None:
    """By the operator's choice, and only up to max_step."""
    front = Front()
    begin(ledger, stepped(replace(STEPS, low_traffic=LowTraffic.ADVANCE, max_step=0.25), looks=30))
    watch = walk(road(ledger, clock, Shop(front, requests=12.0)), ledger, clock)
    assert (watch.state, front.share) == (State.INCONCLUSIVE, 0.25)
    assert "too little traffic" in " ".join(entry.why for entry in ledger.audit("d1"))


@pytest.mark.parametrize("seed", range(int(os.environ.get("RACES", "6"))))
def test_a_slow_promotion_never_lands_after_the_rollback(ledger: Ledger, clock: FakeClock, seed: int) -> None:
    """The rollback is decided while the promotion's hook still runs, at any moment of it."""
    front = Front()
    shop = Shop(front)
    begin(ledger, stepped())
    jobs: list[Callable[[], None]] = []
    pipeline = replace(road(ledger, clock, shop), submit=lambda job, key: jobs.append(job))
    rng = np.random.default_rng(seed)
    decided: list[bool] = []

    def meanwhile(call: HookCall) -> None:
        if call.kind is ActionKind.PROMOTE and not decided:
            decided.append(True)
            OperatorDesk(ledger=ledger, clock=clock).rollback("d1", actor="me", why="it looks bad")
            for _ in range(int(rng.integers(1, 8))):
                clock.advance(1.0)
                pipeline.act()
                for job in [jobs.pop() for _ in range(len(jobs))]:
                    job()
            assert front.done(ActionKind.ROLLBACK) == 0, "the rollback waits the promotion out"

    front.on_run = meanwhile
    for _ in range(400):
        clock.advance(1.0)
        pipeline.tick()
        for job in [jobs.pop(int(rng.integers(len(jobs)))) for _ in range(len(jobs))]:
            job()
        if standing(ledger).state in FINAL:
            break
    assert decided
    assert (standing(ledger).state, front.share) == (State.ROLLED_BACK, 0.0)


class Crash(BaseException):
    """The daemon dies here."""


@pytest.mark.parametrize(
    "point",
    [
        "tick-committed",
        "action-before-claim",
        "action-claimed",
        "hook-before-start",
        "hook-returned",
        "outcome-before-commit",
        "outcome-committed",
    ],
)
def test_a_daemon_that_dies_anywhere_promotes_each_step_once(ledger: Ledger, clock: FakeClock, point: str) -> None:
    """The hook may be asked again, but the same share is set; no step is skipped and none taken twice."""
    front = Front()
    shop = Shop(front)
    begin(ledger, stepped())
    deaths = {"left": 1}

    def failpoint(name: str) -> None:
        if name == point and deaths["left"] > 0 and standing(ledger).looks > 7:
            deaths["left"] -= 1
            raise Crash

    for _ in range(900):
        clock.advance(1.0)
        try:
            road(ledger, clock, shop, failpoint).tick()
        except Crash:
            clock.advance(20.0)
        if standing(ledger).state in FINAL:
            break
    assert (standing(ledger).state, front.share, deaths["left"]) == (State.PASSED, 1.0, 0)
    applied = [a for a in ledger.actions(watch_id="d1") if a.state in (ActionState.APPLIED, ActionState.NOT_NEEDED)]
    assert [a.params["share"] for a in applied] == [0.25, 0.5, 1.0]
    assert [a.deed for a in applied] == [f"promotion of v2 to {share} %" for share in (25, 50, 100)]


def test_green_is_tested_switched_watched_and_switched_back(ledger: Ledger, clock: FakeClock) -> None:
    """Smoke, switch, fault under real traffic, old colour tested, switched back."""
    front = Front(share=0.0)
    begin(ledger, blue_green())
    watch = walk(road(ledger, clock, Shop(front, bad_from=3)), ledger, clock)
    assert watch.state is State.ROLLED_BACK
    kinds = [(call.kind, call.to_version) for call in front.calls]
    assert kinds == [
        (ActionKind.SMOKE, "v2"),
        (ActionKind.SWITCH, "v2"),
        (ActionKind.SMOKE, "v1"),
        (ActionKind.ROLLBACK, "v1"),
    ]
    assert watch.switched_at is not None


def test_green_that_fails_its_smoke_test_gets_no_traffic(ledger: Ledger, clock: FakeClock) -> None:
    """Nobody was exposed, and the sentence says so."""
    front = Front(share=0.0, dead=frozenset({"v2"}))
    begin(ledger, blue_green())
    watch = walk(road(ledger, clock, Shop(front)), ledger, clock)
    assert (watch.state, front.share, front.done(ActionKind.SWITCH)) == (State.SMOKE_FAILED, 0.0, 0)
    assert "the switch was not made" in watch.sentence
    assert "v2 does not answer" in watch.sentence
    assert "took effect" not in watch.sentence
    assert not [kind for kind in front.probed if kind is ActionKind.SMOKE], "a test leaves nothing to be asked for"


def test_a_switch_that_fails_is_held(ledger: Ledger, clock: FakeClock) -> None:
    """Where traffic is, nobody knows: a human looks."""
    front = Front(share=0.0, fails=frozenset({ActionKind.SWITCH}))
    begin(ledger, blue_green(smoke=False))
    watch = walk(road(ledger, clock, Shop(front)), ledger, clock)
    assert (watch.state, watch.hold) == (State.HELD, HoldReason.SWITCH_FAILED)


def test_a_switch_that_was_not_made_is_not_told_as_a_version_that_is_live(ledger: Ledger, clock: FakeClock) -> None:
    """What to do, and what the hold ends with, speak of traffic that stayed where it was."""
    front = Front(share=0.0, fails=frozenset({ActionKind.SWITCH}))
    begin(ledger, blue_green(smoke=False))
    pipeline = road(ledger, clock, Shop(front))
    watch = walk(pipeline, ledger, clock)
    steps = " ".join(recovery_steps(watch, ledger.actions(watch_id="d1")))
    assert "The switch to v2 was not made, or failed: look which version of shop serves." in steps
    assert "To put all traffic on v1: `deploy-watchdog approve d1`." in steps
    assert "To leave the traffic where it is: `deploy-watchdog deny d1`." in steps
    assert "stay on v2" not in steps
    clock.advance(watch.plan.hold_s)
    pipeline.tick()
    assert standing(ledger).state is State.CANCELLED
    assert "the switch to v2 was not made, or failed; look which version is live" in standing(ledger).sentence


@pytest.mark.parametrize("probe", [True, False])
def test_nothing_is_switched_back_onto_a_colour_that_does_not_answer(
    ledger: Ledger, clock: FakeClock, probe: bool
) -> None:
    """Both colours are bad; a switch would only move the outage, whether or not the hook can say what is live."""
    front = Front(share=0.0, dead=frozenset({"v1"}), has_probe=probe)
    begin(ledger, blue_green())
    watch = walk(road(ledger, clock, Shop(front, bad_from=3)), ledger, clock)
    assert (watch.state, watch.hold, front.share) == (State.HELD, HoldReason.TARGET_GONE, 1.0)
    assert front.done(ActionKind.ROLLBACK) == 0


def test_a_colour_that_answers_is_tested_and_switched_back_to_without_a_probe(ledger: Ledger, clock: FakeClock) -> None:
    """A hook that is only a URL, as in the docs' example: the old colour is tested once, then gets everybody."""
    front = Front(share=0.0, has_probe=False)
    begin(ledger, blue_green())
    watch = walk(road(ledger, clock, Shop(front, bad_from=3)), ledger, clock)
    assert (watch.state, front.share) == (State.ROLLED_BACK, 0.0)
    tested = [call.to_version for call in front.calls if call.kind is ActionKind.SMOKE]
    assert tested == ["v2", "v1"]


def test_a_roll_out_is_paused_at_the_first_suspicion_and_then_put_back(ledger: Ledger, clock: FakeClock) -> None:
    """The pause comes before the verdict, the rollback after it."""
    front = Front()
    begin(ledger, rolling())
    watch = walk(road(ledger, clock, Shop(front, bad_from=4, bad=0.03)), ledger, clock)
    assert (watch.state, front.paused) == (State.ROLLED_BACK, True)
    assert [call.kind for call in front.calls] == [ActionKind.PAUSE, ActionKind.ROLLBACK]
    assert "pause of the roll-out" in said(ledger, MessageKind.ACTION)[0]
