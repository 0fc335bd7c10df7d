"""A lock file per action that lives as long as any process of an attempt, even where the daemon does not."""

import fcntl
import hashlib
import os
import re
from pathlib import Path

_FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


class AttemptLock:
    """flock on `<state_dir>/<action_id>.lock`, inherited by the hook, released by the kernel alone."""

    def __init__(self, state_dir: Path) -> None:
        self._dir = state_dir

    def acquire(self, action_id: str) -> int | None:
        """An open, locked descriptor to hand to the hook, or None while a former attempt is alive.

        The owner ends it with os.close alone: an explicit unlock would also unlock it for the hook's children.
        """
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path(action_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if _try_lock(fd):
            return fd
        os.close(fd)
        return None

    def is_held(self, action_id: str) -> bool:
        try:
            fd = os.open(self._path(action_id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(fd)
        finally:
            os.close(fd)

    def _path(self, action_id: str) -> Path:
        safe = _FILE_NAME.fullmatch(action_id) is not None
        return self._dir / f"{action_id if safe else hashlib.sha256(action_id.encode()).hexdigest()}.lock"


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
