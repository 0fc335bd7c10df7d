"""Bugs of what is recorded and told."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, select

from tests.simulator.faults import Fault
from tests.simulator.planted.bug import Bugs, Ground
from watchdog import action, holding, pipeline, turns
from watchdog.errors import LedgerError
from watchdog.intake import DeployRequest, Intake
from watchdog.ledger import commit, journal, queries, rows
from watchdog.ledger.chain import GENESIS
from watchdog.ledger.schema import outbox
from watchdog.ledger.sql import SqlLedger
from watchdog.model import Change, Recorded, Severity, State, Watch
from watchdog.ports import OutboxRow

FOUND = Bugs()


@FOUND.breaks("I5", 5)
def an_outcome_without_an_outbox_row(ground: Ground) -> None:
    ground.put(commit, "check", lambda change: None)
    ground.wrap(action, "settlement", lambda real, *args, **named: replace(real(*args, **named), messages=()))


@FOUND.breaks("I5", 1)
def message_and_outcome_in_two_transactions(ground: Ground) -> None:
    def commit_twice(real: Callable[..., list[bool]], ledger: SqlLedger, changes: Sequence[Change]) -> list[bool]:
        written = real(ledger, [replace(change, messages=()) for change in changes])
        with ledger._database.write() as connection:
            for change in changes:
                watch = queries.watch(connection, change.watch_id)
                sinks = ledger._sinks_for(watch.deploy.service if watch is not None else "")
                journal.enqueue(connection, change.messages, sinks, change.at)
        return written

    ground.put(commit, "check", lambda change: None)
    ground.wrap(SqlLedger, "commit_all", commit_twice)


@FOUND.breaks("I9", 5)
def an_outcome_without_an_audit_entry(ground: Ground) -> None:
    ground.put(commit, "check", lambda change: None)
    ground.wrap(action, "settlement", lambda real, *args, **named: replace(real(*args, **named), audit=()))


@FOUND.breaks("I9", 1)
def audit_entries_do_not_hold_on_to_each_other(ground: Ground) -> None:
    ground.wrap(journal, "hash_entry", lambda real, entry, prev: real(entry, GENESIS))


@FOUND.breaks("P3", 1)
def a_hold_expires_silently(ground: Ground) -> None:
    ground.wrap(pipeline, "held_expires", lambda real, *args, **named: _quieter(real(*args, **named)))


@FOUND.breaks("P3", 16)
def nobody_is_paged_about_what_nobody_knows(ground: Ground) -> None:
    def settlement(real: Callable[..., Change], *args: object, **named: object) -> Change:
        change = real(*args, **named)
        return _quieter(change) if change.to_state is State.UNKNOWN else change

    ground.wrap(action, "settlement", settlement)


def _quieter(change: Change) -> Change:
    return replace(change, messages=tuple(replace(told, severity=Severity.INFO) for told in change.messages))


@FOUND.breaks("I5", 6, needs=(Fault.SOURCE_DOWN,))
def nobody_is_told_that_the_source_is_gone(ground: Ground) -> None:
    for said in (turns, holding):
        ground.put(said, "source_messages", lambda watch, verdict: ())


@FOUND.breaks("P9", 6, needs=(Fault.SINK_FAILS,))
def a_message_counts_as_told_before_it_is_sent(ground: Ground) -> None:
    def claim(ledger: SqlLedger, row_id: int, *, now: float, hold_s: float) -> bool:
        ledger.delivered(row_id, at=now, remember={})
        return True

    ground.put(SqlLedger, "claim_message", claim)


@FOUND.breaks("P9", 6, needs=(Fault.SINK_FAILS,))
def newer_messages_overtake_older_ones(ground: Ground) -> None:
    def due(connection: Connection, *, now: float, limit: int) -> list[OutboxRow]:
        waiting = select(outbox).where(outbox.c.state == journal.PENDING, outbox.c.next_at <= now)
        found = connection.execute(waiting.order_by(outbox.c.id.desc()).limit(limit))
        return [rows.to_outbox_row(row) for row in found.mappings()]

    ground.put(journal, "due", due)


@FOUND.breaks("P8", 9, needs=(Fault.LEDGER_BUSY,))
def a_deploy_is_acknowledged_that_is_not_on_disk(ground: Ground) -> None:
    def receive(
        real: Callable[..., tuple[Recorded, Watch]], intake: Intake, request: DeployRequest, *, actor: str
    ) -> tuple[Recorded, Watch | None]:
        try:
            return real(intake, request, actor=actor)
        except LedgerError:
            return Recorded.CREATED, None

    ground.wrap(Intake, "receive", receive)


@FOUND.breaks("P8 I5", 1)
def beginnings_are_not_told(ground: Ground) -> None:
    def enqueue(real: Callable[..., None], connection: Connection, told: Sequence[object], *rest: object) -> None:
        real(connection, [one for one in told if one.key != "started"], *rest)  # type: ignore[attr-defined]

    ground.wrap(journal, "enqueue_first", enqueue)
