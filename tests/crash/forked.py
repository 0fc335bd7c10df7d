"""The real daemon, `deploy-watchdog run`, in a process of its own: a new one, or a fork of one that has imported it.

Importing the daemon costs seconds of CPU, everything it does with its configuration, ledger and sockets a fraction of
one. A fork of a process that has imported and done nothing else is the daemon in all but those imports, so that
thousands of kills can be afforded.
"""

import gc
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from watchdog.web.rendering import templates

ROOT = Path(__file__).parents[2]
_IMPORTED = (  # some of these only when they are first used
    "watchdog.app", "watchdog.cli", "watchdog.cli.logs", "watchdog.ledger.migrate", "anyio._backends._asyncio",
    "apscheduler.triggers.interval", "pydantic.v1", "typer.completion", "uvicorn.lifespan.off", "uvicorn.loops.asyncio",
)  # fmt: skip


def import_everything() -> None:
    """What every daemon would import by itself; nothing is run."""
    for name in _IMPORTED:
        importlib.import_module(name)
    templates()
    gc.freeze()  # what is shared between all forks stays shared


def start(world: Path, env: Mapping[str, str], *, anew: bool) -> int:
    """Start a daemon in a world; its process id."""
    return _spawned(world, env) if anew else _forked(world, env)


def _spawned(world: Path, env: Mapping[str, str]) -> int:
    with (world / "daemon.log").open("ab") as log:
        argv = [sys.executable, "-m", "watchdog", "run", "--config", "config.toml"]
        whole = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        process = subprocess.Popen(argv, cwd=world, env=whole, stdout=log, stderr=log, start_new_session=True)
    process.returncode = 0  # it is reaped by whoever waits for the id; Popen need not
    return process.pid


def _forked(world: Path, env: Mapping[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.chdir(world)
        log = os.open("daemon.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for standard in (1, 2):
            os.dup2(log, standard)
        os.closerange(3, 1024)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(env)
        sys.argv = ["deploy-watchdog", "run", "--config", "config.toml"]
        from watchdog.__main__ import main

        code = main()
    finally:
        os._exit(code)


def reap(pid: int) -> bool:
    """Whether a daemon has ended; never waits."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
