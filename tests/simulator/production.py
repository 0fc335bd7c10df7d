"""What is really live, and what hooks do to it: the truth that the daemon can only ask for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from tests.fakes import NoOptions
from tests.simulator.faults import Fault, Faults
from tests.simulator.process import Process
from tests.simulator.timeline import Timeline
from watchdog.model import ActionKind
from watchdog.ports import HookCall, HookOutcome, HookResult, ProbeAnswer

TIMEOUT_S = 8.0
LATEST_S = 4.0  # how long after its deadline a request may still take effect elsewhere; the daemon waits for 10 s


@dataclass(frozen=True, slots=True, kw_only=True)
class HookTrait:
    """What kind of hook it is. A fencing one refuses a call that is older than another it has seen."""

    has_probe: bool = True
    idempotent: bool = False
    acts_elsewhere: bool = False
    fencing: bool = False

    @property
    def runs_twice_safely(self) -> bool:
        return self.idempotent or self.fencing


TRAITS: Mapping[str, HookTrait] = {
    "probed": HookTrait(),
    "blind": HookTrait(has_probe=False),
    "idempotent": HookTrait(has_probe=False, idempotent=True),
    "elsewhere": HookTrait(acts_elsewhere=True),
    "fencing": HookTrait(fencing=True, idempotent=True),
}


@dataclass(slots=True)
class Run:
    """One start of a hook. It belongs to production, not to the daemon: it may outlive it."""

    call: HookCall
    trait: HookTrait
    process: Process
    effect_at: float | None
    ends_at: float
    outcome: HookOutcome
    killed: bool = False


@dataclass(slots=True)
class Place:
    """One service: what is live, and since when the candidate is not."""

    live: str
    share: dict[str, float] = field(default_factory=dict)
    gone_at: dict[str, float] = field(default_factory=dict)  # version → when it stopped to take traffic
    ever_gone: set[str] = field(default_factory=set)  # versions that had stopped, and may have come back since
    lives: list[str] = field(default_factory=list)  # versions that went live, in their order
    newest_fence: int = 0

    def went_straight_back(self, version: str, to: str) -> bool:
        """Whether nothing but `to` was live after `version`, up to now."""
        after = self.lives[len(self.lives) - self.lives[::-1].index(version) :] if version in self.lives else []
        return bool(after) and set(after) == {to}


@dataclass(slots=True)
class Production:
    """Every service, every run of a hook, and how often each action really took effect."""

    timeline: Timeline
    random: Random
    trace: Callable[[str], None]
    took_effect: Callable[["Run"], None] = lambda run: None
    places: dict[str, Place] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    effects: dict[str, int] = field(default_factory=dict)

    def deploy(self, service: str, version: str) -> None:
        """A new version is live, beside or in place of the one before."""
        place = self.places.setdefault(service, Place(live=version))
        place.gone_at[place.live] = self.timeline.now
        place.ever_gone.add(place.live)
        place.live = version
        place.lives.append(version)
        place.gone_at.pop(version, None)

    def start(self, run: Run) -> None:
        self.runs.append(run)
        if run.effect_at is not None:
            self.timeline.spawn(lambda: self._take_effect(run), after_s=run.effect_at - self.timeline.now)

    def still_running(self, action_id: str, machine: str) -> bool:
        return any(
            run.call.action_id == action_id and run.process.machine == machine and self._goes_on(run)
            for run in self.runs
            if not run.trait.acts_elsewhere
        )

    def end_with(self, process: Process) -> None:
        """The process died: its hooks die with it, or outlive it."""
        if self.random.random() < 0.5:
            for run in self.runs:
                run.killed |= run.process is process and not run.trait.acts_elsewhere

    def probe(self, call: HookCall) -> ProbeAnswer:
        place = self.places[call.service]
        if place.live == call.to_version:
            return ProbeAnswer.APPLIED
        return ProbeAnswer.NOT_APPLIED if place.live == call.from_version else ProbeAnswer.MOVED_ON

    def _goes_on(self, run: Run) -> bool:
        return not run.killed and self.timeline.now < run.ends_at

    def _take_effect(self, run: Run) -> None:
        call, place = run.call, self.places[run.call.service]
        if run.killed:
            return
        if run.trait.fencing and call.fence < place.newest_fence:
            self.trace(f"hook refuses fence {call.fence} of {call.action_id[:6]}")
            return
        if run.trait.runs_twice_safely and place.live != call.from_version:
            return
        self.effects[call.action_id] = self.effects.get(call.action_id, 0) + 1
        self.trace(f"{call.kind.value} of {call.service} to {call.to_version} takes effect")
        self.took_effect(run)
        place.gone_at[call.from_version] = self.timeline.now
        place.ever_gone.add(call.from_version)
        place.live = call.to_version
        place.lives.append(call.to_version)
        place.gone_at.pop(call.to_version, None)


@dataclass(slots=True)
class SimulatedHook:
    """What the daemon calls. Every attempt draws how it goes."""

    trait: HookTrait
    process: Process
    production: Production
    faults: Faults
    started: Callable[[Run], None]
    kind: ClassVar[str] = "simulated"
    Options: ClassVar[type[NoOptions]] = NoOptions
    timeout_s: ClassVar[float] = TIMEOUT_S

    @property
    def has_probe(self) -> bool:
        return self.trait.has_probe

    @property
    def idempotent(self) -> bool:
        return self.trait.idempotent

    @property
    def acts_elsewhere(self) -> bool:
        return self.trait.acts_elsewhere

    def run(self, call: HookCall) -> HookResult:
        self.process.call(f"runs {call.kind.value} {call.action_id[:6]} fence {call.fence}")
        run = self._drawn(call)
        place = self.production.places[call.service]
        self.started(run)
        place.newest_fence = max(place.newest_fence, call.fence)
        if run.outcome is HookOutcome.NOT_STARTED:
            return HookResult(outcome=run.outcome, output="no such program")
        self.production.start(run)
        began = self.process.monotonic()
        self.process.go_through_hook(min(run.ends_at - self.production.timeline.now, TIMEOUT_S))
        if run.outcome is HookOutcome.TIMED_OUT and not self.trait.acts_elsewhere:
            run.killed = True
        self.process.call(f"hook returned {run.outcome.value}")
        code = 0 if run.outcome is HookOutcome.OK else 1
        return HookResult(outcome=run.outcome, exit_code=code, duration_s=self.process.monotonic() - began)

    def probe(self, call: HookCall) -> ProbeAnswer:
        self.process.call(f"probes {call.action_id[:6]}")
        if self.faults.strikes(Fault.PROBE_SILENT, 0.3) and not self.process.quiet:
            return ProbeAnswer.UNKNOWN
        return self.production.probe(call)

    def still_running(self, action_id: str) -> bool:
        return self.production.still_running(action_id, self.process.machine)

    def _drawn(self, call: HookCall) -> Run:
        """How this attempt goes: when it takes effect, if at all, when it ends, and what it says."""
        now, random = self.production.timeline.now, self.faults.random
        takes_s = random.choice((0.1, 1.0, 4.0))
        effect_at: float | None = now + takes_s * random.random()
        outcome, ends_at = HookOutcome.OK, now + takes_s
        if not self.process.quiet:
            if self.faults.strikes(Fault.HOOK_HANGS, 0.2):
                outcome, ends_at = HookOutcome.TIMED_OUT, now + random.choice((TIMEOUT_S + 1, TIMEOUT_S + 60))
                effect_at = random.choice((None, effect_at, self._late(now)))
            elif self.faults.strikes(Fault.HOOK_FAILS, 0.2):
                outcome = random.choice((HookOutcome.FAILED, HookOutcome.RETRY, HookOutcome.NOT_STARTED))
                takes_effect = outcome is HookOutcome.FAILED and random.random() < 0.5
                effect_at = effect_at if takes_effect else None
            elif self.faults.strikes(Fault.HOOK_LIES, 0.2):
                effect_at = None
        if call.kind is ActionKind.SMOKE:
            effect_at = None
        return Run(call, self.trait, self.process, effect_at, ends_at, outcome)

    def _late(self, now: float) -> float | None:
        if not self.trait.acts_elsewhere or not self.faults.on(Fault.HOOK_LATE):
            return now + TIMEOUT_S - 0.1
        return now + TIMEOUT_S + LATEST_S * self.faults.random.random()
