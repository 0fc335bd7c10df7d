"""The one road: collect → judge → decide → act → tell → record. Every deploy walks it, top to bottom.

A tick claims the watches that are due, fetches their closed intervals in one grouped request per source, judges all
of them in one batch, and commits each watch's look, verdict, transition, audit and messages in one transaction.
Whatever must change production is only recorded here; `action.py` carries it out.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from analysis.result import Verdict
from watchdog.action import GRACE_S, ActionEdge
from watchdog.collecting import Collecting
from watchdog.damage import damaged
from watchdog.earlier_days import usual_course
from watchdog.errors import LedgerCorruptError, concerns_all
from watchdog.holding import held_expires, look_while_held
from watchdog.intervals import in_order, is_behind, next_due, with_frozen
from watchdog.judge_pool import JudgePool
from watchdog.judging import Judged, Judging, Seen, Watched, a_step_ahead
from watchdog.memory import Memory, Recollection
from watchdog.model import FINAL, Action, ActionKind, ActionState, Change, State, StoredLook, Watch
from watchdog.policy import decide
from watchdog.ports import Clock, Failpoint, Lease, Ledger, Source
from watchdog.recovery import verify
from watchdog.rollout import is_paused
from watchdog.source_order import SourceOrder
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry
from watchdog.tracing import NO_SPANS, Spans, about, of_verdict, of_watch
from watchdog.turns import look_recorded

_log = logging.getLogger(__name__)
T = TypeVar("T")

ADOPT_S = 1.0  # between two questions about an attempt that outlived its daemon
TOGETHER = 50  # watches that are judged in one batch and written in one transaction: nobody waits long for the ledger


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Look:
    """One watch, judged, before anything is decided."""

    watch: Watch
    fresh: Sequence[StoredLook]
    seen: Seen
    verdict: Verdict
    since: float
    paused: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Turn:
    """What one look changes, before it is written."""

    watch: Watch
    change: Change
    recollection: Recollection | None


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
    order: SourceOrder = field(default_factory=SourceOrder)
    batch: int = 500
    failpoint: Failpoint = lambda name: None
    spans: Spans = NO_SPANS
    memory: Memory = field(default_factory=Memory)
    judges: JudgePool | None = None
    give_way: Callable[[], None] = lambda: None  # asked between the steps of a round

    def tick(self) -> int:
        """One round over all due watches; returns how many were looked at.

        1. claim the due watches under a lease;
        2. fetch what has closed since, source after source, the quick ones first; and of each:
        3. judge every WATCHING one, many in a batch, verify every VERIFYING one;
        4. commit look, verdict and what follows from it, together or not at all;
        5. start the actions that are due.
        """
        now = self.clock.now()
        due = self.ledger.claim_due(owner=self.owner, now=now, lease_s=self.lease_s, limit=self.batch)
        self.failpoint("tick-claimed")
        for watch in due:
            self.telemetry.look(max(0.0, now - watch.next_look_at))
        try:
            self._look(due, now)
        finally:
            self._release(due)
            self.failpoint("tick-released")
            self.act()
        return len(due)

    def _look(self, due: Sequence[Watch], now: float) -> None:
        """The watches of one source after those of another: what a quick one said is acted on before a slow one is
        asked."""
        looking = [watch for watch in due if watch.is_judged or watch.state is State.VERIFYING]
        for mine, fetched in self._collecting.of(looking, now):
            self.failpoint("tick-fetched")
            self._watch([watch for watch in mine if watch.is_judged], fetched, now)
            for watch in mine:
                if watch.state is State.VERIFYING:
                    self._each(watch, partial(self._verify, watch, fetched[watch.id]))
        for watch in due:
            if watch.state is State.HELD:
                self._each(watch, partial(self._expire, watch))

    @property
    def _collecting(self) -> Collecting:
        return Collecting(
            ledger=self.ledger,
            memory=self.memory,
            sources=self.sources,
            order=self.order,
            clock=self.clock,
            telemetry=self.telemetry,
            each=self._each,
            deadline_s=self.fetch_deadline_s,
        )

    def _each(self, watch: Watch, step: Callable[[], T]) -> T | None:
        """One watch's step; what breaks it must not stop the others."""
        try:
            return step()
        except LedgerCorruptError as error:
            self._damaged(watch, error)
            return None
        except Exception as error:
            if concerns_all(error):
                raise
            _log.exception("watch %s: the look broke off", watch.id)
            return None

    def _damaged(self, watch: Watch, error: LedgerCorruptError) -> None:
        """What cannot be read costs its own watch, and nobody else's. Where all is damaged, this raises as well."""
        _log.error("watch %s: %s", watch.id, error)
        change = damaged(watch, error, self.clock.now())
        if change is not None:
            self.ledger.commit(change)

    # --- judge, decide, record ----------------------------------------------------------------------------

    def _watch(self, watches: Sequence[Watch], fetched: Mapping[str, list[StoredLook]], now: float) -> None:
        """Judge all watches that got a new look, some at a time, and record what follows: those that other processes
        have judged while they judge the next. Watches with as many looks go together, their arrays are alike."""
        looked = [watch for watch in watches if any(look.interval >= 0 for look in fetched[watch.id])]
        looked.sort(key=lambda watch: watch.looks)
        judging = Judging(ledger=self.ledger, memory=self.memory, pool=self.judges)
        some = (looked[first : first + TOGETHER] for first in range(0, len(looked), TOGETHER))
        for seen, verdicts in a_step_ahead(self._begin(judging, watches, fetched) for watches in some):
            self._follow(seen, verdicts(), now)

    def _begin(self, judging: Judging, watches: Sequence[Watch], fetched: Mapping[str, list[StoredLook]]) -> Judged:
        """Watches with their new looks, whose judging has begun."""
        seeing = [(w, self._each(w, partial(self._see, judging, w, fetched[w.id]))) for w in watches]
        some = [(watch, *found) for watch, found in seeing if found is not None]
        self.failpoint("tick-before-judge")
        return Judged(some, judging.begin([watch for watch, _, _ in some], [seen for _, _, seen in some]))

    def _follow(self, judged: Sequence[Watched], verdicts: Sequence[Verdict], now: float) -> None:
        """Record what follows from some verdicts."""
        paused = self.ledger.paused()
        turns: list[_Turn] = []
        for (watch, fresh, seen), verdict in zip(judged, verdicts, strict=True):
            look = _Look(watch=watch, fresh=fresh, seen=seen, verdict=verdict, since=now, paused=paused)
            turn = self._each(watch, partial(self._looked, look, [t.change.new_action for t in turns]))
            turns += [turn] if turn is not None else []
        self._record(turns)

    def _see(self, judging: Judging, watch: Watch, fresh: list[StoredLook]) -> tuple[list[StoredLook], Seen]:
        """A watch's new looks as they are judged and stored, and all of its looks as arrays."""
        self.give_way()
        as_judged = with_frozen(watch, fresh, self.ledger.looks)
        return as_judged, judging.seen(watch, as_judged)

    def _looked(self, look: "_Look", ahead: Sequence[Action | None]) -> "_Turn":
        """What follows from one look, and from what is `ahead` in the same commit, drawn as a span from the tick."""
        self.give_way()
        watch, verdict, now = look.watch, look.verdict, self.clock.now()
        with self.spans.span("look", watch.id, of_watch(watch) | of_verdict(verdict), since=look.since):
            counted = replace(watch, looks=look.seen.looks)
            with self.spans.span("decision", watch.id, of_watch(watch)) as span:
                earlier = self.surroundings.earlier(watch)
                brakes = self.surroundings.brakes(
                    counted, verdict, earlier, look.seen.tally, now=now, paused=look.paused, ahead=ahead
                )
                brakes = replace(brakes, usual=self._usual(counted, look), behind=is_behind(counted, look.since))
                decision = decide(counted, verdict, brakes, now)
                span.set({"deploy_watchdog.decision": decision.kind.value, "deploy_watchdog.why": decision.why})
            if watch.state is State.HELD:
                held = self._held(watch)
                change = look_while_held(counted, look.fresh, look.seen.tally, verdict, decision, held, now)
            else:
                change = look_recorded(counted, look.fresh, look.seen.tally, verdict, decision, now, earlier=earlier)
        self.telemetry.verdict(verdict.kind.value)
        return _Turn(watch=watch, change=change, recollection=look.seen.recollection)

    def _usual(self, watch: Watch, look: "_Look") -> str:
        """What earlier days say of an alarm; its source is asked only where there is one. Whatever goes wrong with
        them excuses nobody, and keeps no bad deploy live."""
        ask = partial(self._collecting.ask, watch.plan.source, most_s=self.fetch_deadline_s)
        asked = partial(
            usual_course, watch, look.verdict, lambda: in_order([*self.ledger.looks(watch.id), *look.fresh]), ask
        )
        return self._each(watch, asked) or ""

    def _record(self, turns: "Sequence[_Turn]") -> None:
        """Each watch's look, verdict and all that follows, together or not at all; several watches share a commit."""
        if not turns:
            return
        self.failpoint("tick-before-commit")
        written = self._commit(turns)
        self.failpoint("tick-committed")
        for turn, is_written in zip(turns, written, strict=True):
            if not is_written:
                _log.info("watch %s was changed by somebody else meanwhile", turn.watch.id)
                continue
            if turn.change.to_state is None and turn.recollection is not None:
                self.memory.keep(turn.watch, turn.recollection, now=turn.change.at)
            _log.info("%s", turn.change.fields["sentence"], extra=about(turn.watch, turn.change))

    def _commit(self, turns: "Sequence[_Turn]") -> list[bool]:
        """One transaction; if one change breaks it, each by itself, so that the others are still written."""
        try:
            return self.ledger.commit_all([turn.change for turn in turns])
        except Exception as error:
            if concerns_all(error):
                raise
            return [bool(self._each(turn.watch, partial(self.ledger.commit, turn.change))) for turn in turns]

    # --- verify, hold -------------------------------------------------------------------------------------

    def _verify(self, watch: Watch, fresh: Sequence[StoredLook]) -> None:
        """A rollback that took effect by its own word: do the metrics say so too?"""
        rollback = self._rollback_of(watch)
        change = verify(
            watch, self.ledger.looks(watch.id), fresh, rollback, self.clock.now(), newest=self._newest(watch)
        )
        self.failpoint("verify-before-commit")
        if change is not None and self.ledger.commit(change) and change.to_state is not None:
            self.failpoint("verify-committed")
            self.telemetry.action(rollback.hook if rollback else "", change.to_state.outcome)
            _log.info("%s", change.fields["sentence"], extra=about(watch, change))

    def _rollback_of(self, watch: Watch) -> Action | None:
        applied = self.ledger.actions(watch_id=watch.id, states=frozenset({ActionState.APPLIED}))
        return next((action for action in applied if action.kind is ActionKind.ROLLBACK), None)

    def _newest(self, watch: Watch) -> Watch | None:
        place = watch.deploy
        found = self.ledger.watches(service=place.service, environment=place.environment, limit=1)
        return found[0] if found else None

    def _expire(self, watch: Watch) -> None:
        if watch.hold_until is not None and (now := self.clock.now()) >= watch.hold_until:
            self.ledger.commit(
                held_expires(watch, self._held(watch), now, paused=is_paused(self.surroundings.earlier(watch)))
            )

    def _held(self, watch: Watch) -> Action | None:
        """The rollback that waits for a human."""
        held = self.ledger.actions(watch_id=watch.id, states=frozenset({ActionState.HELD}))
        return next((action for action in held if action.kind is ActionKind.ROLLBACK), None)

    def _release(self, watches: Sequence[Watch]) -> None:
        current = self.ledger.watches_of([watch.id for watch in watches]) if watches else {}
        now = self.clock.now()
        leases = [
            Lease(watch_id=watch.id, epoch=watch.epoch, next_look_at=next_due(stands, now))
            for watch in watches
            if (stands := current.get(watch.id)) is not None and stands.state not in FINAL
        ]
        if leases:
            self.ledger.release_all(leases, owner=self.owner)

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
