"""From parts to a daemon; and from a daemon and another configuration to the same daemon by it."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import FastAPI

from watchdog.action import ActionEdge
from watchdog.app.parts import Parts, paces, parts_of, sinks_of
from watchdog.clock import SystemClock
from watchdog.config import Config, PolicyConfig, read_secret
from watchdog.errors import ConfigError, Problem
from watchdog.failpoints import failpoint_from
from watchdog.intake import Intake
from watchdog.judge_pool import JudgePool
from watchdog.ledger import open_ledger
from watchdog.model import Limits
from watchdog.operator_desk import OperatorDesk
from watchdog.outbox import Outbox
from watchdog.picture import Easel, Painter, can_draw
from watchdog.pipeline import Pipeline
from watchdog.ports import Clock, Failpoint, Ledger, LooksAhead, Sink, Source
from watchdog.right_of_way import RightOfWay
from watchdog.scheduler import Scheduler, Workers
from watchdog.showing import ShowsPictures
from watchdog.source_order import SourceOrder
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry
from watchdog.tracing import NO_SPANS, Spans
from watchdog.web import Health, create_api

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A wired daemon: start it, serve its API, stop it."""

    config: Config
    clock: Clock
    ledger: Ledger
    frame: "Frame"
    sources: Mapping[str, Source]
    sinks: Mapping[str, Sink]
    easel: Easel | None
    intake: Intake
    desk: OperatorDesk
    pipeline: Pipeline
    scheduler: Scheduler
    web: FastAPI
    spans: Spans

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
        if self.frame.judges is not None:
            self.frame.judges.close()
        self.ledger.close()
        self.spans.close()


@dataclass(slots=True)
class InForce:
    """The configuration in force."""

    config: Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a daemon keeps while its configuration is exchanged for another one."""

    in_force: InForce
    env: Mapping[str, str]
    owner: str
    ledger: Ledger
    telemetry: Telemetry
    workers: Workers
    failpoint: Failpoint
    spans: Spans
    judges: JudgePool | None
    right_of_way: RightOfWay


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
    spans = _spans(config, clock, owner)
    in_force = InForce(config)
    ledger = open_ledger(
        config.daemon.ledger,
        clock=clock,
        owner=owner,
        sinks_for=lambda service: sinks_of(in_force.config, service),
        listen=config.daemon.listen,
        failpoint=failpoint,
        password=read_secret(config.daemon.ledger_password_env, config.daemon.ledger_password_file, env, config.base),
    )
    frame = Frame(
        in_force=in_force,
        env=env,
        owner=owner,
        ledger=ledger,
        telemetry=Telemetry(),
        workers=Workers(),
        failpoint=failpoint,
        spans=spans,
        judges=JudgePool(config.daemon.judges) if config.daemon.judges else None,
        right_of_way=RightOfWay(),
    )
    return _wired(config, parts, frame, None)


def rebuilt(app: App, config: Config) -> App:
    """The same daemon by another configuration: ledger, rounds and running hooks stay, and so do the sources that did
    not change, with what they have read. Nothing is started, and the former one goes on as it was.

    Raises
    ------
    ConfigError
        A secret is named and cannot be read.
    """
    kept = {name: app.sources[name] for name, table in config.sources.items() if app.config.sources.get(name) == table}
    parts = parts_of(config, clock=app.clock, env=app.frame.env, kept=kept)
    return _wired(config, parts, app.frame, app.scheduler)


def _wired(config: Config, parts: Parts, frame: Frame, scheduler: Scheduler | None) -> App:
    """A pipeline of these parts, and the part that people and CI talk to over it."""
    pipeline = _pipeline(config, parts, frame)
    easel = _easel(frame.ledger, parts.sinks)
    if scheduler is None:
        outbox = Outbox(
            frame.ledger,
            parts.sinks,
            parts.clock,
            report=frame.telemetry.delivery,
            easel=easel,
            failpoint=frame.failpoint,
        )
        scheduler = Scheduler(
            pipeline=pipeline,
            outbox=outbox,
            workers=frame.workers,
            clock=parts.clock,
            telemetry=frame.telemetry,
            tick_s=config.daemon.tick_s,
            sinks=parts.sinks,
        )
    return _app(config, parts, frame, pipeline, scheduler, easel)


def _pipeline(config: Config, parts: Parts, frame: Frame) -> Pipeline:
    return Pipeline(
        ledger=frame.ledger,
        sources=parts.sources,
        edge=ActionEdge(
            ledger=frame.ledger,
            hooks=parts.hooks,
            clock=parts.clock,
            owner=frame.owner,
            retries=config.policy.retries,
            alone=not config.daemon.is_shared,
            failpoint=frame.failpoint,
            spans=frame.spans,
            limits=_limits(config.policy),
        ),
        surroundings=Surroundings(ledger=frame.ledger, limits=_limits(config.policy)),
        clock=parts.clock,
        owner=frame.owner,
        telemetry=frame.telemetry,
        submit=frame.workers.submit,
        lease_s=config.daemon.lease_s,
        order=SourceOrder(lease_s=config.daemon.lease_s) if config.daemon.is_shared else SourceOrder(),
        fetch_deadline_s=config.daemon.fetch_deadline_s,
        failpoint=frame.failpoint,
        judges=frame.judges,
        give_way=frame.right_of_way.give,
        spans=frame.spans,
    )


def _spans(config: Config, clock: Clock, owner: str) -> Spans:
    if config.daemon.traces == "off":
        return NO_SPANS
    try:
        from watchdog.otel import otlp_spans
    except ImportError:
        wanted = "'otlp' needs OpenTelemetry: install deploy-watchdog[otel]"
        raise ConfigError([Problem("", None, "daemon.traces", wanted)]) from None
    return otlp_spans(clock, owner)


def _easel(ledger: Ledger, sinks: Mapping[str, Sink]) -> Easel | None:
    """Where pictures are drawn; None where nobody wants them or matplotlib is not installed."""
    wanting = [name for name, sink in sinks.items() if isinstance(sink, ShowsPictures) and sink.wants_pictures]
    if wanting and not can_draw():
        _log.info("no charts for %s: they need the extra deploy-watchdog[charts]", ", ".join(wanting))
    return Easel(Painter(ledger)) if wanting and can_draw() else None


def _app(
    config: Config, parts: Parts, frame: Frame, pipeline: Pipeline, scheduler: Scheduler, easel: Easel | None
) -> App:
    """The part that people and CI talk to, over the part that works by itself."""
    foresighted = frozenset(name for name, hook in parts.hooks.items() if isinstance(hook, LooksAhead))
    intake = Intake(
        config=config,
        paces=paces(parts.sources),
        ledger=frame.ledger,
        clock=parts.clock,
        looks_ahead=foresighted,
        right_of_way=frame.right_of_way,
    )
    desk = OperatorDesk(ledger=frame.ledger, clock=parts.clock)
    web = create_api(
        ledger=frame.ledger,
        intake=intake,
        desk=desk,
        auth=parts.auth,
        clock=parts.clock,
        health=lambda: Health(tick_age_s=scheduler.tick_age_s(), ledger_ok=scheduler.ledger_ok()),
        telemetry=frame.telemetry,
        senders=parts.senders,
        environments={name: service.environment for name, service in config.services.items()},
        is_https=config.daemon.public_url.startswith("https://"),
    )
    return App(
        config=config,
        clock=parts.clock,
        ledger=frame.ledger,
        frame=frame,
        sources=parts.sources,
        sinks=parts.sinks,
        easel=easel,
        intake=intake,
        desk=desk,
        pipeline=pipeline,
        scheduler=scheduler,
        web=web,
        spans=frame.spans,
    )


def _limits(policy: PolicyConfig) -> Limits:
    return Limits(
        cool_down_s=policy.cool_down_s,
        breaker_rollbacks=policy.breaker_rollbacks,
        breaker_share=policy.breaker_share,
        breaker_window_s=policy.breaker_window_s,
        bad_target_s=policy.bad_target_s,
    )
