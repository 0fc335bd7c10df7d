"""The shop's orders: one SQLite table that all its processes write to."""

import sqlite3
from pathlib import Path

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, version TEXT, customer TEXT, items TEXT, cents INTEGER)"
)


class Orders:
    """Writes are small and rare enough to be made on the event loop."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")  # a demo's orders need not survive a power cut
        self._db.execute(_SCHEMA)

    def add(self, *, version: str, customer: str, items: str, cents: int) -> int:
        """Store one order and give its number."""
        row = self._db.execute(
            "INSERT INTO orders (version, customer, items, cents) VALUES (?, ?, ?, ?)",
            (version, customer, items, cents),
        )
        return int(row.lastrowid or 0)

    def count(self, version: str | None = None) -> int:
        """How many orders there are, of one version or of all."""
        query = "SELECT count(*) FROM orders WHERE ?1 IS NULL OR version = ?1"
        return int(self._db.execute(query, (version,)).fetchone()[0])

    def close(self) -> None:
        self._db.close()
