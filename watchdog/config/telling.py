"""Turns what pydantic found into sentences for people: what is wrong, what was expected."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from watchdog.config.secrets import names_a_secret

_EXPECTED_TYPES = {
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": 'a text in "quotes"',
    "tuple_type": "a list in [brackets]",
    "list_type": "a list in [brackets]",
    "set_type": "a list in [brackets]",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def sentence(error: ErrorDetails, model: type[BaseModel]) -> str:
    """Return what is wrong with one key and what was expected there."""
    kind, given, limits = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(str(error["loc"][-1]), _keys_beside(error["loc"], model))
    if kind == "missing":
        field = _field(error["loc"], model)
        about = f": {field.description}" if field is not None and field.description else ""
        return f"is missing{about}"
    if kind in _EXPECTED_TYPES:
        hint = " (seconds, without a unit)" if str(error["loc"][-1]).endswith("_s") else ""
        return f"expected {_EXPECTED_TYPES[kind]}{hint}, not {told(given)}"
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"{told(given)} is out of range; expected {words} {limits[bound]:g}"
    if kind in ("enum", "literal_error"):
        return one_of(given, _choices(limits["expected"]))
    if kind in ("too_short", "string_too_short"):
        return f"is empty; expected at least {limits['min_length']}"
    if kind in ("too_long", "string_too_long"):
        return f"is too long; expected at most {limits['max_length']}"
    if kind == "string_pattern_mismatch":
        return f"{told(given)} is not allowed; expected a text that matches {limits['pattern']}"
    if kind in ("value_error", "assertion_error") and "error" in limits:
        return str(limits["error"])
    return f"{told(given)} is not allowed; {_plain(error['msg'])}"


def told(value: Any) -> str:
    """Return a value as the file would show it, kept short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def one_of(given: Any, known: Sequence[str]) -> str:
    """Say that a word is none of the known ones, and which it was perhaps meant to be."""
    near = get_close_matches(given, known, n=1) if isinstance(given, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{told(given)} is not known; expected one of {', '.join(known)}{hint}"


def secret_remedy(key: str) -> str:
    """Say where a secret belongs instead of the file."""
    return (
        f"a secret does not belong in this file; put it in an environment variable and name that in {key}_env, "
        f"or in a file and name that in {key}_file"
    )


def _unknown_key(key: str, known: Sequence[str]) -> str:
    if names_a_secret(key):
        return secret_remedy(key)
    near = get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    return f"unknown key; expected one of {', '.join(known)}" if known else "unknown key; expected none here"


def _keys_beside(loc: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    return list(_fields_at(loc[:-1], model))


def _field(loc: Sequence[str | int], model: type[BaseModel]) -> FieldInfo | None:
    return _fields_at(loc[:-1], model).get(str(loc[-1]))


def _fields_at(loc: Sequence[str | int], model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields, by the names of the file, of the table at a path."""
    here: Any = model
    for part in loc:
        fields = _fields(here)
        here = _item_type(here) if fields is None else getattr(fields.get(str(part)), "annotation", None)
    return _fields(here) or {}


def _fields(annotation: Any) -> dict[str, FieldInfo] | None:
    annotation = _without_none(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {field.alias or name: field for name, field in annotation.model_fields.items()}
    return None


def _item_type(annotation: Any) -> Any:
    arguments = get_args(_without_none(annotation))
    if get_origin(_without_none(annotation)) is dict:
        return arguments[1]
    return arguments[0] if arguments else None


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next((a for a in get_args(annotation) if a is not type(None)), None)
    return annotation


def _choices(expected: str) -> list[str]:
    """Pydantic lists choices as `'a', 'b' or 'c'`."""
    return [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ")
    if message.startswith("Input should be "):
        return "expected " + message.removeprefix("Input should be ")
    return message[:1].lower() + message[1:]
