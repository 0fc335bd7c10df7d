"""The audit's hash chain: each row carries the hash of the one before, so that an edit, a deletion or an insertion
shows. Rows cut off at the end show only against a head that was written down elsewhere."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from watchdog.ledger.encode import dumps, to_json
from watchdog.model import AuditEntry

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainedEntry:
    """One audit row with its place in the chain."""

    id: int
    entry: AuditEntry
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What a check of the chain found. `problem` is None where every row is as it was written."""

    rows: int
    head: str
    problem: str | None = None


def hash_entry(entry: AuditEntry, prev_hash: str) -> str:
    """SHA-256 over the canonical JSON of the entry and its predecessor's hash."""
    return hashlib.sha256(dumps({"entry": to_json(entry), "prev_hash": prev_hash}).encode()).hexdigest()


def verify_chain(rows: Iterable[ChainedEntry], *, head: str | None = None) -> ChainReport:
    """Check all rows in order of id, from the first; `head` is a hash exported earlier that must occur."""
    last, count, seen = GENESIS, 0, head is None or head == GENESIS
    number = 0
    for row in rows:
        problem = _problem(row, last) if row.id > number else f"its number does not follow {number}"
        if problem:
            return ChainReport(rows=count, head=last, problem=f"audit row {row.id}: {problem}")
        number, last, count = row.id, row.hash, count + 1
        seen = seen or last == head
    if not seen:
        return ChainReport(rows=count, head=last, problem=f"no row has the expected head {head}: rows were cut off")
    return ChainReport(rows=count, head=last)


def _problem(row: ChainedEntry, last: str) -> str | None:
    if row.prev_hash != last:
        return "does not follow the row before it; a row was deleted, inserted or replaced"
    if row.hash != hash_entry(row.entry, row.prev_hash):
        return "its text is not what was written"
    return None
