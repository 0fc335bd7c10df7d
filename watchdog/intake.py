"""A deploy event comes in: checked against the configuration, turned into a watch, recorded in one transaction."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from watchdog.config import Config, ServiceConfig
from watchdog.errors import NotFoundError, RefusedError
from watchdog.intended import first_actions
from watchdog.model import (
    TRANSITIONS,
    ActionState,
    AuditEntry,
    Deploy,
    Message,
    MessageKind,
    Mode,
    Plan,
    Severity,
    State,
    Strategy,
    Watch,
)
from watchdog.policy import LIVES_WITH_BOTH
from watchdog.ports import Clock, Ledger, Recorded
from watchdog.strategies import STRATEGIES
from watchdog.telling import message, title
from watchdog.turns import superseded

_IDENTIFIER = re.compile(r"[A-Za-z0-9._:/@+][A-Za-z0-9._:/@+-]{0,127}")
_log = logging.getLogger(__name__)

_TRIES = 5
STEPPED = frozenset({Strategy.CANARY, Strategy.FLAG})
_FUTURE_S = 60.0  # clocks differ a little; a deploy from tomorrow is a mistake
_PAST_S = 3600.0
_ACTIVE = frozenset(TRANSITIONS) - {State.RUNNING, State.RETRY_WAIT, State.VERIFYING, State.UNKNOWN}
_LIVE = frozenset({State.PASSED, State.INCONCLUSIVE, State.SUPERSEDED, State.CANCELLED, State.WATCHING, State.HELD})


def _identifier(value: str) -> str:
    if _IDENTIFIER.fullmatch(value) is None:
        raise ValueError("expected 1 to 128 of A-Z a-z 0-9 . _ : / @ + -, not starting with -")
    return value


Identifier = Annotated[str, AfterValidator(_identifier)]


class DeployRequest(BaseModel):
    """The event "version X of service S is live", as CI sends it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: Identifier | None = Field(None, description="Your id of this deploy; the same id is the same deploy.")
    service: Identifier = Field(description="A service of the configuration.")
    environment: Identifier | None = Field(None, description="Default: the service's environment.")
    version: Identifier = Field(description="The version that went live.")
    previous_version: Identifier | None = Field(None, description="Default: the last version known to be live.")
    strategy: Strategy | None = Field(None, description="Default: the service's strategy.")
    deployed_at: float | None = Field(None, description="Unix seconds; default: now.")
    share: float | None = Field(None, gt=0, le=1, description="Traffic share of the new version.")
    instances: dict[Literal["baseline", "candidate"], list[Identifier]] = Field(
        default_factory=dict, description="Instances per arm, where they are known."
    )
    migration: Literal["none", "expand", "contract", "irreversible", "unknown"] = Field(
        "none", description="What the deploy does to the database."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A source's natural rhythm, for services that set none."""

    step_s: float
    settle_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Turns deploy events into watches."""

    config: Config
    paces: Mapping[str, Pace]  # per configured source
    ledger: Ledger
    clock: Clock

    def receive(self, request: DeployRequest, *, actor: str) -> tuple[Recorded, Watch]:
        """Record a deploy and begin to watch it; the same deploy again is the same watch.

        Raises
        ------
        NotFoundError
            The service is not configured.
        RefusedError
            The event cannot be watched as it is; the message says what is missing.
        """
        known = self.ledger.watch(request.id) if request.id is not None else None
        if known is not None:  # a late retry of CI is the same deploy, even when it would be refused today
            if known.deploy.body_digest != _digest(request):
                return Recorded.CONFLICT, known
            self._supersede(known)  # again, in case the daemon died between the two
            return Recorded.SAME, known
        service = self._service(request)
        deploy = self._deploy(request, service, actor)
        watch = self._watch_of(deploy, service)
        first = first_actions(watch, deploy.received_at)
        warning = _migration_warning(watch)
        told = [self._started(watch), *_told_of(watch, warning)]
        recorded = self.ledger.record_deploy(watch, told, self._audit(watch, actor, warning), first)
        if recorded is Recorded.CREATED:
            self._supersede(watch)
        stored = self.ledger.watch(watch.id)
        return recorded, stored if stored is not None else watch

    def _service(self, request: DeployRequest) -> ServiceConfig:
        service = self.config.services.get(request.service)
        if service is None:
            near = get_close_matches(request.service, self.config.services, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise NotFoundError(f"the service {request.service!r} is not in the configuration{hint}", permanent=True)
        return service

    def _deploy(self, request: DeployRequest, service: ServiceConfig, actor: str) -> Deploy:
        now = self.clock.now()
        environment = request.environment or service.environment
        strategy = request.strategy or service.strategy
        deployed_at = self._deployed_at(request, now)
        previous = request.previous_version or self._last_live(request.service, environment, request.version)
        if STRATEGIES[strategy].needs_previous_version and previous is None:
            raise RefusedError(
                f"a {strategy.value} deploy is compared with the version it replaces; send previous_version "
                "(no earlier deploy of this service is on record)",
                permanent=True,
            )
        if previous == request.version:
            raise RefusedError(
                f"version and previous_version are both {previous!r}; nothing was deployed", permanent=True
            )
        return Deploy(
            id=request.id or _derived_id(request, environment, deployed_at),
            service=request.service,
            environment=environment,
            version=request.version,
            previous_version=previous,
            strategy=strategy,
            deployed_at=deployed_at,
            received_at=now,
            share=request.share,
            instances={arm: tuple(names) for arm, names in request.instances.items()},
            migration=request.migration,
            triggered_by=actor,
            body_digest=_digest(request),
        )

    def _deployed_at(self, request: DeployRequest, now: float) -> float:
        if request.deployed_at is None:
            return now
        if request.deployed_at > now + _FUTURE_S:
            ahead = request.deployed_at - now
            raise RefusedError(f"deployed_at lies {ahead:.0f} s in the future; check the clocks", permanent=True)
        if request.deployed_at < now - _PAST_S:
            raise RefusedError(
                f"deployed_at lies {(now - request.deployed_at) / 3600:.1f} h in the past; a watch begins at most "
                "an hour after the deploy",
                permanent=True,
            )
        return request.deployed_at

    def _last_live(self, service: str, environment: str, version: str) -> str | None:
        """The version that was live before, as far as the ledger knows."""
        for watch in self.ledger.watches(service=service, environment=environment, limit=20):
            if watch.deploy.version == version:
                continue
            if watch.state in _LIVE:
                return watch.deploy.version
            if watch.state in (State.ROLLED_BACK, State.NOT_RECOVERED):
                return watch.deploy.previous_version
        return None

    def _watch_of(self, deploy: Deploy, service: ServiceConfig) -> Watch:
        plan = plan_for(deploy.service, self.config, self.paces[service.source], deploy.strategy, share=deploy.share)
        return Watch(
            id=deploy.id,
            deploy=deploy,
            plan=plan,
            mode=self._mode(deploy, service),
            state=State.SMOKE if plan.switch_hook is not None else State.WATCHING,
            created_at=deploy.received_at,
            updated_at=deploy.received_at,
            next_look_at=deploy.deployed_at + plan.step_s + plan.settle_s,
            sentence=f"{title_of(deploy)}: {_begins(plan)}",
        )

    def _mode(self, deploy: Deploy, service: ServiceConfig) -> Mode:
        """A deploy that is itself the way back from a rollback is watched, but never rolled back."""
        since = deploy.received_at - self.config.policy.cool_down_s
        for watch in self.ledger.watches(service=deploy.service, environment=deploy.environment, limit=20):
            rolled_back = watch.state in (State.ROLLED_BACK, State.VERIFYING, State.RUNNING, State.NOT_RECOVERED)
            if rolled_back and watch.updated_at >= since and watch.deploy.previous_version == deploy.version:
                return Mode.OBSERVE if service.mode is Mode.OBSERVE else Mode.NOTIFY
        return service.mode

    def _supersede(self, newer: Watch) -> None:
        """End the older watches of this service; one whose rollback is already running finishes first.

        A watch that moves in the same moment is read again, so that no armed one is left behind.
        """
        deploy = newer.deploy
        for _ in range(_TRIES):
            active = self.ledger.watches(service=deploy.service, environment=deploy.environment, states=_ACTIVE)
            older = [watch for watch in active if (watch.created_at, watch.id) < (newer.created_at, newer.id)]
            ended = [self._end(watch, deploy.version) for watch in older]  # each, even where one moved meanwhile
            if all(ended):
                return
        _log.error("a watch older than %s could not be superseded", newer.id)

    def _end(self, watch: Watch, by: str) -> bool:
        intended = self.ledger.actions(watch_id=watch.id, states=frozenset({ActionState.INTENT, ActionState.HELD}))
        return self.ledger.commit(superseded(watch, by, intended[-1] if intended else None, self.clock.now()))

    def _started(self, watch: Watch) -> Message:
        minutes = watch.plan.watch_s / 60
        said = f"{title(watch)} is live; watching for {minutes:.3g} min in mode {watch.mode.value}"
        return message(watch, MessageKind.STARTED, Severity.INFO, said, key="started")

    def _audit(self, watch: Watch, actor: str, warning: str) -> list[AuditEntry]:
        received = AuditEntry(
            at=watch.created_at,
            watch_id=watch.id,
            actor=actor,
            event="deploy.received",
            after=watch.state.value,
            why=f"{watch.deploy.version} of {watch.deploy.service} went live",
            details={"strategy": watch.deploy.strategy.value, "previous_version": watch.deploy.previous_version},
        )
        warned = AuditEntry(
            at=watch.created_at, watch_id=watch.id, actor="daemon", event="deploy.warned", why=f"warning: {warning}"
        )
        return [received, warned] if warning else [received]


def _migration_warning(watch: Watch) -> str:
    """Said before anything goes wrong, where code and a migration that the old version may not survive came in one."""
    migration = watch.deploy.migration
    if migration in LIVES_WITH_BOTH:
        return ""
    return (
        f"code and a migration ({migration}) in one deploy: there is no automatic way back if it goes wrong; "
        "have the fix forward ready, and next time ship the migration by itself"
    )


def _told_of(watch: Watch, warning: str) -> list[Message]:
    said = f"{title(watch)}: {warning}"
    return [message(watch, MessageKind.PROGRESS, Severity.WARNING, said, key="migration")] if warning else []


def _begins(plan: Plan) -> str:
    if plan.smoke_hook is not None and plan.switch_hook is not None:
        return "smoke test before the switch"
    return (
        "switching" if plan.switch_hook is not None else f"watching, first look in {plan.step_s + plan.settle_s:.0f} s"
    )


def plan_for(name: str, config: Config, pace: Pace, strategy: Strategy, *, share: float | None = None) -> Plan:
    """Freeze how a deploy of the named service is watched."""
    service = config.services[name]
    rules = STRATEGIES[strategy]
    step_s = service.look_s or pace.step_s
    planned = max(1, round(service.watch_s / step_s))
    return Plan(
        design=rules.design,
        source=service.source,
        metrics=service.metrics,
        judge=config.judge_for(name).settings(planned_looks=planned, act_uncalibrated=service.act_uncalibrated),
        step_s=step_s,
        settle_s=service.settle_s if service.settle_s >= 0 else pace.settle_s,
        watch_s=planned * step_s,
        baseline_looks=round(service.baseline_s / step_s),
        version_label=service.version_label,
        selector_labels=dict(service.selector),
        rollback_hook=service.rollback_hook,
        steps=service.steps.steps(share) if service.steps is not None and strategy in STEPPED else None,
        smoke_hook=service.smoke_hook if strategy is Strategy.BLUE_GREEN else None,
        restore_hook=service.restore_hook,
        migrate_down_hook=service.migrate_down_hook,
        pause_hook=service.pause_hook if strategy is Strategy.ROLLING else None,
        switch_hook=service.switch_hook if strategy is Strategy.BLUE_GREEN else None,
        verify_s=config.policy.verify_s,
        hold_s=config.policy.hold_s,
        public_url=config.daemon.public_url.rstrip("/"),
    )


def title_of(deploy: Deploy) -> str:
    return f"{deploy.service} {deploy.version}"


def _derived_id(request: DeployRequest, environment: str, deployed_at: float) -> str:
    seed = json.dumps([request.service, environment, request.version, deployed_at])
    return hashlib.sha256(seed.encode()).hexdigest()[:20]


def _digest(request: DeployRequest) -> str:
    canonical = json.dumps(request.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
