"""Named places where a test may stop the daemon dead. Without the environment variables they cost one call.

FAILPOINTS="name:n:kill,…": at the n-th passing of `name` the process kills itself with SIGKILL. `stop` in place of
`kill` is SIGSTOP: it hangs, as in a long pause of the machine, until somebody sends SIGCONT.

FAILPOINTS_LOG=FILE: every passing appends a line with its name.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from watchdog.ports import Failpoint

VARIABLE = "FAILPOINTS"
LOG_VARIABLE = "FAILPOINTS_LOG"
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def failpoint_from(env: Mapping[str, str]) -> Failpoint:
    """The failpoint function the environment asks for; a no-op where it asks for nothing.

    Raises
    ------
    ValueError
        Where the variable is not of the form name:n:kill or name:n:stop.
    """
    armed = _parse(env.get(VARIABLE, ""))
    log = env.get(LOG_VARIABLE)
    if not armed and log is None:
        return lambda name: None
    passed: dict[str, int] = {}
    lock = Lock()

    def hit(name: str) -> None:
        if log is not None:
            with Path(log).open("a") as file:
                file.write(f"{name}\n")
        with lock:
            passed[name] = passed.get(name, 0) + 1
            number, sent = armed.get(name, (0, signal.SIGKILL))
            dies = number == passed[name]
        if dies:  # outside the lock: another thread must not wait for one that was stopped
            os.kill(os.getpid(), sent)

    return hit


def _parse(text: str) -> dict[str, tuple[int, signal.Signals]]:
    armed = {}
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition(":")
        number, _, verb = rest.partition(":")
        if not name or not number.isdigit() or verb not in _SIGNALS:
            raise ValueError(f"{VARIABLE}: {part!r} is not of the form name:n:kill or name:n:stop")
        armed[name] = int(number), _SIGNALS[verb]
    return armed
