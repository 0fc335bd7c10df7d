"""The composition root: a configuration in, a wired daemon out. The only module that names concrete adapters."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, SecretStr

from watchdog.action import ActionEdge
from watchdog.clock import SystemClock
from watchdog.config import Config, PolicyConfig, load, read_secret
from watchdog.failpoints import failpoint_from
from watchdog.hooks import HOOKS
from watchdog.intake import Intake, Pace
from watchdog.ledger import open_ledger, open_readonly
from watchdog.operator_desk import OperatorDesk
from watchdog.outbox import Outbox
from watchdog.pipeline import Pipeline
from watchdog.policy import Limits
from watchdog.ports import Clock, Hook, Ledger, Sink, Source
from watchdog.scheduler import Scheduler, Workers
from watchdog.sinks import SINKS
from watchdog.sources import SOURCES
from watchdog.sources.recorded_cases import Case, read_cases, read_descriptions
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry
from watchdog.web import Authenticator, Credential, Health, create_api, serve

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A wired daemon: start it, serve its API, stop it."""

    config: Config
    clock: Clock
    ledger: Ledger
    sources: Mapping[str, Source]
    intake: Intake
    desk: OperatorDesk
    pipeline: Pipeline
    scheduler: Scheduler
    web: FastAPI

    def start(self) -> None:
        """Start the sources and begin to tick."""
        for source in self.sources.values():
            source.start()
        self.scheduler.start()

    def stop(self) -> None:
        """Stop in the order that leaves nothing half done: claims first, the ledger last."""
        self.scheduler.stop()
        for source in self.sources.values():
            source.close()
        self.ledger.close()


def adapter_options() -> dict[str, dict[str, type[BaseModel]]]:
    """The option models of every adapter kind, for the configuration to validate against."""
    return {
        "sources": {kind: adapter.Options for kind, adapter in SOURCES.items()},
        "hooks": {kind: adapter.Options for kind, adapter in HOOKS.items()},
        "sinks": {kind: adapter.Options for kind, adapter in SINKS.items()},
    }


def load_config(path: Path, env: Mapping[str, str] | None = None) -> Config:
    """Read a configuration file; every mistake at once (ConfigError)."""
    return load(path, adapter_options(), os.environ if env is None else env)


def build(config: Config, *, clock: Clock | None = None, env: Mapping[str, str] | None = None) -> App:
    """Wire a daemon. Nothing runs yet, but the ledger is open, and locked where it is a file.

    Raises
    ------
    LedgerLockedError
        Another process holds the ledger.
    ConfigError
        A secret is named and cannot be read.
    """
    clock = clock if clock is not None else SystemClock()
    env = os.environ if env is None else env
    owner = f"{socket.gethostname()}:{os.getpid()}:{clock.new_id()[:8]}"
    failpoint = failpoint_from(env)
    parts = parts_of(config, clock=clock, env=env)
    ledger = open_ledger(
        config.daemon.ledger,
        clock=clock,
        owner=owner,
        sinks_for=lambda service: sinks_of(config, service),
        listen=config.daemon.listen,
        failpoint=failpoint,
        password=read_secret(config.daemon.ledger_password_env, config.daemon.ledger_password_file, env, config.base),
    )
    telemetry = Telemetry()
    workers = Workers()
    pipeline = Pipeline(
        ledger=ledger,
        sources=parts.sources,
        edge=ActionEdge(
            ledger=ledger,
            hooks=parts.hooks,
            clock=clock,
            owner=owner,
            retries=config.policy.retries,
            alone=not config.daemon.is_shared,
            failpoint=failpoint,
        ),
        surroundings=Surroundings(ledger=ledger, limits=_limits(config.policy)),
        clock=clock,
        owner=owner,
        telemetry=telemetry,
        submit=workers.submit,
        lease_s=config.daemon.lease_s,
        fetch_deadline_s=config.daemon.fetch_deadline_s,
        failpoint=failpoint,
    )
    scheduler = Scheduler(
        pipeline=pipeline,
        outbox=Outbox(ledger, parts.sinks, clock, report=telemetry.delivery),
        workers=workers,
        clock=clock,
        telemetry=telemetry,
        tick_s=config.daemon.tick_s,
    )
    return _app(config, parts, ledger, pipeline, scheduler, telemetry)


def _app(
    config: Config, parts: "Parts", ledger: Ledger, pipeline: Pipeline, scheduler: Scheduler, telemetry: Telemetry
) -> App:
    """The part that people and CI talk to, over the part that works by itself."""
    intake = Intake(config=config, paces=paces(parts.sources), ledger=ledger, clock=parts.clock)
    desk = OperatorDesk(ledger=ledger, clock=parts.clock)
    web = create_api(
        ledger=ledger,
        intake=intake,
        desk=desk,
        auth=parts.auth,
        clock=parts.clock,
        health=lambda: Health(tick_age_s=scheduler.tick_age_s(), ledger_ok=scheduler.ledger_ok()),
        telemetry=telemetry,
        is_https=config.daemon.public_url.startswith("https://"),
    )
    return App(
        config=config,
        clock=parts.clock,
        ledger=ledger,
        sources=parts.sources,
        intake=intake,
        desk=desk,
        pipeline=pipeline,
        scheduler=scheduler,
        web=web,
    )


def run(config: Config) -> None:
    """Build a daemon and serve until SIGTERM or Ctrl-C."""
    app = build(config)
    host, _, port = config.daemon.listen.rpartition(":")
    # The server raises the signal again once it has closed; as an exception it lets the daemon stop in order.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        app.start()
        _log.info("listening on http://%s, ledger %s", config.daemon.listen, config.daemon.ledger)
        serve(app.web, host.strip("[]"), int(port)).run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # stopping has begun; a second signal does not hurry a hook
        app.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a configuration names, without a daemon around it: nothing is started, no ledger is opened."""

    clock: Clock
    auth: Authenticator
    sources: Mapping[str, Source]
    hooks: Mapping[str, Hook]
    sinks: Mapping[str, Sink]


def parts_of(config: Config, *, clock: Clock | None = None, env: Mapping[str, str] | None = None) -> Parts:
    """Construct every adapter of a configuration, and what guards the API. Hooks keep their locks by the ledger's file,
    or where the daemon runs."""
    clock = clock if clock is not None else SystemClock()
    env = os.environ if env is None else env
    beside = Path() if config.daemon.is_shared else Path(config.daemon.ledger).parent
    state_dir = beside.resolve() / ".watchdog-actions"
    return Parts(
        clock=clock,
        auth=Authenticator(_credentials(config, env), _webhook_secrets(config, env), clock=clock),
        sources={
            n: SOURCES[t.kind](name=n, options=t.options, clock=clock, env=env) for n, t in config.sources.items()
        },
        hooks={
            n: HOOKS[t.kind](name=n, options=t.options, clock=clock, env=env, state_dir=state_dir)
            for n, t in config.hooks.items()
        },
        sinks={n: SINKS[t.kind](name=n, options=t.options, clock=clock, env=env) for n, t in config.sinks.items()},
    )


def _limits(policy: PolicyConfig) -> Limits:
    return Limits(
        cool_down_s=policy.cool_down_s,
        breaker_rollbacks=policy.breaker_rollbacks,
        breaker_share=policy.breaker_share,
        breaker_window_s=policy.breaker_window_s,
        bad_target_s=policy.bad_target_s,
    )


def sinks_of(config: Config, service: str) -> tuple[str, ...]:
    """The sinks that hear about a service: its own list, else all."""
    table = config.services.get(service)
    chosen = table.sinks if table is not None else None
    return tuple(config.sinks) if chosen is None else chosen


def paces(sources: Mapping[str, Source]) -> dict[str, Pace]:
    """Each source's natural rhythm."""
    return {
        name: Pace(step_s=source.default_step_s, settle_s=source.default_settle_s) for name, source in sources.items()
    }


def _webhook_secrets(config: Config, env: Mapping[str, str]) -> list[SecretStr]:
    """The secret that signs deploy events, and the former one during a rotation."""
    auth = config.auth
    current = read_secret(auth.webhook_secret_env, auth.webhook_secret_file, env, config.base)
    former = read_secret(auth.webhook_secret_previous_env, auth.webhook_secret_previous_file, env, config.base)
    return [secret for secret in (current, former) if secret is not None]


def _credentials(config: Config, env: Mapping[str, str]) -> list[Credential]:
    """The bearer tokens of [auth.tokens], read once at the start."""
    found = []
    for token in config.auth.tokens:
        secret = read_secret(token.token_env, token.token_file, env, config.base)
        if secret is not None:
            scopes = frozenset(token.scopes)
            found.append(Credential(name=token.name, secret=secret, scopes=scopes, services=token.services))
    return found


def read_ledger(path: Path) -> Ledger:
    """Open a ledger for reading beside a running daemon."""
    return open_readonly(path)


def recorded_cases(folder: Path) -> Iterator[Case]:
    """Every recorded deploy of a case folder (SourceError)."""
    return read_cases(folder)


def recorded_descriptions(folder: Path) -> dict[str, Mapping[str, Any]]:
    """What cases.json says of every case, the truth included (SourceError)."""
    return read_descriptions(folder)
