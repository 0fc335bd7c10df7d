"""The demo's processes: each in a group of its own, all ended whatever happens."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from watchdog.demo.serving import HOST

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 4.0
_PORTS = range(18_000, 30_000)  # below the ports that the system gives to outgoing connections


class Processes:
    """Starts programs with their output in files of `folder`, and ends all of them together."""

    def __init__(self, folder: Path, *, remove: bool) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._guard = self._start_guard()
        if remove:
            self._tell_guard(f"rm {folder}")

    def start(self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
        """Run `python argv` under `name`."""
        with (self._folder / f"{name}.log").open("ab") as log, (self._folder / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environment(env),
                cwd=self._folder,
                start_new_session=True,
            )
        self._running[name] = process
        self._tell_guard(f"+{process.pid}")

    def alive(self, name: str) -> bool:
        return name in self._running and self._running[name].poll() is None

    def stop(self, name: str) -> None:
        """End one process politely, its group surely."""
        process = self._running.pop(name, None)
        if process is not None:
            self._end({name: process})

    def kill(self, name: str) -> None:
        """SIGKILL one process alone, as the harshest crash does; what it started lives on."""
        process = self._running.pop(name)
        process.kill()
        process.wait()
        self._tell_guard(f"-{process.pid}")

    def close(self) -> None:
        """End everything."""
        self._end(self._running)
        self._running = {}
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait(timeout=STOP_S + 4)

    def _end(self, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
        for process in processes.values():
            _signal_group(process, signal.SIGTERM)
        for process in processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_S)
        for process in processes.values():
            _signal_group(process, signal.SIGKILL)
            process.wait()
            self._tell_guard(f"-{process.pid}")

    def _start_guard(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "watchdog.demo.guard"],
            stdin=subprocess.PIPE,
            env=environment(None),
            start_new_session=True,
        )

    def _tell_guard(self, line: str) -> None:
        if self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(f"{line}\n".encode())
                self._guard.stdin.flush()


def environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """Our environment, with this checkout importable from anywhere."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(more or {})}


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different."""
    dice = random.SystemRandom()
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = dice.choice(_PORTS)
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind((HOST, port))
                ports.append(port)
        return ports


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
