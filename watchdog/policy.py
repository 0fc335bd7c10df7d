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

CONTROL_LOOKS = 6  # so much later a regression may stand out from a control series: docs/statistics.md
LIVES_WITH_BOTH = frozenset({"none", "expand"})  # migrations that the old version survives by design

_CALIBRATE = "a human decides (until placebo_rate is set: `deploy-watchdog calibrate` measures it)"
_MODE_HOLDS: dict[Mode, tuple[HoldReason, str]] = {
    Mode.OBSERVE: (HoldReason.MODE_OBSERVE, "mode is observe: it would have been rolled back"),
    Mode.NOTIFY: (HoldReason.MODE_NOTIFY, "mode is notify: a human decides"),
    Mode.APPROVE: (HoldReason.APPROVAL, "waiting for approval"),
}


BY_HAND = "by_hand"  # parameter of a rollback that a human wants, whatever others were rolled back
MANY_WATCHES = 10  # from so many active watches on, a share of them means something


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
    if verdict.kind is VerdictKind.HEALTHY:
        return Decision(kind=DecisionKind.PASS, why="the watch is over and nothing proved to be worse")
    return Decision(kind=DecisionKind.CONCLUDE, why="the watch is over and nobody can tell")


def _stopped(watch: Watch, verdict: Verdict, brakes: Brakes, now: float) -> Decision | None:
    """Back, or held, where the deploy is worse or may be; None where nothing speaks against going on."""
    if verdict.kind is VerdictKind.DEGRADED and brakes.leans_on_past and not _may_lean(watch):
        why = f"{watch.deploy.previous_version} is gone, and how often a comparison with its past is wrong is not known"
        return _hold(HoldReason.UNCALIBRATED, f"{why}; {_CALIBRATE}")
    if brakes.usual:
        return _as_usual(watch, brakes)
    if verdict.kind is VerdictKind.DEGRADED:
        return roll_back_or_hold(watch, brakes, now)
    if brakes.recalled:
        found = roll_back_or_hold(watch, brakes, now)
        return replace(found, why=f"train {watch.deploy.train} goes back because of {brakes.recalled}; {found.why}")
    if verdict.reason is Reason.UNCALIBRATED and verdict.alarm_look is not None:
        why = f"{_CALIBRATE}; {_either(brakes.beside)}" if brakes.beside else _CALIBRATE
        return _hold(HoldReason.UNCALIBRATED, why)
    if verdict.reason is Reason.SHARED_CAUSE and _too_early_for_the_control(watch, verdict):
        why = "worse than before the deploy; beside the control series it is too early to tell"
        return Decision(kind=DecisionKind.WAIT, why=why)
    if verdict.reason is Reason.SHARED_CAUSE:
        return _hold(HoldReason.SHARED_CAUSE, _shared_cause(watch, brakes))
    if verdict.reason is Reason.NO_COUNTERPART:
        return _hold(HoldReason.NO_COUNTERPART, "a human decides")
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


def _as_usual(watch: Watch, brakes: Brakes) -> Decision:
    """Nobody goes back because of the hour, and nobody is told that all is well either."""
    reason, why = _MODE_HOLDS.get(watch.mode, (HoldReason.USUAL_COURSE, "a human decides"))
    return _hold(reason, f"{brakes.usual}; {why}")


def _may_lean(watch: Watch) -> bool:
    """Whether a comparison with the time before the deploy may act by itself."""
    rate, judge = watch.plan.judge.placebo_rate, watch.plan.judge
    return judge.act_uncalibrated or (rate is not None and rate <= judge.budget)


def _pace(watch: Watch, verdict: Verdict, brakes: Brakes) -> Decision | None:
    """A roll-out is paused at the first suspicion, and goes on when that is gone; after the last look it ends."""
    if watch.plan.pause_hook is None or watch.mode is not Mode.AUTO or brakes.paused is not None or watch.is_over:
        return None
    suspicion = verdict.log_evidence / verdict.log_threshold
    if not brakes.slowed and suspicion >= SUSPICION:
        return Decision(kind=DecisionKind.PAUSE, why="suspicious: the roll-out stops until it is clear")
    if brakes.slowed and suspicion <= SUSPICION / 2:
        return Decision(kind=DecisionKind.RESUME, why="the suspicion is gone: the roll-out goes on")
    return None


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
    if watch.mode in _MODE_HOLDS:
        reason, why = _MODE_HOLDS[watch.mode]
        return _hold(reason, f"{why}; {_either(brakes.beside)}" if brakes.beside else why)
    if brakes.migration not in LIVES_WITH_BOTH:
        why = (
            f"the deploy carries a migration ({brakes.migration}), so going back may do harm: "
            "fix forward, or switch the new feature off"
        )
        return _hold(HoldReason.MIGRATION, why)
    until = watch.deploy.safe_to_rollback_until
    if until is not None and now > until:
        why = (
            f"going back was safe for {_ago(until - watch.live_at)} after the deploy, and may do harm now: fix forward"
        )
        return _hold(HoldReason.MIGRATION, why)
    if watch.plan.rollback_hook is None:
        return _hold(HoldReason.NO_HOOK, "the service has no rollback hook")
    if watch.deploy.previous_version is None:
        return _hold(HoldReason.NO_TARGET, "no previous version is known to go back to")
    if brakes.paused is not None:
        return _hold(HoldReason.KILL_SWITCH, f"rollbacks are paused: {brakes.paused}")
    if brakes.beside:
        return _hold(HoldReason.TWO_DEPLOYS, f"{_either(brakes.beside)}; a human decides which one goes back")
    limited = _limited(watch, brakes, now)
    if limited is not None:
        return limited
    return Decision(kind=DecisionKind.ROLL_BACK, why=f"going back to {watch.deploy.previous_version}")


def _limited(watch: Watch, brakes: Brakes, now: float) -> Decision | None:
    """What the rollbacks of the last hours forbid."""
    deploy = watch.deploy
    way = _Way(deploy.service, deploy.environment, deploy.previous_version, deploy.train, brakes.target_worse_at)
    return _stopped_by_others(way, brakes.recent, brakes.active, brakes.limits, now)


def still_limited(
    action: Action,
    others: Sequence[Action],
    active: int,
    limits: Limits,
    now: float,
    *,
    target_worse_at: float | None = None,
) -> Decision | None:
    """The same again for a rollback that the daemon decided on and nobody has begun: others may have begun meanwhile.

    others: the rollbacks as far back as the limits look. Of those that nobody has begun, only the ones that were
    intended before it count, so that of two that are decided at the same moment one may go. A human's word stands.
    """
    if action.attempt > 0 or action.params.get(BY_HAND):
        return None
    before = [a for a in others if a.id != action.id and (a.started_at is not None or _place(a) < _place(action))]
    way = _Way(action.service, action.environment, action.to_version, action.params.get("train"), target_worse_at)
    return _stopped_by_others(way, before, active, limits, now)


@dataclass(frozen=True, slots=True)
class _Way:
    """A rollback that is weighed."""

    service: str
    environment: str
    to_version: str | None
    train: str | None
    target_worse_at: float | None


def _stopped_by_others(
    way: _Way, rollbacks: Sequence[Action], active: int, limits: Limits, now: float
) -> Decision | None:
    """Loops, bad targets and too many at once, in the light of other rollbacks, oldest first."""
    recent = [a for a in rollbacks if way.train is None or a.params.get("train") != way.train]
    own = [a for a in recent if (a.service, a.environment) == (way.service, way.environment)]
    last = max((_begun(action) for action in own), default=None)
    if last is not None and now - last < limits.cool_down_s:
        why = f"this service was rolled back {_ago(now - last)} ago; a second automatic rollback so soon is a loop"
        return _hold(HoldReason.COOL_DOWN, why)
    worse = [a for a in own if a.from_version == way.to_version and now - _begun(a) < limits.bad_target_s]
    if worse:
        ago = _ago(now - _begun(worse[-1]))
        why = f"{way.to_version} was itself rolled back {ago} ago; no version is known to be good"
        return _hold(HoldReason.BAD_TARGET, why)
    if way.target_worse_at is not None and now - way.target_worse_at < limits.bad_target_s:
        why = (
            f"{way.to_version} was itself found worse {_ago(now - way.target_worse_at)} ago, and nobody said that it "
            "may stay; no version is known to be good"
        )
        return _hold(HoldReason.BAD_TARGET, why)
    # what goes back with its release train is one decision, however many services it takes
    lately = len({a.params.get("train", a.id) for a in recent if now - _begun(a) < limits.breaker_window_s})
    most = limits.breaker_share * active if active >= MANY_WATCHES else limits.breaker_rollbacks
    if lately >= min(limits.breaker_rollbacks, max(most, 1)):
        window = _ago(limits.breaker_window_s)
        why = (
            f"{lately} deploys were rolled back within {window}; so many at once have another cause, "
            "a human decides from now on"
        )
        return _hold(HoldReason.BREAKER, why)
    return None


def _place(action: Action) -> tuple[float, str]:
    """Where an intent stands among those of the same time."""
    return action.created_at, action.id


def _begun(action: Action) -> float:
    return action.created_at if action.started_at is None else action.started_at


def _ago(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds >= 2 * 3600 else f"{seconds / 60:.0f} min"


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


def _either(beside: Sequence[str]) -> str:
    return f"{named(beside)} went live in the same time, and before and after cannot tell which of them it is"


def _fires(alerts: Sequence[str]) -> str:
    return f"{named(alerts)} {'fires' if len(alerts) == 1 else 'fire'}"


def _hold(reason: HoldReason, why: str) -> Decision:
    return Decision(kind=DecisionKind.HOLD, why=why, hold=reason)
