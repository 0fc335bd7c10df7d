"""The one road, driven by a simulated clock over a real ledger and the real judge."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import review
from analysis.decode import Decoded
from analysis.prepare import Cells
from analysis.result import Arm, JudgeSettings, Verdict
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.receivers import fake_slack
from tests.roads import a_road, called_worse
from tests.samples import DEPLOYED_AT, a_watch
from tests.servers import wait_until
from tests.spans import in_memory
from watchdog.ledger import open_ledger
from watchdog.model import FINAL, HoldReason, MessageKind, Mode, Severity, State, Watch
from watchdog.outbox import Outbox
from watchdog.picture import Easel, Painter
from watchdog.pipeline import Pipeline
from watchdog.ports import Ledger, LookRequest
from watchdog.series import Drawer
from watchdog.sinks.slack import SlackOptions, SlackSink
from watchdog.telling import message


class Crash(BaseException):
    """The daemon dies here."""


class Shop:
    """A service of 300 requests/s whose candidate gets 10 %; the candidate's error rate is the fault."""

    def __init__(self, hook: FakeHook, *, candidate_errors: float, seed: int = 1, fails_after: int = 0) -> None:
        self.hook, self.candidate_errors, self.seed, self.fails_after = hook, candidate_errors, seed, fails_after

    def __call__(self, request: LookRequest) -> Mapping[str, Cells]:
        rng = np.random.default_rng([self.seed, request.interval + 1000])
        rows = []
        for window in request.arms:
            if window.arm == Arm.CANDIDATE.value:
                rate = self.candidate_errors if request.interval >= self.fails_after else 0.008
                if self.hook.live == "v1":
                    continue
                total = int(rng.poisson(150))
                rows.append((window.arm, "v2-0", float(rng.binomial(total, rate)), float(total)))
            else:
                for replica in range(3):
                    total = int(rng.poisson(450))
                    rows.append((window.arm, f"v1-{replica}", float(rng.binomial(total, 0.008)), float(total)))
        return {"errors": counts(rows)}


def road(
    ledger: Ledger, clock: FakeClock, source: FakeSource, hook: FakeHook, failpoint: Callable[[str], None] | None = None
) -> Pipeline:
    point = failpoint if failpoint is not None else lambda name: None
    return a_road(ledger, clock, source, {"back": hook}, failpoint=point)


def begin(ledger: Ledger, watch: Watch) -> None:
    ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])


def walk(pipeline: Pipeline, ledger: Ledger, clock: FakeClock, *, seconds: int = 300) -> Watch:
    """Tick once a second until the watch has ended."""
    for _ in range(seconds):
        clock.advance(1.0)
        pipeline.tick()
        if standing(ledger).state in FINAL:
            break
    return standing(ledger)


def standing(ledger: Ledger) -> Watch:
    watch = ledger.watch("d1")
    assert watch is not None
    return watch


def kinds(ledger: Ledger) -> list[MessageKind]:
    return [row.message.kind for row, _ in ledger.messages("d1")]


def test_a_rollback_is_one_trace_of_looks_decisions_and_a_hook(ledger: Ledger, clock: FakeClock) -> None:
    """Each look holds its decision; the hook stands beside them; nothing else is drawn, and the result is the same."""
    exporter, spans, _ = in_memory(clock)
    hook = FakeHook()
    begin(ledger, a_watch())
    plain = road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.06)), hook)
    watch = walk(replace(plain, spans=spans, edge=replace(plain.edge, spans=spans)), ledger, clock)
    assert watch.state is State.ROLLED_BACK
    drawn = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in drawn if span.context}) == 1
    looks = [span for span in drawn if span.name == "look"]
    decisions = [span for span in drawn if span.name == "decision"]
    (acted,) = [span for span in drawn if span.name == "hook"]
    assert len(drawn) == len(looks) + len(decisions) + 1
    assert [d.parent.span_id for d in decisions if d.parent] == [look.context.span_id for look in looks if look.context]
    assert [d.attributes and d.attributes["deploy_watchdog.decision"] for d in decisions][-1] == "ROLL_BACK"
    told = acted.attributes or {}
    assert [told[f"deploy{name}"] for name in ("ment.id", "_watchdog.hook", "_watchdog.outcome")] == [
        "d1",
        "back",
        "ok",
    ]


def test_a_bad_canary_is_rolled_back_once_within_seconds(ledger: Ledger, clock: FakeClock) -> None:
    """Errors 0.8 % → 6 % at 30 requests/s: noticed, undone, proven, told."""
    hook = FakeHook()
    begin(ledger, a_watch())
    watch = walk(road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.06)), hook), ledger, clock)
    assert watch.state is State.ROLLED_BACK
    assert hook.effects == 1
    assert watch.degraded_at is not None
    assert watch.degraded_at - DEPLOYED_AT <= 25
    assert watch.metric == "errors"
    assert "back on v1" in watch.sentence
    assert watch.exposed_requests == pytest.approx(150 * (watch.degraded_at - DEPLOYED_AT) / 5, rel=0.3)
    assert 0 < watch.affected_requests < watch.exposed_requests < watch.total_requests
    assert kinds(ledger)[0] is MessageKind.STARTED
    assert kinds(ledger)[-1] is MessageKind.ENDED
    assert MessageKind.DEGRADED in kinds(ledger)


def test_a_target_that_was_called_worse_itself_is_not_gone_back_to(ledger: Ledger, clock: FakeClock) -> None:
    """A brake had held its rollback, and nobody answered: no version is known to be good, a human decides."""
    hook = FakeHook()
    called_worse(ledger, "v1", at=DEPLOYED_AT - 7200)
    begin(ledger, a_watch())
    watch = walk(road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.06)), hook), ledger, clock, seconds=60)
    assert (watch.state, watch.hold, hook.effects) == (State.HELD, HoldReason.BAD_TARGET, 0)
    assert "v1 was itself found worse 2 h ago" in watch.sentence


@pytest.mark.parametrize(
    ("age_s", "verdict", "ended_by"),
    [(7200, "DEGRADED", "operator.deny"), (7200, "INCONCLUSIVE", ""), (86_400, "DEGRADED", "")],
    ids=["a human let it stay", "nobody could tell", "long ago"],
)
def test_a_target_is_bad_only_while_it_is_known_to_be(
    ledger: Ledger, clock: FakeClock, age_s: int, verdict: str, ended_by: str
) -> None:
    """A word of doubt, or one of yesterday, holds no rollback up."""
    hook = FakeHook()
    called_worse(ledger, "v1", at=DEPLOYED_AT - age_s, verdict=verdict, ended_by=ended_by)
    begin(ledger, a_watch())
    watch = walk(road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.06)), hook), ledger, clock)
    assert (watch.state, hook.effects) == (State.ROLLED_BACK, 1)


def test_a_healthy_canary_passes_with_what_would_have_been_seen(ledger: Ledger, clock: FakeClock) -> None:
    """The closing sentence names the regression that would have been noticed."""
    hook = FakeHook()
    begin(ledger, a_watch())
    watch = walk(road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.008)), hook), ledger, clock)
    assert (watch.state, watch.verdict, hook.calls) == (State.PASSED, "HEALTHY", [])
    assert "would have been seen" in watch.sentence


def test_a_source_that_is_down_all_along_ends_inconclusive(ledger: Ledger, clock: FakeClock) -> None:
    """Blindness is said once, at once, and never rolls back."""
    hook = FakeHook()
    begin(ledger, a_watch())
    source = FakeSource(Shop(hook, candidate_errors=0.5), down=True)
    pipeline = road(ledger, clock, source, hook)
    for _ in range(7):
        clock.advance(1.0)
        pipeline.tick()
    assert kinds(ledger) == [MessageKind.STARTED, MessageKind.SOURCE_DOWN]
    watch = walk(pipeline, ledger, clock)
    assert (watch.state, watch.reason) == (State.INCONCLUSIVE, "SOURCE_DOWN")
    assert hook.calls == []


def test_an_outage_in_the_middle_delays_a_rollback_but_does_not_lose_it(ledger: Ledger, clock: FakeClock) -> None:
    """The bad deploy is rolled back after the metrics are back."""
    hook = FakeHook()
    begin(ledger, a_watch())
    source = FakeSource(Shop(hook, candidate_errors=0.06), down=True)
    pipeline = road(ledger, clock, source, hook)
    for _ in range(40):
        clock.advance(1.0)
        pipeline.tick()
    assert hook.calls == []
    source.down = False
    watch = walk(pipeline, ledger, clock)
    assert watch.state is State.ROLLED_BACK
    assert MessageKind.SOURCE_BACK in kinds(ledger)


def test_the_past_is_asked_for_again_when_the_source_was_down_at_first(ledger: Ledger, clock: FakeClock) -> None:
    """One outage at the first look must not cost the baseline of the whole watch."""
    hook = FakeHook()
    begin(ledger, a_watch())
    source = FakeSource(Shop(hook, candidate_errors=0.008), down=True)
    pipeline = road(ledger, clock, source, hook)
    walk(pipeline, ledger, clock, seconds=12)
    assert [look.interval for look in ledger.looks("d1")] == [0, 1]
    source.down = False
    walk(pipeline, ledger, clock, seconds=5)
    past = [look.interval for look in ledger.looks("d1") if look.interval < 0]
    assert past == list(range(-60, 0))
    walk(pipeline, ledger, clock, seconds=5)
    assert source.calls[-1] == 1, "and only once"


def test_a_watch_that_breaks_the_judge_does_not_stop_the_others(
    ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said to be unjudgeable; the one beside it is rolled back."""
    from analysis.judge import judge_decoded as sound

    hook = FakeHook()

    def brittle(watches: Sequence[Decoded], settings: Sequence[JudgeSettings]) -> list[Verdict]:
        if any(watch.candidate_expected == 13 for watch in watches):
            raise RuntimeError("thirteen")
        return sound(watches, settings)

    monkeypatch.setattr("watchdog.judging.judge_decoded", brittle)
    begin(ledger, a_watch())
    other = a_watch(deploy_id="d2")
    names = tuple(str(i) for i in range(13))
    deploy = replace(other.deploy, service="cart", instances={"candidate": names})
    begin(ledger, replace(other, deploy=deploy))
    watch = walk(road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.06)), hook), ledger, clock)
    assert watch.state is State.ROLLED_BACK
    cursed = ledger.watch("d2")
    assert cursed is not None
    assert (cursed.verdict, cursed.reason) == ("INCONCLUSIVE", "MISCONFIGURED")


@pytest.mark.parametrize(("mode", "severity"), [(Mode.OBSERVE, Severity.INFO), (Mode.APPROVE, Severity.PAGE)])
def test_without_leave_a_bad_canary_is_held(ledger: Ledger, clock: FakeClock, mode: Mode, severity: Severity) -> None:
    """Held with its reason, no hook called; the hold expires with a word."""
    hook = FakeHook()
    begin(ledger, replace(a_watch(), mode=mode))
    pipeline = road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.06)), hook)
    watch = walk(pipeline, ledger, clock, seconds=60)
    assert watch.state is State.HELD
    held = [row.message for row, _ in ledger.messages("d1") if row.message.kind is MessageKind.HELD]
    assert [m.severity for m in held] == [severity]
    clock.advance(watch.plan.hold_s)
    watch = walk(pipeline, ledger, clock, seconds=5)
    assert (watch.state, hook.calls) == (State.CANCELLED, [])
    assert kinds(ledger)[-1] is MessageKind.ENDED


def test_a_rollback_that_changes_nothing_is_not_called_recovered(ledger: Ledger, clock: FakeClock) -> None:
    """The hook and its probe both say done, yet v2 keeps serving: NOT_RECOVERED, a page."""
    hook = FakeHook()
    stubborn = FakeHook()  # production as the metrics see it: always on v2
    begin(ledger, a_watch())
    watch = walk(road(ledger, clock, FakeSource(Shop(stubborn, candidate_errors=0.06)), hook), ledger, clock)
    assert watch.state is State.NOT_RECOVERED
    assert [row.message.severity for row, _ in ledger.messages("d1")][-1] is Severity.PAGE


def test_the_stored_verdict_recomputes_bit_for_bit(ledger: Ledger, clock: FakeClock) -> None:
    """From the ledger alone: same kind, same sentence, same evidence to the last bit."""
    from analysis.judge import judge
    from watchdog.judging import observation

    hook = FakeHook()
    begin(ledger, a_watch())
    watch = walk(road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.06)), hook), ledger, clock)
    for stored in ledger.verdicts("d1"):
        looks = [look for look in ledger.looks("d1") if look.interval <= stored.look]
        again = judge([observation(watch, looks)], [watch.plan.judge])[0]
        assert (again.kind.value, again.look, again.sentence) == (stored.kind, stored.look, stored.sentence)
        assert again.log_evidence == stored.log_evidence


POINTS = ["tick-claimed", "tick-before-judge", "tick-before-commit", "tick-committed", "action-claimed",
          "hook-returned", "outcome-committed", "verify-before-commit"]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("nth", [1, 3])
def test_a_crash_at_any_point_ends_as_if_it_had_not_happened(
    tmp_path: Path, clock: FakeClock, point: str, nth: int
) -> None:
    """Killed at the n-th passing of a point and started again: one effect, the same verdict sentence."""
    hook, passed = FakeHook(), [0]
    source = FakeSource(Shop(hook, candidate_errors=0.06))

    def die(name: str) -> None:
        passed[0] += name == point
        if name == point and passed[0] == nth:
            raise Crash

    path = str(tmp_path / "w.db")
    first = open_ledger(path, clock=clock, owner="first", sinks_for=lambda service: ())
    begin(first, a_watch())
    try:
        walk(road(first, clock, source, hook, die), first, clock)
    except Crash:
        clock.advance(20)
    first.close()
    second = open_ledger(path, clock=clock, owner="second", sinks_for=lambda service: ())
    pipeline = road(second, clock, source, hook)
    pipeline.adopt_orphans()
    watch = walk(pipeline, second, clock)
    second.close()
    assert (watch.state, hook.effects) == (State.ROLLED_BACK, 1)


def test_the_verdict_of_a_bad_canary_is_shown_as_a_picture_in_slack(
    ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the stored samples to a file in the thread: one picture, of the metric that decided, after the rollback."""
    monkeypatch.setenv("no_proxy", "*")
    hook = FakeHook()
    begin(ledger, a_watch())
    walk(road(ledger, clock, FakeSource(Shop(hook, candidate_errors=0.06)), hook), ledger, clock)
    with fake_slack() as slack:
        options = SlackOptions(token_env="S", channel="#deploys", base_url=slack.base_url)
        bot = SlackSink("log", options, clock, {"S": "xoxb-right"})
        outbox = Outbox(ledger, {"log": bot}, clock, patience_s=2.0, easel=Easel(Painter(ledger)))
        outbox.drain()
        wait_until(lambda: bool(slack.files), within_s=120, what="a picture")
        outbox.close()
        assert len(slack.parents()) == 1
        assert [(shown["title"], shown["bytes"][:4]) for shown in slack.files] == [("shop v2: errors", b"\x89PNG")]
        assert "evidence" in slack.files[0]["alt_txt"]


@pytest.mark.parametrize("errors", [0.008, 0.06], ids=["healthy", "bad"])
def test_what_was_said_of_a_metric_look_by_look_is_its_path(
    ledger: Ledger, clock: FakeClock, tmp_path: Path, errors: float
) -> None:
    """The page draws the one while a deploy is watched, analysts the other, which is stored once and not with each
    verdict; read in parts or at once."""
    hook, drawer = FakeHook(), Drawer(ledger)
    begin(ledger, a_watch())
    shop = Shop(hook, candidate_errors=errors, fails_after=4)
    pipeline = road(ledger, clock, FakeSource(shop), hook)
    walk(pipeline, ledger, clock, seconds=12)
    drawer.arms(standing(ledger), [])
    assert len(drawer.evidence(standing(ledger))["errors"]) == 2
    watch = walk(pipeline, ledger, clock)
    assert all(said["path"] == [] for verdict in ledger.verdicts("d1") for said in verdict.payload["evidence"])
    paths = review.open(tmp_path / "w.db").paths("d1")
    assert drawer.evidence(watch) == {"errors": paths["errors"].tolist()}
    assert len(paths) >= 3
