"""One process per SQLite file: an flock beside it, held until the process ends however it ends.

What is written into it also tells whether the ledger has ever held a deploy: one that has lost its file, or its log
with everything in it, must not be taken for a new one.
"""

import fcntl
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from watchdog.errors import LedgerError, LedgerLockedError


class FileLock:
    """Holds `<file>.lock` and says in it who holds it. The file stays; only the flock counts.

    held_deploys: whether the ledger ever held one, as far as this file knows.
    """

    def __init__(self, ledger: Path, *, at: float, owner: str, listen: str) -> None:
        self.path = ledger.with_name(ledger.name + ".lock")
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LedgerError(f"cannot write {self.path} ({error.strerror})", permanent=True) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _describe(os.pread(self._fd, 4096, 0))
            os.close(self._fd)
            raise LedgerLockedError(
                f"{ledger} is in use by {holder}; one process per ledger file. Stop it, or name another file "
                "in [daemon] ledger",
                permanent=True,
            ) from None
        self.held_deploys = _held_deploys(os.pread(self._fd, 4096, 0))
        self._holder = {"pid": os.getpid(), "started_at": at, "owner": owner, "listen": listen}
        self._sign()

    def holds_deploys(self) -> None:
        """A deploy is on record; from now on an empty ledger here is a lost one."""
        if not self.held_deploys:
            self.held_deploys = True
            self._sign()

    def _sign(self) -> None:
        content = json.dumps({**self._holder, "held_deploys": self.held_deploys}).encode()
        with suppress(OSError):  # on a full disk the lock holds all the same, only unsigned
            os.pwrite(self._fd, content, 0)
            os.ftruncate(self._fd, len(content))

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _held_deploys(content: bytes) -> bool:
    try:
        return json.loads(content)["held_deploys"] is True
    except (ValueError, KeyError, TypeError):
        return False  # a new file, or one that an older version signed


def _describe(content: bytes) -> str:
    try:
        holder = json.loads(content)
        started = datetime.fromtimestamp(float(holder["started_at"]), UTC).isoformat(timespec="seconds")
        listen = f", listening on {holder['listen']}" if holder.get("listen") else ""
        return f"process {int(holder['pid'])} (started {started}{listen})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "another process"  # it has the lock and has not signed yet
