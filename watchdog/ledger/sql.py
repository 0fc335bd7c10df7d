"""The Ledger port over SQLAlchemy Core: every method is one transaction on the tables of `schema`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, delete, insert, select

from watchdog.ledger import claims, commit, history, journal, queries
from watchdog.ledger.chain import ChainedEntry
from watchdog.ledger.engine import Database
from watchdog.ledger.lock import FileLock
from watchdog.ledger.postgres import POOL, serialise
from watchdog.ledger.schema import flags, webhook_ids
from watchdog.ledger.together import Together
from watchdog.model import (
    Action,
    ActionState,
    AuditEntry,
    Change,
    Claim,
    Label,
    Message,
    State,
    StoredLook,
    Watch,
)
from watchdog.ports import (
    Beginning,
    EvidencePoint,
    Failpoint,
    Lease,
    OutboxRow,
    RawSamples,
    Recorded,
    StoredVerdict,
    Tally,
)


class SqlLedger:
    """Safe from several threads: tick, hook workers, outbox and API share one instance."""

    def __init__(
        self,
        database: Database,
        *,
        sinks_for: Callable[[str], tuple[str, ...]],
        lock: FileLock | None = None,
        failpoint: Failpoint = lambda _: None,
    ) -> None:
        self._database = database
        self._sinks_for = sinks_for
        self._lock = lock
        self._failpoint = failpoint
        self._intakes = Together(database)

    @property
    def writers(self) -> int:
        """How many may usefully write at the same time: SQLite has one writer, PostgreSQL one for each connection."""
        return POOL if self._database.is_shared else 1

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
        """The same of several, which share a transaction where they can; what one raises touches no other."""
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
            self._database.check_clock(connection)
            return claims.due(connection, owner=owner, now=now, lease_s=lease_s, limit=limit)

    def release_all(self, leases: Sequence[Lease], *, owner: str) -> None:
        """Give leases back, all in one transaction; one that was lost meanwhile changes nothing."""
        with self._database.write() as connection:
            claims.release(connection, leases, owner=owner)

    def snapshot(self) -> AbstractContextManager[None]:
        """Reads of this thread within see one moment, and cost one transaction; a write within is not seen by them."""
        return self._database.snapshot()

    def watch(self, watch_id: str) -> Watch | None:
        with self._database.read() as connection:
            return queries.watch(connection, watch_id)

    def watches_of(self, watch_ids: Sequence[str]) -> dict[str, Watch]:
        """These watches, by id; an id that is not on record is absent."""
        with self._database.read() as connection:
            return queries.watches_of(connection, watch_ids)

    def watches(
        self,
        *,
        service: str | None = None,
        environment: str | None = None,
        states: frozenset[State] | None = None,
        limit: int = 100,
        before: float | None = None,
        before_id: str | None = None,
        services: frozenset[str] | None = None,
    ) -> list[Watch]:
        """The newest first; `before` pages on by `created_at`, with `before_id` also among equal times."""
        with self._database.read() as connection:
            return queries.find_watches(
                connection,
                service=service,
                environment=environment,
                states=states,
                limit=limit,
                before=before,
                before_id=before_id,
                services=services,
            )

    def standing(self, *, service: str, environment: str, states: frozenset[State]) -> list[Watch]:
        """One place's watches in these states, and its newest whatever its state; the newest first."""
        with self._database.read() as connection:
            return queries.standing(connection, service, environment, states)

    def train(self, name: str, *, environment: str) -> list[Watch]:
        """One release train, in the order of its deploys."""
        with self._database.read() as connection:
            return queries.train(connection, name, environment)

    def services(self) -> list[str]:
        """Every service on record, in order."""
        with self._database.read() as connection:
            return queries.distinct(connection, "service")

    def environments(self) -> list[str]:
        """Every environment on record, in order."""
        with self._database.read() as connection:
            return queries.distinct(connection, "environment")

    def looks(self, watch_id: str, after: int | None = None) -> list[StoredLook]:
        """The closed intervals in order; with `after`, only later ones."""
        with self._database.read() as connection:
            return queries.stored_looks(connection, watch_id, after)

    def verdicts(self, watch_id: str, *, last: int | None = None) -> list[StoredVerdict]:
        """The verdicts in the order they fell; with `last`, only the newest."""
        with self._database.read() as connection:
            return queries.stored_verdicts(connection, watch_id, last)

    def metric_evidence(self, watch_id: str, *, after: int | None = None) -> Iterator[tuple[int, Mapping[str, float]]]:
        """By look, what was said of each metric."""
        with self._database.read() as connection:
            yield from history.metric_evidence(connection, watch_id, after)

    def evidence_path(self, watch_id: str) -> list[EvidencePoint]:
        """The evidence of all metrics together, look by look."""
        with self._database.read() as connection:
            return history.evidence_path(connection, watch_id)

    def last_look(self, watch_id: str) -> StoredLook | None:
        """The newest closed interval, without its cells."""
        with self._database.read() as connection:
            return history.last_look(connection, watch_id)

    def raw_samples(self, watch_id: str, *, after: int | None = None) -> Iterator[RawSamples]:
        """One by one: a long watch with wide histograms would fill much memory at once."""
        with self._database.read() as connection:
            yield from history.raw_samples(connection, watch_id, after)

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
            self._database.check_clock(connection)
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

    def due_messages(self, *, now: float, limit: int) -> list[OutboxRow]:
        """The oldest undelivered row of each (watch, sink), where its time has come."""
        with self._database.read() as connection:
            return journal.due(connection, now=now, limit=limit)

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
