"""One process per SQLite file: an flock beside it, held until the process ends however it ends."""

import fcntl
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from watchdog.errors import LedgerError, LedgerLockedError


class FileLock:
    """Holds `<file>.lock` and says in it who holds it. The file stays; only the flock counts."""

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
        self._sign({"pid": os.getpid(), "started_at": at, "owner": owner, "listen": listen})

    def _sign(self, holder: dict[str, object]) -> None:
        with suppress(OSError):  # on a full disk the lock holds all the same, only unsigned
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(holder).encode(), 0)

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _describe(content: bytes) -> str:
    try:
        holder = json.loads(content)
        started = datetime.fromtimestamp(float(holder["started_at"]), UTC).isoformat(timespec="seconds")
        listen = f", listening on {holder['listen']}" if holder.get("listen") else ""
        return f"process {int(holder['pid'])} (started {started}{listen})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "another process"  # it has the lock and has not signed yet
