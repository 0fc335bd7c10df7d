"""The Ledger port over SQLAlchemy Core: every method is one transaction on the tables of `schema`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, delete, insert, select

from watchdog.ledger import claims, commit, history, journal, queries
from watchdog.ledger.chain import ChainedEntry
from watchdog.ledger.engine import Database
from watchdog.ledger.lock import FileLock
from watchdog.ledger.postgres import POOL, serialise
from watchdog.ledger.reads import Reads
from watchdog.ledger.schema import flags, webhook_ids
from watchdog.ledger.together import Together
from watchdog.model import (
    Action,
    ActionState,
    AuditEntry,
    Beginning,
    Change,
    Claim,
    Label,
    Message,
    Recorded,
    Watch,
)
from watchdog.ports import Failpoint, Lease, OutboxRow, Tally


class SqlLedger(Reads):
    """Safe from several threads: tick, hook workers, outbox and API share one instance."""

    def __init__(
        self,
        database: Database,
        *,
        sinks_for: Callable[[str], tuple[str, ...]],
        lock: FileLock | None = None,
        failpoint: Failpoint = lambda _: None,
    ) -> None:
        super().__init__(database)
        self.writers = POOL if database.is_shared else 1  # SQLite has one, PostgreSQL one for each connection
        self._sinks_for = sinks_for
        self._lock = lock
        self._failpoint = failpoint
        self._intakes = Together(database)

    # --- watches -----------------------------------------------------------------------------------------

    def record_deploy(
        self,
        watch: Watch,
        messages: Sequence[Message],
        audit: Sequence[AuditEntry],
        actions: Sequence[Action] = (),
        *,
        ended: Sequence[Change] = (),
    ) -> Recorded:
        """Store a new deploy with its watch and its first intended actions; SAME or CONFLICT where the id is known.

        ended: what older watches of its place become because of it, each unless it changed meanwhile.
        """
        begun = Beginning(watch=watch, messages=messages, audit=audit, actions=actions, ended=ended)
        (recorded,) = self.record_deploys([begun])
        if isinstance(recorded, BaseException):
            raise recorded
        return recorded

    def record_deploys(self, begun: Sequence[Beginning]) -> list[Recorded | BaseException]:
        """The same of several, which share a transaction where they can; what one's write raises touches no other."""
        errors = self._intakes.write_all([partial(self._record, self._new(one)) for one in begun])
        return [self._recorded(one, error) for one, error in zip(begun, errors, strict=True)]

    def _new(self, begun: Beginning) -> commit.NewDeploy:
        return commit.NewDeploy(
            watch=begun.watch,
            messages=begun.messages,
            entries=begun.audit,
            sinks=self._sinks_for(begun.watch.deploy.service),
            first=begun.actions,
            ended=[commit.prepare(change) for change in begun.ended],
        )

    def _recorded(self, begun: Beginning, error: BaseException | None) -> Recorded | BaseException:
        if isinstance(error, commit.KnownError):
            return error.recorded
        if isinstance(error, commit.LostError):  # the older ones are left to whoever looks after it
            return self.record_deploys([replace(begun, ended=())])[0]
        if error is not None:
            return error
        self._failpoint("ledger-record-committed")
        if self._lock is not None:
            self._lock.holds_deploys()
        return Recorded.CREATED

    def _record(self, new: commit.NewDeploy, connection: Connection) -> None:
        commit.record(connection, new)
        self._failpoint("ledger-record-before-commit")

    def commit(self, change: Change) -> bool:
        """Write all of a change, or nothing and False where the compare-and-set lost."""
        return self.commit_all([change])[0]

    def commit_all(self, changes: Sequence[Change]) -> list[bool]:
        """Write changes of different watches in one transaction, each wholly or, where it lost, not at all."""
        prepared = [commit.prepare(change) for change in changes]
        try:
            with self._database.write() as connection:
                written = commit.apply(connection, prepared, self._sinks_for)
                self._failpoint("ledger-change-before-commit")
        except commit.LostError:
            return [False] if len(changes) == 1 else [self.commit(change) for change in changes]
        self._failpoint("ledger-change-committed")
        return written

    def claim_due(self, *, owner: str, now: float, lease_s: float, limit: int) -> list[Watch]:
        """Lease up to `limit` watches whose next look is due."""
        with self._database.write() as connection:
            self._database.check_clock(connection, now)
            return claims.due(connection, owner=owner, now=now, lease_s=lease_s, limit=limit)

    def release_all(self, leases: Sequence[Lease], *, owner: str) -> None:
        """Give leases back, all in one transaction; one that was lost meanwhile changes nothing."""
        with self._database.write() as connection:
            claims.release(connection, leases, owner=owner)

    # --- labels ------------------------------------------------------------------------------------------

    def set_label(self, label: Label, entry: AuditEntry) -> None:
        """Store an analyst's word and its audit."""
        with self._database.write() as connection:
            history.set_label(connection, label, entry)

    def labels(self, watch_ids: Sequence[str]) -> Mapping[str, Label]:
        """The labels of these watches; those without one are absent."""
        with self._database.read() as connection:
            return history.find_labels(connection, watch_ids)

    def tallies(self, *, service: str | None = None, since: float | None = None) -> list[Tally]:
        """How deploys ended and were labelled, counted by service and day."""
        with self._database.read() as connection:
            return history.tallies(connection, service, since)

    def times_to_restore(self, service: str, *, since: float) -> list[float]:
        """Seconds from verdict to recovery, newest first."""
        with self._database.read() as connection:
            return history.times_to_restore(connection, service, since)

    def active(self) -> int:
        """How many watches go on."""
        with self._database.read() as connection:
            return queries.active(connection)

    def counts(self) -> Mapping[str, int]:
        """Watches per state."""
        with self._database.read() as connection:
            return queries.counts(connection)

    # --- audit -------------------------------------------------------------------------------------------

    def audit(self, watch_id: str | None = None, *, limit: int = 1000) -> list[AuditEntry]:
        """The newest entries, oldest first."""
        with self._database.read() as connection:
            return [row.entry for row in queries.chained_audit(connection, watch_id, limit)]

    def audit_chain(self) -> list[ChainedEntry]:
        """The whole audit with its hashes, for `verify_chain`."""
        with self._database.read() as connection:
            return queries.chained_audit(connection, None, None)

    def append_audit(self, entry: AuditEntry) -> None:
        with self._database.write() as connection:
            journal.append(connection, [entry])

    # --- actions -----------------------------------------------------------------------------------------

    def action(self, action_id: str) -> Action | None:
        with self._database.read() as connection:
            return queries.action(connection, action_id)

    def actions(self, *, watch_id: str | None = None, states: frozenset[ActionState] | None = None) -> list[Action]:
        """In the order they were intended."""
        with self._database.read() as connection:
            return queries.find_actions(connection, watch_id=watch_id, states=states)

    def rollbacks_since(self, since: float) -> list[Action]:
        """Of all services, oldest first."""
        with self._database.read() as connection:
            return queries.rollbacks_since(connection, since)

    def claim_action(self, claim: Claim) -> Action | None:
        """Start one attempt; None where somebody else has it or it may not run now."""
        with self._database.write() as connection:
            self._database.check_clock(connection, claim.now)
            claimed = claims.claim(connection, claim, self._sinks_for)
            self._failpoint("ledger-claim-before-commit")
        return claimed

    def check_clock(self) -> None:
        """Refuse (LedgerError) a clock that cannot be compared with the deadlines other replicas have set."""
        if self._database.is_shared:
            with self._database.read() as connection:
                self._database.check_clock(connection)

    def set_paused(self, paused: bool, *, actor: str, why: str, at: float) -> None:
        """Turn the kill switch, with audit."""
        with self._database.write() as connection:
            serialise(connection)
            before = queries.paused(connection)
            connection.execute(delete(flags).where(flags.c.name == queries.PAUSED))
            if paused:
                connection.execute(insert(flags), {"name": queries.PAUSED, "value": why, "actor": actor, "at": at})
            entry = AuditEntry(
                at=at,
                watch_id=None,
                actor=actor,
                event="operator.pause" if paused else "operator.resume",
                before="paused" if before is not None else "running",
                after="paused" if paused else "running",
                why=why,
            )
            journal.append(connection, [entry])

    def paused(self) -> str | None:
        with self._database.read() as connection:
            return queries.paused(connection)

    # --- outbox ------------------------------------------------------------------------------------------

    def due_messages(self, *, now: float, limit: int, without: Collection[str] = ()) -> list[OutboxRow]:
        """The oldest undelivered row of each (watch, sink), where its time has come; `without` those of these sinks."""
        with self._database.read() as connection:
            return journal.due(connection, now=now, limit=limit, without=without)

    def claim_message(self, row_id: int, *, now: float, hold_s: float) -> bool:
        """Take a due message for `hold_s`; False where another replica has it. Alone, all are ours."""
        if not self._database.is_shared:
            return True
        with self._database.write() as connection:
            return journal.claim(connection, row_id, now=now, hold_s=hold_s)

    def delivered(self, row_id: int, *, at: float, remember: Mapping[str, str]) -> None:
        with self._database.write() as connection:
            journal.delivered(connection, row_id, at=at, remember=remember)

    def failed(self, row_id: int, *, at: float, error: str, next_at: float | None) -> None:
        with self._database.write() as connection:
            journal.failed(connection, row_id, at=at, error=error, next_at=next_at)

    def thread(self, watch_id: str, sink: str) -> Mapping[str, str]:
        with self._database.read() as connection:
            return journal.thread(connection, watch_id, sink)

    def messages(self, watch_id: str) -> list[tuple[OutboxRow, str]]:
        """All messages of a watch with their state: pending, delivered or dead."""
        with self._database.read() as connection:
            return queries.messages(connection, watch_id)

    # --- webhooks ----------------------------------------------------------------------------------------

    def first_use(self, webhook_id: str, *, now: float, keep_s: float) -> bool:
        """Remember a webhook's id for `keep_s`; False where it is remembered already."""
        with self._database.write() as connection:
            serialise(connection)
            connection.execute(delete(webhook_ids).where(webhook_ids.c.expires_at <= now))
            known = connection.execute(select(webhook_ids.c.id).where(webhook_ids.c.id == webhook_id)).scalar()
            if known is None:
                connection.execute(insert(webhook_ids), {"id": webhook_id, "expires_at": now + keep_s})
        return known is None

    def close(self) -> None:
        """Close all connections, then let the next process in."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()
