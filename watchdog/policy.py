"""What follows from a verdict: pure, and the only place where modes and brakes are weighed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.outcome import SUSPICION
from analysis.result import Reason, Verdict, VerdictKind
from analysis.sentence import named
from watchdog.model import (
    DEFAULT_LIMITS,
    Action,
    Decision,
    DecisionKind,
    HoldReason,
    Limits,
    LowTraffic,
    Mode,
    Steps,
    Watch,
)
from watchdog.other_rollbacks import ago, limited

CONTROL_LOOKS = 6  # so much later a regression may stand out from a control series: docs/statistics.md
LIVES_WITH_BOTH = frozenset({"none", "expand"})  # migrations that the old version survives by design

_CALIBRATE = "a human decides (until placebo_rate is set: `deploy-watchdog calibrate` measures it)"
_MODE_HOLDS: dict[Mode, tuple[HoldReason, str]] = {
    Mode.OBSERVE: (HoldReason.MODE_OBSERVE, "mode is observe: it would have been rolled back"),
    Mode.NOTIFY: (HoldReason.MODE_NOTIFY, "mode is notify: a human decides"),
    Mode.APPROVE: (HoldReason.APPROVAL, "waiting for approval"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Brakes:
    """What may stop an automatic rollback."""

    paused: str | None = None  # why the kill switch is on
    target_worse_at: float | None = None  # when the version to go back to was found worse, and no human let it stay
    recent: Sequence[Action] = ()  # rollbacks of all services, as far back as the limits look
    active: int = 0  # watches that are going on
    limits: Limits = DEFAULT_LIMITS
    migration: str = "none"
    slowed: bool = False  # the roll-out was paused, and has not been let go on
    promoting: bool = False  # a promotion is on its way
    looked: int = 0  # looks that saw something of the present share
    behind: bool = False  # later looks can be read already, and have not been
    proposed_at: float | None = None  # since when the next step waits for a human
    declined: bool = False  # a human said no to the next step
    step_failed: str = ""  # why the next step, taken before, was not or perhaps not taken
    hurt_too: tuple[str, ...] = ()  # other services whose old version got worse at the same time
    alerts: tuple[str, ...] = ()  # alerts of others that fire since the deploy; they hold up, and roll back nothing
    recalled: str = ""  # the deploy because of which its release train had gone back before it came
    leans_on_past: bool = False  # the old version is gone, and the alarm came beside its past
    mates: tuple[str, ...] = ()  # others of its release train that are not through yet
    usual: str = ""  # why the worsening is the usual course of the day, where earlier days got worse alike
    beside: tuple[str, ...] = ()  # independent deploys of the same time that may as well be the cause
    mismatch: str = ""  # the share of the traffic that the candidate really gets, where it is another than asked for


def decide(watch: Watch, verdict: Verdict, brakes: Brakes, now: float) -> Decision:
    """One decision from one verdict; a verdict itself never acts."""
    stopped = _stopped(watch, verdict, brakes, now)
    if stopped is not None:
        return stopped
    slower = _pace(watch, verdict, brakes)
    if slower is not None:
        return slower
    if watch.next_share is not None:
        return _step(watch, verdict, brakes, now)
    if not watch.is_over:
        return Decision(kind=DecisionKind.WAIT, why="the watch goes on")
    if brakes.mates:
        return _with_the_train(watch, brakes)
    if brakes.behind:
        return _catch_up()
    if verdict.kind is VerdictKind.HEALTHY and brakes.alerts:
        why = f"nothing measured got worse, but {_fires(brakes.alerts)} since the deploy: nobody can tell"
        return Decision(kind=DecisionKind.CONCLUDE, why=why)
    if verdict.kind is VerdictKind.HEALTHY and brakes.slowed and _may_steer(watch, brakes):
        return Decision(kind=DecisionKind.RESUME, why="nothing proved to be worse: the roll-out goes on, and passes")
    if verdict.kind is VerdictKind.HEALTHY:
        return Decision(kind=DecisionKind.PASS, why="the watch is over and nothing proved to be worse")
    return Decision(kind=DecisionKind.CONCLUDE, why="the watch is over and nobody can tell")


def _stopped(watch: Watch, verdict: Verdict, brakes: Brakes, now: float) -> Decision | None:
    """Back, or held, where the deploy is worse or may be; None where nothing speaks against going on."""
    if verdict.kind is VerdictKind.DEGRADED and brakes.leans_on_past and not _may_lean(watch):
        why = f"{watch.deploy.previous_version} is gone, and how often a comparison with its past is wrong is not known"
        return _hold(HoldReason.UNCALIBRATED, _and(why, _CALIBRATE, _way_closed(watch, brakes, now)))
    if brakes.usual:
        return _as_usual(watch, brakes, now)
    if verdict.kind is VerdictKind.DEGRADED:
        return roll_back_or_hold(watch, brakes, now)
    if brakes.recalled:
        found = roll_back_or_hold(watch, brakes, now)
        return replace(found, why=f"train {watch.deploy.train} goes back because of {brakes.recalled}; {found.why}")
    if verdict.reason is Reason.UNCALIBRATED and verdict.alarm_look is not None:
        why = _and(_CALIBRATE, _either(brakes.beside), _way_closed(watch, brakes, now))
        return _hold(HoldReason.UNCALIBRATED, why)
    if verdict.reason is Reason.SHARED_CAUSE and _too_early_for_the_control(watch, verdict):
        why = "worse than before the deploy; beside the control series it is too early to tell"
        return Decision(kind=DecisionKind.WAIT, why=why)
    if verdict.reason is Reason.SHARED_CAUSE:
        return _hold(HoldReason.SHARED_CAUSE, _and(_shared_cause(watch, brakes), no_longer_safe(watch, now)))
    if verdict.reason is Reason.NO_COUNTERPART:
        return _hold(HoldReason.NO_COUNTERPART, _and("a human decides", _way_closed(watch, brakes, now)))
    return _hold(HoldReason.SHARE_MISMATCH, brakes.mismatch) if brakes.mismatch else None


def _too_early_for_the_control(watch: Watch, verdict: Verdict) -> bool:
    """Whether a regression of its own may not stand out from the control series yet, though it does from its past.

    Counted from the look at which the metric that is spoken of was enough by itself, which its path tells.
    """
    if not watch.has_control or watch.is_over:
        return False
    spoken_of = next((e for e in verdict.evidence if e.metric == verdict.metric), None)
    if spoken_of is None:
        return False
    enough = next((i for i, e in enumerate(spoken_of.path) if e >= spoken_of.log_threshold), None)
    return enough is not None and verdict.look - enough < CONTROL_LOOKS


def _as_usual(watch: Watch, brakes: Brakes, now: float) -> Decision:
    """Nobody goes back because of the hour, and nobody is told that all is well either."""
    reason, why = _MODE_HOLDS.get(watch.mode, (HoldReason.USUAL_COURSE, "a human decides"))
    return _hold(reason, _and(brakes.usual, why, _way_closed(watch, brakes, now)))


def _may_lean(watch: Watch) -> bool:
    """Whether a comparison with the time before the deploy may act by itself."""
    rate, judge = watch.plan.judge.placebo_rate, watch.plan.judge
    return judge.act_uncalibrated or (rate is not None and rate <= judge.budget)


def _pace(watch: Watch, verdict: Verdict, brakes: Brakes) -> Decision | None:
    """A roll-out is paused at the first suspicion, and goes on when that is gone; after the last look it ends."""
    if watch.is_over or not _may_steer(watch, brakes):
        return None
    suspicion = verdict.log_evidence / verdict.log_threshold
    if not brakes.slowed and suspicion >= SUSPICION:
        return Decision(kind=DecisionKind.PAUSE, why="suspicious: the roll-out stops until it is clear")
    if brakes.slowed and suspicion <= SUSPICION / 2:
        return Decision(kind=DecisionKind.RESUME, why="the suspicion is gone: the roll-out goes on")
    return None


def _may_steer(watch: Watch, brakes: Brakes) -> bool:
    return watch.plan.pause_hook is not None and watch.mode is Mode.AUTO and brakes.paused is None


def _step(watch: Watch, verdict: Verdict, brakes: Brakes, now: float) -> Decision:
    """A deploy that grows step by step: the next share, more time at this one, or the end before all were taken."""
    steps, share = watch.plan.steps, watch.next_share
    if steps is None or share is None or brakes.promoting:
        return Decision(kind=DecisionKind.WAIT, why="a promotion is on its way")
    if brakes.step_failed:
        return _hold(HoldReason.PROMOTE_FAILED, f"the promotion to {100 * share:g} %: {brakes.step_failed}")
    baked_s = now - (watch.step_at if watch.step_at is not None else watch.live_at)
    if brakes.proposed_at is not None and now - brakes.proposed_at <= watch.plan.hold_s:
        return Decision(kind=DecisionKind.WAIT, why=f"the step to {100 * share:g} % waits for approval")
    may = _may_grow(watch, brakes) and baked_s >= steps.bake_s and brakes.looked >= _fewest_looks(watch, steps)
    if may and brakes.behind:
        return _catch_up()
    if may and brakes.mates and watch.is_before_its_last_step:
        return _with_the_train(watch, brakes)
    if may and verdict.kind is VerdictKind.HEALTHY:
        return _grow(watch, f"going on to {100 * share:g} %")
    calm = verdict.reason is Reason.LOW_TRAFFIC and verdict.log_evidence <= SUSPICION * verdict.log_threshold
    if may and calm and steps.low_traffic is LowTraffic.ADVANCE and share <= steps.max_step:
        return _grow(watch, f"too little traffic to tell; going on to {100 * share:g} % as configured")
    begun = watch.step > 0 and baked_s <= _longest_bake_s(watch, steps)  # it was approved, or took effect, late
    if not watch.is_over or (begun and not brakes.declined):
        held_up = f"{_fires(brakes.alerts)} since the deploy" if brakes.alerts else "the watch goes on"
        return Decision(kind=DecisionKind.WAIT, why=held_up)
    if brakes.mates:
        return _with_the_train(watch, brakes)
    why = f"the watch is over at {100 * (watch.share or 0):g} %, before all steps were taken"
    return Decision(kind=DecisionKind.CONCLUDE, why=why)


def _fewest_looks(watch: Watch, steps: Steps) -> int:
    """How many looks must have seen the present share: time alone bakes nothing, where the source was away.

    Of those of the bake time, the one in which the share changed and what has not closed yet are not missed.
    """
    step_s, settle_s = watch.plan.step_s, watch.plan.settle_s
    return max(watch.plan.judge.min_looks, math.floor(steps.bake_s / step_s) - 1 - math.ceil(settle_s / step_s))


def _longest_bake_s(watch: Watch, steps: Steps) -> float:
    """In what time a share has baked, where no look is lost."""
    return max(steps.bake_s, (_fewest_looks(watch, steps) + 1) * watch.plan.step_s + watch.plan.settle_s)


def _catch_up() -> Decision:
    return Decision(kind=DecisionKind.WAIT, why="what has happened since is read first")


def _may_grow(watch: Watch, brakes: Brakes) -> bool:
    """Whether a step may be taken, or put to a human where the mode wants one to say yes."""
    asked = brakes.declined or brakes.proposed_at is not None
    late = watch.is_over and watch.mode is Mode.AUTO and not watch.is_before_its_last_step  # it would not be the end
    return watch.mode in (Mode.AUTO, Mode.APPROVE) and brakes.paused is None and not (brakes.alerts or asked or late)


def _grow(watch: Watch, why: str) -> Decision:
    if watch.mode is Mode.AUTO:
        return Decision(kind=DecisionKind.PROMOTE, why=why)
    return Decision(kind=DecisionKind.PROMOTE, why=f"{why} once somebody approves", hold=HoldReason.APPROVAL)


def _with_the_train(watch: Watch, brakes: Brakes) -> Decision:
    why = f"through, and waits for the rest of train {watch.deploy.train}: {named(brakes.mates)}"
    return Decision(kind=DecisionKind.WAIT, why=why)


def roll_back_or_hold(watch: Watch, brakes: Brakes, now: float) -> Decision:
    """Whether a degraded deploy is rolled back by the daemon itself, or held for a human."""
    if watch.mode in (Mode.OBSERVE, Mode.NOTIFY):
        reason, why = _MODE_HOLDS[watch.mode]
        return _hold(reason, _and(why, _either(brakes.beside), _way_closed(watch, brakes, now)))
    closed = _way_closed(watch, brakes, now)
    if closed:
        return _hold(HoldReason.MIGRATION, closed)
    too_many = limited(watch, brakes.recent, brakes.active, brakes.limits, now, target_worse_at=brakes.target_worse_at)
    if watch.mode in _MODE_HOLDS:
        reason, why = _MODE_HOLDS[watch.mode]
        return _hold(reason, _and(why, _either(brakes.beside), too_many.why if too_many is not None else ""))
    if watch.plan.rollback_hook is None:
        return _hold(HoldReason.NO_HOOK, "the service has no rollback hook")
    if watch.deploy.previous_version is None:
        return _hold(HoldReason.NO_TARGET, "no previous version is known to go back to")
    if brakes.paused is not None:
        return _hold(HoldReason.KILL_SWITCH, f"rollbacks are paused: {brakes.paused}")
    if brakes.beside:
        return _hold(HoldReason.TWO_DEPLOYS, f"{_either(brakes.beside)}; a human decides which one goes back")
    if too_many is not None:
        return too_many
    return Decision(kind=DecisionKind.ROLL_BACK, why=f"going back to {watch.deploy.previous_version}")


def _way_closed(watch: Watch, brakes: Brakes, now: float) -> str:
    """Why going back may do harm; nothing where it may not. Whoever is asked for a rollback has to read it."""
    if brakes.migration not in LIVES_WITH_BOTH:
        return (
            f"the deploy carries a migration ({brakes.migration}), so going back may do harm: "
            "fix forward, or switch the new feature off"
        )
    return no_longer_safe(watch, now)


def no_longer_safe(watch: Watch, now: float) -> str:
    """Whether the time in which going back was safe is over, in words."""
    until = watch.deploy.safe_to_rollback_until
    if until is None or now <= until:
        return ""
    return f"going back was safe for {ago(until - watch.live_at)} after the deploy, and may do harm now: fix forward"


def _shared_cause(watch: Watch, brakes: Brakes) -> str:
    """What to look for where the old version got worse: first at the migration that came with the deploy."""
    migration = brakes.migration
    if migration == "none" and brakes.hurt_too:
        said = f"{named(brakes.hurt_too)} got worse at the same time"
        return f"{said}: look for what they share; going back may not help, a human decides"
    if migration == "none":
        return "going back may not help, a human decides"
    if migration in LIVES_WITH_BOTH:
        return (
            f"the deploy carries an {migration} migration, which both versions run into; "
            "going back may not help, a human decides"
        )
    kind = f"an {migration}" if migration[0] in "aeiou" else f"a {migration}"
    return (
        f"the deploy carries {kind} migration, and {watch.deploy.previous_version} may not work with its schema: "
        "going back would make it worse; fix forward, a human decides"
    )


def _and(*words: str) -> str:
    return "; ".join(filter(None, words))


def _either(beside: Sequence[str]) -> str:
    if not beside:
        return ""
    return f"{named(beside)} went live in the same time, and before and after cannot tell which of them it is"


def _fires(alerts: Sequence[str]) -> str:
    return f"{named(alerts)} {'fires' if len(alerts) == 1 else 'fire'}"


def _hold(reason: HoldReason, why: str) -> Decision:
    return Decision(kind=DecisionKind.HOLD, why=why, hold=reason)
