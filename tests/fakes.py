"""One small, stateful fake per port; no mocks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import BaseModel

from analysis.prepare import Cells, LookFacts
from analysis.result import Arm, SourceStatus
from watchdog.errors import SinkError
from watchdog.ports import Delivery, HookCall, HookOutcome, HookResult, LookAnswer, LookRequest, ProbeAnswer


class NoOptions(BaseModel):
    """A fake has nothing to configure."""


class FakeClock:
    """Time that moves only when told to; both clocks move together unless a test moves one."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.wall = now
        self.mono = 0.0
        self.ids = 0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def new_id(self) -> str:
        self.ids += 1
        return f"id{self.ids}"

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds


def counts(metric_rows: Sequence[tuple[str, str, float, float]]) -> Cells:
    """Cells of a ratio metric from (arm, replica, bad, total) rows."""
    arm, replica, bad, total = zip(*metric_rows, strict=True) if metric_rows else ((), (), (), ())
    empty = ("",) * len(arm)
    return Cells(
        arm=tuple(arm),
        replica=tuple(replica),
        stratum=empty,
        le=(float("nan"),) * len(arm),
        value=tuple(bad),
        total=tuple(total),
    )


@dataclass
class FakeSource:
    """Answers each request from a function of it; can be down."""

    answer: Callable[[LookRequest], Mapping[str, Cells]]
    down: bool = False
    calls: list[int] = field(default_factory=list)
    kind: ClassVar[str] = "fake"
    Options: ClassVar[type[BaseModel]] = NoOptions
    default_step_s: ClassVar[float] = 5.0
    default_settle_s: ClassVar[float] = 1.0

    def start(self) -> None: ...

    def close(self) -> None: ...

    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]:
        self.calls.append(len(requests))
        if self.down:
            gone = LookFacts(status=SourceStatus.DOWN, detail="connection refused")
            return [LookAnswer(facts=gone) for _ in requests]
        return [_told(request, self.answer(request)) for request in requests]


def _told(request: LookRequest, cells: Mapping[str, Cells]) -> LookAnswer:
    """A version that counts nothing beside the other one is gone, and its instances are no longer seen up."""
    counting = {arm for metric in cells.values() for arm in metric.arm}
    gone = {window.arm for window in request.arms} - counting == {Arm.CANDIDATE.value}
    return LookAnswer(facts=LookFacts(baseline_up=3, candidate_up=0 if gone else 1, candidate_down=0), cells=cells)


@dataclass
class FakeHook:
    """A hook over a pretended production: `live` is the version that serves. Counts its real effects."""

    live: str = "v2"
    outcome: HookOutcome = HookOutcome.OK
    works: bool = True  # whether running it takes effect
    probe_speaks: bool = True
    has_probe: bool = True
    idempotent: bool = False
    acts_elsewhere: bool = False
    timeout_s: float = 30.0
    running: bool = False
    calls: list[HookCall] = field(default_factory=list)
    effects: int = 0
    kind: ClassVar[str] = "fake"
    Options: ClassVar[type[BaseModel]] = NoOptions
    on_run: Callable[[HookCall], None] = lambda call: None

    def run(self, call: HookCall) -> HookResult:
        self.calls.append(call)
        self.on_run(call)
        if self.works and self.live == call.from_version:
            self.live = call.to_version
            self.effects += 1
        return HookResult(outcome=self.outcome, exit_code=0 if self.outcome is HookOutcome.OK else 1)

    def probe(self, call: HookCall) -> ProbeAnswer:
        if not self.probe_speaks:
            return ProbeAnswer.UNKNOWN
        if self.live == call.to_version:
            return ProbeAnswer.APPLIED
        return ProbeAnswer.NOT_APPLIED if self.live == call.from_version else ProbeAnswer.MOVED_ON

    def still_running(self, action_id: str) -> bool:
        return self.running


@dataclass
class FakeSink:
    """Keeps what it was told; can fail."""

    told: list[Delivery] = field(default_factory=list)
    error: SinkError | None = None
    kind: ClassVar[str] = "fake"
    Options: ClassVar[type[BaseModel]] = NoOptions

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        if self.error is not None:
            raise self.error
        self.told.append(delivery)
        return {}
