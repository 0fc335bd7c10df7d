"""The annotated config.toml: it loads as it stands, names every key there is, and no key that is not."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from watchdog.app import adapter_options, load_config
from watchdog.config import (
    AuthConfig,
    Config,
    DaemonConfig,
    JudgeConfig,
    MetricConfig,
    PolicyConfig,
    ServiceConfig,
    StepsConfig,
)
from watchdog.config.secrets import names_a_secret
from watchdog.config.tables import TokenConfig
from watchdog.model import Mode

FILE = Path(__file__).parents[2] / "config.toml"
TABLES: dict[str, type[BaseModel]] = {
    "daemon": DaemonConfig,
    "auth": AuthConfig,
    "auth.tokens": TokenConfig,
    "judge": JudgeConfig,
    "policy": PolicyConfig,
    "services.shop": ServiceConfig,
    "services.shop.metrics": MetricConfig,
    "services.shop.steps": StepsConfig,
}
_HEADER = re.compile(r"^(?:# )?\[\[?([a-z_.]+)\]\]?\s*(?:#.*)?$")
_PAIR = re.compile(r"^(?:# )?([a-z_]+) = (.*)$")


@dataclass
class Said:
    """One `key = value  # comment` of the file, switched on or not."""

    line: int
    value: Any
    comment: str


@dataclass
class Table:
    path: str
    keys: dict[str, Said] = field(default_factory=dict)


def tables() -> list[Table]:
    """Every table of the file with its keys, also those that are commented out."""
    found = [Table("")]
    for number, line in enumerate(FILE.read_text().splitlines(), 1):
        if header := _HEADER.match(line):
            found.append(Table(header[1]))
        elif pair := _PAIR.match(line):
            found[-1].keys[pair[1]] = Said(number, tomllib.loads(f"x = {pair[2]}")["x"], pair[2].rpartition("#")[2])
    return found[1:]


def adapters() -> Iterator[tuple[str, type[BaseModel]]]:
    for section, kinds in adapter_options().items():
        for kind, options in kinds.items():
            yield f"{section} {kind}", options


def mentioned(name: str) -> list[Table]:
    """The tables of a fixed path, or of an adapter's kind (`sources scrape`)."""
    if name in TABLES:
        return [table for table in tables() if table.path == name]
    section, kind = name.split(" ")
    named = {t.path for t in tables() if t.path.startswith(f"{section}.") and said(t, "kind") == kind}
    return [table for table in tables() if table.path in named]


def said(table: Table, key: str) -> Any:
    return table.keys[key].value if key in table.keys else None


def subtables(paths: set[str]) -> set[str]:
    """Keys that are written as tables of their own below one of the paths."""
    return {t.path.rpartition(".")[2] for t in tables() if t.path.rpartition(".")[0] in paths}


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def models_inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, tuple, list):
        for inner in get_args(annotation):
            yield from models_inside(inner)


ALL = [*TABLES.items(), *adapters()]


def test_it_loads_as_it_stands() -> None:
    """Without any secret in the environment; it observes one service and acts on nothing."""
    config = load_config(FILE, {})
    assert isinstance(config, Config)
    assert [service.mode for service in config.services.values()] == [Mode.OBSERVE]
    assert config.services["shop"].source in config.sources


@pytest.mark.parametrize(("name", "model"), ALL, ids=[name for name, _ in ALL])
def test_every_key_is_mentioned_and_every_mentioned_key_exists(name: str, model: type[BaseModel]) -> None:
    """Also of adapters that are added later: their options must be described here."""
    found = mentioned(name)
    assert found, f"config.toml has no example of {name}"
    keys = {key for table in found for key in table.keys} - ({"kind"} if " " in name else set())
    keys |= subtables({table.path for table in found})
    assert keys == set(fields_of(model)), f"of {name}"


@pytest.mark.parametrize(("name", "model"), list(adapters()), ids=[name for name, _ in adapters()])
def test_the_keys_inside_an_option_are_mentioned_too(name: str, model: type[BaseModel]) -> None:
    """Such as those of a page to scrape."""
    paths = {table.path for table in mentioned(name)}
    for key, info in fields_of(model).items():
        for inner in models_inside(info.annotation):
            below = [table for table in tables() if table.path in {f"{path}.{key}" for path in paths}]
            assert {k for table in below for k in table.keys} == set(fields_of(inner)), f"of {name} {key}"


def test_every_table_belongs_to_a_model() -> None:
    """No section was left behind when its model went."""
    known = {table.path for name, _ in ALL for table in mentioned(name)}
    below = {path for path in (t.path for t in tables()) if path.rpartition(".")[0] in known}
    assert {table.path for table in tables()} - known - below == set()


def test_every_key_is_described_once() -> None:
    """Each first mention of a key in its kind of table carries a sentence."""
    silent = []
    for name, _ in ALL:
        described: set[str] = set()
        for table in mentioned(name):
            for key, word in table.keys.items():
                if key not in described and len(word.comment.split()) < 3 and key != "kind":
                    silent.append(f"line {word.line}: {name} {key}")
                described.add(key)
    assert silent == []


@pytest.mark.parametrize(("name", "model"), ALL, ids=[name for name, _ in ALL])
def test_the_shown_default_is_the_default(name: str, model: type[BaseModel]) -> None:
    """A value that is not the default stands beside one that says `default:`, or where there is none to show."""
    wrong = []
    for table in mentioned(name)[:1]:
        for key, word in table.keys.items():
            info = fields_of(model).get(key)
            default = None if info is None or info.is_required() else info.get_default(call_default_factory=True)
            shown = tuple(word.value) if isinstance(word.value, list) else word.value
            if default not in (None, "", (), {}) and shown != default and "default:" not in word.comment:
                wrong.append(f"line {word.line}: {key} = {word.value!r}, the default is {default!r}")
    assert wrong == []


@pytest.mark.parametrize(("name", "model"), list(adapters()), ids=[name for name, _ in adapters()])
def test_no_option_holds_a_secret_itself(name: str, model: type[BaseModel]) -> None:
    """Options name the variable or the file; both ways are always offered."""
    keys = fields_of(model)
    assert [key for key in keys if names_a_secret(key)] == []
    one_way = [key for key in keys if key.endswith("_env") and f"{key.removesuffix('_env')}_file" not in keys]
    assert [key for key in one_way if keys[key].annotation is str] == []


@pytest.mark.parametrize(("name", "model"), ALL, ids=[name for name, _ in ALL])
def test_every_field_is_described_for_the_error_messages(name: str, model: type[BaseModel]) -> None:
    """`is missing: <description>` needs one."""
    undescribed: Mapping[str, FieldInfo] = {k: v for k, v in fields_of(model).items() if not v.description}
    assert sorted(undescribed) == []
