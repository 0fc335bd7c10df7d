"""What follows from a verdict: pure, and the only place where modes and brakes are weighed."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.outcome import SUSPICION
from analysis.result import Reason, Verdict, VerdictKind
from watchdog.model import Action, Decision, DecisionKind, HoldReason, LowTraffic, Mode, Watch

LIVES_WITH_BOTH = frozenset({"none", "expand"})  # migrations that the old version survives by design

_MODE_HOLDS: dict[Mode, tuple[HoldReason, str]] = {
    Mode.OBSERVE: (HoldReason.MODE_OBSERVE, "mode is observe: it would have been rolled back"),
    Mode.NOTIFY: (HoldReason.MODE_NOTIFY, "mode is notify: a human decides"),
    Mode.APPROVE: (HoldReason.APPROVAL, "waiting for approval"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many automatic rollbacks are believed, and onto what."""

    cool_down_s: float = 3600.0  # between two of one service
    breaker_rollbacks: int = 3  # of all services in the window; the next one is held
    breaker_share: float = 0.30  # of the active watches, where there are enough of them to speak of a share
    breaker_window_s: float = 1800.0
    bad_target_s: float = 86_400.0  # a version that was rolled back is nothing to go back to for so long

    @property
    def reach_s(self) -> float:
        """How far back rollbacks matter."""
        return max(self.cool_down_s, self.breaker_window_s, self.bad_target_s)


DEFAULT_LIMITS = Limits()
MANY_WATCHES = 10  # from so many active watches on, a share of them means something


@dataclass(frozen=True, slots=True, kw_only=True)
class Brakes:
    """What may stop an automatic rollback."""

    paused: str | None = None  # why the kill switch is on
    recent: Sequence[Action] = ()  # rollbacks of all services, as far back as the limits look
    active: int = 0  # watches that are going on
    limits: Limits = DEFAULT_LIMITS
    migration: str = "none"
    slowed: bool = False  # the roll-out was paused, and has not been let go on
    promoting: bool = False  # a promotion is on its way
    hurt_too: tuple[str, ...] = ()  # other services whose old version got worse at the same time
    mismatch: str = ""  # the share of the traffic that the candidate really gets, where it is another than asked for


def decide(watch: Watch, verdict: Verdict, brakes: Brakes, now: float) -> Decision:
    """One decision from one verdict; a verdict itself never acts."""
    if verdict.kind is VerdictKind.DEGRADED:
        return roll_back_or_hold(watch, brakes, now)
    if verdict.reason is Reason.UNCALIBRATED and verdict.alarm_look is not None:
        return _hold(
            HoldReason.UNCALIBRATED,
            "the before/after comparison is not calibrated for this service; a human decides "
            "(set placebo_rate once it is measured, or act_uncalibrated = true)",
        )
    if verdict.reason is Reason.SHARED_CAUSE:
        return _hold(HoldReason.SHARED_CAUSE, _shared_cause(watch, brakes))
    if brakes.mismatch:
        return _hold(HoldReason.SHARE_MISMATCH, brakes.mismatch)
    slower = _pace(watch, verdict, brakes)
    if slower is not None:
        return slower
    if watch.next_share is not None:
        return _step(watch, verdict, brakes, now)
    if watch.looks < watch.plan.judge.planned_looks:
        return Decision(kind=DecisionKind.WAIT, why="the watch goes on")
    if verdict.kind is VerdictKind.HEALTHY:
        return Decision(kind=DecisionKind.PASS, why="the watch is over and nothing got worse")
    return Decision(kind=DecisionKind.CONCLUDE, why="the watch is over and nobody can tell")


def _pace(watch: Watch, verdict: Verdict, brakes: Brakes) -> Decision | None:
    """A roll-out is paused at the first suspicion, and goes on when that is gone."""
    if watch.plan.pause_hook is None or watch.mode is not Mode.AUTO or brakes.paused is not None:
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
    baked_s = now - (watch.step_at if watch.step_at is not None else watch.live_at)
    may = watch.mode is Mode.AUTO and brakes.paused is None and baked_s >= steps.bake_s
    if may and verdict.kind is VerdictKind.HEALTHY:
        return Decision(kind=DecisionKind.PROMOTE, why=f"going on to {100 * share:g} %")
    calm = verdict.reason is Reason.LOW_TRAFFIC and verdict.log_evidence <= SUSPICION * verdict.log_threshold
    if may and calm and steps.low_traffic is LowTraffic.ADVANCE and share <= steps.max_step:
        return Decision(
            kind=DecisionKind.PROMOTE, why=f"too little traffic to tell; going on to {100 * share:g} % as configured"
        )
    if watch.looks < watch.plan.judge.planned_looks:
        return Decision(kind=DecisionKind.WAIT, why="the watch goes on")
    why = f"the watch is over at {100 * (watch.share or 0):g} %, before all steps were taken"
    return Decision(kind=DecisionKind.CONCLUDE, why=why)


def roll_back_or_hold(watch: Watch, brakes: Brakes, now: float) -> Decision:
    """Whether a degraded deploy is rolled back by the daemon itself, or held for a human."""
    if watch.mode in _MODE_HOLDS:
        return _hold(*_MODE_HOLDS[watch.mode])
    if brakes.migration not in LIVES_WITH_BOTH:
        why = (
            f"the deploy carries a migration ({brakes.migration}), so going back may do harm: "
            "fix forward, or switch the new feature off"
        )
        return _hold(HoldReason.MIGRATION, why)
    if watch.plan.rollback_hook is None:
        return _hold(HoldReason.NO_HOOK, "the service has no rollback hook")
    if watch.deploy.previous_version is None:
        return _hold(HoldReason.NO_TARGET, "no previous version is known to go back to")
    if brakes.paused is not None:
        return _hold(HoldReason.KILL_SWITCH, f"rollbacks are paused: {brakes.paused}")
    limited = _limited(watch, brakes, now)
    if limited is not None:
        return limited
    return Decision(kind=DecisionKind.ROLL_BACK, why=f"going back to {watch.deploy.previous_version}")


def _limited(watch: Watch, brakes: Brakes, now: float) -> Decision | None:
    """What the rollbacks of the last hours forbid."""
    limits, deploy = brakes.limits, watch.deploy
    own = [a for a in brakes.recent if (a.service, a.environment) == (deploy.service, deploy.environment)]
    last = max((_begun(action) for action in own), default=None)
    if last is not None and now - last < limits.cool_down_s:
        why = f"this service was rolled back {_ago(now - last)} ago; a second automatic rollback so soon is a loop"
        return _hold(HoldReason.COOL_DOWN, why)
    worse = [a for a in own if a.from_version == deploy.previous_version and now - _begun(a) < limits.bad_target_s]
    if worse:
        ago = _ago(now - _begun(worse[-1]))
        why = f"{deploy.previous_version} was itself rolled back {ago} ago; no version is known to be good"
        return _hold(HoldReason.BAD_TARGET, why)
    lately = sum(now - _begun(action) < limits.breaker_window_s for action in brakes.recent)
    most = limits.breaker_share * brakes.active if brakes.active >= MANY_WATCHES else limits.breaker_rollbacks
    if lately >= min(limits.breaker_rollbacks, max(most, 1)):
        window = _ago(limits.breaker_window_s)
        why = (
            f"{lately} deploys were rolled back within {window}; so many at once have another cause, "
            "a human decides from now on"
        )
        return _hold(HoldReason.BREAKER, why)
    return None


def _begun(action: Action) -> float:
    return action.created_at if action.started_at is None else action.started_at


def _ago(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds >= 2 * 3600 else f"{seconds / 60:.0f} min"


def _shared_cause(watch: Watch, brakes: Brakes) -> str:
    """What to look for where the old version got worse: first at the migration that came with the deploy."""
    migration = brakes.migration
    if migration == "none" and brakes.hurt_too:
        who = ", ".join(brakes.hurt_too)
        return f"{who} got worse at the same time: look for what they share; going back may not help, a human decides"
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


def _hold(reason: HoldReason, why: str) -> Decision:
    return Decision(kind=DecisionKind.HOLD, why=why, hold=reason)
