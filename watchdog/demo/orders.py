"""The shop's orders: one SQLite table that all its processes write to, with the schema of their version."""

import sqlite3
from pathlib import Path

CENTS = "cents"  # the column as the old version knows it
TOTAL_CENTS = "total_cents"  # as the new version knows it after the migration `rename`
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, version TEXT, customer TEXT, items TEXT, cents INTEGER)"
)


class BusyError(Exception):
    """Somebody else holds the lock; to be tried again."""


class BrokenError(Exception):
    """The database refuses the order, and will refuse it again."""


class Orders:
    """Writes are small and rare enough to be made on the event loop; none of them waits for a lock."""

    def __init__(self, path: Path, *, column: str = CENTS) -> None:
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")  # a demo's orders need not survive a power cut
        self._db.execute(_SCHEMA)
        self._db.execute("PRAGMA busy_timeout=0")
        self._insert = f"INSERT INTO orders (version, customer, items, {column}) VALUES (?, ?, ?, ?)"  # noqa: S608

    def add(self, *, version: str, customer: str, items: str, cents: int) -> int:
        """Store one order and give its number.

        Raises
        ------
        BusyError
            The table is locked.
        BrokenError
            The table is not as this version knows it.
        """
        try:
            row = self._db.execute(self._insert, (version, customer, items, cents))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise BusyError(str(error)) from error
            raise BrokenError(str(error)) from error
        return int(row.lastrowid or 0)

    def count(self, version: str | None = None) -> int:
        """How many orders there are, of one version or of all."""
        query = "SELECT count(*) FROM orders WHERE ?1 IS NULL OR version = ?1"
        return int(self._db.execute(query, (version,)).fetchone()[0])

    def close(self) -> None:
        self._db.close()
