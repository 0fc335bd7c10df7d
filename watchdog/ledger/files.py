"""The SQLite file: whether it is sound, how it comes to be, what was lost when it is not there."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from watchdog.errors import LedgerCorruptError, LedgerError
from watchdog.ledger.engine import RESTORE, Database, ledger_error, sqlite_engine
from watchdog.ledger.migrate import create

WHOLE_CHECK_BYTES = 2**30  # beyond, indexes are not compared with their tables: a start must not take minutes


def check_file(path: Path, *, read_only: bool = False) -> None:
    """Read the whole structure of an existing file.

    Raises
    ------
    LedgerError
        It is a folder.
    LedgerCorruptError
        It is empty, cut short, damaged, or no database at all. It is left as it is.
    """
    if path.is_dir():
        raise LedgerError(f"{path} is a folder; name the ledger's file", permanent=True)
    cut = _cut_off(path)
    if cut:
        raise LedgerCorruptError(f"{path} {cut}; {RESTORE}", permanent=True)
    check = "integrity_check" if path.stat().st_size <= WHOLE_CHECK_BYTES else "quick_check"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode={'ro' if read_only else 'rw'}", uri=True)) as connection:
            connection.text_factory = lambda raw: raw.decode(errors="replace")
            connection.execute("PRAGMA busy_timeout=5000")
            found = [str(row[0]) for row in connection.execute(f"PRAGMA {check}(5)")]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        told = ledger_error(error)
        raise type(told)(f"{path}: {told.message}", permanent=told.permanent) from error
    if found != ["ok"]:
        raise LedgerCorruptError(f"{path} is damaged ({'; '.join(found)[:500]}); {RESTORE}", permanent=True)


def _cut_off(path: Path) -> str | None:
    """What SQLite itself would take for a new, empty database, or not notice: a file shorter than its head says."""
    with path.open("rb") as file:
        head = file.read(100)
    size = path.stat().st_size
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        return f"is not a database ({size} bytes): it was cut off, overwritten, or is something else"
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return None  # the head may speak of pages that are still in the log
    page = int.from_bytes(head[16:18], "big")
    expected = int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)
    return f"was cut off: it has {size} bytes and should have {expected}" if size < expected else None


def create_file(path: Path) -> None:
    """Make a new ledger beside its place and move it there whole: a crash leaves no half-made one.

    Raises
    ------
    LedgerError
        Its folder is missing or not writable, or the logs of a lost ledger lie there.
    """
    orphan = path.with_name(path.name + "-wal")
    if orphan.exists() and orphan.stat().st_size:  # a reader leaves an empty one behind
        raise LedgerCorruptError(f"{path} is missing, but {orphan.name} lies there; {RESTORE}", permanent=True)
    draft = path.with_name(path.name + ".new")
    try:
        for leftover in (draft, draft.with_name(draft.name + "-wal"), draft.with_name(draft.name + "-shm")):
            leftover.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(Database(sqlite_engine(draft))) as database, database.write() as connection:
            create(connection)
        # closing the last connection wrote the log into the file and removed it
        _sync(draft)
        draft.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise LedgerError(f"cannot create {path} ({error.strerror})", permanent=True) from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
