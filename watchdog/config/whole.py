"""The whole configuration, and what must hold between its tables."""

import hashlib
import json
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path

from pydantic import Field, PrivateAttr

from watchdog.config.listen import is_loopback, is_loopback_url
from watchdog.config.section import Mistake, Name, Section
from watchdog.config.service import ServiceConfig
from watchdog.config.tables import AdapterConfig, AuthConfig, DaemonConfig, JudgeConfig, PolicyConfig


class Config(Section):
    """A whole config.toml, checked."""

    daemon: DaemonConfig = Field(default_factory=DaemonConfig)
    auth: AuthConfig = Field(default_factory=AuthConfig)
    judge: JudgeConfig = Field(default_factory=JudgeConfig)
    policy: PolicyConfig = Field(default_factory=PolicyConfig)
    sources: dict[Name, AdapterConfig] = Field(default_factory=dict)
    hooks: dict[Name, AdapterConfig] = Field(default_factory=dict)
    sinks: dict[Name, AdapterConfig] = Field(default_factory=dict)
    senders: dict[Name, AdapterConfig] = Field(default_factory=dict)
    services: dict[Name, ServiceConfig] = Field(default_factory=dict)
    _base: Path = PrivateAttr(default_factory=Path)

    @property
    def base(self) -> Path:
        """Return the folder of the file; relative secret files are looked for there."""
        return self._base

    def judge_for(self, service: str) -> JudgeConfig:
        """Return [judge] with the service's own overrides."""
        return self.judge.overridden_by(self.services[service].judge)

    def mistakes(self) -> list[Mistake]:
        found = [*self._unguarded()]
        for name, service in self.services.items():
            found += [Mistake(("services", name, *m.key), m.message) for m in self._unknown_names(service)]
            found += [Mistake(("services", name, *m.key), m.message) for m in self._judge_disagrees(name, service)]
        return found

    def _unguarded(self) -> Iterator[Mistake]:
        if not is_loopback(self.daemon.listen) and not self.auth.has_secret:
            yield Mistake(
                ("daemon", "listen"),
                f"{self.daemon.listen!r} can be reached from other machines and nothing guards it; "
                "expected a loopback address such as 127.0.0.1:8811, or a secret or token in [auth]",
            )
        elif self.daemon.public_url and not is_loopback_url(self.daemon.public_url) and not self.auth.has_secret:
            yield Mistake(
                ("daemon", "public_url"),
                f"{self.daemon.public_url!r} is reached by others, through a proxy on this machine, and nothing guards "
                "it; expected a secret or token in [auth]",
            )

    def _unknown_names(self, service: ServiceConfig) -> Iterator[Mistake]:
        yield from _named(("source",), service.source, "sources", self.sources)
        for key in ("rollback_hook", "smoke_hook", "switch_hook", "pause_hook", "restore_hook", "schema_hook",
                    "migrate_down_hook"):  # fmt: skip
            hook = getattr(service, key)
            if hook is not None:
                yield from _named((key,), hook, "hooks", self.hooks)
        if service.steps is not None:
            yield from _named(("steps", "promote_hook"), service.steps.promote_hook, "hooks", self.hooks)
        for index, sink in enumerate(service.sinks or ()):
            yield from _named(("sinks", index), sink, "sinks", self.sinks)

    def _judge_disagrees(self, name: str, service: ServiceConfig) -> Iterator[Mistake]:
        judge = self.judge_for(name)
        if service.judge is not None:
            yield from (Mistake(("judge", *m.key), m.message) for m in judge.mistakes())
        needed_s = (judge.warm_up_looks + judge.min_looks) * service.look_s
        if needed_s > service.watch_s:
            yield Mistake(
                ("watch_s",),
                f"{service.watch_s:g} is too short: warm_up_looks + min_looks at look_s = {service.look_s:g} "
                f"take {needed_s:g} s; expected at least that",
            )


def _named(key: tuple[str | int, ...], name: str, section: str, known: Collection[str]) -> Iterator[Mistake]:
    if not name or name in known:  # nothing is named where the name itself is missing
        return
    near = get_close_matches(name, known, n=1)
    if near:
        expected = f"did you mean {near[0]!r}?"
    elif known:
        expected = f"expected one of {', '.join(sorted(known))}"
    else:
        expected = f"expected a table [{section}.{name}]"
    yield Mistake(key, f"there is no {name!r} below [{section}]; {expected}")


def config_digest(config: Config) -> str:
    """Return the SHA-256 of everything the configuration says (secrets are not in it, only their names)."""
    text = json.dumps(config.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
