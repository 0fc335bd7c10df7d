"""A configured service with its source, and any intervals of its past."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from analysis.result import SourceStatus
from watchdog.app import load_config, parts_of, read_ledger_of
from watchdog.app.parts import paces
from watchdog.config import Config
from watchdog.errors import NotFoundError, SourceError, WatchdogError
from watchdog.model import Deploy, Plan, State, StoredLook, Strategy, Watch
from watchdog.planning import Pace, plan_for
from watchdog.ports import Clock, LookAnswer, LookRequest, Source
from watchdog.strategies import STRATEGIES

Progress = Callable[[int, int], None]

_PIECE = 3000  # intervals asked for at once
_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PastService:
    """One service whose past can be asked for."""

    name: str
    config: Config
    plan: Plan  # as a deploy of the configured strategy would be watched
    source: Source
    clock: Clock
    progress: Progress

    @property
    def strategy(self) -> Strategy:
        return self.config.services[self.name].strategy

    def watch(
        self,
        *,
        at: float,
        version: str,
        previous: str | None,
        strategy: Strategy | None = None,
        share: float | None = None,
        instances: Mapping[str, tuple[str, ...]] | None = None,
        deploy_id: str = "",
    ) -> Watch:
        """A watch as the daemon would have begun it; what it ends with is not looked at."""
        how = strategy or self.strategy
        pace = Pace(step_s=self.plan.step_s, settle_s=self.plan.settle_s, keeps_days=True)  # else it was not opened
        plan = plan_for(self.name, self.config, pace, how, share=share)
        deploy = Deploy(
            id=deploy_id or f"{self.name}-{version}-{at:.0f}",
            service=self.name,
            environment=self.config.services[self.name].environment,
            version=version,
            previous_version=previous,
            strategy=how,
            deployed_at=at,
            received_at=at,
            share=share,
            instances=instances or {},
        )
        mode = self.config.services[self.name].mode
        return Watch(
            id=deploy.id,
            deploy=deploy,
            plan=replace(plan, steps=None),
            mode=mode,
            state=State.WATCHING,
            created_at=at,
            updated_at=at,
        )

    def looks(self, asked: Sequence[tuple[Watch, Sequence[int]]]) -> dict[str, list[StoredLook]]:
        """The intervals of these watches, as stored looks by watch (SourceError where nothing answers)."""
        requests = [
            LookRequest(
                watch_id=watch.id,
                service=self.name,
                interval=interval,
                arms=STRATEGIES[watch.deploy.strategy].arms(watch, interval),
                metrics=watch.plan.metrics,
            )
            for watch, intervals in asked
            for interval in intervals
        ]
        found: dict[str, list[StoredLook]] = {watch.id: [] for watch, _ in asked}
        for request, answer in zip(requests, self.fetch(requests), strict=True):
            if request.interval >= 0 or answer.cells:
                look = StoredLook(
                    interval=request.interval, facts=answer.facts, cells=answer.cells, queries=answer.queries
                )
                found[request.watch_id].append(look)
        return found

    def fetch(self, requests: Sequence[LookRequest]) -> list[LookAnswer]:
        """Ask for all of these, some thousands at once (SourceError where nothing answers)."""
        answers: list[LookAnswer] = []
        for begin in range(0, len(requests), _PIECE):
            answers += self.source.fetch(requests[begin : begin + _PIECE], deadline_s=_DEADLINE_S)
            self.progress(min(begin + _PIECE, len(requests)), len(requests))
        down = [answer.facts.detail for answer in answers if answer.facts.status is SourceStatus.DOWN]
        if answers and len(down) == len(answers):
            raise SourceError(f"the source of {self.name} does not answer: {down[0]}")
        return answers


@contextmanager
def open_service(
    path: Path, name: str | None, *, progress: Progress = lambda done, total: None
) -> Iterator[PastService]:
    """A service of a configuration, with its source started; without a name the only one there is.

    Raises
    ------
    NotFoundError
        There is no such service, or there are several to choose from.
    WatchdogError
        The service's source has no past: it reads pages, or plays a record.
    """
    config = load_config(path)
    chosen = _chosen(config, name, path)
    parts = parts_of(config)
    source = parts.sources[config.services[chosen].source]
    if source.kind != "prometheus":
        raise WatchdogError(
            f"the source of {chosen} is of kind {source.kind!r} and has no past; a Prometheus has", permanent=True
        )
    pace = paces(parts.sources)[config.services[chosen].source]
    source.start()
    try:
        yield PastService(
            name=chosen,
            config=config,
            plan=plan_for(chosen, config, pace, config.services[chosen].strategy),
            source=source,
            clock=parts.clock,
            progress=progress,
        )
    finally:
        source.close()


def service_names(path: Path) -> list[str]:
    """The services of a configuration."""
    return list(load_config(path).services)


def recorded_watches(service: PastService, *, since: float) -> list[Watch]:
    """The deploys of the service that are on record since then, oldest first (LedgerError)."""
    with read_ledger_of(service.config) as ledger:
        if ledger is None:
            return []
        page = found = ledger.watches(service=service.name, limit=500)
        while page and page[-1].deploy.deployed_at >= since:
            page = ledger.watches(service=service.name, limit=500, before=page[-1].created_at, before_id=page[-1].id)
            found = [*found, *page]
    return sorted((w for w in found if w.live_at >= since), key=lambda w: w.live_at)


def _chosen(config: Config, name: str | None, path: Path) -> str:
    known = list(config.services)
    if name is None and len(known) == 1:
        return known[0]
    if name is None:
        told = f"name one with --service: {', '.join(known)}" if known else "it has none"
        raise NotFoundError(f"{path} has {len(known)} services; {told}", permanent=True)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise NotFoundError(f"{path} has no service {name!r}; {hint}", permanent=True)
    return name
