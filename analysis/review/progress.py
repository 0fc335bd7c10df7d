"""How far a long cell is: a line that updates itself in a notebook, a bar on a terminal, else nothing."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

_T = TypeVar("_T")
_SHORT = 20  # fewer are done before a bar is read


def progress(items: Sequence[_T], what: str) -> Iterator[_T]:
    """The same items; meanwhile it is shown how many are done, and nothing of it is left behind."""
    if len(items) < _SHORT:
        yield from items
    elif "ipykernel" in sys.modules:  # rich's own bar needs widgets there, or leaves its steps in the output
        yield from _in_notebook(items, what)
    else:
        yield from track(items, what, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _in_notebook(items: Sequence[_T], what: str) -> Iterator[_T]:
    from IPython import display

    line: Any = display.display(display.HTML(""), display_id=True)  # type: ignore[no-untyped-call]
    every = max(1, len(items) // 20)
    for done, item in enumerate(items):
        if line is not None and done % every == 0:
            bar = f'{what}: {done} of {len(items)} <progress value="{done}" max="{len(items)}"></progress>'
            line.update(display.HTML(bar))  # type: ignore[no-untyped-call]
        yield item
    if line is not None:
        line.update(display.HTML(""))  # type: ignore[no-untyped-call]
