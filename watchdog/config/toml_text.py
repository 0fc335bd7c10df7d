"""Reads a TOML file into plain tables; what is no TOML is told with its line."""

import re
import tomllib
from pathlib import Path
from typing import Any

from watchdog.errors import ConfigError, Problem

_PLACE = re.compile(r"line (\d+), column (\d+)\)")
_LARGEST_FILE = 4 * 1024 * 1024


def read_text(path: Path) -> str:
    """Return the text of a configuration file."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        remedy = "name the configuration by --config, or have `deploy-watchdog init` write one"
        raise _one_problem(str(path), None, f"cannot be read: {error.strerror}; {remedy}") from None
    if len(raw) > _LARGEST_FILE:
        raise _one_problem(str(path), None, f"is larger than {_LARGEST_FILE} bytes; expected a configuration file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _one_problem(str(path), line, "is not UTF-8 text; save the file as UTF-8") from None


def parse(text: str, file: str) -> dict[str, Any]:
    """Return the tables of a TOML text."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _one_problem(file, None, "is nested too deeply; expected plain tables") from None
    except ValueError as error:  # also what int() says of a number with too many digits
        message, line = _syntax(str(error), text)
        raise _one_problem(file, line, message) from None


def _syntax(message: str, text: str) -> tuple[str, int | None]:
    what, at, where = message.rpartition(" (at ")
    if not at:
        return f"is not TOML: {message}", None
    if found := _PLACE.fullmatch(where):
        line, column = map(int, found.groups())
        is_a_word = what == "Invalid value" and _is_word(text, line, column)
        return f"is not TOML: {what}" + ("; text needs quotes" if is_a_word else ""), line
    return f"is not TOML: {what}; the file ends too early, is a bracket or quote left open?", text.count("\n") + 1


def _is_word(text: str, line: int, column: int) -> bool:
    """Whether a bare word stands there, and no True or False: a text without its quotes."""
    lines = text.split("\n")
    rest = lines[line - 1][column - 1 :] if line <= len(lines) else ""
    return rest[:1].isalpha() and not rest.startswith(("True", "False"))


def _one_problem(file: str, line: int | None, message: str) -> ConfigError:
    return ConfigError([Problem(file=file, line=line, key="", message=message)])
