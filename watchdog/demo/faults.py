"""What can be wrong with a version of the shop, as values a command line and an admin request can carry."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How one shop process behaves; the defaults are a version as good as any other."""

    errors: float = 0.01  # share of requests answered with 500
    slow: float = 1.0  # factor on every answer's latency, median and tail alike
    dead: bool = False  # 500 to everything
    hang: bool = False  # takes connections, never answers, soon refuses them; no metrics
    metrics: bool = True  # False: the metrics page drops every connection
    route: str = ""  # the route that route_errors is about, such as /login
    route_errors: float = 0.0  # share of that route's requests answered with 500, beside the errors of all
    at_once: float = 0.0  # requests it can serve at the same time; who comes when all are busy gets a 500. 0: any
    orders_lost: float = 0.0  # share of checkouts answered politely and without an order
    leak_mb_s: float = 0.0  # memory it takes every second and never gives back
    keeps_connections: bool = False  # never gives a database connection back to the pool that all versions share


def changed(fault: Fault, changes: Mapping[str, Any]) -> Fault:
    """The fault with some of its values replaced.

    Raises
    ------
    ValueError
        Naming the first unknown key or impossible value.
    """
    kinds = {f.name: f.type for f in fields(Fault)}
    for key, value in changes.items():
        if key not in kinds:
            raise ValueError(f"unknown fault {key!r}; known are {', '.join(sorted(kinds))}")
        if kinds[key] is bool and not isinstance(value, bool):
            raise ValueError(f"{key} is true or false, not {value!r}")
        if kinds[key] is float and not _is_number(value):
            raise ValueError(f"{key} is a number, not {value!r}")
        if kinds[key] is str and not isinstance(value, str):
            raise ValueError(f"{key} is a text, not {value!r}")
    result = replace(fault, **changes)
    for key in ("errors", "route_errors", "orders_lost"):
        if not 0 <= getattr(result, key) <= 1:
            raise ValueError(f"{key} is a share between 0 and 1, not {getattr(result, key)}")
    if min(result.at_once, result.leak_mb_s) < 0:
        raise ValueError("at_once and leak_mb_s are numbers from 0 on")
    if result.slow <= 0:
        raise ValueError(f"slow is a factor above 0, not {result.slow}")
    return result


def parse_fault(text: str) -> Fault:
    """Read `errors=0.06,slow=1.6,dead,hang`; empty is no fault."""
    changes: dict[str, bool | float | str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        key, given, value = part.partition("=")
        changes[key] = _value(key, value) if given else True
    return changed(Fault(), changes)


def render_fault(fault: Fault) -> str:
    """The text that `parse_fault` reads back."""
    normal = Fault()
    parts = []
    for field in fields(Fault):
        value = getattr(fault, field.name)
        if value != getattr(normal, field.name):
            parts.append(f"{field.name}={str(value).lower() if isinstance(value, bool) else value}")
    return ",".join(parts)


def _value(key: str, text: str) -> bool | float | str:
    if key == "route":
        return text
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{key}={text}: expected a number, true or false") from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
