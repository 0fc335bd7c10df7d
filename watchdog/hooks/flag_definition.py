"""A flag as flagd's definition file describes it: read, changed, written. No I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from watchdog.hooks.weights import NEAR_ENOUGH

PERCENT = 100  # older flagd refuse weights of any other sum, so whole percents are written as such
FINEST = 10_000
ENABLED, DISABLED = "ENABLED", "DISABLED"


@dataclass(frozen=True, slots=True)
class Sides:
    """The variants of an action."""

    coming: str
    leaving: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What decides who gets which variant. targeting: a JSON-logic rule, empty for none."""

    variants: frozenset[str]
    state: str
    default: str | None
    targeting: Any

    def parts(self, *, by: str, first: Mapping[str, Any], disabled: str) -> Mapping[str, int] | None:
        """The weight of each variant that has any, beside those of the rule `first`; None: not in a form of ours."""
        if self.state == DISABLED:
            return {disabled: 1} if disabled else None
        return self._parts_of(self.targeting, by, first)

    def _parts_of(self, rule: Any, by: str, first: Mapping[str, Any]) -> Mapping[str, int] | None:
        if rule is None or rule == {}:
            return {self.default: 1} if self.default is not None else None
        if isinstance(rule, str):
            return {rule: 1}
        match rule:
            case {"if": [condition, _, rest]} if first and condition == first:
                return self._parts_of(rest, by, first)
            case {"if": [{"var": attribute}, inner, _]} if by and attribute == by:
                return self._parts_of(inner, by, first)
            case {"fractional": [*entries]}:
                return _weights(entries)
        return None


@dataclass(frozen=True, slots=True)
class Document:
    """The whole file, whose other content is kept as it is."""

    content: Mapping[str, Any]

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Parse the file; ValueError where it is no JSON object with flags, or says a key twice."""
        try:
            parsed = json.loads(content, object_pairs_hook=_no_key_twice)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        match parsed:
            case {"flags": {**_flags}}:
                return cls(parsed)
        raise ValueError('it holds no object "flags"')

    def definition(self, flag: str) -> Definition:
        """The flag's definition; ValueError where there is none that can be read."""
        if flag not in self.content["flags"]:
            raise ValueError(f"there is no flag {flag!r}")
        found = self.content["flags"][flag]
        match {"defaultVariant": None, "targeting": None, **found} if isinstance(found, dict) else None:
            case {
                "variants": {**variants},
                "state": ("ENABLED" | "DISABLED") as state,
                "defaultVariant": (str() | None) as default,
                "targeting": targeting,
            }:
                return Definition(
                    variants=frozenset(map(str, variants)),
                    state=state,
                    default=default or None,
                    targeting=targeting or {},
                )
        raise ValueError(f"the flag {flag!r} has no variants, state or default that can be read")

    def with_definition(self, flag: str, definition: Definition) -> bytes:
        """The file with this flag changed; members keep their order. ValueError: it cannot be written.

        JSON may escape half of a surrogate pair, which no text can hold otherwise: it goes back as the same escape.
        """
        changed = {**self.content["flags"][flag], "state": definition.state, "defaultVariant": definition.default}
        changed.pop("targeting", None)
        if definition.targeting:
            changed["targeting"] = definition.targeting
        flags = {**self.content["flags"], flag: changed}
        try:
            text = json.dumps({**self.content, "flags": flags}, indent=2, ensure_ascii=False, allow_nan=False)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        return f"{text}\n".encode("utf-8", "backslashreplace")


def wanted_definition(
    definition: Definition, sides: Sides, share: float, *, by: str, first: Mapping[str, Any], disabled: str
) -> Definition:
    """The definition that gives `coming` this share, 0..1, and `leaving` the rest.

    first: a rule of those who get `coming` in any case, while `leaving` still has everybody else or a part of them.
    ValueError: the share is finer than the weights can say.
    """
    if share == 1.0:
        if sides.coming == disabled:
            return replace(definition, state=DISABLED)
        return replace(definition, state=ENABLED, default=sides.coming, targeting={})
    rule: Any = sides.leaving
    if share > 0:
        part, whole = _whole_weights(share)
        bucket = [{"cat": [{"var": "$flagd.flagKey"}, {"var": by}]}] if by else []
        rule = {"fractional": [*bucket, [sides.coming, part], [sides.leaving, whole - part]]}
        if by:  # without the attribute everybody would fall into one and the same part
            rule = {"if": [{"var": by}, rule, sides.leaving]}
    if first:
        rule = {"if": [dict(first), sides.coming, rule]}
    targeting = {} if isinstance(rule, str) else rule
    return replace(definition, state=ENABLED, default=sides.leaving, targeting=targeting)


def _whole_weights(share: float) -> tuple[int, int]:
    for whole in (PERCENT, FINEST):
        part = round(share * whole)
        if 0 < part < whole and abs(part / whole - share) <= (1e-9 if whole == PERCENT else _allowed(share)):
            return part, whole
    raise ValueError(f"weights of 1 in {FINEST} cannot give a share of {share:g}")


def _allowed(share: float) -> float:
    return NEAR_ENOUGH * min(share, 1 - share)


def _weights(entries: list[Any]) -> Mapping[str, int] | None:
    """The weights of `fractional`, whose first entry may say what is drawn by; a variant without a weight has 1."""
    if entries and not isinstance(entries[0], list):
        entries = entries[1:]
    weights: dict[str, int] = {}
    for entry in entries:
        match entry:
            case [str(variant)]:
                weights[variant] = weights.get(variant, 0) + 1
            case [str(variant), int(weight)] if weight >= 0:
                weights[variant] = weights.get(variant, 0) + weight
            case _:
                return None
    return {variant: weight for variant, weight in weights.items() if weight} or None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it says a key twice")
    return found
