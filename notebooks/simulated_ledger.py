"""Makes a ledger of simulated deploys: drawn traffic, and everything else is the daemon as it is shipped.

    python -m notebooks.simulated_ledger build/ledgers/simulated.db

Several services are deployed again and again over some weeks of simulated time. Source and production are drawn from
`analysis.simulate` with a seed; intake, pipeline, judge, policy, actions, labels and the database are the real ones.
Because it is known what each deploy did, every verdict gets its label. Nothing in such a ledger was measured anywhere.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from pydantic import BaseModel
from rich.progress import track

from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Design, MetricSpec
from analysis.simulate import ERRORS, GAUGE, LATENCY, ORDERS, Fault, Service, faulty, observe
from watchdog.app import App, build, load_config
from watchdog.intake import DeployRequest
from watchdog.label_desk import LabelDesk
from watchdog.model import FINAL, LabelKind, State, Watch
from watchdog.ports import HookCall, HookOutcome, HookResult, LookAnswer, LookRequest, ProbeAnswer

STEP_S, LOOKS, PAST, SPARE = 30.0, 20, 24, 12
START = 1_767_600_000.0  # a Monday morning, 2026-01-05
ROUND_S = 52 * 3600.0  # between two deploys of one service, so that they fall on all times of the day
DECIDES_S = 240.0  # how long the engineer on call takes to look at a held rollback
BAD_PART, TOUCHED_PART = 0.25, 0.10  # of the deploys: worse than the margin; worse, but within it
SIZES: Mapping[Fault, Sequence[float]] = {
    Fault.ERRORS: (2.0, 4.0, 8.0),
    Fault.SLOW: (1.5, 2.0),
    Fault.LEVEL: (15.0, 30.0),
    Fault.LOST_ORDERS: (0.4, 0.7),
    Fault.ABSENT: (1.0,),
}
_TABLES = {
    "errors": 'kind = "ratio"\nbad = "http_errors_total"\ntotal = "http_requests_total"\ncritical = true',
    "latency": 'kind = "latency"\nhistogram = "http_request_duration_seconds"\nunit = "s"',
    "orders": 'kind = "rate"\nevents = "orders_total"\nexposure = "http_requests_total"\ndirection = "down_is_bad"',
    "cpu": 'kind = "gauge"\ngauge = "process_cpu_percent"\nunit = "%"',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A service of the simulation: what it is, how it is watched, and what can go wrong with it."""

    service: Service
    metrics: tuple[MetricSpec, ...]
    faults: tuple[Fault, ...]
    mode: str = "auto"
    strategy: str = "canary"


def _service(**told: float | str) -> Service:
    shaped = {"looks": LOOKS + SPARE, "past": PAST, "step_s": STEP_S, "replicas": 3}
    return Service(**{**shaped, **told})  # type: ignore[arg-type]


SERVICES: Mapping[str, Kept] = {
    "checkout": Kept(
        service=_service(requests=3000, errors=0.006, noise_v=0.05, orders=0.08),
        metrics=(ERRORS, ORDERS),
        faults=(Fault.ERRORS, Fault.LOST_ORDERS),
    ),
    "search": Kept(
        service=_service(requests=6000, errors=0.003, replicas=2, latency_noise=0.02),
        metrics=(ERRORS, LATENCY),
        faults=(Fault.ERRORS, Fault.SLOW, Fault.ABSENT),
    ),
    "cart": Kept(
        service=_service(requests=1500, errors=0.01, share=0.2, level=40.0, level_sd=1.5, level_phi=0.3),
        metrics=(ERRORS, GAUGE),
        faults=(Fault.ERRORS, Fault.LEVEL),
    ),
    "payments": Kept(
        service=_service(requests=2400, errors=0.005, noise_v=0.2, noise_ar=0.5, cluster=2.0),
        metrics=(ERRORS,),
        faults=(Fault.ERRORS,),
        mode="approve",
    ),
    "profile": Kept(
        service=_service(requests=500, errors=0.01), metrics=(ERRORS,), faults=(Fault.ERRORS,), mode="observe"
    ),
    "catalog": Kept(
        service=_service(requests=4000, errors=0.004, noise_v=0.03, design=Design.BEFORE_AFTER),
        metrics=(ERRORS,),
        faults=(Fault.ERRORS,),
        strategy="direct",
    ),
    "mail": Kept(service=_service(requests=90, errors=0.01), metrics=(ERRORS,), faults=(Fault.ERRORS,)),
}


class SimulatedClock:
    """Time that moves only when told to."""

    def __init__(self, now: float) -> None:
        self.at, self._start, self._ids = now, now, 0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - self._start

    def sleep(self, seconds: float) -> None:
        self.at += seconds

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:032x}"


@dataclass(frozen=True, slots=True)
class Truth:
    """What a deploy really did. `bad`: by more than the margin."""

    bad: bool
    story: str


@dataclass
class Production:
    """Everything outside of the daemon: a source and a hook in one. Rolling back is what changes the traffic."""

    clock: SimulatedClock
    as_deployed: dict[str, Observation] = field(default_factory=dict)
    as_before: dict[str, Observation] = field(default_factory=dict)
    rolled_back_at: dict[str, float] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)  # by service
    kind: ClassVar[str] = "simulated"
    Options: ClassVar[type[BaseModel]] = BaseModel
    default_step_s: ClassVar[float] = STEP_S
    default_settle_s: ClassVar[float] = 0.0
    has_probe: ClassVar[bool] = True
    idempotent: ClassVar[bool] = True
    acts_elsewhere: ClassVar[bool] = False
    timeout_s: ClassVar[float] = 30.0

    def start(self) -> None: ...

    def close(self) -> None: ...

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:  # noqa: ARG002
        return [self._look(request) for request in requests]

    def _look(self, request: LookRequest) -> LookAnswer:
        undone = request.arms[0].end > self.rolled_back_at.get(request.watch_id, float("inf"))
        seen = (self.as_before if undone else self.as_deployed)[request.watch_id]
        facts = seen.facts.get(request.interval, LookFacts()) if request.interval >= 0 else LookFacts()
        found = {m.spec.name: seen.samples.get((m.spec.name, request.interval)) for m in request.metrics}
        cells = {name: _with_total(one) for name, one in found.items() if one is not None}
        if undone and seen.design is Design.CONCURRENT:
            cells = {name: _without_candidate(one) for name, one in cells.items()}
            facts = replace(facts, candidate_up=0)
        return LookAnswer(facts=facts, cells=cells, queries=dict.fromkeys(cells, "simulated"))

    def run(self, call: HookCall) -> HookResult:
        self.live[call.service] = call.to_version
        self.rolled_back_at[call.deploy_id] = self.clock.now()
        return HookResult(outcome=HookOutcome.OK, exit_code=0)

    def probe(self, call: HookCall) -> ProbeAnswer:
        return ProbeAnswer.APPLIED if self.live[call.service] == call.to_version else ProbeAnswer.NOT_APPLIED

    def still_running(self, action_id: str) -> bool:  # noqa: ARG002
        return False


def _with_total(cells: Cells) -> Cells:
    """Histograms with the number of their observations in every row, as the real sources bring them."""
    if len(set(cells.le)) < 2:
        return cells
    places = list(zip(cells.arm, cells.replica, cells.stratum, strict=True))
    whole = {place: v for place, le, v in zip(places, cells.le, cells.value, strict=True) if le == float("inf")}
    return replace(cells, total=tuple(whole[place] for place in places))


def _without_candidate(cells: Cells) -> Cells:
    kept = [i for i, arm in enumerate(cells.arm) if arm != Arm.CANDIDATE.value]
    columns = (cells.arm, cells.replica, cells.stratum, cells.le, cells.value, cells.total)
    return Cells(*(tuple(column[i] for i in kept) for column in columns))  # type: ignore[arg-type]


class Simulation:
    """A daemon over a production that is drawn."""

    def __init__(self, ledger: Path, seed: int) -> None:
        self.clock = SimulatedClock(START)
        self.rng = np.random.default_rng(seed)
        self.production = Production(self.clock)
        self.truth: dict[str, Truth] = {}
        self.app = _daemon(ledger, self.clock, self.production)
        self.labels = LabelDesk(ledger=self.app.ledger, clock=self.clock)

    def deploy(self, name: str, number: int) -> str:
        """A new version of one service goes live now."""
        kept = SERVICES[name]
        truth, service = _what_happens(kept, self.rng)
        deploy, previous = f"{name}-{number}", self.production.live.get(name, "v0")
        self.truth[deploy] = truth
        self.production.as_deployed[deploy] = observe(service, self.rng, kept.metrics)
        self.production.as_before[deploy] = observe(kept.service, self.rng, kept.metrics)
        self.production.live[name] = f"v{number}"
        share = kept.service.share if kept.strategy == "canary" else None
        request = DeployRequest(
            id=deploy, service=name, version=f"v{number}", previous_version=previous, share=share
        )  # fmt: skip
        self.app.intake.receive(request, actor="simulated ci")
        return deploy

    def walk_on(self, deploys: Sequence[str]) -> None:
        """Let time pass until none of them is watched any more; held rollbacks are decided by what is true."""
        for _ in range(4 * LOOKS):
            self.clock.sleep(STEP_S)
            self.app.pipeline.tick()
            watches = [self._watch(deploy) for deploy in deploys]
            for watch in watches:
                if watch.state is State.HELD and self.clock.now() - (watch.degraded_at or 0.0) >= DECIDES_S:
                    self._decide(watch)
            if all(watch.state in FINAL for watch in watches):
                break
        for deploy in deploys:
            self.production.as_deployed.pop(deploy)
            self.production.as_before.pop(deploy)

    def _decide(self, watch: Watch) -> None:
        approve = self.truth[watch.id].bad and watch.mode.value == "approve"
        decide = self.app.desk.approve if approve else self.app.desk.deny
        decide(watch.id, actor="simulated engineer", why="looked at the page")

    def label(self, deploy: str) -> None:
        """Say what the verdict was worth, which is known here."""
        watch, truth = self._watch(deploy), self.truth[deploy]
        if watch.verdict is None:
            return
        called_bad = watch.verdict == "DEGRADED"
        wrong = LabelKind.FALSE_ALARM if called_bad else LabelKind.MISSED
        kind = LabelKind.RIGHT if called_bad == truth.bad else wrong
        self.labels.label(deploy, kind, actor="the simulation", note=f"simulated: {truth.story}")

    def _watch(self, deploy: str) -> Watch:
        watch = self.app.ledger.watch(deploy)
        if watch is None:
            raise KeyError(deploy)
        return watch


def _what_happens(kept: Kept, rng: np.random.Generator) -> tuple[Truth, Service]:
    drawn = rng.random()
    if drawn < BAD_PART:
        fault = kept.faults[int(rng.integers(len(kept.faults)))]
        size, onset = float(rng.choice(SIZES[fault])), int(rng.choice([0, 0, 0, 4]))
        story = f"{fault.value.replace('_', ' ')}, size {size:g}, from look {onset}"
        return Truth(True, story), faulty(kept.service, fault, size, onset)
    if drawn < BAD_PART + TOUCHED_PART:
        return Truth(False, "errors × 1.1, within the margin"), faulty(kept.service, Fault.ERRORS, 1.1)
    return Truth(False, "nothing changed"), kept.service


def _daemon(ledger: Path, clock: SimulatedClock, production: Production) -> App:
    """The daemon as `run` wires it, but for its source and its hook."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(_config(ledger.resolve()))
        config = load_config(path, {})
    app = build(config, clock=clock, env={})
    edge = replace(app.pipeline.edge, hooks={"back": production})
    pipeline = replace(
        app.pipeline, sources={"simulated": production}, edge=edge, submit=lambda job, key: job()
    )  # fmt: skip
    return replace(app, pipeline=pipeline)


def _config(ledger: Path) -> str:
    lines = [
        f'[daemon]\nledger = "{ledger}"\n[sources.simulated]\nkind = "recorded"\nfolder = "."\ncase = "none"',
        '[hooks.back]\nkind = "dry_run"\n[sinks.log]\nkind = "log"',
    ]
    for name, kept in SERVICES.items():
        lines.append(
            f'[services.{name}]\nmode = "{kept.mode}"\nstrategy = "{kept.strategy}"\nsource = "simulated"\n'
            f"look_s = {STEP_S}\nsettle_s = 0.0\nwatch_s = {STEP_S * LOOKS}\nbaseline_s = {STEP_S * PAST}\n"
            f'act_uncalibrated = true\nrollback_hook = "back"\nsinks = []'
        )
        lines += [f'[[services.{name}.metrics]]\nname = "{spec.name}"\n{_TABLES[spec.name]}' for spec in kept.metrics]
    return "\n".join(lines) + "\n"


def simulate(ledger: Path, *, rounds: int = 30, seed: int = 1, services: Sequence[str] = tuple(SERVICES)) -> int:
    """Write the ledger and return how many deploys are in it; one round deploys every one of the services once.

    Raises
    ------
    FileExistsError
        There is a ledger already.
    """
    if ledger.exists():
        raise FileExistsError(ledger)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    simulation = Simulation(ledger, seed)
    try:
        for number in track(range(1, rounds + 1), "deploying", transient=True, disable=not sys.stderr.isatty()):
            simulation.clock.at = START + (number - 1) * ROUND_S
            deploys = [simulation.deploy(name, number) for name in services]
            simulation.walk_on(deploys)
            for deploy in deploys:
                simulation.label(deploy)
    finally:
        simulation.app.ledger.close()
    return len(simulation.truth)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a ledger of simulated, labelled deploys.")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    sys.stdout.write(f"{simulate(asked.ledger, rounds=asked.rounds, seed=asked.seed)} deploys in {asked.ledger}\n")
