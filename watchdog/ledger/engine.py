"""Connections to the database: one for each thread that reads, one writer at a time, errors in our own words."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, exc

from watchdog.errors import LedgerCorruptError, LedgerError, LedgerRefusedError
from watchdog.ledger.postgres import ClockGuard, postgres_error

BUSY_TIMEOUT_MS = 5000
_DUPLICATE = frozenset({"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"})
_DAMAGE = (
    "malformed",
    "not a database",
    "not decode",  # text that is no UTF-8 was no text of ours
    "can't decode",
    "no such column",  # the schema said that it was ours
    "no such table",
)
_WRITER = "watchdog_writes"

_PRAGMAS = (
    f"busy_timeout={BUSY_TIMEOUT_MS}",
    "foreign_keys=ON",
    "synchronous=FULL",  # a commit that was answered survives a power cut
    "trusted_schema=OFF",
)
_WRITER_PRAGMAS = ("journal_mode=WAL", "journal_size_limit=67108864")


class Database:
    """An engine with short read transactions for any thread, and writing transactions.

    In SQLite one at a time: writers wait for each other on a lock of their own, for SQLite's busy handler polls and is
    not fair. BEGIN IMMEDIATE then never has to upgrade a lock, which is the one thing SQLite refuses instead of
    waiting. In PostgreSQL writers of several replicas wait for each other's rows.
    """

    def __init__(self, engine: Engine, *, read_only: bool = False, clock_guard: ClockGuard | None = None) -> None:
        self.engine = engine
        self.read_only = read_only
        self.is_shared = engine.dialect.name == "postgresql"
        self._clock_guard = clock_guard
        snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reads = engine.execution_options(**snapshot) if self.is_shared else engine
        self._writes = engine.execution_options(**{_WRITER: True})
        self._writer_lock: AbstractContextManager[object] = nullcontext() if self.is_shared else threading.Lock()
        self._own = threading.local()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot: the one that this thread has open, or a new one."""
        held: Connection | None = getattr(self._own, "connection", None)
        if held is not None:
            with translated():
                yield held
            return
        with translated(), self._reads.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every read of this thread within see the same moment, and pay for one transaction."""
        with self.read() as connection:
            outer = getattr(self._own, "connection", None)
            self._own.connection = connection
            try:
                yield
            finally:
                self._own.connection = outer

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back by any exception."""
        if self.read_only:
            raise LedgerError("the ledger was opened for reading only", permanent=True)
        with self._writer_lock, translated(), self._writes.begin() as connection:
            yield connection

    def check_clock(self, connection: Connection, asked_at: float | None = None) -> None:
        """Refuse (LedgerError) to a replica with a wrong clock what depends on one; alone, there is no other clock.

        asked_at: the time that it rests on, by our clock.
        """
        if self._clock_guard is not None:
            self._clock_guard.check(connection, asked_at)

    def close(self) -> None:
        self.engine.dispose()


def sqlite_engine(path: Path, *, read_only: bool = False) -> Engine:
    """An engine on one SQLite file; never creates the file."""
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
        poolclass=QueuePool,
        pool_size=24,  # kept open: opening one takes longer than most reads, and a storm of deploys has many threads
        max_overflow=-1,  # a thread that reads never waits for another one's connection
        hide_parameters=True,  # values are users' data and do not belong into error texts
    )
    pragmas = _PRAGMAS if read_only else _PRAGMAS + _WRITER_PRAGMAS

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: sqlite3.Connection, _record: object) -> None:
        dbapi_connection.isolation_level = None  # the driver must not begin transactions of its own
        for pragma in pragmas:
            dbapi_connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITER, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def translated() -> Iterator[None]:
    """Give the database's errors as LedgerError with a sentence that says what to do."""
    try:
        yield
    except exc.TimeoutError as error:
        raise LedgerError("the ledger is busy (all connections are in use); it is tried again") from error
    except (exc.DBAPIError, sqlite3.Error, UnicodeDecodeError) as error:
        raise ledger_error(error) from error


def is_duplicate(error: exc.IntegrityError) -> bool:
    """Whether a row with the same key was there already, as opposed to any other broken constraint."""
    name = getattr(error.orig, "sqlite_errorname", "")
    return name in _DUPLICATE or getattr(error.orig, "sqlstate", "") == "23505"  # PostgreSQL's unique_violation


def ledger_error(error: Exception) -> LedgerError:
    """What a driver's error means for the user."""
    original = getattr(error, "orig", None) or error
    text = str(original)
    if type(original).__module__.startswith("psycopg"):
        if isinstance(error, exc.IntegrityError | exc.DataError):  # the driver's own refusal has no state
            return LedgerRefusedError(f"the ledger refused: {' '.join(text.split())}", permanent=True)
        return postgres_error(" ".join(text.split()), getattr(original, "sqlstate", None))
    lower = text.lower()
    if any(sign in lower for sign in _DAMAGE):
        return LedgerCorruptError(f"the ledger is damaged ({text}); {RESTORE}", permanent=True)
    if "is full" in lower or "disk i/o" in lower:
        return LedgerError(f"the ledger could not be written ({text}); free space on its disk, nothing was lost")
    if "locked" in lower:
        return LedgerError(f"the ledger is busy ({text}); another program keeps a transaction open on it")
    if "readonly" in lower:
        return LedgerError(f"the ledger cannot be written ({text}); check who owns its file and folder", permanent=True)
    if isinstance(error, exc.IntegrityError):
        return LedgerRefusedError(f"the ledger refused: {text}", permanent=True)
    return LedgerError(f"the ledger refused: {text}")


RESTORE = (
    "it is left as it is. To restore: stop the daemon, move the file and its -wal and -shm files aside, put a backup "
    "in its place (or try `sqlite3 OLD .recover | sqlite3 NEW`), start again"
)
