"""What the policy must know beside the verdict: the brake, what was rolled back lately, who else is hurt."""

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.result import Reason, Verdict, VerdictKind
from watchdog.model import FINAL, Action, ActionKind, State, StoredLook, Watch
from watchdog.policy import DEFAULT_LIMITS, Brakes, Limits
from watchdog.ports import Ledger
from watchdog.rollout import BESIDE, PENDING, STEERING
from watchdog.traffic_share import mismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Reads the ledger for the policy; asks only what the verdict makes matter."""

    ledger: Ledger
    limits: Limits = DEFAULT_LIMITS

    def earlier(self, watch: Watch) -> list[Action]:
        """How the roll-out was steered so far, oldest first; most deploys are not steered and cost no question."""
        plan = watch.plan
        if plan.steps is None and plan.pause_hook is None and plan.restore_hook is None:
            return []
        return [action for action in self.ledger.actions(watch_id=watch.id) if action.kind in BESIDE]

    def brakes(
        self, watch: Watch, verdict: Verdict, earlier: Sequence[Action], history: Sequence[StoredLook], now: float
    ) -> Brakes:
        steering = [action for action in earlier if action.kind in STEERING]
        degraded = verdict.kind is VerdictKind.DEGRADED  # else nobody asks what was rolled back lately
        return Brakes(
            paused=self.ledger.paused(),
            recent=self.ledger.rollbacks_since(now - self.limits.reach_s) if degraded else (),
            active=self._active() if degraded else 0,
            limits=self.limits,
            migration=watch.deploy.migration,
            slowed=any(action.kind is ActionKind.PAUSE for action in steering[-1:]),
            promoting=any(action.state in PENDING for action in steering),
            hurt_too=self._hurt_too(watch, now) if verdict.reason is Reason.SHARED_CAUSE else (),
            mismatch=mismatch(watch, history),
        )

    def _active(self) -> int:
        ended = {state.value for state in FINAL}
        return sum(number for state, number in self.ledger.counts().items() if state not in ended)

    def _hurt_too(self, watch: Watch, now: float) -> tuple[str, ...]:
        """Other services of the environment whose old version got worse within the time of this watch."""
        others = self.ledger.watches(
            environment=watch.deploy.environment, states=frozenset({State.WATCHING, State.HELD})
        )
        hurt = {
            other.deploy.service
            for other in others
            if other.reason == Reason.SHARED_CAUSE.value and now - other.updated_at <= watch.plan.watch_s
        }
        return tuple(sorted(hurt - {watch.deploy.service}))
