"""Looks at every committed transaction, and at every start of a hook, and says what must never be.

The rules are written down here once more, from the design's own tables, and ask nothing of the code they judge.
"""

import json
import sqlite3
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from tests.simulator.process import Process
from tests.simulator.production import Production, Run
from tests.simulator.settings import BREAKER, COOL_DOWN_S, RETRIES
from tests.simulator.timeline import Timeline
from watchdog.model import ActionKind

FINAL = frozenset(
    {"PASSED", "INCONCLUSIVE", "SUPERSEDED", "CANCELLED", "NOT_NEEDED", "FAILED", "ROLLED_BACK", "NOT_RECOVERED"}
    | {"SMOKE_FAILED"}
)
WATCH_TABLE = {
    "SMOKE": "WATCHING SMOKE_FAILED HELD CANCELLED SUPERSEDED",
    "WATCHING": "PASSED INCONCLUSIVE SUPERSEDED CANCELLED INTENT HELD",
    "INTENT": "HELD NOT_NEEDED RUNNING CANCELLED SUPERSEDED",
    "HELD": "INTENT WATCHING CANCELLED SUPERSEDED",
    "RUNNING": "VERIFYING RETRY_WAIT FAILED UNKNOWN",
    "RETRY_WAIT": "RUNNING FAILED HELD",
    "UNKNOWN": "VERIFYING INTENT CANCELLED",
    "VERIFYING": "ROLLED_BACK NOT_RECOVERED",
}
ACTION_TABLE = {
    "INTENT": "HELD RUNNING NOT_NEEDED CANCELLED",
    "HELD": "INTENT CANCELLED",
    "RUNNING": "APPLIED RETRY_WAIT FAILED UNKNOWN",
    "RETRY_WAIT": "RUNNING FAILED HELD CANCELLED",
    "UNKNOWN": "APPLIED INTENT CANCELLED",
}
CLAIM_FRESH_S = 5.0
CLOCK_S = 2.0  # as far as a replica's clock may be from the database's


class WatchRow(NamedTuple):
    id: str
    state: str
    epoch: int
    looks: int
    lease_owner: str | None
    lease_until: float
    service: str
    created_at: float
    verdict: str | None
    reason: str | None
    mode: str


class ActionRow(NamedTuple):
    id: str
    watch_id: str
    kind: str
    state: str
    attempt: int
    fence: int
    service: str
    created_at: float


_WATCHES = (
    "SELECT id, state, epoch, looks, lease_owner, lease_until, service, created_at, verdict, reason, mode FROM watches"
)
ARMED = ("SMOKE", "WATCHING", "INTENT", "HELD")
_ACTIONS = "SELECT id, watch_id, kind, state, attempt, fence, service, created_at FROM actions"


@dataclass(slots=True)
class Witness:
    """What was committed so far, and what was wrong with it."""

    raw: sqlite3.Connection
    timeline: Timeline
    production: Production
    sinks: int  # how many are told everything
    violations: list[str] = field(default_factory=list)
    watches: dict[str, WatchRow] = field(default_factory=dict)
    actions: dict[str, ActionRow] = field(default_factory=dict)
    claimed_at: dict[tuple[str, int], float] = field(default_factory=dict)
    started: set[tuple[str, int]] = field(default_factory=set)
    fences: dict[str, int] = field(default_factory=dict)  # service → highest fence ever given
    been: dict[str, list[str]] = field(default_factory=dict)  # watch → every state it was in
    _audited: int = 0
    _queued: int = 0

    def claim(self, holds: bool, invariant: str, said: str) -> None:
        if not holds:
            self.violations.append(f"{invariant}: {said}")

    # --- after every transaction ------------------------------------------------------------------------

    def committed(self, process: Process) -> None:
        """Compare with what was there before this transaction."""
        audited = self._new("SELECT watch_id, id FROM audit WHERE id > ?", self._audited)
        queued = self._new("SELECT watch_id, id FROM outbox WHERE id > ?", self._queued)
        self._audited = max([self._audited, *(number for _, number in audited)])
        self._queued = max([self._queued, *(number for _, number in queued)])
        told, noted = {watch for watch, _ in queued}, {watch for watch, _ in audited}
        former = dict(self.watches)
        for watch in map(WatchRow._make, self.raw.execute(_WATCHES)):
            before = self.watches.get(watch.id)
            if before == watch:
                continue
            self.watches[watch.id] = watch
            self.claim(before is not None or watch.id in told, "I5", f"{watch.id} began and nobody is told")
            if before is not None:
                self._watch_moved(before, watch, process)
                went_blind = before.state in ("WATCHING", "HELD") and watch.reason == "SOURCE_DOWN" != before.reason
                self.claim(watch.id in told or not went_blind, "I5", f"{watch.id} lost its source and nobody is told")
            if before is None or before.state != watch.state:
                self.been.setdefault(watch.id, []).append(watch.state)
                self.claim(watch.id in told, "I5", f"{watch.id} is {watch.state} and nobody is told")
                self.claim(watch.id in noted, "I9", f"{watch.id} is {watch.state} without an audit entry")
        for action in map(ActionRow._make, self.raw.execute(_ACTIONS)):
            known = self.actions.get(action.id)
            if known == action:
                continue
            self.actions[action.id] = action
            self._action_moved(known, action, former)

    def _new(self, query: str, after: int) -> list[tuple[str, int]]:
        return self.raw.execute(query, (after,)).fetchall()

    def _watch_moved(self, before: WatchRow, watch: WatchRow, process: Process) -> None:
        if before.state != watch.state:
            allowed = watch.state in WATCH_TABLE.get(before.state, "").split()
            self.claim(allowed, "I7", f"{watch.id} went from {before.state} to {watch.state}")
            if watch.state in FINAL:
                self._ended(watch)
            if (before.state, watch.state) == ("WATCHING", "INTENT") and before.verdict != watch.verdict:
                self._decided(watch)
        self.claim(watch.epoch >= before.epoch, "I6", f"the epoch of {watch.id} fell")
        renewed = watch.lease_owner is not None and watch.lease_until != before.lease_until
        self.claim(watch.epoch > before.epoch or not renewed, "I6", f"a lease on {watch.id} without a new epoch")
        taken = watch.lease_owner not in (None, before.lease_owner) and before.lease_owner is not None
        still_held = before.lease_until > self.timeline.now + CLOCK_S
        self.claim(not (taken and still_held), "I6", f"{watch.id} was leased to two at once")
        if watch.looks != before.looks:
            self.claim(before.lease_owner == process.name, "I6", f"{watch.id} was looked at without its lease")
            stored = self._count("SELECT count(*) FROM looks WHERE watch_id = ? AND interval >= 0", watch.id)
            self.claim(stored == watch.looks, "I4", f"{watch.id} counts {watch.looks} looks, and {stored} are stored")

    def _ended(self, watch: WatchRow) -> None:
        told = self._count("SELECT count(*) FROM outbox WHERE watch_id = ? AND key = 'ended'", watch.id)
        self.claim(told == self.sinks, "I5", f"{watch.id} ended {watch.state} and the ending is not queued")
        pending = [a for a in self._of(watch.id) if a[1] in ("INTENT", "RUNNING", "RETRY_WAIT", "HELD", "UNKNOWN")]
        self.claim(not pending, "I7", f"{watch.id} ended {watch.state} with {pending} left over")

    def _of(self, watch_id: str) -> list[tuple[str, str]]:
        query = "SELECT kind, state FROM actions WHERE watch_id = ? AND kind = 'rollback'"
        return self.raw.execute(query, (watch_id,)).fetchall()

    def _decided(self, watch: WatchRow) -> None:
        """The daemon itself decided to roll back."""
        self.claim(watch.mode == "auto", "I3", f"{watch.id} is rolled back by the daemon in mode {watch.mode}")

    def _begun(self, action: ActionRow) -> None:
        """A rollback begins that no human asked for: others may have begun since it was decided, by other daemons."""
        others = self.raw.execute(
            "SELECT service, started_at FROM actions WHERE kind = 'rollback' AND id <> ? AND started_at IS NOT NULL",
            (action.id,),
        ).fetchall()
        now = self.timeline.now
        loop = any(service == action.service and now - at < COOL_DOWN_S - CLOCK_S for service, at in others)
        self.claim(not loop, "I3", f"{action.watch_id} is rolled back within the cool-down of its service")
        self.claim(len(others) < BREAKER, "I3", f"{action.watch_id} is rolled back after {len(others)} others: breaker")

    def _action_moved(self, before: ActionRow | None, action: ActionRow, watches: dict[str, WatchRow]) -> None:
        if before is None:
            self.claim(action.state in ("INTENT", "HELD"), "I7", f"an action began as {action.state}")
            return
        if before.state != action.state:
            allowed = action.state in ACTION_TABLE.get(before.state, "").split()
            self.claim(allowed, "I7", f"action {action.id[:6]} went from {before.state} to {action.state}")
            if before.state == "RUNNING":
                self._settled(before)
        rises = action.attempt >= before.attempt and action.fence >= before.fence
        self.claim(rises, "I6", f"attempt or fence of action {action.id[:6]} fell")
        if action.attempt > before.attempt:
            self._claimed(before, action, watches)

    def _settled(self, before: ActionRow) -> None:
        """Only the attempt that runs, or whoever adopted that one, may say how it ended."""
        query = "SELECT details FROM audit WHERE watch_id = ? ORDER BY id DESC LIMIT 4"
        found = (json.loads(details) for (details,) in self.raw.execute(query, (before.watch_id,)))
        said = next((details["fence"] for details in found if details.get("action") == before.id), None)
        holds = said == before.fence
        self.claim(holds, "I6", f"fence {before.fence} of action {before.id[:6]} was settled by fence {said}")

    def _claimed(self, before: ActionRow, action: ActionRow, watches: dict[str, WatchRow]) -> None:
        name = f"attempt {action.attempt} of {action.kind} {action.id[:6]}"
        self.claimed_at[action.id, action.fence] = self.timeline.now
        self.claim(before.state in ("INTENT", "RETRY_WAIT"), "I3", f"{name} was claimed from {before.state}")
        self.claim(action.fence > self.fences.get(action.service, 0), "I6", f"{name} has an old fence")
        self.fences[action.service] = max(action.fence, self.fences.get(action.service, 0))
        paused = self._count("SELECT count(*) FROM flags WHERE name = 'paused' AND ? <> ''", action.id)
        self.claim(not paused, "I3", f"{name} was claimed under the kill switch")
        if action.kind == ActionKind.ROLLBACK:
            watch = watches[action.watch_id]
            self.claim(watch.state in ("INTENT", "RETRY_WAIT"), "I3", f"{name} was claimed while {watch.state}")
            newer = [w for w in watches.values() if w.service == watch.service and w.created_at > watch.created_at]
            self.claim(not newer, "I3", f"{name} would hit a newer deploy")
            wanted = self._count("SELECT count(*) FROM actions WHERE id = ? AND params LIKE '%by_hand%'", action.id)
            if before.attempt == 0 and not wanted:
                self._begun(action)

    def _count(self, query: str, argument: str) -> int:
        return int(self.raw.execute(query, (argument,)).fetchone()[0])

    # --- when somebody was answered ----------------------------------------------------------------------

    def acknowledged(self, watch_id: str) -> None:
        """CI knows that its deploy is on record: from now on only the newest of those that came before it is judged.

        One that came onto the record later is older only by another daemon's clock, and that daemon may not have come
        so far as to see which of the two stays: both are looked at when it is acknowledged itself.
        """
        if watch_id not in self.watches:
            return
        told = self.watches[watch_id]
        before = takewhile(lambda watch: watch.id != watch_id, self.watches.values())
        for other in (watch for watch in before if watch.service == told.service):
            older, newer = sorted((other, told), key=lambda watch: watch.created_at)
            goes_on = newer is told or newer.state in ARMED  # of a newer one that has ended nothing follows
            beside = goes_on and older.created_at < newer.created_at and older.state in ARMED
            self.claim(not beside, "I7", f"{older.id} is {older.state} beside the newer {newer.id}")

    # --- when a hook starts ------------------------------------------------------------------------------

    def hook_starts(self, run: Run) -> None:
        """Only from a durable claim, fresh by the daemon's own check, and once for each fence."""
        key = (run.call.action_id, run.call.fence)
        name = f"attempt {run.call.attempt} of {run.call.kind.value} {run.call.action_id[:6]}"
        claimed_at = self.claimed_at.get(key)
        self.claim(claimed_at is not None, "I2", f"{name} started without a durable claim")
        self.claim(key not in self.started, "I2", f"{name} started twice with one fence")
        self.started.add(key)
        starts = sum(action_id == run.call.action_id for action_id, _ in self.started)
        self.claim(starts <= RETRIES, "I3", f"{name} is start number {starts}")
        checked_at = run.process.hook_checked_at.pop(self.timeline.current, None)
        self.claim(checked_at is not None, "I2", f"{name} started without its check")
        if claimed_at is not None and checked_at is not None:
            fresh = checked_at - claimed_at <= CLAIM_FRESH_S
            self.claim(fresh, "I2", f"{name} started on a claim of {checked_at - claimed_at:.1f} s")

    def took_effect(self, run: Run) -> None:
        """At most once for each action."""
        times = self.production.effects[run.call.action_id]
        self.claim(times <= 1, "I1", f"{run.call.kind.value} {run.call.action_id[:6]} took effect {times} times")
