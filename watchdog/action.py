"""The only edge that changes production: claim → hook → probe → outcome, from a recorded intent.

What is promised here: an action is carried out, held with a reason, or reported failed, never forgotten; its effect
happens at most once; and where nobody can know whether it happened, it stops as UNKNOWN and pages.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from watchdog.bad_target import target_worse_at
from watchdog.errors import LedgerError
from watchdog.hook_words import finding, last_words, say
from watchdog.missing_hook import NO_HOOK
from watchdog.model import (
    DEFAULT_LIMITS,
    FINAL,
    GOES_FORWARD_IN,
    TAKES_DOWN_IN,
    UPDATED,
    Action,
    ActionKind,
    ActionState,
    Claim,
    HoldReason,
    Limits,
)
from watchdog.other_rollbacks import still_limited
from watchdog.ports import Clock, Failpoint, Hook, HookOutcome, HookResult, Ledger, LooksAhead, ProbeAnswer
from watchdog.rollout import FORWARD, is_paused
from watchdog.settlement import Outcome, held, settlement
from watchdog.tracing import NO_SPANS, Spans, of_action
from watchdog.trains import Trains
from watchdog.way_back import WayBack, call_of

_log = logging.getLogger(__name__)

CLAIM_FRESH_S = 5.0  # a claim older than this, by the monotonic clock, starts nothing
# How long after its deadline an attempt may still be on its way: it began late by a claim's freshness, and the clocks
# of two replicas, each as far from the database's as it may be, differ by 4 s.
GRACE_S = CLAIM_FRESH_S + 5.0
SETTLE_S = 0.5  # between two tries to record an outcome while the ledger is away
_TRIES = 5  # to record an outcome while its watch moves
CLAIMABLE = frozenset({ActionState.INTENT, ActionState.RETRY_WAIT})

_SPEAKS = frozenset({ActionKind.RESTORE_POINT, ActionKind.MIGRATE_DOWN, ActionKind.SCHEMA})  # the output is the answer

_QUESTIONS = frozenset(
    {ActionKind.SMOKE, ActionKind.LOOK_AHEAD, ActionKind.SCHEMA}
)  # nothing is left behind that could be asked for

_NOTHING_TO_DO = {  # whether forward → answers that end an action before it began
    False: frozenset({ProbeAnswer.APPLIED, ProbeAnswer.MOVED_ON}),
    True: frozenset({ProbeAnswer.APPLIED}),  # a step that production moved past was not taken: it fails, aloud
}
_INTERRUPTED = "the daemon stopped while the hook ran"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionEdge:
    """Carries out recorded actions. One instance per daemon; `carry_out` is safe from several threads.

    alone: no other daemon shares the ledger, so that what is found RUNNING at the start is nobody's any more.
    """

    ledger: Ledger
    hooks: Mapping[str, Hook]
    clock: Clock
    owner: str
    retries: int = 3
    alone: bool = True
    failpoint: Failpoint = lambda name: None
    spans: Spans = NO_SPANS
    limits: Limits = DEFAULT_LIMITS

    @property
    def _trains(self) -> Trains:
        return Trains(ledger=self.ledger, limits=self.limits)

    @property
    def _way_back(self) -> WayBack:
        return WayBack(ledger=self.ledger, hooks=self.hooks)

    def carry_out(self, action_id: str) -> None:
        """Take one action from intent to outcome. Returns without a word if somebody else has it.

        1. a rollback that a newer deploy of the service has overtaken gives way to it;
        2. under the kill switch a rollback is held, aloud, also between two tries, and nobody is asked anything;
        3. a rollback within a release train waits until those deployed after it have gone back;
        4. one that others have made one too many since it was decided (cool-down, breaker) is held, aloud;
        5. ask the probe: production may have moved on already (NOT_NEEDED); and whether the way back is open;
        6. claim it in one conditional transaction that reads kill switch, newer deploys and other rollbacks again;
        7. refuse to start on a stale claim;
        8. run the hook, ask the probe what came of it;
        9. record outcome, audit and message together.
        """
        action = self.ledger.action(action_id)
        if action is None or action.state not in CLAIMABLE or action.next_at > self.clock.now():
            return
        outlived = self._outlived(action)
        if outlived is not None:
            self._settle(action, Outcome(state=ActionState.CANCELLED, why=outlived))
            return
        overtaken = self._overtaken_by(action)
        if overtaken is not None:
            self._give_way(action, overtaken)
            return
        paused = self.ledger.paused()
        if paused is not None:
            why = f"rollbacks are paused ({paused}); it goes on only when somebody approves it"
            self._hold(action, HoldReason.KILL_SWITCH, why)
            return
        if action.kind is ActionKind.ROLLBACK and not self._trains.clears(action, self.clock.now()):
            return
        limited = self._limited(action)
        if limited is not None:
            self._hold(action, *limited)
            return
        action, hook = self._way_back.with_servers(action, self.clock.now()), self._hook(action)
        self.failpoint("action-before-probe")
        before = self._ask(action, hook)
        closed = self._way_back.closed(action, before, self.clock.now())
        if closed is not None:
            self._hold(action, *closed)
            return
        if action.attempt == 0 and before in _NOTHING_TO_DO[action.kind in FORWARD]:
            self._not_needed(action, before)
            return
        self.failpoint("action-before-claim")
        claimed_at = self.clock.monotonic()
        claimed = self.ledger.claim_action(self._claim(action, hook))
        if claimed is None:
            return
        self.failpoint("action-claimed")
        self._settle(claimed, self._attempt(claimed, hook, before, claimed_at))

    def adopt(self, action: Action) -> bool:
        """Settle an action whose daemon died while it was RUNNING. False: too early to tell, ask again later.

        Until its deadline the attempt may still be on its way: in a hook that outlived the daemon, in the system
        that a request was sent to, or in the hands of another replica. Only a probe that says APPLIED is believed
        before.
        """
        if self._is_settled(action):
            return True
        self.failpoint("adopt-before-probe")
        hook, late = self._hook(action), self._is_over(action)
        if hook.still_running(action.id):
            if late:
                why = f"{_INTERRUPTED}, and it still runs after its deadline; nobody can tell what it will do"
                self._settle(action, Outcome(state=ActionState.UNKNOWN, why=why))
            return late
        answer = self._ask(action, hook)
        if answer is not ProbeAnswer.APPLIED and (hook.acts_elsewhere or not self.alone) and not late:
            return False
        self._settle(action, self._judge_interrupted(action, hook, answer))
        return True

    def ask_again(self, action: Action) -> None:
        """An UNKNOWN action: let the probe speak once more, without touching anything."""
        hook = self._hook(action)
        if hook.still_running(action.id):
            return
        answer = self._ask(action, hook)
        if answer is ProbeAnswer.APPLIED:
            self._settle(action, Outcome(state=ActionState.APPLIED, why="the probe now says that it took effect"))
        elif answer is ProbeAnswer.NOT_APPLIED and self._outlived(action) is not None:
            self._settle(action, Outcome(state=ActionState.CANCELLED, why="the probe says that it did not take effect"))
        elif answer is ProbeAnswer.NOT_APPLIED and action.attempt < self.retries and self._is_over(action):
            why = "the probe now says that it did not take effect"
            self._settle(action, Outcome(state=ActionState.INTENT, why=why))

    def _is_over(self, action: Action) -> bool:
        """Whether whatever an attempt set going has had its time, by a clock that can be compared with its deadline."""
        self.ledger.check_clock()
        return self.clock.now() > (action.deadline_at or 0.0) + GRACE_S

    def _claim(self, action: Action, hook: Hook) -> Claim:
        now, limits = self.clock.now(), self.limits
        updated = tuple(action.params.get(UPDATED, ()))
        return Claim(
            action_id=action.id, owner=self.owner, now=now, timeout_s=hook.timeout_s, limits=limits, updated=updated
        )

    def _hook(self, action: Action) -> Hook:
        """The hook an action names; one that is no longer configured fails aloud instead of being forgotten."""
        return self.hooks.get(action.hook, NO_HOOK)

    def _ask(self, action: Action, hook: Hook) -> ProbeAnswer:
        asks = hook.has_probe and action.kind not in _QUESTIONS
        return hook.probe(call_of(action)) if asks else ProbeAnswer.UNKNOWN

    def _attempt(self, action: Action, hook: Hook, before: ProbeAnswer, claimed_at: float) -> Outcome:
        if before is ProbeAnswer.APPLIED:
            return Outcome(state=ActionState.APPLIED, why="an earlier attempt took effect")
        if before is ProbeAnswer.MOVED_ON:
            return Outcome(state=ActionState.FAILED, why="production does not stand as expected any more, hands off")
        if self.clock.monotonic() - claimed_at > CLAIM_FRESH_S:
            return Outcome(state=ActionState.RETRY_WAIT, why="the claim went stale before the hook was started")
        if action.kind is ActionKind.LOOK_AHEAD:
            return self._look_ahead(action, hook)
        self.failpoint("hook-before-start")
        with self.spans.span("hook", action.watch_id, of_action(action)) as span:
            result = hook.run(call_of(action))
            span.set({"deploy_watchdog.outcome": result.outcome.value})
        self.failpoint("hook-returned")
        after = self._ask(action, hook)
        self.failpoint("hook-probed")
        return self._judge(action, hook, result, after)

    def _look_ahead(self, action: Action, hook: Hook) -> Outcome:
        """Ask the hook what would be in the way of a rollback now. It is told, and decides nothing."""
        rollback = call_of(replace(action, kind=ActionKind.ROLLBACK))
        hindrance = hook.preflight(rollback) if isinstance(hook, LooksAhead) else None
        if hindrance is None:
            return Outcome(state=ActionState.APPLIED, why="nothing is in its way")
        return Outcome(state=ActionState.FAILED, why=hindrance)

    def _judge(self, action: Action, hook: Hook, result: HookResult, after: ProbeAnswer) -> Outcome:
        """The outcome of an attempt whose end was seen."""
        said = say(result)
        if action.kind is ActionKind.SMOKE and result.outcome is not HookOutcome.OK:
            return self._again(action, finding(result))
        if after is ProbeAnswer.APPLIED:
            return Outcome(state=ActionState.APPLIED, why=f"{said}; the probe confirms it")
        if result.outcome is HookOutcome.OK and after is ProbeAnswer.UNKNOWN:
            return Outcome(state=ActionState.APPLIED, why=last_words(result) if action.kind in _SPEAKS else said)
        if result.outcome is HookOutcome.OK and hook.acts_elsewhere:
            why = f"{said}; the probe does not confirm it yet, the metrics will tell"
            return Outcome(state=ActionState.APPLIED, why=why)
        if after is ProbeAnswer.MOVED_ON:
            return Outcome(state=ActionState.FAILED, why=f"{said}; another version is live now, hands off")
        if result.outcome is HookOutcome.NOT_STARTED:
            return self._again(action, f"{said}; it did not take effect")
        if result.outcome is HookOutcome.RETRY and after is ProbeAnswer.UNKNOWN:
            return self._again(action, f"{said}; it did nothing yet, as it says itself")
        if after is ProbeAnswer.NOT_APPLIED and not (result.outcome is HookOutcome.TIMED_OUT and hook.acts_elsewhere):
            return self._again(action, f"{said}; it did not take effect")
        return self._unsure(action, hook, f"{said}; nobody can tell whether it took effect")

    def _judge_interrupted(self, action: Action, hook: Hook, answer: ProbeAnswer) -> Outcome:
        said = _INTERRUPTED
        if answer is ProbeAnswer.APPLIED:
            return Outcome(state=ActionState.APPLIED, why=f"{said}; the probe says that it took effect")
        if answer is ProbeAnswer.NOT_APPLIED:
            return self._again(action, f"{said}; the probe says that it did not take effect")
        if answer is ProbeAnswer.MOVED_ON:
            return Outcome(state=ActionState.FAILED, why=f"{said}; another version is live now, hands off")
        return self._unsure(action, hook, f"{said}; nobody can tell whether it took effect")

    def _unsure(self, action: Action, hook: Hook, why: str) -> Outcome:
        """Not known to have failed: only what may safely happen twice is tried again."""
        repeatable = hook.idempotent or action.kind in _QUESTIONS - {ActionKind.SMOKE}
        return self._again(action, why) if repeatable else Outcome(state=ActionState.UNKNOWN, why=why)

    def _again(self, action: Action, why: str) -> Outcome:
        if action.attempt < self.retries:
            return Outcome(state=ActionState.RETRY_WAIT, why=why)
        return Outcome(state=ActionState.FAILED, why=f"{why}, after {action.attempt} attempts")

    def _outlived(self, action: Action) -> str | None:
        """Why an action is not for its deploy any more: that was held, ended or sent back meanwhile."""
        watch = self.ledger.watch(action.watch_id)
        if watch is None or action.kind is ActionKind.ROLLBACK:
            return None
        if action.kind in FORWARD | {ActionKind.LOOK_AHEAD} and watch.state not in GOES_FORWARD_IN:
            return "the deploy does not go forward any more"
        if action.kind is ActionKind.MIGRATE_DOWN and watch.state not in TAKES_DOWN_IN:
            return "the deploy is not held any more; its migration stays"
        if action.kind is ActionKind.PAUSE and watch.state in FINAL:
            return "the deploy is not watched any more"
        return None

    def _limited(self, action: Action) -> tuple[HoldReason, str] | None:
        """Why a rollback would be one too many: of the same service, or of all, others have begun meanwhile."""
        if action.kind is not ActionKind.ROLLBACK:
            return None
        now = self.clock.now()
        others = self.ledger.rollbacks_since(now - self.limits.reach_s)
        worse_at = target_worse_at(self.ledger, action, self.limits, now) if action.attempt == 0 else None
        found = still_limited(action, others, self.ledger.active(), self.limits, now, target_worse_at=worse_at)
        return (found.hold, found.why) if found is not None and found.hold is not None else None

    def _overtaken_by(self, action: Action) -> str | None:
        """The version of a newer deploy of the same service, which the rollback would hit instead of its own."""
        if action.kind is not ActionKind.ROLLBACK:
            return None
        newest = self.ledger.watches(service=action.service, environment=action.environment, limit=1)
        return newest[0].deploy.version if newest and newest[0].id != action.watch_id else None

    def _give_way(self, action: Action, version: str) -> None:
        state = ActionState.NOT_NEEDED if action.state is ActionState.INTENT else ActionState.FAILED
        self._settle(action, Outcome(state=state, why=f"{version} was deployed meanwhile, hands off"))

    def _hold(self, action: Action, reason: HoldReason, why: str) -> None:
        """Something came between decision and claim, or between two tries: held with its reason, seen and not stale."""
        watch = self.ledger.watch(action.watch_id)
        if watch is not None and action.kind is ActionKind.ROLLBACK:
            self.ledger.commit(held(watch, action, reason, why, self.clock.now()))

    def _not_needed(self, action: Action, answer: ProbeAnswer) -> None:
        if answer is ProbeAnswer.APPLIED:
            why = f"production is on {action.to_version} already"
        else:
            why = f"neither {action.from_version} nor {action.to_version} is live any more, hands off"
        self._settle(action, Outcome(state=ActionState.NOT_NEEDED, why=why))

    def _is_settled(self, action: Action) -> bool:
        """Whether this attempt has its outcome already; a later attempt has a higher fence."""
        current = self.ledger.action(action.id)
        return current is None or (current.state, current.fence) != (action.state, action.fence)

    def _settle(self, action: Action, outcome: Outcome) -> None:
        """Record an outcome; while the ledger is away, again and again until nobody would believe it any more.

        Where the answer to a commit was lost, the next try finds the attempt settled.
        """
        self.failpoint("outcome-before-commit")
        while True:
            try:
                self._record(action, outcome)
                return
            except LedgerError as error:
                if error.permanent or self.clock.now() > (action.deadline_at or 0.0) + GRACE_S:
                    raise
                about = {"attributes": of_action(action)}
                _log.warning("action %s: its outcome cannot be recorded yet: %s", action.id, error, extra=about)
            self.clock.sleep(SETTLE_S)

    def _record(self, action: Action, outcome: Outcome) -> None:
        """Outcome, audit and message in one transaction; log if somebody else was first.

        The watch may move in the same moment (a look holds it, a human cancels it): what came of the hook is known, and
        is recorded with the watch as it stands then.
        """
        for _ in range(_TRIES):
            watch = self.ledger.watch(action.watch_id)
            if watch is None or self._is_settled(action):
                _log.warning("action %s was settled by somebody else, or belongs to no watch", action.id)
                return
            paused = watch.plan.pause_hook is not None and is_paused(self.ledger.actions(watch_id=watch.id))
            if self.ledger.commit(settlement(watch, action, outcome, self.clock.now(), paused=paused)):
                self.failpoint("outcome-committed")
                return
        _log.error("action %s: its watch changed too often to record what came of it: %s", action.id, outcome.why)
