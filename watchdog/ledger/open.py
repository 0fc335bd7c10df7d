"""Opening a ledger: for a daemon (the only one of an SQLite file, one of several on PostgreSQL), or for readers."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import select

from watchdog.errors import LedgerCorruptError, LedgerError, LedgerOutdatedError
from watchdog.ledger.claims import void_leases
from watchdog.ledger.engine import RESTORE, Database, sqlite_engine
from watchdog.ledger.files import check_file, create_file
from watchdog.ledger.lock import FileLock
from watchdog.ledger.migrate import create_or_migrate, migrate, revision
from watchdog.ledger.postgres import MAX_SKEW_S, ClockGuard, lock_for_migration, postgres_engine
from watchdog.ledger.schema import HEAD, deploys
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
    password: SecretStr | None = None,
    max_skew_s: float = MAX_SKEW_S,
) -> SqlLedger:
    """Open the ledger for the daemon: an SQLite file is locked and checked; both kinds are created or migrated.

    password: for PostgreSQL, where PGPASSFILE or the server's trust do not do. max_skew_s: how far the clocks of
    this machine and of PostgreSQL may differ.

    Raises
    ------
    LedgerLockedError
        Another process has it; the message names that process.
    LedgerCorruptError
        It is damaged, and left as it is.
    LedgerError
        It is newer than this program, belongs to another one, cannot be reached or written.
    """
    if is_postgres(url_or_path):
        engine = postgres_engine(str(url_or_path), _revealed(password))
        shared = _shared(Database(engine, clock_guard=ClockGuard(clock, max_skew_s)))
        return SqlLedger(shared, sinks_for=sinks_for, failpoint=failpoint)
    path = _path(url_or_path)
    lock = FileLock(path, at=clock.now(), owner=owner, listen=listen)
    try:
        if path.exists():
            check_file(path)
        elif lock.held_deploys:
            raise LedgerCorruptError(_lost(path, "is missing", lock), permanent=True)
        else:
            create_file(path)
        database = _ready(path, lock)
    except BaseException:
        lock.release()
        raise
    return SqlLedger(database, sinks_for=sinks_for, lock=lock, failpoint=failpoint)


def _lost(path: Path, how: str, lock: FileLock) -> str:
    anew = f"To begin anew on purpose, remove {lock.path} as well"
    return f"{path} {how}, but it held deploys when it was last used; {RESTORE}. {anew}"


def _ready(path: Path, lock: FileLock) -> Database:
    """The database at the newest schema, free of the leases of a process that is gone."""
    with closing(_reader(path)) as reader, reader.read() as connection:
        found = revision(connection)  # before anything is written into what may not be ours
    database = Database(sqlite_engine(path))
    try:
        with database.write() as connection:
            if found != HEAD:
                migrate(connection)
            void_leases(connection)
            is_empty = connection.execute(select(deploys.c.id).limit(1)).first() is None
        if is_empty and lock.held_deploys:
            raise LedgerCorruptError(_lost(path, "is empty", lock), permanent=True)
        if not is_empty:
            lock.holds_deploys()
    except BaseException:
        database.close()
        raise
    return database


def _shared(database: Database) -> Database:
    """A PostgreSQL ledger at the newest schema; replicas that start together wait for each other."""
    try:
        with database.write() as connection:
            lock_for_migration(connection)
            create_or_migrate(connection)
    except BaseException:
        database.close()
        raise
    return database


def open_readonly(url_or_path: str | Path, *, password: SecretStr | None = None) -> SqlLedger:
    """Open the ledger for reading beside a running daemon: no lock, no migration, no write.

    Raises
    ------
    LedgerError
        It is not there, damaged, or of another schema than this program reads.
    """
    if is_postgres(url_or_path):
        name, database = (
            "the database",
            Database(postgres_engine(str(url_or_path), _revealed(password)), read_only=True),
        )
    else:
        path = _path(url_or_path)
        if not path.exists():
            raise LedgerError(
                f"there is no ledger at {path}; `ledger` in config.toml says where the daemon keeps it", permanent=True
            )
        check_file(path, read_only=True)
        name, database = str(path), _reader(path)
    try:
        with database.read() as connection:
            found = revision(connection)
        if found != HEAD:
            raise LedgerOutdatedError(
                f"{name} has schema {found}, this program reads {HEAD}; start the daemon once to bring it up to date",
                permanent=True,
            )
    except BaseException:
        database.close()
        raise
    return SqlLedger(database, sinks_for=lambda _: ())


def _reader(path: Path) -> Database:
    return Database(sqlite_engine(path, read_only=True), read_only=True)


def is_postgres(url_or_path: str | Path) -> bool:
    """Whether an address names a PostgreSQL database, in the ways libpq knows."""
    return isinstance(url_or_path, str) and url_or_path.startswith(("postgresql://", "postgres://"))


def _revealed(password: SecretStr | None) -> str | None:
    return None if password is None else password.get_secret_value()


def _path(url_or_path: str | Path) -> Path:
    text = str(url_or_path)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text).resolve()  # two names of one file share one lock
    if scheme in ("sqlite", "sqlite+pysqlite") and rest.startswith("/") and len(rest) > 1:
        return Path(rest[1:]).resolve()
    raise LedgerError(
        f"{scheme}:// is no ledger this version can use; name a file, sqlite:///FILE or postgresql://USER@HOST/DATABASE",
        permanent=True,
    )
