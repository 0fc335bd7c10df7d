"""Nouns to JSON and back, exactly: a stored verdict must recompute bit for bit.

Floats keep every bit (Python writes the shortest text that reads back the same). JSON has no NaN and no infinity:
NaN is null where a float is expected, infinities are "inf" and "-inf". What does not fit its type is refused.
"""

import json
import math
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Decoder = Callable[[Any], Any]

_WRITER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_PLAIN = frozenset({str, bool, int})
_TEXTS, _NUMBERS = frozenset({str}), frozenset({float})
_INFINITIES = {"inf": math.inf, "-inf": -math.inf}


def dumps(value: object) -> str:
    """One canonical text per value: sorted keys, no blanks, ASCII."""
    return _WRITER.encode(to_json(value))


def loads(kind: type[T], text: str) -> T:
    """Read what `dumps` wrote; ValueError or TypeError where the text is no such noun."""
    result: T = decoder(cast(Hashable, kind))(json.loads(text))
    return result


def to_json(value: object) -> Any:
    """The value as dicts, lists, strings, numbers, booleans and None."""
    if value is None or type(value) in _PLAIN:
        return value
    if type(value) is float:  # first, for samples are made of these
        return _from_float(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):  # numpy's
        return _from_float(float(value))
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tuple | list):
        kinds = set(map(type, value))  # a look is some hundreds of texts and finite numbers, which are what they are
        if kinds == _TEXTS or (kinds == _NUMBERS and all(map(math.isfinite, value))):
            return list(value)
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(to_json(key)): to_json(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        named = ((name, getattr(value, name), is_seldom) for name, is_seldom in _names(type(value)))
        return {name: to_json(own) for name, own, is_seldom in named if not (is_seldom and own is None)}
    if hasattr(value, "__index__"):  # int, and numpy's integers
        return int(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")


@cache
def _names(kind: type) -> tuple[tuple[str, bool], ...]:
    """The fields, and whether each is left out while it is None: an older daemon beside us reads all that lacks it."""
    return tuple((f.name, bool(f.metadata.get("seldom"))) for f in fields(kind))


def _from_float(value: float) -> float | str | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


@cache
def decoder(kind: Any) -> Decoder:
    """The function that reads one type."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return lambda value: value
    if origin in (Union, types.UnionType):
        return _optional(args)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _tuple(args[0])
    if origin in (dict, Mapping):
        return _mapping(*args)
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if kind is float:
        return _to_float
    if kind in (str, int, bool):
        return _exactly(kind)
    raise TypeError(f"{kind!r} is not a type the ledger can read")


def _to_float(value: Any) -> float:
    if type(value) is float:
        return value
    if value is None:
        return math.nan
    if type(value) is int:
        return float(value)
    if isinstance(value, str) and value in _INFINITIES:
        return _INFINITIES[value]
    raise ValueError(f"{value!r} is not a number")


def _exactly(kind: type) -> Decoder:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"{value!r} is not of type {kind.__name__}")
        return value

    return read


def _optional(args: tuple[Any, ...]) -> Decoder:
    inner = [arg for arg in args if arg is not types.NoneType]
    if len(inner) != 1 or len(inner) == len(args):
        raise TypeError(f"{args!r}: of unions the ledger reads only X | None")
    read = decoder(inner[0])
    return lambda value: None if value is None else read(value)


def _tuple(item: Any) -> Decoder:
    read = decoder(item)

    def read_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is not a list")
        return tuple(map(read, value))

    return read_all


def _mapping(key: Any, item: Any) -> Decoder:
    read = decoder(item)
    read_key: Decoder = int if key is int else decoder(key)

    def read_all(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise TypeError(f"{value!r} is not an object")
        return {read_key(k): read(v) for k, v in value.items()}

    return read_all


def _dataclass(kind: type) -> Decoder:
    hints = get_type_hints(kind)
    readers = {f.name: decoder(hints[f.name]) for f in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}

    def read(value: Any) -> Any:
        if not isinstance(value, dict) or not needed <= value.keys() <= readers.keys():
            raise ValueError(f"{str(value)[:200]} is no {kind.__name__}")  # unknown fields are not guessed away
        return kind(**{name: readers[name](item) for name, item in value.items()})

    return read
