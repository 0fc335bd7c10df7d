"""Ends what a crashed demo left behind: `python -m watchdog.demo.guard`, told process groups on stdin.

`+123` takes process group 123 under guard, `-123` lets it go, `rm PATH` names the folder to remove. When stdin
closes, be it because the demo was killed outright, everything still under guard is ended.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable

GRACE_S = 2.0


def guard(lines: Iterable[str]) -> None:
    """Follow the lines to their end, then clean up."""
    groups: set[int] = set()
    folders: set[str] = set()
    for line in lines:
        text = line.strip()
        if text.startswith("+"):
            groups.add(int(text[1:]))
        elif text.startswith("-"):
            groups.discard(int(text[1:]))
        elif text.startswith("rm "):
            folders.add(text[3:])
        elif text.startswith("keep "):
            folders.discard(text[5:])
    if groups:
        _end(groups)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _end(groups: set[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        if number is signal.SIGTERM:
            time.sleep(GRACE_S)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it outlives what it guards
    guard(sys.stdin)


if __name__ == "__main__":
    main()
