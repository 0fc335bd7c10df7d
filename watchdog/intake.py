"""A deploy event comes in: checked against the configuration, turned into a watch, recorded in one transaction."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

from watchdog.config import Config, ServiceConfig
from watchdog.deploy_request import DeployRequest, derived_id, digest_of, in_waves
from watchdog.errors import AlreadyLiveError, NotFoundError, RefusedError, tried
from watchdog.first_words import begins, entries, migration_warning, started, warned
from watchdog.intended import first_actions
from watchdog.last_live import adds_nothing, before, may_stay, standing
from watchdog.model import (
    TRANSITIONS,
    ActionKind,
    ActionState,
    Beginning,
    Change,
    Deploy,
    Mode,
    Plan,
    Recorded,
    State,
    Strategy,
    Watch,
)
from watchdog.planning import Pace, plan_for
from watchdog.ports import Clock, Ledger
from watchdog.right_of_way import RightOfWay
from watchdog.strategies import STRATEGIES
from watchdog.strategies.window import closes_at
from watchdog.turns import superseded

_log = logging.getLogger(__name__)

__all__ = ["DeployRequest", "Intake"]

_TRIES = 5
_FUTURE_S = 60.0  # clocks differ a little; a deploy from tomorrow is a mistake
_PAST_S = 3600.0
_YEAR_S = 365 * 86_400.0  # nobody's clock is off by so much
_LATEST = 20  # watches of a place that are looked through for what was live before
_ACTIVE = frozenset(TRANSITIONS) - {State.RUNNING, State.RETRY_WAIT, State.VERIFYING, State.UNKNOWN}
_ROLLED_BACK = frozenset({State.ROLLED_BACK, State.VERIFYING, State.RUNNING, State.NOT_RECOVERED})


def _all(service: str) -> bool:  # noqa: ARG001 (whatever it is)
    return True


class Asking(NamedTuple):
    """A deploy event, who sent it, and for which services that one may speak."""

    request: DeployRequest
    actor: str
    serves: Callable[[str], bool] = _all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Received:
    """What became of a deploy event. begun: how it was recorded, where nothing can have happened to it since."""

    recorded: Recorded
    watch: Watch
    begun: Beginning | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Turns deploy events into watches."""

    config: Config
    paces: Mapping[str, Pace]  # per configured source
    ledger: Ledger
    clock: Clock
    looks_ahead: Collection[str] = ()  # hooks that can say beforehand whether their way back is open
    right_of_way: RightOfWay = field(default_factory=RightOfWay)
    _plans: dict[tuple[str, Strategy], Plan] = field(default_factory=dict, init=False, repr=False)

    def receive(
        self, request: DeployRequest, *, actor: str, serves: Callable[[str], bool] = _all
    ) -> tuple[Recorded, Watch]:
        """Record a deploy and begin to watch it; the same deploy again is the same watch.

        Raises
        ------
        NotFoundError
            The service is not configured.
        RefusedError
            The event cannot be watched as it is; the message says what is missing.
        """
        (received,) = self.receive_all([Asking(request, actor, serves)])
        if isinstance(received, BaseException):
            raise received
        return received.recorded, received.watch

    def receive_all(self, told: Sequence[Asking]) -> list[Received | BaseException]:
        """The same of several that came together: they share their reads and their commit.

        What is wrong with one stands in its place, and touches no other. Rounds over the watches give way meanwhile.
        """
        received: dict[int, Received | BaseException] = {}
        with self.right_of_way.taken():
            for wave in in_waves([one.request for one in told]):
                received.update(zip(wave, self._receive_all([told[at] for at in wave]), strict=True))
        return [received[at] for at in range(len(told))]

    def _receive_all(self, told: Sequence[Asking]) -> list[Received | BaseException]:
        with self.ledger.snapshot():
            begun = [tried(partial(self._begin, *one)) for one in told]
        new = [one for one in begun if isinstance(one, Beginning)]
        recorded = self.ledger.record_deploys(new)
        with self.ledger.snapshot():  # one that begins now: it shows what stands beside the new ones
            standing = [tried(partial(self._standing, one.watch)) for one in new]
        outcomes = iter(zip(recorded, standing, strict=True))
        received: list[Received | BaseException] = []
        for (request, *_), one in zip(told, begun, strict=True):
            if isinstance(one, Beginning):
                received.append(tried(partial(self._created, one, *next(outcomes))))
            elif isinstance(one, Watch):
                received.append(tried(partial(self._known, one, request)))
            else:
                received.append(one)
        return received

    def _begin(self, request: DeployRequest, actor: str, serves: Callable[[str], bool]) -> Watch | Beginning:
        """The watch that is known already, or how a new one begins."""
        known = self.ledger.watch(request.id) if request.id is not None else None
        if known is not None:
            return known
        service = self._service(request)
        try:
            deploy = self._deploy(request, service, actor)
        except AlreadyLiveError as error:  # the same event again, by the id that follows from it, is no new deploy
            known = self.ledger.watch(error.deploy_id)
            if known is None:
                raise
            return known
        self._check_train(deploy, serves)
        since = deploy.received_at - self.config.policy.cool_down_s
        around = self.ledger.standing(
            service=deploy.service, environment=deploy.environment, states=_ACTIVE, lately=_ROLLED_BACK, since=since
        )
        watch = self._watch_of(deploy, service, _mode(deploy, service, around, since))
        warning = migration_warning(watch)
        return Beginning(
            watch=watch,
            messages=[started(watch), *warned(watch, warning)],
            audit=entries(watch, actor, warning),
            actions=first_actions(watch, deploy.received_at, looks_ahead=self.looks_ahead),
            ended=self._ended_by(watch, around),
        )

    def _known(self, known: Watch, request: DeployRequest) -> Received:
        """A late retry of CI is the same deploy, even when it would be refused today."""
        if known.deploy.body_digest != digest_of(request):
            return Received(recorded=Recorded.CONFLICT, watch=known)
        self._supersede(known)  # again, in case the daemon died between the two
        return Received(recorded=Recorded.SAME, watch=known)

    def _created(
        self, begun: Beginning, recorded: Recorded | BaseException, standing: list[Watch] | BaseException
    ) -> Received:
        """No older watch of its place goes on beside it; one that came first with the same id stands for it."""
        if isinstance(recorded, BaseException):
            raise recorded
        if isinstance(standing, BaseException):
            raise standing
        if recorded is Recorded.CREATED and not self._supersede(begun.watch, standing):
            return Received(recorded=recorded, watch=begun.watch, begun=begun)
        stored = self.ledger.watch(begun.watch.id)
        if stored is None:
            return Received(recorded=recorded, watch=begun.watch)
        if recorded is Recorded.SAME:  # whoever recorded it in the same moment may have died, or failed, before this
            self._supersede(stored)
        return Received(recorded=recorded, watch=stored)

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
        if environment != service.environment and not any(fnmatchcase(environment, e) for e in service.environments):
            raise RefusedError(
                f"{request.service} is watched in {service.environment!r}: a deploy to {environment!r} would be judged "
                "by its metrics. Give that a service of its own, or name it in `environments` of this one where the "
                "metrics are the same",
                permanent=True,
            )
        strategy = request.strategy or service.strategy
        deployed_at = self._deployed_at(request, now)
        deploy_id = request.id or derived_id(request, environment, deployed_at)
        previous = request.previous_version or self._last_live(request, environment, deploy_id)
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
            id=deploy_id,
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
            safe_to_rollback_until=request.safe_to_rollback_until,
            train=request.train,
            triggered_by=actor,
            body_digest=digest_of(request),
        )

    def _check_train(self, deploy: Deploy, serves: Callable[[str], bool]) -> None:
        """What joins a train can hold it, and take it back: only who may speak for all of it may let something join."""
        if deploy.train is None:
            return
        mates = self.ledger.train(deploy.train, environment=deploy.environment)
        if not all(serves(mate.deploy.service) for mate in mates):
            raise RefusedError(
                f"train {deploy.train!r} has services that {deploy.triggered_by} may not speak for; send it with a "
                "token whose services cover the whole train, or name another train",
                permanent=True,
            )

    def _deployed_at(self, request: DeployRequest, now: float) -> float:
        if request.deployed_at is None:
            return now
        if request.deployed_at > now + _FUTURE_S:
            ahead = request.deployed_at - now
            lies = "years in the future: are these milliseconds? Unix seconds are wanted"
            if ahead < _YEAR_S:
                lies = f"{ahead:.0f} s in the future; check the clocks"
            raise RefusedError(f"deployed_at lies {lies}", permanent=True)
        if request.deployed_at < now - _PAST_S:
            ago = now - request.deployed_at
            lies = f"{ago / 3600:.1f} h" if ago < _YEAR_S else "years (a placeholder?)"
            said = f"deployed_at lies {lies} in the past; a watch begins at most an hour after the deploy"
            raise RefusedError(said, permanent=True)
        return request.deployed_at

    def _last_live(self, request: DeployRequest, environment: str, deploy_id: str) -> str | None:
        """The version that was live before, as far as the ledger knows; refuses what is live already."""
        found = self.ledger.watches(service=request.service, environment=environment, limit=_LATEST)
        version, stands = request.version, standing(found, request.version)
        gave_up = stands is not None and stands.state is State.CANCELLED and stands.degraded_at is not None
        if stands is not None and gave_up and not may_stay(self.ledger.audit(stands.id)):
            stands = None  # it was called worse and nobody answered: they may have gone back by hand
        previous = before(found, version)
        if previous == version or (stands is not None and adds_nothing(request, stands.deploy)):
            raise AlreadyLiveError(
                f"{version} is live already; nothing was deployed (where it was, send previous_version)", deploy_id
            )
        return previous

    def _watch_of(self, deploy: Deploy, service: ServiceConfig, mode: Mode) -> Watch:
        plan = self._plan(deploy, service)
        watch = Watch(
            id=deploy.id,
            deploy=deploy,
            plan=plan,
            mode=mode,
            state=State.SMOKE if plan.switch_hook is not None else State.WATCHING,
            created_at=deploy.received_at,
            updated_at=deploy.received_at,
            sentence=f"{deploy.service} {deploy.version}: {begins(plan)}",
        )
        return replace(watch, next_look_at=closes_at(watch, 0))

    def _plan(self, deploy: Deploy, service: ServiceConfig) -> Plan:
        """The same object for deploys that are watched alike, so that it is encoded once."""
        pace = self.paces[service.source]
        if service.steps is not None:  # how it grows depends on the share that it begins with
            return plan_for(deploy.service, self.config, pace, deploy.strategy, share=deploy.share)
        place = deploy.service, deploy.strategy
        if place not in self._plans:
            self._plans[place] = plan_for(deploy.service, self.config, pace, deploy.strategy)
        return self._plans[place]

    def _ended_by(self, watch: Watch, around: Sequence[Watch]) -> list[Change]:
        """What a new deploy makes of the active ones before it; nothing where one of them is newer."""
        active = [other for other in around if other.state in _ACTIVE and other.id != watch.id]
        if any(_age(other) > _age(watch) for other in active):
            return []
        return [self._ending(other, watch.deploy.version) for other in active]

    def _standing(self, watch: Watch) -> list[Watch]:
        """What stands at the place of a watch."""
        return self.ledger.standing(service=watch.deploy.service, environment=watch.deploy.environment, states=_ACTIVE)

    def _supersede(self, recorded: Watch, found: list[Watch] | None = None) -> bool:
        """End all watches of this service but the newest; one whose rollback is already running finishes first.

        The newest may be another than the one just recorded, where the clocks of two replicas differ. A watch that
        moves in the same moment is read again, so that no armed one is left behind. Says whether there was any.
        found: what stood there after it was recorded.
        """
        for attempt in range(_TRIES):
            if found is None or attempt:
                found = self._standing(recorded)
            newest = max([recorded, *found], key=_age)
            older = [watch for watch in found if watch.state in _ACTIVE and _age(watch) < _age(newest)]
            # each, even where one moved meanwhile
            ended = [self.ledger.commit(self._ending(watch, newest.deploy.version)) for watch in older]
            if all(ended):
                return bool(ended) or attempt > 0
        _log.error("a watch older than %s could not be superseded", recorded.id)
        return True

    def _ending(self, watch: Watch, by: str) -> Change:
        open_ = self.ledger.actions(watch_id=watch.id, states=frozenset({ActionState.INTENT, ActionState.HELD}))
        intended = [action for action in open_ if action.kind is ActionKind.ROLLBACK]
        return superseded(watch, by, intended[-1] if intended else None, self.clock.now())


def _mode(deploy: Deploy, service: ServiceConfig, around: Sequence[Watch], since: float) -> Mode:
    """A deploy that is itself the way back from a rollback `since` then is watched, but never rolled back."""
    for watch in around:
        is_its_target = watch.state in _ROLLED_BACK and watch.deploy.previous_version == deploy.version
        if is_its_target and watch.updated_at >= since:
            return Mode.OBSERVE if service.mode is Mode.OBSERVE else Mode.NOTIFY
    return service.mode


def _age(watch: Watch) -> tuple[float, str]:
    """Which of two deploys of a service is the newer one."""
    return watch.created_at, watch.id
