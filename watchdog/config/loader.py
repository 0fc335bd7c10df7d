"""From a TOML file to typed settings, or to all its mistakes at once.

Tables are validated from the innermost outwards. A table with mistakes is validated again without its wrong keys and,
where that is not enough, stands in with its defaults: so that it does not hide the mistakes of the tables around it.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from watchdog.config.expansion import expanded
from watchdog.config.lines import Lines
from watchdog.config.metrics import MetricConfig
from watchdog.config.secrets import (
    inline_secrets,
    read_secret,
    secret_fields,
    unreadable_authority,
    with_absolute_files,
)
from watchdog.config.section import MISTAKES, Mistake, Section
from watchdog.config.service import BakeConfig, ServiceConfig, StepsConfig
from watchdog.config.tables import (
    AdapterConfig,
    AuthConfig,
    DaemonConfig,
    JudgeConfig,
    JudgeOverrides,
    PolicyConfig,
    TokenConfig,
)
from watchdog.config.telling import one_of, secret_remedy, sentence, told
from watchdog.config.toml_text import parse, read_text
from watchdog.config.whole import Config
from watchdog.errors import ConfigError, Problem

Key = tuple[str | int, ...]
AdapterOptions = Mapping[str, Mapping[str, type[BaseModel]]]  # section → kind → its Options

ADAPTER_SECTIONS = ("sources", "hooks", "sinks", "senders")
_TABLES: dict[str, type[Section]] = {
    "daemon": DaemonConfig,
    "auth": AuthConfig,
    "judge": JudgeConfig,
    "policy": PolicyConfig,
}
_SERVICE_TABLES: dict[str, type[Section]] = {"judge": JudgeOverrides, "steps": StepsConfig, "bake": BakeConfig}
_ROUNDS = 3  # wrong keys; what they hid between the keys; what is left
_Table = TypeVar("_Table", bound=Section)


def load(path: Path, adapters: AdapterOptions, env: Mapping[str, str]) -> Config:
    """Return the checked configuration of a file; raise ConfigError with every mistake in it."""
    text = read_text(path)
    document = parse(text, str(path))
    try:
        return _checked(path, text, document, adapters, env)
    except RecursionError:  # what tomllib could just read may still be too deep for those after it
        raise ConfigError([Problem(str(path), None, "", "is nested too deeply; expected plain tables")]) from None


def _checked(
    path: Path, text: str, document: Mapping[str, Any], adapters: AdapterOptions, env: Mapping[str, str]
) -> Config:
    reading = _Reading(adapters, path.resolve().parent)
    reading.find_inline_secrets(document)
    config = reading.config(document)
    reading.find_missing_secrets(config, env)
    reading.find_bad_authorities(config)
    if reading.mistakes:
        raise ConfigError(_problems(reading.mistakes, Lines(text), str(path)))
    config._base = path.resolve().parent  # noqa: SLF001 - not a key of the file, so not a field
    return config


class _NoOptions(BaseModel):
    """Stands in for the options of an adapter that could not be read."""

    model_config = ConfigDict(frozen=True)


class _Reading:
    """One pass over a document; `mistakes` keeps the first one found at each key."""

    def __init__(self, adapters: AdapterOptions, base: Path) -> None:
        self.mistakes: dict[Key, str] = {}
        self._adapters = adapters
        self._base = base

    def config(self, document: Mapping[str, Any]) -> Config:
        tables = dict(document)
        for section in ADAPTER_SECTIONS:
            self._each_named(tables, section, self._adapter)
        if isinstance(tables.get("auth"), dict):
            tables["auth"] = dict(tables["auth"])
            self._each_listed(tables["auth"], "tokens", TokenConfig, ("auth",))
        self._each_named(tables, "services", self._service)
        for section, model in _TABLES.items():
            if section in tables:
                tables[section] = self._table(model, tables[section], (section,))
        return self._table(Config, tables, ())

    def find_inline_secrets(self, document: Mapping[str, Any]) -> None:
        for key in inline_secrets(document):
            name = next((part for part in reversed(key) if isinstance(part, str)), "")
            self._tell(key, f"{secret_remedy(name)}; then revoke this one, it has been written down")

    def find_missing_secrets(self, config: Config, env: Mapping[str, str]) -> None:
        places: list[tuple[Key, BaseModel]] = [(("auth",), config.auth)]
        places += [(("auth", "tokens", index), token) for index, token in enumerate(config.auth.tokens)]
        for section in ADAPTER_SECTIONS:
            places += [((section, name), adapter.options) for name, adapter in getattr(config, section).items()]
        for path, options in places:
            for stem in secret_fields(options):
                env_name, file = getattr(options, f"{stem}_env"), getattr(options, f"{stem}_file")
                try:
                    read_secret(env_name, file, env, self._base)
                except ConfigError as error:
                    key = f"{stem}_env" if env_name else f"{stem}_file"
                    self._tell((*path, key), error.problems[0].message)

    def find_bad_authorities(self, config: Config) -> None:
        for section in ADAPTER_SECTIONS:
            for name, adapter in getattr(config, section).items():
                file = getattr(adapter.options, "ca_file", "")
                if file and (why := unreadable_authority(file)):
                    self._tell((section, name, "ca_file"), why)

    def _service(self, table: Any, path: Key) -> ServiceConfig:
        if isinstance(table, dict):
            table = dict(table)
            if isinstance(table.get("presets"), list):
                table, mistakes = expanded(table)
                self._tell_all(mistakes, path)
            self._each_listed(table, "metrics", MetricConfig, path)
            for name, model in _SERVICE_TABLES.items():
                if name in table:
                    table[name] = self._table(model, table[name], (*path, name))
        return self._table(ServiceConfig, table, path)

    def _adapter(self, table: Any, path: Key) -> AdapterConfig:
        nothing = AdapterConfig(kind="", options=_NoOptions())
        kinds = self._adapters.get(str(path[0]), {})
        if not isinstance(table, dict):
            self._tell(path, f"expected a table with a kind, not {told(table)}")
            return nothing
        kind = table.get("kind")
        if not isinstance(kind, str) or kind not in kinds:
            known = ", ".join(kinds)
            self._tell(
                (*path, "kind"),
                one_of(kind, list(kinds)) if "kind" in table else f"is missing; expected one of {known}",
            )
            return nothing
        try:
            options = kinds[kind].model_validate({key: value for key, value in table.items() if key != "kind"})
        except ValidationError as error:
            self._tell_all(_translated(error, kinds[kind]), path)
            return nothing
        return AdapterConfig(kind=kind, options=with_absolute_files(options, self._base))

    def _each_named(self, tables: dict[str, Any], section: str, read: "_ReadTable") -> None:
        if isinstance(tables.get(section), dict):
            tables[section] = {name: read(table, (section, name)) for name, table in tables[section].items()}

    def _each_listed(self, tables: dict[str, Any], key: str, model: type[Section], path: Key) -> None:
        if isinstance(tables.get(key), list):
            tables[key] = [self._table(model, item, (*path, key, index)) for index, item in enumerate(tables[key])]

    def _table(self, model: type[_Table], table: Any, path: Key) -> _Table:
        if not isinstance(table, dict):
            self._tell(path, f"expected a table, not {told(table)}")
            return model.stand_in({})
        kept = dict(table)
        told_keys: set[str | int] = set()
        for _ in range(_ROUNDS):
            try:
                return model.model_validate(kept)
            except ValidationError as error:
                found = [m for m in _translated(error, model) if not m.key or m.key[0] not in told_keys]
            self._tell_all(found, path)
            for mistake in found:
                kept, whole = _without(kept, mistake.key)
                told_keys.update(whole)
            kept = model.fillers(only=told_keys) | kept
        return model.stand_in(kept)

    def _tell_all(self, mistakes: Iterable[Mistake], path: Key) -> None:
        for mistake in mistakes:
            self._tell((*path, *mistake.key), mistake.message)

    def _tell(self, key: Key, message: str) -> None:
        self.mistakes.setdefault(key, message)


class _ReadTable(Protocol):
    def __call__(self, table: Any, path: Key, /) -> Section: ...


def _translated(error: ValidationError, model: type[BaseModel]) -> Iterator[Mistake]:
    for detail in error.errors(include_url=False):
        key = tuple(part for part in detail["loc"] if part != "[key]")  # pydantic's mark of a wrong key
        if detail["type"] == MISTAKES:
            yield from (Mistake((*key, *m.key), m.message) for m in detail["ctx"][MISTAKES])
        else:
            yield Mistake(key, sentence(detail, model))


def _without(table: dict[str, Any], key: Key) -> tuple[dict[str, Any], Key]:
    """Return the table without the key, and the key's name where all of it had to go."""
    if not key:
        return table, ()
    first = str(key[0])
    inner = table.get(first)
    if len(key) > 1 and isinstance(inner, dict):
        return table | {first: {name: value for name, value in inner.items() if name != key[1]}}, ()
    return {name: value for name, value in table.items() if name != first}, (first,)


def _problems(mistakes: Mapping[Key, str], lines: Lines, file: str) -> list[Problem]:
    problems = [
        Problem(file=file, line=lines.at(key), key=".".join(map(str, key)), message=message)
        for key, message in mistakes.items()
    ]
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.key))
