"""Run one program within bounds: own process group, one deadline, flat memory, and no pipe that can hold us."""

import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from watchdog.ports import Clock

KEEP_BYTES = 32 * 1024  # of the beginning and of the end of the output
GLANCE_S = 0.02  # how often a silent program is looked at
LAST_WAIT_S = 2.0  # for the kernel to take a killed program, and what it left behind, away


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and how it may look around. `fds` stay open in the program.

    stdout: a descriptor that takes what it prints, whole and as it is; else that joins stderr in the bounded output.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None = None
    stdin: bytes = b""
    fds: tuple[int, ...] = ()
    stdout: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended; exit_code is negative for a signal, None where it could not even be killed."""

    exit_code: int | None
    output: str
    timed_out: bool
    duration_s: float


def run(program: Program, *, clock: Clock, timeout_s: float, grace_s: float) -> Finished:
    """Run to the end or to the deadline, then TERM, grace, KILL for the whole group. OSError: it never started.

    The run is over when the program's first process ends; what it leaves behind in its group is killed, so that
    nothing goes on changing production after its outcome is recorded.
    """
    began = clock.monotonic()
    with _Output() as output:
        process = _start(program, output.inlet)
        output.seal()
        watcher = _Watcher(process, output, clock)
        timed_out = not watcher.ends_within(timeout_s)
        if timed_out:
            _signal_group(process, signal.SIGTERM)
            watcher.ends_within(grace_s)
        leaves_others = _signal_group(process, signal.SIGKILL)
        watcher.ends_within(LAST_WAIT_S)
        if leaves_others:
            _wait_for_group(process, clock)
        output.take()
        return Finished(
            exit_code=process.poll(),
            output=output.text(),
            timed_out=timed_out,
            duration_s=clock.monotonic() - began,
        )


def _start(program: Program, inlet: int) -> subprocess.Popen[bytes]:
    # stdin is a file, not a pipe: a program that never reads it cannot block us.
    with tempfile.TemporaryFile() as stdin:
        stdin.write(program.stdin)
        stdin.seek(0)
        return subprocess.Popen(
            list(program.argv),
            stdin=stdin,
            stdout=inlet if program.stdout is None else program.stdout,
            stderr=inlet,
            env=dict(program.env),
            cwd=program.cwd,
            start_new_session=True,
            pass_fds=program.fds,
        )


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Whether anybody was there to be signalled."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # gone; or (macOS) only a zombie is left
        return False
    return True


def _wait_for_group(process: subprocess.Popen[bytes], clock: Clock) -> None:
    """A killed child still holds the lock of the attempt it inherited until the kernel has taken it away."""
    deadline = clock.monotonic() + LAST_WAIT_S
    while _signal_group(process, 0) and not _is_all_zombies(process.pid) and clock.monotonic() < deadline:
        clock.sleep(GLANCE_S)


def _is_all_zombies(group: int) -> bool:
    """Whether the group's members have given up all they held; a container's first process may never reap them."""
    states = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _parent, its_group = entry.read_text("utf-8", "replace").rpartition(")")[2].split()[:3]
            states += [state] if int(its_group) == group else []
    return bool(states) and set(states) <= {"Z", "X"}


class _Watcher:
    """Waits for the end of a program while its output is drained."""

    def __init__(self, process: subprocess.Popen[bytes], output: "_Output", clock: Clock) -> None:
        self._process, self._output, self._clock = process, output, clock

    def ends_within(self, seconds: float) -> bool:
        deadline = self._clock.monotonic() + seconds
        while self._process.poll() is None:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            self._output.wait(min(left, GLANCE_S))
        return True


class _Output:
    """The first and the last KEEP_BYTES of a pipe that may be endless, binary, or held open by strangers."""

    def __init__(self) -> None:
        self._outlet, self.inlet = os.pipe()
        os.set_blocking(self._outlet, False)
        self._sealed = False
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._outlet, selectors.EVENT_READ)
        self._first = bytearray()
        self._last = bytearray()
        self._dropped = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.seal()
        self._ready.close()
        os.close(self._outlet)

    def seal(self) -> None:
        """Close our own end of the pipe for writing, so that its end can be seen."""
        if not self._sealed:
            self._sealed = True
            os.close(self.inlet)

    def wait(self, seconds: float) -> None:
        """Sleep until there is output or the time is over, and take what is there."""
        if self._ready.select(seconds):
            self.take()

    def take(self) -> None:
        """Take what the pipe holds now."""
        with suppress(BlockingIOError):
            chunk = os.read(self._outlet, 1 << 20)
            if chunk:
                self._keep(chunk)
            elif self._ready.get_map():
                self._ready.unregister(self._outlet)

    def _keep(self, chunk: bytes) -> None:
        room = KEEP_BYTES - len(self._first)
        self._first += chunk[:room]
        self._last += chunk[room:]
        surplus = max(0, len(self._last) - KEEP_BYTES)
        del self._last[:surplus]
        self._dropped += surplus

    def text(self) -> str:
        """The kept output, with anything that is no printable text replaced."""
        if not self._dropped:
            return printable(self._first + self._last)
        return f"{printable(self._first)}\n… {self._dropped} bytes left out …\n{printable(self._last)}"


def printable(raw: bytes | bytearray) -> str:
    """Decode; undecodable bytes, control and direction characters become U+FFFD."""
    text = raw.decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
