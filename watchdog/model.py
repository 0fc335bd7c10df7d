"""Nouns of the daemon, without I/O. Times are Unix seconds (`_at`), durations seconds (`_s`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from analysis.prepare import Cells, LookFacts
from analysis.result import Design, JudgeSettings, MetricSpec, Verdict
from watchdog.selector import Selector


class Strategy(StrEnum):
    DIRECT = "direct"
    ROLLING = "rolling"
    BLUE_GREEN = "blue_green"
    CANARY = "canary"
    FLAG = "flag"


class Mode(StrEnum):
    """How far the watchdog may go for a service, in rising order of trust."""

    OBSERVE = "observe"
    NOTIFY = "notify"
    APPROVE = "approve"
    AUTO = "auto"


class State(StrEnum):
    """Where a watch stands. Persisted; every transition is audited."""

    SMOKE = "SMOKE"
    SMOKE_FAILED = "SMOKE_FAILED"
    WATCHING = "WATCHING"
    PASSED = "PASSED"
    INCONCLUSIVE = "INCONCLUSIVE"
    SUPERSEDED = "SUPERSEDED"
    CANCELLED = "CANCELLED"
    INTENT = "INTENT"
    HELD = "HELD"
    NOT_NEEDED = "NOT_NEEDED"
    RUNNING = "RUNNING"
    RETRY_WAIT = "RETRY_WAIT"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    VERIFYING = "VERIFYING"
    ROLLED_BACK = "ROLLED_BACK"
    NOT_RECOVERED = "NOT_RECOVERED"

    @property
    def outcome(self) -> str:
        """The word `wait`, `--json` and the API use."""
        return self.value.lower()


TRANSITIONS: dict[State, frozenset[State]] = {
    State.SMOKE: frozenset({State.WATCHING, State.SMOKE_FAILED}),
    State.WATCHING: frozenset(
        {State.PASSED, State.INCONCLUSIVE, State.SUPERSEDED, State.CANCELLED, State.INTENT, State.HELD}
    ),
    State.INTENT: frozenset({State.HELD, State.NOT_NEEDED, State.RUNNING, State.CANCELLED, State.SUPERSEDED}),
    State.HELD: frozenset({State.INTENT, State.WATCHING, State.CANCELLED, State.SUPERSEDED}),
    State.RUNNING: frozenset({State.VERIFYING, State.RETRY_WAIT, State.FAILED, State.UNKNOWN}),
    State.RETRY_WAIT: frozenset({State.RUNNING, State.FAILED}),
    State.UNKNOWN: frozenset({State.VERIFYING, State.INTENT, State.CANCELLED}),
    State.VERIFYING: frozenset({State.ROLLED_BACK, State.NOT_RECOVERED}),
}
FINAL: frozenset[State] = frozenset(State) - frozenset(TRANSITIONS)
RESTING: frozenset[State] = FINAL | {State.HELD, State.UNKNOWN}


class ActionKind(StrEnum):
    """The production changes that go over the one fenced edge."""

    ROLLBACK = "rollback"
    PROMOTE = "promote"
    SWITCH = "switch"
    PAUSE = "pause"
    RESTORE_POINT = "restore_point"
    MIGRATE_DOWN = "migrate_down"


class ActionState(StrEnum):
    INTENT = "INTENT"  # recorded, nobody has started it
    HELD = "HELD"  # recorded, waits for a human
    RUNNING = "RUNNING"  # claimed; its hook may be running
    RETRY_WAIT = "RETRY_WAIT"  # surely not applied, to be tried again
    UNKNOWN = "UNKNOWN"  # nobody can tell whether it took effect
    APPLIED = "APPLIED"
    NOT_NEEDED = "NOT_NEEDED"  # production had moved on before we touched it
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ACTION_TRANSITIONS: dict[ActionState, frozenset[ActionState]] = {
    ActionState.INTENT: frozenset(
        {ActionState.HELD, ActionState.RUNNING, ActionState.NOT_NEEDED, ActionState.CANCELLED}
    ),
    ActionState.HELD: frozenset({ActionState.INTENT, ActionState.CANCELLED}),
    ActionState.RUNNING: frozenset(
        {
            ActionState.APPLIED,
            ActionState.RETRY_WAIT,
            ActionState.FAILED,
            ActionState.UNKNOWN,
        }
    ),
    ActionState.RETRY_WAIT: frozenset({ActionState.RUNNING, ActionState.FAILED, ActionState.CANCELLED}),
    ActionState.UNKNOWN: frozenset({ActionState.APPLIED, ActionState.INTENT, ActionState.CANCELLED}),
}


class DecisionKind(StrEnum):
    """The policy's word."""

    WAIT = "WAIT"
    PROMOTE = "PROMOTE"
    PASS = "PASS"
    ROLL_BACK = "ROLL_BACK"
    HOLD = "HOLD"
    ESCALATE = "ESCALATE"
    CONCLUDE = "CONCLUDE"  # end INCONCLUSIVE: the watch is over and nobody can tell


class HoldReason(StrEnum):
    MODE_OBSERVE = "MODE_OBSERVE"
    MODE_NOTIFY = "MODE_NOTIFY"
    APPROVAL = "APPROVAL"
    KILL_SWITCH = "KILL_SWITCH"
    COOL_DOWN = "COOL_DOWN"
    NO_HOOK = "NO_HOOK"
    NO_TARGET = "NO_TARGET"
    MIGRATION = "MIGRATION"
    SHARED_CAUSE = "SHARED_CAUSE"
    UNCALIBRATED = "UNCALIBRATED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    kind: DecisionKind
    why: str  # one sentence
    hold: HoldReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """The event "version X of service S went live in environment E at T"."""

    id: str
    service: str
    environment: str
    version: str
    previous_version: str | None
    strategy: Strategy
    deployed_at: float
    received_at: float
    share: float | None = None  # traffic share of the candidate, 0..1
    instances: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # arm → instance names, if announced
    migration: str = "none"  # none, expand, contract, irreversible, unknown
    triggered_by: str = ""
    body_digest: str = ""  # SHA-256 of the canonical request, for idempotency


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric as both sources can fetch it: what the judge sees, and where its series are.

    roles of `series`: ratio bad, total · rate events, exposure · latency histogram · gauge and trend level.
    """

    spec: MetricSpec
    series: Mapping[str, Selector] = field(default_factory=dict)
    promql: str | None = None  # any expression per arm, with $arm for the arm's label conditions
    by: tuple[str, ...] = ()  # labels that split the counts into strata


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one deploy is watched; frozen when the watch begins, so that every verdict can be recomputed."""

    design: Design
    source: str  # name in [sources]
    metrics: tuple[Metric, ...]
    judge: JudgeSettings
    step_s: float
    settle_s: float
    watch_s: float
    baseline_looks: int = 0  # intervals before the deploy that are fetched once, at the start
    version_label: str = "version"
    selector_labels: Mapping[str, str] = field(default_factory=dict)  # conditions every series must meet
    rollback_hook: str | None = None  # name in [hooks]
    verify_s: float = 60.0  # time allowed for the metrics to recover after a rollback
    hold_s: float = 7200.0  # a HELD older than this expires, loudly
    public_url: str = ""  # where people reach the status pages, for links in messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The bounded observation of one deploy, as stored."""

    id: str
    deploy: Deploy
    plan: Plan
    mode: Mode
    state: State
    created_at: float
    updated_at: float
    looks: int = 0  # closed intervals recorded
    next_look_at: float = 0.0
    sentence: str = ""
    verdict: str | None = None  # last verdict kind
    reason: str | None = None
    metric: str | None = None
    hold: HoldReason | None = None
    hold_until: float | None = None
    verified_looks: int = 0
    generation: int = 0  # raised only by an operator who asks for another rollback
    epoch: int = 0  # rises with every lease; a writer with an older epoch is refused
    degraded_at: float | None = None  # when the verdict fell
    recovered_at: float | None = None  # when traffic was proven back on the old version
    exposed_requests: float = 0.0
    affected_requests: float = 0.0
    total_requests: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One intended production change with its id, attempts, fence and outcome."""

    id: str
    watch_id: str
    kind: ActionKind
    state: ActionState
    hook: str
    service: str
    environment: str
    from_version: str
    to_version: str
    created_at: float
    attempt: int = 0
    fence: int = 0
    epoch: int = 0
    next_at: float = 0.0
    deadline_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    detail: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


class Severity(StrEnum):
    INFO = "info"
    GOOD = "good"
    WARNING = "warning"
    PAGE = "page"  # somebody must look now


class MessageKind(StrEnum):
    STARTED = "started"
    PROGRESS = "progress"
    SOURCE_DOWN = "source_down"
    SOURCE_BACK = "source_back"
    DEGRADED = "degraded"
    HELD = "held"
    ACTION = "action"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something to tell, queued in the same transaction as what it tells. `key` is unique per watch."""

    key: str
    watch_id: str
    kind: MessageKind
    severity: Severity
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)  # service, version, state, blast radius, timeline …


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what and why; append-only."""

    at: float
    watch_id: str | None
    actor: str
    event: str
    before: str = ""
    after: str = ""
    why: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLook:
    """One closed interval: what the source said, and the cells of each metric."""

    interval: int
    facts: LookFacts
    cells: Mapping[str, Cells]
    queries: Mapping[str, str] = field(default_factory=dict)  # metric → query text as sent


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionUpdate:
    """A compare-and-set on one action."""

    id: str
    expect: frozenset[ActionState]
    to: ActionState
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Everything that changes at one moment of a watch. The ledger writes all of it in ONE transaction, or none.

    expect_state and expect_epoch are compared first; `to_state` must be allowed by TRANSITIONS. A transition
    carries at least one audit entry and one message.
    """

    watch_id: str
    at: float
    expect_state: State
    expect_epoch: int | None = None
    to_state: State | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)  # other Watch columns to set
    looks: tuple[StoredLook, ...] = ()
    verdict: Verdict | None = None
    new_action: Action | None = None
    action: ActionUpdate | None = None
    audit: tuple[AuditEntry, ...] = ()
    messages: tuple[Message, ...] = ()
