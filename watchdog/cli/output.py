"""What commands print: one JSON document, or lines for people. Text from outside cannot move the cursor."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from shutil import get_terminal_size
from textwrap import fill
from typing import Any

import typer

from watchdog.errors import WatchdogError

_HARMLESS = "\t\u202f"  # tabs between columns, thin spaces in numbers


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(printable(line))


def tell(sentence: str) -> None:
    """Say something beside the result, on stderr."""
    typer.echo(printable(sentence), err=True)


def is_terminal() -> bool:
    """Whether people read it; else it is for cut and awk, and its words stay as they are."""
    return sys.stdout.isatty()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a drawn table on a terminal, else one line a row with tabs between, for cut and awk."""
    if not is_terminal():
        print_lines("\t".join(row) for row in rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)


def print_records(columns: Sequence[str], rows: Sequence[Sequence[str]], *, keep: Sequence[str]) -> None:
    """Print like `print_table`, for rows that end in a sentence; nothing is ever cut off or broken in the middle.

    Where a terminal has no room for it beside the row, the sentence stands on a line of its own below; where it has
    none for the row either, only the columns to keep are shown.
    """
    if not is_terminal():
        print_lines("\t".join(row) for row in rows)
        return
    width = get_terminal_size().columns
    *others, _ = shown = [[printable(cell) for cell in column] for column in zip(columns, *rows, strict=True)]
    if _room(shown) <= width:
        typer.echo("\n".join(_aligned(shown)))
        return
    if _room(others) > width:
        others = [column for column in others if column[0] in keep]
    head, *lines = _aligned(others)
    typer.echo(head)
    for line, row in zip(lines, rows, strict=True):
        indented = fill(
            printable(row[-1]), max(width, 20), initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
        )
        typer.echo(f"{line}\n{indented}")


def _room(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns) - 2


def _aligned(columns: Sequence[Sequence[str]]) -> list[str]:
    wide = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    return ["  ".join(cells).rstrip() for cells in zip(*wide, strict=True)]


def printable(text: str) -> str:
    """Return the text with everything that a terminal would obey made visible."""
    return "".join(sign if sign.isprintable() or sign in _HARMLESS else f"\\x{ord(sign):02x}" for sign in text)


def when(at: float | None) -> str:
    """Return a time as people read it, in UTC."""
    if at is None:
        return "-"
    try:
        return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{at:g}"


def word(watch: Mapping[str, Any]) -> str:
    """Return the outcome, or while there is none the state."""
    return str(watch.get("outcome") or watch.get("state") or "-")


def marked(watch: Mapping[str, Any]) -> str:
    """Return the outcome for people: with what had been found, where it does not say so itself."""
    found = watch.get("verdict") == "DEGRADED" and watch.get("degraded_at") is not None
    ended_otherwise = watch.get("outcome") in ("superseded", "cancelled", "inconclusive")
    return f"{word(watch)}, was worse" if found and ended_otherwise else word(watch)


def sentence_of(watch: Mapping[str, Any]) -> str:
    """Return the watch's one sentence."""
    return str(watch.get("sentence") or f"{watch.get('service')} {watch.get('version')}: {word(watch)}")


def required(answer: Mapping[str, Any], key: str) -> Any:
    """Return a field that every answer of the API has."""
    if key not in answer:
        raise WatchdogError(f"the daemon's answer has no {key!r}; is it of the same version as this command?")
    return answer[key]
