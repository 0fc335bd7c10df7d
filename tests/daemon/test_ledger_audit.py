"""The audit shows every edit."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes import FakeClock
from watchdog.errors import LedgerCorruptError, LedgerError
from watchdog.ledger import ChainedEntry, SqlLedger, open_ledger, verify_chain
from watchdog.ledger.chain import GENESIS
from watchdog.ledger.rows import audit_row, to_chained
from watchdog.model import AuditEntry

Tamper = Callable[[list[ChainedEntry]], list[ChainedEntry]]


def opened(home: str) -> SqlLedger:
    return open_ledger(home, max_skew_s=math.inf, clock=FakeClock(), owner="me", sinks_for=lambda service: ())


def an_entry(number: int) -> AuditEntry:
    return AuditEntry(
        at=0.1 * number,
        watch_id=None,
        actor="ann",
        event="tested",
        why="ünïcode \u202e",
        details={"n": number, "x": 1.0, "deep": [None, {"b": 2, "a": 1}]},
    )


@pytest.fixture(scope="module")
def written(shared_home: str) -> list[ChainedEntry]:
    """Six entries, written over a restart."""
    for half in (range(3), range(3, 6)):
        ledger = opened(shared_home)
        for number in half:
            ledger.append_audit(an_entry(number))
        found = ledger.audit_chain()
        ledger.close()
    return found


@pytest.fixture
def chain(written: list[ChainedEntry]) -> list[ChainedEntry]:
    """A copy to tamper with."""
    return list(written)


def test_an_untouched_chain_is_whole(chain: list[ChainedEntry]) -> None:
    """All rows verify, and the head is the last row's hash."""
    report = verify_chain(chain)
    assert (report.rows, report.head, report.problem) == (6, chain[-1].hash, None)
    assert verify_chain(chain, head=chain[3].hash).problem is None
    assert verify_chain([]).problem is None


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize(
    "change",
    [
        {"at": 7.0},
        {"watch_id": "d9"},
        {"actor": "bob"},
        {"event": "other"},
        {"before": "x"},
        {"after": "x"},
        {"why": ""},
        {"details": {"n": -1}},
    ],
)
def test_an_edit_of_any_field_of_any_row_is_found(chain: list[ChainedEntry], at: int, change: dict[str, Any]) -> None:
    """Editing one value, with or without a new hash for that row, breaks the chain there or right after."""
    chain[at] = replace(chain[at], entry=replace(chain[at].entry, **change))
    problem = verify_chain(chain).problem
    assert problem is not None
    assert problem.startswith(f"audit row {chain[at].id}:")


@pytest.mark.parametrize(
    "tamper",
    [
        lambda rows: rows[:2] + rows[3:],
        lambda rows: rows[1:],
        lambda rows: [rows[1], rows[0], *rows[2:]],
        lambda rows: [*rows[:3], rows[2], *rows[3:]],
    ],
    ids=["deleted", "beheaded", "swapped", "doubled"],
)
def test_missing_moved_and_doubled_rows_are_found(chain: list[ChainedEntry], tamper: Tamper) -> None:
    """Each row names the one before it."""
    assert verify_chain(tamper(chain)).problem is not None


@pytest.mark.parametrize("number", [1, 2, 0, -1, float("nan")])
def test_a_row_whose_number_does_not_follow_is_found(chain: list[ChainedEntry], number: float) -> None:
    """The order of the rows is that of their numbers."""
    changed = [*chain[:2], replace(chain[2], id=number), *chain[3:]]  # type: ignore[arg-type]
    assert "its number does not follow 2" in str(verify_chain(changed).problem)


@pytest.mark.parametrize("details", ["[" * 100_000, "{", "1e", ""])
def test_a_row_that_cannot_be_read_is_damage_with_a_way_out(details: str) -> None:
    """However deep it nests."""
    row = {**audit_row(an_entry(1), GENESIS, "0" * 64), "id": 1, "details": details}
    with pytest.raises(LedgerCorruptError, match="audit row 1 in the ledger cannot be read"):
        to_chained(row)  # type: ignore[arg-type]


def test_rows_cut_off_at_the_end_show_against_a_known_head(chain: list[ChainedEntry]) -> None:
    """Without a head a shorter chain looks whole; with one it does not."""
    assert verify_chain(chain[:4]).problem is None
    assert "cut off" in str(verify_chain(chain[:4], head=chain[-1].hash).problem)


@pytest.mark.parametrize("statement", ["UPDATE audit SET why = 'else'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_the_audit(home: str, statement: str) -> None:
    """Append-only is kept by the tables themselves."""
    ledger = opened(home)
    ledger.append_audit(an_entry(1))
    with pytest.raises(LedgerError, match="append-only"), ledger._database.write() as connection:
        connection.exec_driver_sql(statement)
    assert ledger.audit() == [an_entry(1)]
    ledger.close()


def test_the_newest_entries_come_oldest_first(home: str) -> None:
    """`limit` keeps the newest; a watch's own entries can be asked for."""
    ledger = opened(home)
    for number in range(5):
        ledger.append_audit(replace(an_entry(number), watch_id=f"d{number % 2}"))
    assert [entry.details["n"] for entry in ledger.audit(limit=3)] == [2, 3, 4]
    assert [entry.details["n"] for entry in ledger.audit("d1")] == [1, 3]
    ledger.close()
