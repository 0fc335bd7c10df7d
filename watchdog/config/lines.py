"""Where every key of a TOML text stands. The text is known to be valid: tomllib has read it."""

import re
from collections.abc import Sequence

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LITERAL_END = re.compile(r"[,\]}#\n]")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'  # multi-line basic; up to two quotes may stand before the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|["\\bfnrt])')
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


class Lines:
    """The line of every table, key, list item and inline key of one TOML text."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._position = 0
        self._counted, self._line = 0, 1
        self._table: Path = ()
        self._arrays: dict[Path, int] = {}  # array of tables → index of its last one
        self._lines: dict[Path, int] = {}
        self._read_document()

    def at(self, path: Sequence[str | int]) -> int | None:
        """Return the line of a path, or of its nearest parent that stands in the text."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(tuple(path[:length]))
            if line is not None:
                return line
        return None

    def _read_document(self) -> None:
        self._skip(_BLANK)
        while self._position < len(self._text):
            if self._text[self._position] == "[":
                self._read_header()
            else:
                self._read_pair(self._table)
            self._skip(_BLANK)

    def _read_header(self) -> None:
        line = self._line_here()
        is_array = self._text.startswith("[[", self._position)
        self._position += 2 if is_array else 1
        parts = self._read_key()
        self._position += 2 if is_array else 1
        path: Path = ()
        for index, part in enumerate(parts):
            path = (*path, part)
            self._lines.setdefault(path, line)
            if is_array and index == len(parts) - 1:
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                path = (*path, self._arrays[path])
                self._lines.setdefault(path, line)
        self._lines[path] = line  # [a] after [a.b]: its own header is the better place
        self._table = path

    def _read_pair(self, table: Path) -> None:
        line = self._line_here()
        path = table
        for part in self._read_key():
            path = (*path, part)
            self._lines.setdefault(path, line)
        self._skip(_SPACE)
        self._position += 1  # =
        self._skip(_SPACE)
        self._read_value(path)

    def _read_key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_SPACE)
            if self._text[self._position] in "\"'":
                parts.append(_unquoted(self._take(_STRING)))
            else:
                parts.append(self._take(_BARE))
            self._skip(_SPACE)
            if self._text[self._position] != ".":
                return parts
            self._position += 1

    def _read_value(self, path: Path) -> None:
        first = self._text[self._position]
        if first in "\"'":
            self._skip(_STRING)
        elif first == "[":
            self._read_list(path)
        elif first == "{":
            self._read_inline_table(path)
        else:
            end = _LITERAL_END.search(self._text, self._position)
            self._position = end.start() if end else len(self._text)

    def _read_list(self, path: Path) -> None:
        self._position += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self._text[self._position] == "]":
                break
            self._lines[*path, index] = self._line_here()
            self._read_value((*path, index))
            index += 1
            self._skip(_BLANK)
            if self._text[self._position] == ",":
                self._position += 1
        self._position += 1

    def _read_inline_table(self, path: Path) -> None:
        self._position += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._position] == "}":
                break
            self._read_pair(path)
            self._skip(_BLANK)
            if self._text[self._position] == ",":
                self._position += 1
        self._position += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._position)
        if found is None:
            raise ValueError(f"not TOML at offset {self._position}")
        self._position = found.end()
        return found.group()

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._position)
        self._counted = self._position
        return self._line


def _unquoted(text: str) -> str:
    if text.startswith("'"):
        return text[1:-1]
    return _ESCAPE.sub(lambda m: _ESCAPED.get(m[1]) or chr(int(m[1][1:], 16)), text[1:-1])
