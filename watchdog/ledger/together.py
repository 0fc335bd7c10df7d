"""Deploy events that wait for the ledger at the same time are written in one transaction: they wait for the disk once.

Nobody is answered before the commit that holds what was written. PostgreSQL does this by itself for its sessions.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from watchdog.errors import LedgerError
from watchdog.ledger.engine import Database

Write = Callable[[Connection], None]


@dataclass(slots=True, eq=False)
class _Waiting:
    """One write, and how it ended."""

    write: Write
    is_over: bool = False
    error: BaseException | None = None


class Together:
    """Whoever comes while nobody writes, writes for all who have come by then; so many as there are threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._is_writing = False

    def write(self, write: Write) -> None:
        """Run a write in a transaction, and return once it is committed. What it raises undoes it, and no other.

        A write may be run twice: where one breaks the transaction that it shares, each is done again by itself.
        """
        (error,) = self.write_all([write])
        if error is not None:
            raise error

    def write_all(self, writes: Sequence[Write]) -> list[BaseException | None]:
        """The same of several at once; what each raised, or None."""
        mine = [_Waiting(write) for write in writes]
        # transactions of a shared ledger lock the watch before the chain: two in one could not
        if not mine or self._database.is_shared:
            for one in mine:
                self._write_all([one])
            return [one.error for one in mine]
        with self._turn:
            self._waiting += mine
            while self._is_writing and not mine[-1].is_over:
                self._turn.wait()
            if not mine[-1].is_over:
                batch, self._waiting, self._is_writing = self._waiting, [], True
        if not mine[-1].is_over:
            self._lead(batch)
        return [one.error for one in mine]

    def _lead(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._write_all(batch)
        finally:
            with self._turn:
                for one in batch:
                    one.is_over = True
                self._is_writing = False
                self._turn.notify_all()

    def _write_all(self, batch: Sequence[_Waiting]) -> None:
        try:
            with self._database.write() as connection:
                for one in batch:
                    one.write(connection)
        except BaseException as error:  # noqa: BLE001 (raised where it belongs: to whoever waits for that write)
            if _spares_nobody(error) or len(batch) == 1:
                for one in batch:
                    one.error = error
                return
            for one in batch:
                self._write_all([one])


def _spares_nobody(error: BaseException) -> bool:
    """Whether each by itself would fare no better: the disk is full, somebody holds the file, the daemon stops."""
    return not isinstance(error, Exception) or (isinstance(error, LedgerError) and not error.permanent)
