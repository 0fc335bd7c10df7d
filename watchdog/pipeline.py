"""The one road: collect → judge → decide → act → tell → record. Every deploy walks it, top to bottom.

A tick claims the watches that are due, fetches their closed intervals in one grouped request per source, judges all
of them in one batch, and commits each watch's look, verdict, transition, audit and messages in one transaction.
Whatever must change production is only recorded here; `action.py` carries it out.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.judge import judge
from analysis.prepare import LookFacts, Observation
from analysis.result import JudgeSettings, Reason, SourceStatus, Verdict, VerdictKind
from watchdog.action import GRACE_S, ActionEdge
from watchdog.errors import LedgerError
from watchdog.model import FINAL, Action, ActionState, State, StoredLook, Watch
from watchdog.policy import decide
from watchdog.ports import Clock, Failpoint, Ledger, LookAnswer, LookRequest, Source
from watchdog.recovery import verify
from watchdog.strategies import STRATEGIES
from watchdog.strategies.window import interval_bounds
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry
from watchdog.turns import held_expires, look_recorded

_log = logging.getLogger(__name__)

MAX_LOOKS_PER_TICK = 60  # after a long stop the backlog is caught up in pieces
BASELINE_PATIENCE = 4  # the time before the deploy is many intervals at once, and asked for only once
ADOPT_S = 1.0  # between two questions about an attempt that outlived its daemon
IDLE_S = {State.UNKNOWN: 60.0}  # states that wait for somebody else need no busy looking
LOOKING = frozenset({State.WATCHING, State.VERIFYING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The daemon's spine. `submit` hands an action id to a worker; it may run it later, or at once in tests."""

    ledger: Ledger
    sources: Mapping[str, Source]
    edge: ActionEdge
    surroundings: Surroundings
    clock: Clock
    owner: str
    telemetry: Telemetry
    submit: Callable[[Callable[[], None], str], None]
    lease_s: float = 15.0
    fetch_deadline_s: float = 5.0
    batch: int = 500
    failpoint: Failpoint = lambda name: None

    def tick(self) -> int:
        """One round over all due watches; returns how many were looked at.

        1. claim the due watches under a lease;
        2. fetch what has closed since, grouped per source;
        3. judge every WATCHING one in one batch, verify every VERIFYING one;
        4. commit look, verdict and what follows from it, one transaction a watch;
        5. start the actions that are due.
        """
        now = self.clock.now()
        due = self.ledger.claim_due(owner=self.owner, now=now, lease_s=self.lease_s, limit=self.batch)
        self.failpoint("tick-claimed")
        try:
            self._look(due, now)
        finally:
            self._release(due)
            self.act()
        return len(due)

    def _look(self, due: Sequence[Watch], now: float) -> None:
        looking = [watch for watch in due if watch.state in LOOKING]
        fetched = self._fetch(looking, now)
        self._watch([watch for watch in looking if watch.state is State.WATCHING], fetched)
        for watch in due:
            if watch.state is State.VERIFYING:
                self._each(watch, lambda watch=watch: self._verify(watch, fetched[watch.id]))  # type: ignore[misc]
            elif watch.state is State.HELD:
                self._each(watch, lambda watch=watch: self._expire(watch))  # type: ignore[misc]

    def _each(self, watch: Watch, step: Callable[[], None]) -> None:
        """One watch's step; what breaks it must not stop the others."""
        try:
            step()
        except LedgerError:
            raise
        except Exception:  # noqa: BLE001 (logged; the watch is looked at again with the next tick)
            _log.exception("watch %s: the look broke off", watch.id)

    # --- collect ------------------------------------------------------------------------------------------

    def _fetch(self, watches: Sequence[Watch], now: float) -> dict[str, list[StoredLook]]:
        """The newly closed intervals of each watch, oldest first; per source one call for all watches."""
        fetched: dict[str, list[StoredLook]] = {watch.id: [] for watch in watches}
        for name in sorted({watch.plan.source for watch in watches}):
            mine = [watch for watch in watches if watch.plan.source == name]
            requests = [request for watch in mine for request in _requests(watch, now, self._wants_past(watch))]
            if not requests:
                continue
            started = self.clock.monotonic()
            answers = self._ask(name, requests)
            self.telemetry.source(_worst(answers), self.clock.monotonic() - started)
            for request, answer in zip(requests, answers, strict=True):
                fetched[request.watch_id].append(
                    StoredLook(
                        interval=request.interval, facts=answer.facts, cells=answer.cells, queries=answer.queries
                    )
                )
        return {watch_id: _kept(looks) for watch_id, looks in fetched.items()}

    def _wants_past(self, watch: Watch) -> bool:
        """The time before the deploy is asked for once, with the first look, or as soon as the source is back."""
        if watch.state is not State.WATCHING:
            return False
        if watch.looks == 0:
            return True
        was_down = watch.reason == Reason.SOURCE_DOWN.value
        return was_down and not any(look.interval < 0 for look in self.ledger.looks(watch.id))

    def _ask(self, name: str, requests: Sequence[LookRequest]) -> list[LookAnswer]:
        """Ask a source. A source that breaks its promise never to raise is a source that is down."""
        source = self.sources.get(name)
        if source is None:
            return _down(requests, f"the source {name!r} is no longer configured")
        try:
            deadline_s = self.fetch_deadline_s
            if any(request.interval < 0 for request in requests):
                deadline_s *= BASELINE_PATIENCE
            return source.fetch(requests, deadline_s=deadline_s)
        except Exception as error:  # noqa: BLE001 (a bug in one adapter must not stop the other watches)
            _log.exception("source %s raised", name)
            return _down(requests, f"the source {name!r} broke: {type(error).__name__}")

    # --- judge, decide, record ----------------------------------------------------------------------------

    def _watch(self, watches: Sequence[Watch], fetched: Mapping[str, list[StoredLook]]) -> None:
        """Judge all watches that got a new look, in one batch, and record what follows."""
        looked = [watch for watch in watches if any(look.interval >= 0 for look in fetched[watch.id])]
        if not looked:
            return
        histories = {watch.id: [*self.ledger.looks(watch.id), *fetched[watch.id]] for watch in looked}
        observations = [observation(watch, histories[watch.id]) for watch in looked]
        self.failpoint("tick-before-judge")
        verdicts = self._judge(looked, observations)
        for watch, verdict in zip(looked, verdicts, strict=True):
            fresh, past = fetched[watch.id], histories[watch.id]
            self._each(watch, lambda w=watch, f=fresh, p=past, v=verdict: self._record(w, f, p, v))  # type: ignore[misc]

    def _judge(self, watches: Sequence[Watch], observations: Sequence[Observation]) -> list[Verdict]:
        """One batch; if one watch breaks it, each by itself, so that the others are still judged."""
        try:
            return list(judge(observations, [watch.plan.judge for watch in watches]))
        except Exception:  # noqa: BLE001 (found out one by one)
            return [self._judge_alone(w, o) for w, o in zip(watches, observations, strict=True)]

    def _judge_alone(self, watch: Watch, seen: Observation) -> Verdict:
        """A judge that breaks on a watch cannot tell, and says so."""
        try:
            return judge([seen], [watch.plan.judge])[0]
        except Exception as error:  # noqa: BLE001 (whatever it was, the watch must be able to end)
            _log.exception("watch %s cannot be judged", watch.id)
            return unjudgeable(seen, watch.plan.judge, f"{type(error).__name__}: {error}")

    def _record(
        self, watch: Watch, fresh: Sequence[StoredLook], history: Sequence[StoredLook], verdict: Verdict
    ) -> None:
        now = self.clock.now()
        seen = replace(watch, looks=max(look.interval for look in history) + 1)
        earlier = self.surroundings.earlier(watch)
        brakes = self.surroundings.brakes(seen, verdict, earlier, history, now)
        decision = decide(seen, verdict, brakes, now)
        change = look_recorded(seen, fresh, history, verdict, decision, now, earlier=earlier)
        self.telemetry.verdict(verdict.kind.value)
        self.failpoint("tick-before-commit")
        if not self.ledger.commit(change):
            _log.info("watch %s was changed by somebody else meanwhile", watch.id)
            return
        self.failpoint("tick-committed")
        _log.info("%s", change.fields["sentence"])

    # --- verify, hold -------------------------------------------------------------------------------------

    def _verify(self, watch: Watch, fresh: Sequence[StoredLook]) -> None:
        """A rollback that took effect by its own word: do the metrics say so too?"""
        rollback = self._rollback_of(watch)
        change = verify(watch, self.ledger.looks(watch.id), fresh, rollback, self.clock.now())
        self.failpoint("verify-before-commit")
        if change is not None and self.ledger.commit(change) and change.to_state is not None:
            self.telemetry.action(rollback.hook if rollback else "", change.to_state.outcome)
            _log.info("%s", change.fields["sentence"])

    def _rollback_of(self, watch: Watch) -> Action | None:
        applied = self.ledger.actions(watch_id=watch.id, states=frozenset({ActionState.APPLIED}))
        return applied[-1] if applied else None

    def _expire(self, watch: Watch) -> None:
        now = self.clock.now()
        if watch.hold_until is not None and now >= watch.hold_until:
            held = self.ledger.actions(watch_id=watch.id, states=frozenset({ActionState.HELD}))
            self.ledger.commit(held_expires(watch, held[-1] if held else None, now))

    def _release(self, watches: Sequence[Watch]) -> None:
        for watch in watches:
            current = self.ledger.watch(watch.id)
            if current is not None and current.state not in FINAL:
                self.ledger.release(
                    watch.id, owner=self.owner, epoch=watch.epoch, next_look_at=next_due(current, self.clock.now())
                )

    # --- act ----------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Hand every action that is due to a worker. The claim inside decides who really runs it."""
        now = self.clock.now()
        for action in self.ledger.actions(states=frozenset({ActionState.INTENT, ActionState.RETRY_WAIT})):
            if action.next_at <= now:
                self._start(action, lambda found: self.edge.carry_out(found.id))
        for action in self.ledger.actions(states=frozenset({ActionState.RUNNING})):
            if action.deadline_at is not None and now > action.deadline_at + GRACE_S:
                self._start(action, self._adopt)

    def ask_unknown(self) -> None:
        """Every now and then: let the probe speak about actions whose effect nobody knows."""
        for action in self.ledger.actions(states=frozenset({ActionState.UNKNOWN})):
            self._start(action, self.edge.ask_again)

    def adopt_orphans(self) -> None:
        """At start: settle what a former daemon left RUNNING, before anything else may touch production."""
        for action in self.ledger.actions(states=frozenset({ActionState.RUNNING})):
            self._start(action, self._adopt)

    def _start(self, action: Action, job: Callable[[Action], None]) -> None:
        self.submit(lambda: job(action), action.id)

    def _adopt(self, action: Action) -> None:
        while not self.edge.adopt(action):
            self.clock.sleep(ADOPT_S)


def observation(watch: Watch, looks: Sequence[StoredLook]) -> Observation:
    """What the judge may know of a watch: its stored looks, in the words of the core."""
    return Observation(
        design=watch.plan.design,
        step_s=watch.plan.step_s,
        metrics=tuple(metric.spec for metric in watch.plan.metrics),
        samples={(name, look.interval): cells for look in looks for name, cells in look.cells.items()},
        facts={look.interval: look.facts for look in looks},
        looks=max((look.interval for look in looks), default=-1) + 1,
        share=watch.share,
        candidate_expected=len(watch.deploy.instances.get("candidate", ())) or None,
    )


def unjudgeable(seen: Observation, settings: JudgeSettings, why: str) -> Verdict:
    """The verdict where the judge itself broke."""
    return Verdict(
        kind=VerdictKind.INCONCLUSIVE,
        reason=Reason.MISCONFIGURED,
        metric=None,
        look=seen.looks - 1,
        alarm_look=None,
        log_evidence=0.0,
        log_threshold=-math.log(settings.budget),
        sentence=f"the samples cannot be judged ({why}): check the source and the metrics' queries",
    )


def next_due(watch: Watch, now: float) -> float:
    """When this watch wants the next tick."""
    if watch.state is State.HELD:
        return watch.hold_until if watch.hold_until is not None else now + watch.plan.hold_s
    if watch.state in LOOKING:
        return interval_bounds(watch, watch.looks)[1] + watch.plan.settle_s
    return now + IDLE_S.get(watch.state, 5.0)


def _requests(watch: Watch, now: float, wants_past: bool) -> list[LookRequest]:
    """The closed intervals nobody has fetched yet, and where wanted those before the deploy."""
    last = int((now - watch.plan.settle_s - watch.live_at) // watch.plan.step_s)
    wanted = list(range(watch.looks, min(last, watch.looks + MAX_LOOKS_PER_TICK)))
    if watch.state is State.WATCHING:
        wanted = [i for i in wanted if i < watch.plan.judge.planned_looks]
    if wanted and wants_past:
        wanted = [*range(-watch.plan.baseline_looks, 0), *wanted]
    rules = STRATEGIES[watch.deploy.strategy]
    return [
        LookRequest(
            watch_id=watch.id,
            service=watch.deploy.service,
            interval=interval,
            arms=rules.arms(watch, interval),
            metrics=watch.plan.metrics,
        )
        for interval in wanted
    ]


def _kept(looks: list[StoredLook]) -> list[StoredLook]:
    """Everything from the deploy on, gaps included; of the time before only what was really there."""
    return [look for look in looks if look.interval >= 0 or look.cells]


def _down(requests: Sequence[LookRequest], why: str) -> list[LookAnswer]:
    return [LookAnswer(facts=LookFacts(status=SourceStatus.DOWN, detail=why)) for _ in requests]


def _worst(answers: Sequence[LookAnswer]) -> str:
    found = {answer.facts.status for answer in answers}
    return next(s.value for s in (SourceStatus.DOWN, SourceStatus.PARTIAL, SourceStatus.OK) if s in found)
