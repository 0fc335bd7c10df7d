"""What the services' metrics say: drawn by `analysis.simulate`, the same for everybody who asks for an interval."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import ClassVar

import numpy as np

from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, SourceStatus
from analysis.simulate import NoiseLaw, NoisePer, Service, observe
from tests.fakes import NoOptions
from tests.simulator.faults import Fault, Faults
from tests.simulator.process import Process
from tests.simulator.production import Production
from tests.simulator.timeline import Timeline
from watchdog.ports import LookAnswer, LookRequest
from watchdog.sources.fold import fold
from watchdog.sources.prometheus_answer import Moments, read
from watchdog.sources.questions import questions

LOOKS, PAST = 6, 2
STEP_S, SETTLE_S = 5.0, 1.0
SHARE = 0.1
MOST_SERIES = 100
PLAIN = Service(requests=3000, share=SHARE, looks=LOOKS, past=PAST, step_s=STEP_S, errors=0.0075)
NOISES: Mapping[str, Service] = {  # shapes of which the judge assumes none
    "poisson": PLAIN,
    "lognormal": replace(PLAIN, noise_v=0.1, noise_ar=0.5),
    "bursts": replace(PLAIN, noise_v=0.3, noise_law=NoiseLaw.BURSTS, noise_per=NoisePer.ALL),
    "clients": replace(PLAIN, client_share=0.5, client_per=NoisePer.REPLICA),
    "clusters": replace(PLAIN, cluster=3.0),
    "heavy": replace(PLAIN, noise_v=0.2, noise_law=NoiseLaw.HEAVY, noise_ar=0.8),
    "swing": replace(PLAIN, swing=0.6, period=9.0, noise_v=0.1, noise_law=NoiseLaw.GAMMA),
    "incident": replace(PLAIN, shared=(1.0, 1.0, *(6.0 for _ in range(LOOKS + 60)))),  # hurts both versions
}
SPOTLESS = replace(PLAIN, errors=0.0)  # nothing whatever goes wrong: whoever sees a fault has made it up


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a deploy really is. `onset` counts looks from the deploy; None: nothing is wrong with it."""

    service: Service
    onset: int | None
    seed: int
    looks: int = LOOKS + 60  # the watch, the recovery, and the time that faults cost

    @property
    def is_bad(self) -> bool:
        return self.onset is not None

    def observed(self) -> Observation:
        return observe(replace(self.service, looks=self.looks), np.random.default_rng(self.seed))


def draw_truth(random: Random) -> Truth:
    """Healthy, spotless, bad from the start, bad later, or gone."""
    seed = random.getrandbits(32)
    kind = random.choice(("spotless", "healthy", "bad", "bad", "late", "gone"))
    if kind == "spotless":
        return Truth(service=SPOTLESS, onset=None, seed=seed)
    service = NOISES[random.choice(sorted(NOISES))]
    if kind == "healthy":
        return Truth(service=service, onset=None, seed=seed)
    onset = random.randint(2, 4) if kind == "late" else 0
    changed = replace(service, absent=True) if kind == "gone" else replace(service, factor=8.0)
    return Truth(service=replace(changed, onset=onset), onset=onset, seed=seed)


@dataclass(slots=True)
class Traffic:
    """Answers about closed intervals; the candidate is in them for as long as it is live."""

    production: Production
    timeline: Timeline
    random: Random
    faults: Faults
    truths: dict[str, Truth] = field(default_factory=dict)
    down_until: float = 0.0
    _drawn: dict[str, Observation] = field(default_factory=dict)

    def answer(self, request: LookRequest) -> LookAnswer:
        seen = self.observed(request.watch_id)
        spec = request.metrics[0].spec.name
        cells = seen.samples.get((spec, request.interval), Cells())
        facts = seen.facts.get(request.interval, LookFacts())
        if self._candidate_gone(request):
            cells, facts = without_candidate(cells), replace(facts, candidate_up=0, candidate_down=0)
        return LookAnswer(facts=facts, cells={spec: cells} if cells.arm else {})

    def observed(self, watch_id: str) -> Observation:
        """All that was ever to be seen of a deploy, drawn once."""
        seen = self._drawn.get(watch_id)
        if seen is None:
            seen = self._drawn[watch_id] = self.truths[watch_id].observed()
        return seen

    def _candidate_gone(self, request: LookRequest) -> bool:
        candidate = next((arm for arm in request.arms if arm.arm == Arm.CANDIDATE.value), None)
        if candidate is None:
            return False
        gone_at = self.production.places[request.service].gone_at.get(candidate.labels["version"])
        return gone_at is not None and gone_at <= candidate.start


def without_candidate(cells: Cells) -> Cells:
    kept = [i for i, arm in enumerate(cells.arm) if arm != Arm.CANDIDATE.value]
    columns = (cells.arm, cells.replica, cells.stratum, cells.le, cells.value, cells.total)
    return Cells(*(tuple(column[i] for i in kept) for column in columns))  # type: ignore[arg-type]


def unreadable(request: LookRequest, cells: Mapping[str, Cells], random: Random) -> dict[str, Cells]:
    """The same answer in a Prometheus' words, where one series is no number; read by the daemon's own reader."""
    return {metric.spec.name: _reread(request, cells[metric.spec.name], random) for metric in request.metrics if cells}


def _reread(request: LookRequest, cells: Cells, random: Random) -> Cells:
    role, at = random.choice(("bad", "total")), random.randrange(len(cells.arm))
    word = random.choice(("NaN", "+Inf", "-Inf"))
    answers = []
    for question in questions(request):
        rows = zip(
            cells.arm, cells.replica, getattr(cells, "value" if question.of.name == "bad" else "total"), strict=True
        )
        series = [
            {"metric": {"instance": replica}, "value": [0, word if (question.of.name, i) == (role, at) else str(value)]}
            for i, (arm, replica, value) in enumerate(rows)
            if arm == question.window.arm
        ]
        body = json.dumps({"data": {"resultType": "vector", "result": series}}).encode()
        [answer] = read(body, Moments(0), MOST_SERIES)
        answers.append((question, answer.series))
    return fold(request.metrics[0], answers, max_replicas=MOST_SERIES)


@dataclass(slots=True)
class SimulatedSource:
    """One process's way to the metrics."""

    process: Process
    traffic: Traffic
    faults: Faults
    kind: ClassVar[str] = "simulated"
    Options: ClassVar[type[NoOptions]] = NoOptions
    default_step_s: ClassVar[float] = STEP_S
    default_settle_s: ClassVar[float] = SETTLE_S

    def start(self) -> None: ...

    def close(self) -> None: ...

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:
        self.process.call("fetches")
        why = self._trouble(deadline_s)
        if why is not None:
            return [LookAnswer(facts=LookFacts(status=SourceStatus.DOWN, detail=why)) for _ in requests]
        answers = [self._told(request) for request in requests]
        self.process.call("fetched")
        return answers

    def _trouble(self, deadline_s: float) -> str | None:
        """Why there is no answer at all."""
        if self.process.quiet:
            return None
        if self.faults.strikes(Fault.SOURCE_DOWN, 0.1):
            self.traffic.down_until = self.traffic.timeline.now + self.faults.random.choice((4.0, 20.0, 60.0))
        if self.traffic.timeline.now < self.traffic.down_until:
            return "connection refused"
        if self.faults.strikes(Fault.SOURCE_RAISES, 0.1):
            raise RuntimeError("an adapter with a bug")
        if self.faults.strikes(Fault.SOURCE_SLOW, 0.2):
            takes_s = self.faults.random.choice((1.0, 3.0, deadline_s))
            self.process.sleep(takes_s)
            return "no answer in time" if takes_s >= deadline_s else None
        return None

    def _told(self, request: LookRequest) -> LookAnswer:
        answer = self.traffic.answer(request)
        if self.process.quiet:
            return answer
        if self.faults.strikes(Fault.SOURCE_GAPS, 0.2):
            return replace(answer, cells={})
        if self.faults.strikes(Fault.SOURCE_NAN, 0.3):
            return replace(answer, cells=unreadable(request, answer.cells, self.faults.random))
        if self.faults.strikes(Fault.SOURCE_PARTIAL, 0.2):
            facts = replace(answer.facts, status=SourceStatus.PARTIAL, detail="shard missing")
            return LookAnswer(facts=facts, cells={name: without_candidate(c) for name, c in answer.cells.items()})
        return answer
