"""What a process wrote and when it asked for it to be kept, as strace saw it; and the disks that a power cut at any
moment could have left."""

import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
_CALLS = "openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink,rename"
_LINE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_FILE = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Event:
    """One call: write, truncate, sync, create, unlink, rename; or `said`, what went to stdout."""

    kind: str
    path: str = ""
    at: int = 0  # where a write goes, how long a file becomes
    data: bytes = b""
    to: str = ""


def record(strace: str, code: str, folder: Path, cwd: Path) -> list[Event]:
    """Run a Python program that writes below `folder`; everything that it did there, and all it said, in order."""
    log = folder.with_name(f"{folder.name}.strace")
    argv = [strace, "-y", "-xx", "-s", "10000000", "-e", f"trace={_CALLS}", "-o", str(log)]
    subprocess.run([*argv, sys.executable, "-c", code], cwd=cwd, check=True, capture_output=True, timeout=170)
    return list(_events(log.read_text(errors="replace").splitlines(), str(folder)))


def _events(lines: Sequence[str], folder: str) -> Iterator[Event]:
    for line in lines:
        found = _LINE.match(line)
        if found is None or int(found[3]) < 0:
            continue
        call, rest = found[1], found[2]
        on, texts = _FILE.match(rest), [_bytes(text) for text in _TEXT.findall(rest)]
        path = _bytes(on[1]).decode() if on else texts[0].decode() if texts and call != "write" else ""
        if call == "write" and rest.startswith("1<"):
            yield Event("said", data=texts[0])
        elif path.startswith(folder):
            yield from _event(call, rest, path, texts)


def _event(call: str, rest: str, path: str, texts: Sequence[bytes]) -> Iterator[Event]:
    if call == "openat" and "O_CREAT" in rest:
        yield Event("create", texts[-1].decode())
    elif call == "pwrite64":
        yield Event("write", path, at=int(rest.rpartition(", ")[2]), data=texts[-1])
    elif call == "ftruncate":
        yield Event("truncate", path, at=int(rest.rpartition(", ")[2]))
    elif call in ("fsync", "fdatasync"):
        yield Event("sync", path)
    elif call == "unlink":
        yield Event("unlink", path)
    elif call == "rename":
        yield Event("rename", texts[0].decode(), to=texts[1].decode())
    elif call == "write":
        raise ValueError(f"a write without a place: {path}")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass(slots=True)
class _File:
    """What surely is on the disk, and what may be."""

    kept: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)

    def sync(self) -> None:
        for event in self.pending:
            _apply(self.kept, event)
        self.pending = []

    def left(self, dice: random.Random) -> bytes:
        """After a power cut: of what was not yet asked for any beginning, the last write torn between two sectors."""
        content = bytearray(self.kept)
        survivors = dice.randint(0, len(self.pending))
        for event in self.pending[:survivors]:
            _apply(content, event)
        if survivors < len(self.pending) and self.pending[survivors].kind == "write":
            torn = self.pending[survivors]
            sectors = dice.randint(0, len(torn.data) // SECTOR)
            _apply(content, Event("write", torn.path, torn.at, torn.data[: sectors * SECTOR]))
        return bytes(content)


def _apply(content: bytearray, event: Event) -> None:
    if event.kind == "truncate":
        del content[event.at :]
        content.extend(bytes(event.at - len(content)))
    elif event.data:
        content.extend(bytes(max(0, event.at - len(content))))
        content[event.at : event.at + len(event.data)] = event.data


_Names = dict[str, _File]


class Disk:
    """A folder as POSIX promises it: a file's content is kept by its sync, its name by the sync of the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._now: _Names = {}  # as the process sees it
        self._kept: _Names = {}  # what is surely on the disk
        self._pending: list[Callable[[_Names], object]] = []  # changes of names that may be

    def do(self, event: Event) -> None:
        """One call of the process."""
        if event.kind in ("write", "truncate"):
            self._now[event.path].pending.append(event)
        elif event.kind == "sync" and event.path == self._folder:
            self._kept, self._pending = dict(self._now), []
        elif event.kind == "sync":
            self._now[event.path].sync()
        elif event.kind == "create" and event.path not in self._now:
            file = _File()
            self._name(lambda names: names.update({event.path: file}))
        elif event.kind == "unlink":
            self._name(lambda names: names.pop(event.path, None))
        elif event.kind == "rename":
            self._name(lambda names: names.update({event.to: names.pop(event.path)}))

    def _name(self, change: Callable[[_Names], object]) -> None:
        change(self._now)
        self._pending.append(change)

    def left(self, dice: random.Random) -> dict[str, bytes]:
        """The folder after a power cut now: names as they were up to some moment, contents as `_File.left` says."""
        names = dict(self._kept)
        for change in self._pending[: dice.randint(0, len(self._pending))]:
            change(names)
        return {name: file.left(dice) for name, file in names.items()}
