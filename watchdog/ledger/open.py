"""Opening a ledger: for the one daemon that owns it, or for anyone who only reads."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from watchdog.errors import LedgerError
from watchdog.ledger.claims import void_leases
from watchdog.ledger.engine import Database, sqlite_engine
from watchdog.ledger.files import check_file, create_file
from watchdog.ledger.lock import FileLock
from watchdog.ledger.migrate import migrate, revision
from watchdog.ledger.schema import HEAD
from watchdog.ledger.sql import SqlLedger
from watchdog.ports import Clock, Failpoint


def open_ledger(
    url_or_path: str | Path,
    *,
    clock: Clock,
    owner: str,
    sinks_for: Callable[[str], tuple[str, ...]],
    listen: str = "",
    failpoint: Failpoint = lambda _: None,
) -> SqlLedger:
    """Open the ledger for the daemon: lock it, check it, create or migrate it.

    Raises
    ------
    LedgerLockedError
        Another process has it; the message names that process.
    LedgerCorruptError
        It is damaged, and left as it is.
    LedgerError
        It is newer than this program, belongs to another one, or cannot be written.
    """
    path = _path(url_or_path)
    lock = FileLock(path, at=clock.now(), owner=owner, listen=listen)
    try:
        if path.exists():
            check_file(path)
        else:
            create_file(path)
        database = _ready(path)
    except BaseException:
        lock.release()
        raise
    return SqlLedger(database, sinks_for=sinks_for, lock=lock, failpoint=failpoint)


def _ready(path: Path) -> Database:
    """The database at the newest schema, free of the leases of a process that is gone."""
    with closing(_reader(path)) as reader, reader.read() as connection:
        found = revision(connection)  # before anything is written into what may not be ours
    database = Database(sqlite_engine(path))
    try:
        with database.write() as connection:
            if found != HEAD:
                migrate(connection)
            void_leases(connection)
    except BaseException:
        database.close()
        raise
    return database


def open_readonly(url_or_path: str | Path) -> SqlLedger:
    """Open the ledger for reading beside a running daemon: no lock, no migration, no write.

    Raises
    ------
    LedgerError
        It is not there, damaged, or of another schema than this program reads.
    """
    path = _path(url_or_path)
    if not path.exists():
        raise LedgerError(f"there is no ledger at {path}", permanent=True)
    check_file(path, read_only=True)
    database = _reader(path)
    try:
        with database.read() as connection:
            found = revision(connection)
        if found != HEAD:
            raise LedgerError(
                f"{path} has schema {found}, this program reads {HEAD}; start the daemon once to bring it up to date",
                permanent=True,
            )
    except BaseException:
        database.close()
        raise
    return SqlLedger(database, sinks_for=lambda _: ())


def _reader(path: Path) -> Database:
    return Database(sqlite_engine(path, read_only=True), read_only=True)


def _path(url_or_path: str | Path) -> Path:
    text = str(url_or_path)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text).resolve()  # two names of one file share one lock
    if scheme in ("sqlite", "sqlite+pysqlite") and rest.startswith("/") and len(rest) > 1:
        return Path(rest[1:]).resolve()
    raise LedgerError(f"{scheme}:// is no ledger this version can use; name a file, or sqlite:///FILE", permanent=True)
