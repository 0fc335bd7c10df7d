"""Presets: the metrics of widely used instrumentation as data, one TOML file each.

A file has `description`, `follows` (what names its series), `fingerprint` (series that must exist for it to match, with
the labels it tells them by), `service_labels` (labels that may name a service, the likeliest first), perhaps
`page = "exporter"` (who prints it is not the service), `resources = true` (no service by itself), `version_label`,
`if_missing` (the usual reason why part of it is absent) and `note`, and `[[metrics]]` tables in the words of
`[[services.X.metrics]]`. One with `[parameters]` is a template: its tables are copied and filled in.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_FINGERPRINT = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([a-zA-Z0-9_,]+)\})?")
_PLACE = re.compile(r"<([a-z]+)>")


@dataclass(frozen=True, slots=True)
class Mark:
    """One series name of a fingerprint, and the labels by which the preset tells such series apart."""

    name: str
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One preset as its file says it."""

    name: str
    description: str
    follows: str
    metrics: tuple[Mapping[str, Any], ...]
    fingerprint: tuple[Mark, ...] = ()
    service_labels: tuple[str, ...] = ()
    version_label: str = ""
    if_missing: str = ""
    note: str = ""
    is_exporter: bool = False
    is_resources: bool = False
    parameters: Mapping[str, str]
    text: str

    @property
    def is_template(self) -> bool:
        return bool(self.parameters)

    @property
    def needs_prometheus(self) -> bool:
        """Whether a metric is an expression, which pages alone cannot answer."""
        return any("promql" in table for table in self.metrics)

    @property
    def tables(self) -> str:
        """Return the `[[metrics]]` tables as they stand in the file, comments included."""
        return self.text[self.text.index("[[metrics]]") :]

    def filled(self, values: Mapping[str, str]) -> tuple[Mapping[str, Any], ...]:
        """Return a template's tables with these values; a table that lacks one is left out."""
        whole = [table for table in self.metrics if _places(table) <= values.keys()]
        return tuple({key: _fill(value, values) for key, value in table.items()} for table in whole)


@cache
def names() -> tuple[str, ...]:
    """Return the names of all presets, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


@cache
def preset(name: str) -> Preset:
    """Return a preset by its name, which is one of `names()` (KeyError)."""
    if name not in names():
        raise KeyError(name)
    text = (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    told = tomllib.loads(text)
    return Preset(
        name=name,
        description=told["description"],
        follows=told["follows"],
        metrics=tuple(told["metrics"]),
        fingerprint=tuple(_mark(one) for one in told["fingerprint"]),
        service_labels=tuple(told["service_labels"]),
        version_label=told.get("version_label", ""),
        if_missing=told.get("if_missing", ""),
        is_exporter=told.get("page") == "exporter",
        is_resources=told.get("resources", False),
        note=" ".join(told.get("note", "").split()),
        parameters=told.get("parameters", {}),
        text=text,
    )


def _mark(text: str) -> Mark:
    found = _FINGERPRINT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no fingerprint; expected name or name{{label,label}}")
    return Mark(found[1], frozenset(found[2].split(",")) if found[2] else frozenset())


def _places(table: Mapping[str, Any]) -> set[str]:
    return {place for value in table.values() if isinstance(value, str) for place in _PLACE.findall(value)}


def _fill(value: Any, values: Mapping[str, str]) -> Any:
    return _PLACE.sub(lambda place: values[place[1]], value) if isinstance(value, str) else value
