"""What a deploy does to the orders' database: `python -m watchdog.demo.migration --db orders.db rename|drop|lock`.

All of it is real SQL on the shop's real table. `lock` rewrites the table in batches until it is stopped, and each
batch holds the write lock for as long as it would on millions of rows.
"""

import argparse
import sqlite3
import time
from pathlib import Path

from watchdog.demo.orders import CENTS, TOTAL_CENTS

BATCH_S, BETWEEN_S = 4.0, 0.2
_PATIENCE_S = 20.0


def rename(db: sqlite3.Connection) -> None:
    """A column gets another name: whoever knows only the old one cannot write any more."""
    db.execute(f"ALTER TABLE orders RENAME COLUMN {CENTS} TO {TOTAL_CENTS}")


def drop(db: sqlite3.Connection) -> None:
    """A table is gone, and its rows with it."""
    db.execute("CREATE TABLE IF NOT EXISTS vouchers (code TEXT PRIMARY KEY, cents INTEGER)")
    db.execute("DROP TABLE vouchers")


def lock(db: sqlite3.Connection) -> None:
    """Every order is rewritten, batch by batch, each in one transaction that keeps all other writers out."""
    db.execute("ALTER TABLE orders ADD COLUMN currency TEXT")
    while True:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE orders SET currency = 'EUR'")
        time.sleep(BATCH_S)
        db.execute("COMMIT")
        time.sleep(BETWEEN_S)


MIGRATIONS = {"rename": rename, "drop": drop, "lock": lock}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m watchdog.demo.migration", description="The demo's migrations.")
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("migration", choices=MIGRATIONS)
    asked = parser.parse_args()
    db = sqlite3.connect(asked.db, timeout=_PATIENCE_S, isolation_level=None)
    MIGRATIONS[asked.migration](db)
    db.close()


if __name__ == "__main__":
    main()
