"""Replace a file that somebody else reads, whole or not at all, and put it back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from watchdog.hooks.wanted_state import Span, impossible, locked

MAX_BYTES = 8 * 1024 * 1024


def read(path: Path) -> bytes:
    """The file's content; ends the attempt where it cannot be read or is beyond MAX_BYTES."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        impossible(f"{path}: {error.strerror}")
    if len(content) > MAX_BYTES:
        impossible(f"{path} is larger than {MAX_BYTES} bytes")
    return content


def replace(path: Path, content: bytes) -> None:
    """Write beside it, flush to the disk, rename over it: readers see the old or the new file, also after a crash.

    Links are followed, mode and (where we may) owner are kept. OSError is an answer, not an exception.
    """
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.deploy-watchdog")
    try:
        with suppress(FileNotFoundError):
            fresh.unlink()
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                _look_like(target, file.fileno())
                os.fsync(file.fileno())
            fresh.replace(target)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        _flush_folder(target.parent)
    except OSError as error:
        impossible(f"{path} cannot be replaced: {error.strerror}")


@contextmanager
def only_us(path: Path, span: Span) -> Iterator[None]:
    """Keep every other hook of ours away from the file meanwhile, also one of another daemon on this machine."""
    target = path.resolve()
    with locked(target.with_name(f".{target.name}.lock"), span):
        yield


def _look_like(target: Path, fd: int) -> None:
    with suppress(FileNotFoundError):
        known = target.stat()
        os.fchmod(fd, known.st_mode & 0o7777)
        with suppress(PermissionError):
            os.fchown(fd, known.st_uid, known.st_gid)


def _flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
