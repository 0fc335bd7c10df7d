"""Named places where a test may stop the daemon dead. Without the environment variable they cost one call.

FAILPOINTS="name:n:kill,…": at the n-th passing of `name` the process kills itself with SIGKILL.
"""

import os
import signal
from collections.abc import Mapping
from threading import Lock

from watchdog.ports import Failpoint

VARIABLE = "FAILPOINTS"


def failpoint_from(env: Mapping[str, str]) -> Failpoint:
    """The failpoint function the environment asks for; a no-op where it asks for nothing.

    Raises
    ------
    ValueError
        Where the variable is not of the form name:n:kill.
    """
    armed = _parse(env.get(VARIABLE, ""))
    if not armed:
        return lambda name: None
    passed: dict[str, int] = {}
    lock = Lock()

    def hit(name: str) -> None:
        with lock:
            passed[name] = passed.get(name, 0) + 1
            if armed.get(name) == passed[name]:
                os.kill(os.getpid(), signal.SIGKILL)

    return hit


def _parse(text: str) -> dict[str, int]:
    armed = {}
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition(":")
        number, _, verb = rest.partition(":")
        if not name or not number.isdigit() or verb != "kill":
            raise ValueError(f"{VARIABLE}: {part!r} is not of the form name:n:kill")
        armed[name] = int(number)
    return armed
