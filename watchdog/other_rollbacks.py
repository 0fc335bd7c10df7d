"""What the rollbacks of the last hours forbid: loops, bad targets, and too many at once. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from watchdog.model import Action, Decision, DecisionKind, HoldReason, Limits, Watch

BY_HAND = "by_hand"  # parameter of a rollback that a human wants, whatever others were rolled back
MANY_WATCHES = 10  # from so many active watches on, a share of them means something


def limited(
    watch: Watch,
    rollbacks: Sequence[Action],
    active: int,
    limits: Limits,
    now: float,
    *,
    target_worse_at: float | None = None,
) -> Decision | None:
    """What the rollbacks so far, oldest first, forbid a watch.

    active: watches that are going on; target_worse_at: when the version to go back to was found worse itself.
    """
    deploy = watch.deploy
    way = _Way(deploy.service, deploy.environment, deploy.previous_version, deploy.train, target_worse_at)
    return _stopped_by_others(way, rollbacks, active, limits, now)


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
        why = f"this service was rolled back {ago(now - last)} ago; a second automatic rollback so soon is a loop"
        return _hold(HoldReason.COOL_DOWN, why)
    worse = [a for a in own if a.from_version == way.to_version and now - _begun(a) < limits.bad_target_s]
    if worse:
        since = ago(now - _begun(worse[-1]))
        why = f"{way.to_version} was itself rolled back {since} ago; no version is known to be good"
        return _hold(HoldReason.BAD_TARGET, why)
    if way.target_worse_at is not None and now - way.target_worse_at < limits.bad_target_s:
        why = (
            f"{way.to_version} was itself found worse {ago(now - way.target_worse_at)} ago, and nobody said that it "
            "may stay; no version is known to be good"
        )
        return _hold(HoldReason.BAD_TARGET, why)
    # what goes back with its release train is one decision, however many services it takes
    lately = len({a.params.get("train", a.id) for a in recent if now - _begun(a) < limits.breaker_window_s})
    most = limits.breaker_share * active if active >= MANY_WATCHES else limits.breaker_rollbacks
    if lately >= min(limits.breaker_rollbacks, max(most, 1)):
        window = ago(limits.breaker_window_s)
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


def ago(seconds: float) -> str:
    """A time that has passed, as people say it."""
    return f"{seconds / 3600:.0f} h" if seconds >= 2 * 3600 else f"{seconds / 60:.0f} min"


def _hold(reason: HoldReason, why: str) -> Decision:
    return Decision(kind=DecisionKind.HOLD, why=why, hold=reason)
