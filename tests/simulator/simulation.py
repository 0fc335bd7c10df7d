"""One run: a seed in, a report out. The same seed gives the same run, to the last event."""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from random import Random
from unittest.mock import patch

from analysis.judge import judge, judge_decoded
from analysis.prepare import Observation
from analysis.result import JudgeSettings, Verdict
from tests.simulator import endings
from tests.simulator.daemon import Daemon
from tests.simulator.database import MAX_SKEW_S, fresh
from tests.simulator.faults import FAULTS_END_S, MOST_CRASHES, Fault, draw_faults
from tests.simulator.inbox import Inbox
from tests.simulator.plain_judge import plain_judge, plain_judge_decoded
from tests.simulator.planted.bug import PlantedBug
from tests.simulator.process import Process
from tests.simulator.production import TRAITS, Production, Run
from tests.simulator.story import Arrival, Order, Verb, draw_story
from tests.simulator.timeline import START, Timeline
from tests.simulator.traffic import Traffic
from tests.simulator.traps import IN_COMPANY, Trap, Traps, draw_trap
from tests.simulator.witness import Witness
from watchdog.errors import WatchdogError
from watchdog.intake import DeployRequest
from watchdog.model import Recorded

PATIENCE_S = 700.0  # after the last fault: the slowest retry of a message, a hold, a watch and a recovery
REAL_JUDGE_EVERY = 10  # the real judge takes as long as the rest of a run
CI_WAITS_S = 3.0
MOST_ARRIVALS = 8
SETTLED_EVERY_S = 2.0


Judge = Callable[[Sequence[Observation], Sequence[JudgeSettings]], Sequence[Verdict]]


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run came to."""

    seed: int
    violations: list[str]
    outcomes: dict[str, str]
    crashes: int
    rolled_back: int
    digest: str  # of the whole trace
    seconds: float  # of simulated time
    trace: list[str]


@dataclass(slots=True)
class Trace:
    """Every event, as a running digest; in words only where somebody wants to read them."""

    timeline: Timeline
    verbose: bool
    lines: list[str] = field(default_factory=list)
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def __call__(self, what: str) -> None:
        line = f"{self.timeline.now - START:9.3f} {what}"
        self._hash.update(line.encode())
        if self.verbose:
            self.lines.append(line)

    def digest(self) -> str:
        return self._hash.hexdigest()


class Simulation:
    """The world of one seed."""

    def __init__(self, seed: int, judge: Judge, *, trap: Trap | None, verbose: bool = False) -> None:
        self.seed, self.judge = seed, judge
        self.random = Random(seed)
        self.story = draw_story(self.random)
        if trap in IN_COMPANY:
            self.story = replace(self.story, replicas=max(2, self.story.replicas), shared=True)
        self.faults = draw_faults(self.random, shared=self.story.shared)
        self.timeline = Timeline()
        self.trace = Trace(self.timeline, verbose)
        self.raw = fresh()
        self.inbox = Inbox()
        self.production = Production(self.timeline, self.random, self.trace)
        self.witness = Witness(self.raw, self.timeline, self.production, len(self.story.sinks))
        self.production.took_effect = self._took_effect
        self.arrivals = list(self.story.arrivals)
        self.traffic = Traffic(self.production, self.timeline, self.random, self.faults)
        self.daemons: list[Daemon | None] = [None] * self.story.replicas
        self.traps = Traps(trap, self.timeline, Random(seed), self.witness, self._others, self.trace)
        self.acknowledged: set[str] = set()
        self.asked_by_operator: set[str] = set()
        self._pending = len(self.story.arrivals) + len(self.story.orders)
        self._ambush = self.story.ambush
        self._boots = 0
        self._next_look = 0.0
        self._written, self._settled = -1, False

    def run(self) -> Report:
        for replica in range(self.story.replicas):
            self.timeline.spawn(lambda r=replica: self._supervise(r), after_s=self.random.random())  # type: ignore[misc]
        for arrival in self.story.arrivals:
            self.timeline.spawn(lambda a=arrival: self._arrive(a), after_s=arrival.at_s)  # type: ignore[misc]
        for order in self.story.orders:
            self.timeline.spawn(lambda o=order: self._give(o), after_s=order.at_s)  # type: ignore[misc]
        self.timeline.spawn(self._calm, after_s=FAULTS_END_S)
        self.timeline.run(until=START + FAULTS_END_S + PATIENCE_S, over=self._is_over)
        self.timeline.close()
        endings.check(self)
        return Report(
            seed=self.seed,
            violations=self.witness.violations,
            outcomes={watch.id: watch.state for watch in self.witness.watches.values()},
            crashes=MOST_CRASHES - self.faults.crashes_left,
            rolled_back=sum(self.production.effects.values()),
            digest=self.trace.digest(),
            seconds=self.timeline.now - START,
            trace=self.trace.lines,
        )

    # --- what keeps the world going ----------------------------------------------------------------------

    def _supervise(self, replica: int) -> None:
        """Start a daemon, and another one whenever it has died."""
        while True:
            process = self._process(replica)
            daemon = self._daemon(process)
            self.daemons[replica] = daemon
            process.spawn(lambda d=daemon, p=process: self._boot(d, p))  # type: ignore[misc]
            while process.alive:
                self.timeline.sleep(0.5)
            self.production.end_with(process)
            for run in self.traps.spared:
                run.killed = False
            if self.traps.restarts_at_once:
                self.traps.restarts_at_once = False
            elif not self._is_calm():
                self.timeline.sleep(self.random.choice((0.1, 2.0, 15.0, 40.0)))

    def _boot(self, daemon: Daemon, process: Process) -> None:
        try:
            daemon.start()
        except WatchdogError as error:  # as the real one: it ends, and is started again
            process.note(f"could not start: {error}")
            process.alive = False

    def _process(self, replica: int) -> Process:
        self._boots += 1
        process = Process(f"r{replica}#{self._boots}", f"host{replica}", self.timeline, self.faults, self.trace)
        process.quiet = self._is_calm()
        process.passes = lambda point: self._passes(process, point)
        risky = self.story.shared and any(not TRAITS[a.service.partition("-")[0]].fencing for a in self.story.arrivals)
        process.longest_pause_before_hook_s = 0.4 if risky else 20.0
        if not process.quiet and self.faults.strikes(Fault.CLOCK_SKEW, 0.6):
            usual = MAX_SKEW_S * (2 * self.random.random() - 1)
            process.skew_s = self.random.choice((usual, usual, 30.0, -30.0))
        return process

    def _daemon(self, process: Process) -> Daemon:
        return Daemon(
            process,
            shared=self.story.shared,
            raw=self.raw,
            faults=self.faults,
            production=self.production,
            traffic=self.traffic,
            inbox=self.inbox,
            sinks=self.story.sinks,
            committed=self.witness.committed,
            started=self._hook_starts,
        )

    def _calm(self) -> None:
        """From here on nothing goes wrong any more."""
        self.trace("faults end")
        for daemon in self.daemons:
            if daemon is not None:
                daemon.process.quiet = True
                daemon.process.skew_s = 0.0

    def _is_calm(self) -> bool:
        return self.timeline.now >= START + FAULTS_END_S

    def _is_over(self) -> bool:
        """Whether nothing is left that could still happen; UNKNOWN rests, for nobody can tell."""
        if self._pending or self.timeline.now < self._next_look:
            return False
        self._next_look = self.timeline.now + SETTLED_EVERY_S
        if self._written != self.raw.total_changes:
            self._written, self._settled = self.raw.total_changes, endings.unsettled(self.raw) == []
        return self._settled

    # --- what people and CI do ---------------------------------------------------------------------------

    def _took_effect(self, run: Run) -> None:
        self.witness.took_effect(run)
        echo = self.story.echo
        if echo is None or len(self.arrivals) >= MOST_ARRIVALS or self._is_calm():
            return
        call = run.call
        told = Arrival(
            at_s=0.0, id=f"{call.service}-echo-{len(self.arrivals)}", service=call.service, version=call.to_version,
            truth=echo, tries=1,
        )  # fmt: skip
        self.arrivals.append(told)
        self._pending += 1
        self.timeline.spawn(lambda: self._tell(told, call.from_version), after_s=1.0)

    def _others(self, process: Process) -> list[Process]:
        """The processes of the other replicas that are up."""
        up = [daemon.process for daemon in self.daemons if daemon is not None and daemon.ready]
        return [other for other in up if other is not process and other.alive]

    def _passes(self, process: Process, point: str) -> None:
        self.traps.passes(process, point)
        self._lie_in_wait(process, point)

    def _hook_starts(self, run: Run) -> None:
        self.witness.hook_starts(run)
        self.traps.hook_starts(run)

    def _lie_in_wait(self, process: Process, point: str) -> None:
        """Once in a run somebody acts between what was read and the claim that follows from it."""
        if self._ambush is None or point != "action-before-claim":
            return
        verb, self._ambush = self._ambush, None
        acting = [watch for watch in self.witness.watches.values() if watch.state in ("INTENT", "RETRY_WAIT")]
        if not acting:
            return
        self._pending += 1
        if verb is Verb.DEPLOY:
            service = acting[-1].service
            newer = Arrival(
                at_s=0.0, id=f"{service}-ambush", service=service, version="v9", truth=self.story.arrivals[0].truth,
                tries=1,
            )  # fmt: skip
            self.arrivals.append(newer)
            self.timeline.spawn(lambda: self._arrive(newer))
        else:
            self.timeline.spawn(lambda: self._give(Order(at_s=0.0, verb=verb, deploy=acting[-1].id)))
        if verb is Verb.PAUSE:
            self._pending += 1
            self.timeline.spawn(lambda: self._give(Order(at_s=0.0, verb=Verb.RESUME, deploy="")), after_s=60.0)
        process.sleep(0.1)

    def _arrive(self, arrival: Arrival) -> None:
        """A version goes live, and CI says so."""
        place = self.production.places.get(arrival.service)
        previous = place.live if place is not None else "v1"
        if place is None:
            self.production.deploy(arrival.service, previous)
        self.production.deploy(arrival.service, arrival.version)
        self.trace(f"{arrival.service} {arrival.version} replaces {previous}")
        self._tell(arrival, previous)

    def _tell(self, arrival: Arrival, previous: str) -> None:
        """CI repeats itself until it is told that this is on record."""
        self.traffic.truths[arrival.id] = arrival.truth
        request = DeployRequest(
            id=arrival.id,
            service=arrival.service,
            version=arrival.version,
            previous_version=previous,
            share=arrival.truth.service.share,
        )
        tries = arrival.tries
        while tries > 0:
            answers: list[Recorded] = []
            self._ask(lambda daemon: answers.append(daemon.intake.receive(request, actor="ci")[0]))  # noqa: B023
            self.timeline.sleep(CI_WAITS_S)
            if answers:
                tries -= 1
                self._acknowledge(arrival, answers[0])
        self._pending -= 1

    def _acknowledge(self, arrival: Arrival, answer: Recorded) -> None:
        first = arrival.id not in self.acknowledged
        self.acknowledged.add(arrival.id)
        self.witness.claim(answer is not Recorded.CONFLICT, "P8", f"{arrival.id} was refused as another deploy")
        self.witness.claim(arrival.id in self.witness.watches, "P8", f"{arrival.id} was acknowledged and not stored")
        if first:
            self.witness.acknowledged(arrival.id)

    def _give(self, order: Order) -> None:
        """An operator's order, given once, whatever it is answered; nobody leaves the kill switch pulled unheard."""
        if order.verb in (Verb.APPROVE, Verb.ROLLBACK):
            self.asked_by_operator.add(order.deploy)
        heard: list[Daemon] = []

        def hears(daemon: Daemon) -> None:
            _obey(daemon, order)
            heard.append(daemon)

        while not heard:
            self._ask(hears)
            self.timeline.sleep(CI_WAITS_S)
            if order.verb is not Verb.RESUME:
                break
        self._pending -= 1

    def _ask(self, question: Callable[[Daemon], None]) -> None:
        """Put a request to a daemon that is up, as a thread of its web server would get it."""
        up = [daemon for daemon in self.daemons if daemon is not None and daemon.process.alive and daemon.ready]
        if up:
            daemon = self.random.choice(up)
            daemon.process.spawn(lambda: _answer(daemon, question))


def _answer(daemon: Daemon, question: Callable[[Daemon], None]) -> None:
    try:
        question(daemon)
    except WatchdogError as error:
        daemon.process.note(f"answered {type(error).__name__}: {error}")


def _obey(daemon: Daemon, order: Order) -> None:
    desk, actor, why = daemon.desk, "operator", "asked for"
    if order.verb in (Verb.PAUSE, Verb.RESUME):
        {Verb.PAUSE: desk.pause, Verb.RESUME: desk.resume}[order.verb](actor=actor, why=why)
        return
    verbs = {Verb.APPROVE: desk.approve, Verb.DENY: desk.deny, Verb.CANCEL: desk.cancel, Verb.ROLLBACK: desk.rollback}
    verbs[order.verb](order.deploy, actor=actor, why=why)


def meets(seed: int, needs: Collection[Fault]) -> bool:
    """Whether the world of a seed has these faults: a bug that needs them is not looked for elsewhere."""
    random = Random(seed)
    story = draw_story(random)
    faults = draw_faults(random, shared=story.shared)
    return all(faults.on(fault) for fault in needs)


def simulate(
    seed: int, *, verbose: bool = False, real_judge: bool | None = None, bug: PlantedBug | None = None
) -> Report:
    """Run one seed; `real_judge`: with the real judge, by default in every tenth run. `bug`: to be found."""
    real = seed % REAL_JUDGE_EVERY == 0 if real_judge is None else real_judge
    chosen: Judge = judge if real else plain_judge
    decoded = judge_decoded if real else plain_judge_decoded
    trap = bug.trap if bug else draw_trap(seed)
    with patch("watchdog.judging.judge_decoded", decoded), _silence(), bug.planted() if bug else nullcontext():
        return Simulation(seed, chosen, trap=trap, verbose=verbose).run()


@contextmanager
def _silence() -> Iterator[None]:
    """The daemon logs every fault, as it should; here they are on purpose."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
