"""Results go into a file whole, or leave what was there: an interrupted run is no result."""

import sys
from pathlib import Path

from watchdog.errors import WatchdogError


def check_writable(out: Path | None) -> None:
    """Refuse a place that cannot be written, before the work is done (WatchdogError)."""
    if out is not None and str(out) != "-" and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise WatchdogError(f"{out} cannot be written: it must be a file in a folder that exists")


def write_whole(out: Path, text: str) -> None:
    """Write all of it; `-` is stdout."""
    if str(out) == "-":
        sys.stdout.write(text)
        return
    if out.exists() and not out.is_file():  # a pipe, a terminal
        out.write_text(text, encoding="utf-8")
        return
    part = out.with_name(f"{out.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(out)
