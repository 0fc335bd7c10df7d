"""What the daemon needs from the world, as Protocols and the values that cross them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel

from analysis.prepare import Cells, LookFacts
from watchdog.model import (
    Action,
    ActionKind,
    ActionState,
    AuditEntry,
    Beginning,
    Change,
    Claim,
    Deploy,
    Label,
    LabelKind,
    Message,
    Metric,
    Recorded,
    State,
    StoredLook,
    Watch,
)


class Clock(Protocol):
    """Time and identity. One file reads the real ones."""

    def now(self) -> float: ...  # Unix seconds
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...
    def new_id(self) -> str: ...


# --- sources ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmWindow:
    """Where and when one arm's samples come from. `labels` select series by label; `instances` by name."""

    arm: str  # analysis.result.Arm
    start: float
    end: float
    labels: Mapping[str, str] = field(default_factory=dict)
    instances: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LookRequest:
    """One watch's question about one interval."""

    watch_id: str
    service: str
    interval: int
    arms: tuple[ArmWindow, ...]
    metrics: tuple[Metric, ...]
    max_replicas: int = 16  # counts are asked per instance up to this many, as sums beyond


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAnswer:
    """What the source knows. Every failure is an answer with a status, never an exception."""

    facts: LookFacts
    cells: Mapping[str, Cells] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """Brings samples. `fetch` groups what the requests share, keeps the deadline, and never raises for faults
    of the outside: DOWN, PARTIAL and missing cells say what happened. NaN and Inf never pass it."""

    kind: ClassVar[str]
    Options: ClassVar[type[BaseModel]]
    default_step_s: ClassVar[float]
    default_settle_s: ClassVar[float]

    def __init__(self, name: str, options: Any, clock: Clock, env: Mapping[str, str]) -> None: ...
    def start(self) -> None: ...
    def fetch(self, requests: Sequence[LookRequest], *, deadline_s: float) -> list[LookAnswer]: ...
    def close(self) -> None: ...


# --- hooks -----------------------------------------------------------------------------------------------


class HookOutcome(StrEnum):
    OK = "ok"
    RETRY = "retry"  # the hook says it did nothing yet, and asks for another try (exit 75, 429)
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    NOT_STARTED = "not_started"  # surely without effect: missing program, refused connection


class ProbeAnswer(StrEnum):
    """What production says about an action: is it in effect?"""

    APPLIED = "applied"  # exit 0
    NOT_APPLIED = "not_applied"  # exit 3
    PARTIAL = "partial"  # exit 4
    MOVED_ON = "moved_on"  # exit 5: neither candidate nor target is live, hands off
    UNKNOWN = "unknown"  # anything else, or no probe configured


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCall:
    """What a hook is told; identical for every attempt of an action but for `attempt` and `fence`.

    Every kind goes from `from_version` to `to_version`: a rollback away from the candidate, a promote or a switch
    towards it. A promote says in `params["share"]` which share of the traffic (0..1) `to_version` shall have.
    """

    action_id: str
    kind: ActionKind
    attempt: int
    fence: int
    service: str
    environment: str
    from_version: str
    to_version: str
    deploy_id: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookResult:
    outcome: HookOutcome
    exit_code: int | None = None
    output: str = ""  # bounded: first and last part
    duration_s: float = 0.0


class Hook(Protocol):
    """Does something to production, or asks it. Blocking; both calls keep their own deadline."""

    kind: ClassVar[str]
    Options: ClassVar[type[BaseModel]]

    def __init__(self, name: str, options: Any, clock: Clock, env: Mapping[str, str], state_dir: Path) -> None: ...
    @property
    def has_probe(self) -> bool: ...
    @property
    def idempotent(self) -> bool: ...
    @property
    def acts_elsewhere(self) -> bool: ...  # it asks another system, which goes on by itself when the asking has ended
    @property
    def timeout_s(self) -> float: ...

    def run(self, call: HookCall) -> HookResult: ...
    def probe(self, call: HookCall) -> ProbeAnswer: ...
    def still_running(self, action_id: str) -> bool: ...  # an attempt that outlived a former daemon


@runtime_checkable
class SharesTraffic(Protocol):
    """What a hook may offer besides: the share (0..1) of the traffic that `to` is set to have now, so that a promote
    that lies is found. None: it cannot be said."""

    def share(self, call: HookCall) -> float | None: ...


@runtime_checkable
class LooksAhead(Protocol):
    """What a hook may offer besides: why the action could not be carried out if it were asked for now (a conflicting
    revert, a target that is gone), to be said when the watch starts. None: nothing is in its way. Changes nothing."""

    def preflight(self, call: HookCall) -> str | None: ...


# --- sinks -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message on its way to one sink."""

    message: Message
    deploy: Deploy
    state: State
    thread: Mapping[str, str] = field(default_factory=dict)  # what this sink remembered about this deploy


class Sink(Protocol):
    """Tells someone. Called only by the outbox; raises SinkError(permanent=…)."""

    kind: ClassVar[str]
    Options: ClassVar[type[BaseModel]]

    def __init__(self, name: str, options: Any, clock: Clock, env: Mapping[str, str]) -> None: ...
    def send(self, delivery: Delivery) -> Mapping[str, str]: ...  # what to remember (e.g. the parent's ts)


# --- ledger ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    id: int
    sink: str
    message: Message
    attempts: int
    created_at: float
    next_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVerdict:
    look: int
    at: float
    kind: str
    reason: str | None
    metric: str | None
    log_evidence: float
    log_threshold: float
    sentence: str
    payload: Mapping[str, Any]  # the whole Verdict as JSON values


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePoint:
    """The evidence of all metrics together after one look, in natural logarithms; NaN where nothing could be said."""

    look: int
    at: float
    log_evidence: float
    log_threshold: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellKeys:
    """Whose the cells of one metric are, as columns; the same object for all intervals that have the same."""

    arm: Sequence[str]
    replica: Sequence[str]
    stratum: Sequence[str]
    le: Sequence[float | str | None]  # a bound, "inf", or None


class RawSamples(NamedTuple):
    """One metric's cells in one closed interval, for drawing: numbers are read from JSON only when asked for."""

    interval: int
    metric: str
    keys: CellKeys
    value_json: str
    total_json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many deploys of one service and day (Unix days, UTC) ended alike and were labelled alike."""

    service: str
    mode: str
    day: int
    state: State
    verdict: str | None
    label: LabelKind | None
    budget: float  # the share of healthy deploys that may be called DEGRADED, as frozen with the watches
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work on a watch, as it is given back."""

    watch_id: str
    epoch: int
    next_look_at: float


class Ledger(Protocol):
    """The database. Every write is one transaction; `commit` is the only way a watch changes."""

    writers: int  # how many may usefully write at the same time

    def record_deploy(  # ended: what older watches become by it, each unless it changed meanwhile
        self, watch: Watch, messages: Sequence[Message], audit: Sequence[AuditEntry], actions: Sequence[Action] = (),
        *, ended: Sequence[Change] = (),
    ) -> Recorded: ...  # fmt: skip
    def record_deploys(self, begun: Sequence[Beginning]) -> list[Recorded | BaseException]: ...  # of each in its place
    def commit(self, change: Change) -> bool: ...  # False: the compare-and-set lost, nothing was written
    def commit_all(self, changes: Sequence[Change]) -> list[bool]: ...  # of different watches, in one transaction
    def claim_due(self, *, owner: str, now: float, lease_s: float, limit: int) -> list[Watch]: ...
    def release_all(self, leases: Sequence[Lease], *, owner: str) -> None: ...

    def snapshot(self) -> AbstractContextManager[None]: ...  # this thread's reads within are of one moment, and cheap
    def watch(self, watch_id: str) -> Watch | None: ...
    def watches_of(self, watch_ids: Sequence[str]) -> Mapping[str, Watch]: ...
    def watches(  # before_id, with `before`: of those recorded in that very moment the ones after; services: only these
        self, *, service: str | None = None, environment: str | None = None, states: frozenset[State] | None = None,
        limit: int = 100, before: float | None = None, before_id: str | None = None,
        services: frozenset[str] | None = None,
    ) -> list[Watch]: ...  # fmt: skip
    # one place's watches in these states, or changed since into one of `lately`, and its newest whatever its state
    def standing(
        self, *, service: str, environment: str, states: frozenset[State],
        lately: frozenset[State] = frozenset(), since: float = 0.0,
    ) -> list[Watch]: ...  # fmt: skip
    def hurt(self, *, environment: str, reason: str, since: float) -> list[str]: ...  # services; of open watches
    def train(self, name: str, *, environment: str) -> list[Watch]: ...  # in the order of its deploys
    def services(self) -> list[str]: ...  # every service and environment on record, in order
    def environments(self) -> list[str]: ...
    def looks(self, watch_id: str) -> list[StoredLook]: ...
    def verdicts(self, watch_id: str, *, last: int | None = None) -> list[StoredVerdict]: ...
    def evidence_path(self, watch_id: str) -> list[EvidencePoint]: ...
    def metric_evidence(  # (look, by metric: its natural logarithm), in the order of the looks
        self, watch_id: str, *, after: int | None = None
    ) -> Iterator[tuple[int, Mapping[str, float]]]: ...
    def last_look(self, watch_id: str) -> StoredLook | None: ...  # without its cells
    def raw_samples(self, watch_id: str, *, after: int | None = None) -> Iterator[RawSamples]: ...
    def audit(self, watch_id: str | None = None, *, limit: int = 1000) -> list[AuditEntry]: ...
    def append_audit(self, entry: AuditEntry) -> None: ...

    def action(self, action_id: str) -> Action | None: ...
    def actions(self, *, watch_id: str | None = None, states: frozenset[ActionState] | None = None) -> list[Action]: ...
    def rollbacks_since(self, since: float) -> list[Action]: ...  # started or about to be, of all services
    # Attempt and fence rise, the action (and a rollback's watch) is RUNNING. None: another has it, or it may not run.
    def claim_action(self, claim: Claim) -> Action | None: ...
    def check_clock(self) -> None: ...  # LedgerError: our clock is not the one that deadlines were set by
    def set_paused(self, paused: bool, *, actor: str, why: str, at: float) -> None: ...
    def paused(self) -> str | None: ...  # why, while the kill switch is on
    # The oldest undelivered per (watch, sink), but for those sinks.
    def due_messages(self, *, now: float, limit: int, without: Collection[str] = ()) -> list[OutboxRow]: ...
    def claim_message(self, row_id: int, *, now: float, hold_s: float) -> bool: ...  # False: another replica has it
    def delivered(self, row_id: int, *, at: float, remember: Mapping[str, str]) -> None: ...
    def failed(self, row_id: int, *, at: float, error: str, next_at: float | None) -> None: ...  # None: give up
    def thread(self, watch_id: str, sink: str) -> Mapping[str, str]: ...
    def messages(self, watch_id: str) -> list[tuple[OutboxRow, str]]: ...  # with delivery state

    def first_use(self, webhook_id: str, *, now: float, keep_s: float) -> bool: ...  # False: replayed
    def set_label(self, label: Label, entry: AuditEntry) -> None: ...  # an analyst's word, in one transaction
    def labels(self, watch_ids: Sequence[str]) -> Mapping[str, Label]: ...
    def tallies(self, *, service: str | None = None, since: float | None = None) -> list[Tally]: ...
    def times_to_restore(self, service: str, *, since: float) -> list[float]: ...  # seconds, newest first

    def active(self) -> int: ...  # watches that go on
    def counts(self) -> Mapping[str, int]: ...  # watches per state, for /metrics
    def close(self) -> None: ...


Failpoint = Callable[[str], None]
