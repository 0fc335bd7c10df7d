"""The pool of database connections that all versions share: as many slots as files, each held by one flock."""

import fcntl
import os
from pathlib import Path

SLOTS = 12


class ConnectionPool:
    """Real across processes: a slot is free again when it is given back, or when its process ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._paths = [folder / f"slot-{number}" for number in range(SLOTS)]

    def take(self) -> int | None:
        """A free slot, or None where all are taken."""
        for path in self._paths:
            slot = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(slot)
            else:
                return slot
        return None

    def give_back(self, slot: int) -> None:
        """Free a slot."""
        os.close(slot)
