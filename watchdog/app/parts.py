"""What a configuration names, constructed: adapters, and what guards the API. Nothing is started or opened."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, SecretStr

from watchdog.clock import SystemClock
from watchdog.config import Config, load, read_secret
from watchdog.hooks import HOOKS
from watchdog.planning import Pace
from watchdog.ports import Clock, Hook, Sink, Source
from watchdog.senders import SENDERS
from watchdog.sending import Sender
from watchdog.sinks import SINKS
from watchdog.sources import SOURCES
from watchdog.web import Authenticator, Credential


def adapter_options() -> dict[str, dict[str, type[BaseModel]]]:
    """The option models of every adapter kind, for the configuration to validate against."""
    return {
        "sources": {kind: adapter.Options for kind, adapter in SOURCES.items()},
        "hooks": {kind: adapter.Options for kind, adapter in HOOKS.items()},
        "sinks": {kind: adapter.Options for kind, adapter in SINKS.items()},
        "senders": {kind: adapter.Options for kind, adapter in SENDERS.items()},
    }


def load_config(path: Path, env: Mapping[str, str] | None = None) -> Config:
    """Read a configuration file; every mistake at once (ConfigError)."""
    return load(path, adapter_options(), os.environ if env is None else env)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a configuration names, without a daemon around it: nothing is started, no ledger is opened."""

    clock: Clock
    auth: Authenticator
    sources: Mapping[str, Source]
    hooks: Mapping[str, Hook]
    sinks: Mapping[str, Sink]
    senders: Mapping[str, Sender]


def parts_of(
    config: Config,
    *,
    clock: Clock | None = None,
    env: Mapping[str, str] | None = None,
    kept: Mapping[str, Source] | None = None,
) -> Parts:
    """Construct every adapter of a configuration but for the sources that are kept, and what guards the API. Hooks keep
    their locks by the ledger's file, or where the daemon runs."""
    clock = clock if clock is not None else SystemClock()
    env = os.environ if env is None else env
    beside = Path() if config.daemon.is_shared else Path(config.daemon.ledger).parent
    state_dir = beside.resolve() / ".watchdog-actions"
    return Parts(
        clock=clock,
        auth=Authenticator(_credentials(config, env), _webhook_secrets(config, env), clock=clock),
        sources={
            n: (kept or {}).get(n) or SOURCES[t.kind](name=n, options=t.options, clock=clock, env=env)
            for n, t in config.sources.items()
        },
        hooks={
            n: HOOKS[t.kind](name=n, options=t.options, clock=clock, env=env, state_dir=state_dir)
            for n, t in config.hooks.items()
        },
        sinks={n: SINKS[t.kind](name=n, options=t.options, clock=clock, env=env) for n, t in config.sinks.items()},
        senders={n: SENDERS[t.kind](name=n, options=t.options, env=env) for n, t in config.senders.items()},
    )


def sinks_of(config: Config, service: str) -> tuple[str, ...]:
    """The sinks that hear about a service: its own list, else all that listen to words."""
    table = config.services.get(service)
    chosen = table.sinks if table is not None else None
    listening = tuple(name for name, sink in config.sinks.items() if not hasattr(SINKS[sink.kind], "beat"))
    return listening if chosen is None else tuple(name for name in chosen if name in listening)


def paces(sources: Mapping[str, Source]) -> dict[str, Pace]:
    """Each source's natural rhythm, and whether it has a past."""
    return {
        name: Pace(
            step_s=source.default_step_s,
            settle_s=source.default_settle_s,
            keeps_days=source.kind == "prometheus",
        )
        for name, source in sources.items()
    }


def _webhook_secrets(config: Config, env: Mapping[str, str]) -> list[SecretStr]:
    """The secret that signs deploy events, and the former one during a rotation."""
    auth = config.auth
    current = read_secret(auth.webhook_secret_env, auth.webhook_secret_file, env, config.base)
    former = read_secret(auth.webhook_secret_previous_env, auth.webhook_secret_previous_file, env, config.base)
    return [secret for secret in (current, former) if secret is not None]


def _credentials(config: Config, env: Mapping[str, str]) -> list[Credential]:
    """The bearer tokens of [auth.tokens], read once at the start; during a rotation two of one name."""
    found = []
    for token in config.auth.tokens:
        current = read_secret(token.token_env, token.token_file, env, config.base)
        former = read_secret(token.token_previous_env, token.token_previous_file, env, config.base)
        scopes = frozenset(token.scopes)
        found += [
            Credential(name=token.name, secret=secret, scopes=scopes, services=token.services)
            for secret in (current, former)
            if secret is not None
        ]
    return found
