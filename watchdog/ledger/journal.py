"""What every change carries with it: rows of the audit's chain and of the outbox, and the outbox's own life."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from watchdog.ledger import rows
from watchdog.ledger.chain import GENESIS, hash_entry
from watchdog.ledger.encode import dumps
from watchdog.ledger.postgres import serialise
from watchdog.ledger.schema import audit, outbox, threads
from watchdog.model import AuditEntry, Message
from watchdog.ports import OutboxRow

PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"

_LAST_HASH = select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)
_CHAIN = insert(audit)
_QUEUE = insert(outbox)
_QUEUED = select(
    exists().where(
        outbox.c.watch_id == bindparam("watch_id"), outbox.c.key == bindparam("key"), outbox.c.sink == bindparam("sink")
    )
)
_OLDEST = (
    select(func.min(outbox.c.id))
    .where(outbox.c.state == PENDING)
    .group_by(outbox.c.watch_id, outbox.c.sink)
    .scalar_subquery()
)
_DUE = (
    select(outbox)
    .where(
        outbox.c.id.in_(_OLDEST),
        outbox.c.next_at <= bindparam("now"),
        outbox.c.sink.not_in(bindparam("without", expanding=True)),
    )
    .order_by(outbox.c.id)
    .limit(bindparam("most"))
)
_PENDING_ROW = update(outbox).where(outbox.c.id == bindparam("own_id"), outbox.c.state == PENDING)
_CLAIM = _PENDING_ROW.where(outbox.c.next_at <= bindparam("now"))
_SETTLE = _PENDING_ROW.values(attempts=outbox.c.attempts + 1)
_LINE = select(outbox.c.watch_id, outbox.c.sink).where(outbox.c.id == bindparam("own_id"))
_MEMORY = select(threads.c.memory).where(
    threads.c.watch_id == bindparam("watch_id"), threads.c.sink == bindparam("sink")
)


def append(connection: Connection, entries: Iterable[AuditEntry]) -> None:
    """Chain entries to the audit's end. Writers are serialised; UNIQUE(prev_hash) would refuse a fork."""
    entries = list(entries)
    if entries:
        serialise(connection)
    new = []
    last: str | None = None
    for entry in entries:
        prev = last if last is not None else _head(connection)
        last = hash_entry(entry, prev)
        new.append(rows.audit_row(entry, prev, last))
    if new:
        connection.execute(_CHAIN, new)


def _head(connection: Connection) -> str:
    last = connection.execute(_LAST_HASH).scalar()
    return GENESIS if last is None else str(last)


def enqueue(connection: Connection, messages: Sequence[Message], sinks: Sequence[str], at: float) -> None:
    """One outbox row per (message, sink); a key that is there already is not told twice."""
    new = [rows.message_row(message, sink, at) for message in messages for sink in sinks]
    for row in new:
        if not connection.execute(_QUEUED, {name: row[name] for name in ("watch_id", "key", "sink")}).scalar():
            connection.execute(_QUEUE, row)


def enqueue_first(connection: Connection, messages: Sequence[Message], sinks: Sequence[str], at: float) -> None:
    """The same for a watch that begins in this very transaction: nothing of it can be there already."""
    new = [rows.message_row(message, sink, at) for message in messages for sink in sinks]
    if new:
        connection.execute(_QUEUE, new)


def due(connection: Connection, *, now: float, limit: int, without: Collection[str] = ()) -> list[OutboxRow]:
    """The oldest pending row of each (watch, sink), where its time has come: a sink hears things in order."""
    wanted = {"now": now, "most": limit, "without": sorted(without)}
    return rows.readable(connection.execute(_DUE, wanted).mappings(), rows.to_outbox_row)


def claim(connection: Connection, row_id: int, *, now: float, hold_s: float) -> bool:
    """Take a due row for one delivery. It stays the oldest of its line, so that nothing overtakes it; a replica that
    dies with it gives it back by time."""
    return connection.execute(_CLAIM, {"own_id": row_id, "now": now, "next_at": now + hold_s}).rowcount == 1


def delivered(connection: Connection, row_id: int, *, at: float, remember: Mapping[str, str]) -> None:
    """Mark a row told, and keep what its sink wants to remember about the deploy."""
    row = connection.execute(_LINE, {"own_id": row_id}).one_or_none()
    if row is None:
        return
    _settle(connection, row_id, {"state": DELIVERED, "tried_at": at, "error": ""})
    if remember:
        memory = dumps({**thread(connection, row.watch_id, row.sink), **remember})
        place = (threads.c.watch_id == row.watch_id, threads.c.sink == row.sink)
        if connection.execute(update(threads).where(*place).values(memory=memory)).rowcount == 0:
            connection.execute(insert(threads), {"watch_id": row.watch_id, "sink": row.sink, "memory": memory})


def failed(connection: Connection, row_id: int, *, at: float, error: str, next_at: float | None) -> None:
    """Try again at `next_at`, or give up: the row stays, marked dead, and the ones behind it go on."""
    state = {"state": DEAD} if next_at is None else {"next_at": next_at}
    _settle(connection, row_id, state | {"tried_at": at, "error": error[:2000]})


def _settle(connection: Connection, row_id: int, values: Mapping[str, object]) -> None:
    connection.execute(_SETTLE, {"own_id": row_id, **values})


def thread(connection: Connection, watch_id: str, sink: str) -> dict[str, str]:
    """What a sink remembers about a deploy."""
    text = connection.execute(_MEMORY, {"watch_id": watch_id, "sink": sink}).scalar()
    memory: dict[str, str] = {} if text is None else rows.read("a sink's memory", lambda: json.loads(text))
    return memory
