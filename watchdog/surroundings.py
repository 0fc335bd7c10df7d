"""What the policy must know beside the verdict: the brake, what was rolled back lately, who else is hurt."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.result import Design, Reason, Verdict, VerdictKind
from watchdog.alert_notes import firing
from watchdog.bad_target import target_worse_at
from watchdog.intended import DECLINED
from watchdog.model import DEFAULT_LIMITS, Action, ActionKind, ActionState, Limits, State, Watch
from watchdog.policy import Brakes
from watchdog.ports import Ledger
from watchdog.rollout import BESIDE, PENDING, STEERING
from watchdog.strategies.window import interval_bounds
from watchdog.tally import Tally
from watchdog.telling import title
from watchdog.traffic_share import mismatch
from watchdog.trains import Trains

_MANY = 200  # deploys of one environment that are looked through for what went live at the same time
_NOT_TAKEN = frozenset({ActionState.FAILED, ActionState.UNKNOWN})
_NEVER_LIVE = frozenset({State.SMOKE, State.SMOKE_FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Reads the ledger for the policy; asks only what the verdict makes matter."""

    ledger: Ledger
    limits: Limits = DEFAULT_LIMITS

    @property
    def _trains(self) -> Trains:
        return Trains(ledger=self.ledger, limits=self.limits)

    def earlier(self, watch: Watch) -> list[Action]:
        """How the roll-out was steered so far, oldest first; most deploys are not steered and cost no question."""
        plan = watch.plan
        if plan.steps is None and plan.pause_hook is None and plan.restore_hook is None:
            return []
        return [action for action in self.ledger.actions(watch_id=watch.id) if action.kind in BESIDE]

    def brakes(
        self,
        watch: Watch,
        verdict: Verdict,
        earlier: Sequence[Action],
        tally: Tally,
        *,
        now: float,
        paused: str | None,
        ahead: Sequence[Action | None] = (),
    ) -> Brakes:
        """ahead: what was intended a moment ago and is not on record yet; it counts as if it were."""
        steering = [action for action in earlier if action.kind in STEERING]
        degraded = verdict.kind is VerdictKind.DEGRADED
        recalled = self._trains.recalled_by(watch) if watch.deploy.train is not None else ""
        may_go_back = degraded or bool(recalled)  # else nobody asks what was rolled back lately
        promoting = any(action.state in PENDING for action in steering)
        return Brakes(
            paused=paused,
            target_worse_at=target_worse_at(self.ledger, watch.deploy, self.limits, now) if may_go_back else None,
            recent=[*self.ledger.rollbacks_since(now - self.limits.reach_s), *_begins(ahead)] if may_go_back else (),
            active=self.ledger.active() if may_go_back else 0,
            limits=self.limits,
            migration=watch.deploy.migration,
            slowed=any(action.kind is ActionKind.PAUSE for action in steering[-1:]),
            promoting=promoting,
            looked=tally.looks_at(watch.share),
            proposed_at=next((a.created_at for a in _next_step(watch, steering) if a.state is ActionState.HELD), None),
            step_failed=next((a.detail for a in _next_step(watch, steering) if a.state in _NOT_TAKEN), ""),
            declined=any(a.params.get(DECLINED) for a in _next_step(watch, steering)),
            hurt_too=self._hurt_too(watch, now) if verdict.reason is Reason.SHARED_CAUSE else (),
            alerts=self._alerts(watch) if not degraded else (),
            leans_on_past=_leans_on_past(verdict, tally),
            mates=self._mates(watch) if not degraded else (),
            recalled=recalled,
            beside=self._beside(watch, verdict, now) if verdict.alarm_look is not None else (),
            # a hook may take a while from its effect to its end
            mismatch="" if promoting else mismatch(watch, tally),
        )

    def _alerts(self, watch: Watch) -> tuple[str, ...]:
        """Alerts that fire since the deploy; asked only where something would be promoted or passed."""
        if watch.next_share is None and not watch.is_over:
            return ()
        return firing(self.ledger.audit(watch.id), watch.deploy.deployed_at)

    def _mates(self, watch: Watch) -> tuple[str, ...]:
        """The rest of its release train; asked only where a deploy would pass, or take its last step."""
        over = watch.is_over
        if watch.deploy.train is None or not (over or watch.is_before_its_last_step):
            return ()
        return self._trains.open_mates(watch)

    def _beside(self, watch: Watch, verdict: Verdict, now: float) -> tuple[str, ...]:
        """Independent deploys in whose time it got worse; asked only where nothing but before and after is known.

        One whose own arms were compared side by side and found healthy is not the cause, and those of the same
        release train go back together anyway.
        """
        if watch.plan.design is not Design.BEFORE_AFTER or watch.plan.control_labels:
            return ()
        onset = now if verdict.since_look is None else interval_bounds(watch, verdict.since_look)[1]
        others = self.ledger.watches(environment=watch.deploy.environment, limit=_MANY)
        return tuple(sorted(_stands(other) for other in others if _may_be_it(watch, other, onset)))

    def _hurt_too(self, watch: Watch, now: float) -> tuple[str, ...]:
        """Other services of the environment whose old version got worse within the time of this watch."""
        found = self.ledger.hurt(
            environment=watch.deploy.environment, reason=Reason.SHARED_CAUSE.value, since=now - watch.plan.watch_s
        )
        return tuple(service for service in found if service != watch.deploy.service)


def _begins(intended: Sequence[Action | None]) -> list[Action]:
    """The rollbacks among them that nobody has to approve first."""
    return [a for a in intended if a and a.kind is ActionKind.ROLLBACK and a.state is ActionState.INTENT]


def _may_be_it(watch: Watch, other: Watch, onset: float) -> bool:
    """Whether another deploy may be why this one's service got worse."""
    mine, its = watch.deploy, other.deploy
    if other.state in _NEVER_LIVE or its.service == mine.service or (its.train is not None and its.train == mine.train):
        return False
    if other.plan.bakes and other.verdict != VerdictKind.DEGRADED.value:
        return False  # for hours it could be anything's cause; its first watch stands for it, unless this one is worse
    cleared = other.plan.design is Design.CONCURRENT and other.verdict == VerdictKind.HEALTHY.value
    gone = other.recovered_at is not None and other.recovered_at <= watch.live_at
    return other.live_at <= onset <= other.live_at + other.plan.watch_s and not cleared and not gone


def _stands(other: Watch) -> str:
    """How another deploy is named to people: what became of it matters."""
    return f"{title(other)} ({other.state.outcome})" if other.state is not State.WATCHING else title(other)


def _next_step(watch: Watch, steering: Sequence[Action]) -> list[Action]:
    """What became of the promotion to the next share so far."""
    return [a for a in steering if a.kind is ActionKind.PROMOTE and a.params.get("step") == watch.step + 1]


def _leans_on_past(verdict: Verdict, tally: Tally) -> bool:
    """Whether the alarm of a roll-out came only after the old version had gone."""
    since, alarm = tally.frozen_from, verdict.alarm_look
    return verdict.reason is Reason.METRICS and since is not None and alarm is not None and alarm >= since
