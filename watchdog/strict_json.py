"""JSON as it should be: one meaning per document, bounded in every direction."""

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 8
MAX_DIGITS = 20  # no honest number of ours is longer


class JsonError(ValueError):
    """The text is refused; the message says why, in words for its sender."""


def parse_object(raw: bytes, *, depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Read one JSON object from UTF-8.

    Refuses what the standard library lets pass: NaN and infinities, numbers too large for a float, keys given twice,
    lone surrogates, NUL and nesting deeper than `depth`.

    >>> parse_object(b'{"version": "v2"}')
    {'version': 'v2'}
    >>> parse_object(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    watchdog.strict_json.JsonError: the body gives the key 'a' twice
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
            object_pairs_hook=_pairs,
        )
    except UnicodeDecodeError:
        raise JsonError("the body is not UTF-8") from None
    except RecursionError:
        raise JsonError(f"the body nests deeper than {depth} levels") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    if not isinstance(value, dict):
        raise JsonError("the body is not a JSON object")
    _check(value, depth, depth)
    return value


def printable(text: str, limit: int = 60) -> str:
    """A name from outside as ASCII, for an error's sentence."""
    shown = text if len(text) <= limit else text[:limit] + "..."
    return shown.encode("ascii", "backslashreplace").decode("ascii")


def _check(value: object, levels: int, depth: int) -> None:
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise JsonError("the body holds half of a surrogate pair")
        if "\0" in value:  # PostgreSQL keeps no text with one
            raise JsonError("the body holds a NUL character")
        return
    if not isinstance(value, dict | list):
        return
    if levels == 0:
        raise JsonError(f"the body nests deeper than {depth} levels")
    for item in [*value.keys(), *value.values()] if isinstance(value, dict) else value:
        _check(item, levels - 1, depth)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise JsonError(f"the body gives the key {printable(key)!r} twice")
        found[key] = value
    return found


def _constant(word: str) -> NoReturn:
    raise JsonError(f"the body holds {word}, which is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise JsonError(f"the body holds a number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise JsonError("the body holds a number too large for a float")
    return number
