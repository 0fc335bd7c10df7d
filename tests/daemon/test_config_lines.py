"""The line locator finds every key of every way TOML has to write one."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.config.lines import Lines

TEXT = '''# a comment with [brackets] and "quotes"
top = 1
"quoted key" = 'x'
dotted.inner.leaf = """
several # no comment
[not.a.header]
lines ""quoted"" """

[plain] # after
a = [1, 2,
  3, # three
  [4,
   5]]
'lit.eral' = 2021-01-01T00:00:00Z
b = { x = 1, "y z" = { deep = "}" }, l = [ { k = "]" },
  { k = 2 } ] }

[[list]]
name = "first"
[list.sub]
key = true
[[list]]
name = 'second'
[[list.inner]]
z = 0x1F
[[list.inner]]
z = -inf

[a."b.c".d]
e = '\'\'raw " \\'\'\'
[a]
f = "esc \\" # \\\\"
"\\u0061\\t" = 1'''

PLACES = {
    ("top",): 2,
    ("quoted key",): 3,
    ("dotted",): 4,
    ("dotted", "inner", "leaf"): 4,
    ("plain",): 9,
    ("plain", "a", 0): 10,
    ("plain", "a", 2): 11,
    ("plain", "a", 3): 12,
    ("plain", "a", 3, 1): 13,
    ("plain", "lit.eral"): 14,
    ("plain", "b", "x"): 15,
    ("plain", "b", "y z", "deep"): 15,
    ("plain", "b", "l", 0, "k"): 15,
    ("plain", "b", "l", 1, "k"): 16,
    ("list",): 18,
    ("list", 0): 18,
    ("list", 0, "sub", "key"): 21,
    ("list", 1): 22,
    ("list", 1, "name"): 23,
    ("list", 1, "inner", 0, "z"): 25,
    ("list", 1, "inner", 1, "z"): 27,
    ("a", "b.c", "d"): 29,
    ("a", "b.c", "d", "e"): 30,
    ("a",): 31,
    ("a", "f"): 32,
    ("a", "a\t"): 33,
}
# In this text an inline table spans lines, which tomllib of Python 3.11 refuses; everything else is TOML 1.0.
VALID = TEXT.replace("},\n  { k = 2", "}, { k = 2")


@pytest.mark.parametrize(("path", "line"), PLACES.items(), ids=str)
def test_a_key_is_found_at_its_line(path: tuple[str | int, ...], line: int) -> None:
    """Tables, lists of tables, dotted and quoted keys, inline tables, list items."""
    assert Lines(TEXT).at(path) == line
    assert Lines(TEXT.replace("\n", "\r\n")).at(path) == line


def test_what_is_not_there_is_sought_at_its_parent() -> None:
    """A missing key is told where its table begins; nothing at all has no line."""
    lines = Lines(TEXT)
    assert lines.at(("list", 1, "inner", 1, "missing", "deeper")) == 26
    assert lines.at(("list", 7, "name")) == 18
    assert lines.at(("nowhere",)) is None
    assert lines.at(()) is None


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path


@pytest.mark.parametrize("text", [VALID, Path(__file__).parents[2].joinpath("config.toml").read_text()])
def test_every_leaf_that_toml_knows_has_a_line(text: str) -> None:
    """The locator's paths are tomllib's paths: none is missed and none has another name."""
    known = Lines(text)._lines
    assert [path for path in leaves(tomllib.loads(text)) if path not in known] == []


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=5)
SCALARS = st.one_of(
    st.integers(-99, 99),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


def written(value: Any, line_end: str) -> str:
    """A value as TOML, lists over several lines."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(f"{line_end}{written(item, line_end)}" for item in value) + line_end + "]"
    return "{" + ", ".join(f"{quoted(key)} = {written(inner, ' ')}" for key, inner in value.items()) + "}"


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(KEYS, VALUES, max_size=4),
    st.dictionaries(KEYS, VALUES, max_size=4),
    st.sampled_from([" ", "\n", "#x\n"]),
)
def test_any_document_is_located(table: dict[str, Any], item: dict[str, Any], line_end: str) -> None:
    """Whatever stands in keys and strings: every key's line is the line where it was written."""
    text = "[table]\n" + "".join(f"{quoted(k)} = {written(v, line_end)}\n" for k, v in table.items())
    text += "[[items]]\n" * 2 + "".join(f"{quoted(k)} = {written(v, line_end)}\n" for k, v in item.items())
    assert tomllib.loads(text) == {"table": table, "items": [{}, item]}
    lines = Lines(text)
    for path, keys in ((("table",), table), (("items", 1), item)):
        for key in keys:
            line = lines.at((*path, key))
            assert line is not None
            assert text.split("\n")[line - 1].startswith(f"{quoted(key)} = ")
