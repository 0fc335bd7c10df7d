"""How far a long command is: a bar on a terminal, else a line now and then. Always on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from watchdog.cli.output import tell


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, else a line for every tenth of the cases, on stderr."""
    if not sys.stderr.isatty():
        yield _tenths
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tenths(done: int, total: int) -> None:
    if done == total or 10 * done // total > 10 * (done - 1) // total:
        tell(f"judged {done} of {total}")
