"""Nouns of the daemon, without I/O. Times are Unix seconds (`_at`), durations seconds (`_s`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.prepare import Cells, LookFacts
from analysis.result import Design, JudgeSettings, MetricSpec
from watchdog.model.words import (
    STILL_JUDGED,
    ActionKind,
    ActionState,
    DecisionKind,
    HoldReason,
    LabelKind,
    LowTraffic,
    MessageKind,
    Mode,
    Severity,
    State,
    Strategy,
)
from watchdog.selector import Selector


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
    safe_to_rollback_until: float | None = None  # from then on going back may do harm
    train: str | None = None  # the release train it belongs to: judged with the others of it, and put back with them
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
    native: bool = False  # its series are native (exponential) histograms; as counts they are their observations


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How the candidate's share grows. `shares` rise and end with 1; the first is the share the deploy began with."""

    shares: tuple[float, ...]
    bake_s: float  # least time at each share
    hook: str  # name in [hooks]; it sets a share
    low_traffic: LowTraffic = LowTraffic.WAIT
    max_step: float = 1.0  # largest share that is reached without enough traffic to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Bake:
    """How a deploy that has passed is looked at further, for leaks and late faults."""

    for_s: float  # counted from the deploy
    look_s: float
    baseline_s: float  # time before the deploy that it is compared with
    budget: float  # its part of the deploy's budget; the first watch has the rest
    min_looks: int = 6
    control_labels: Mapping[str, str] = field(default_factory=dict)


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
    control_labels: Mapping[str, str] = field(default_factory=dict)  # of series that the deploy cannot touch
    earlier_days: int = (
        0  # whose same hours are looked at before an alarm beside the time before the deploy is believed
    )
    rollback_hook: str | None = None  # name in [hooks]
    steps: Steps | None = None
    smoke_hook: str | None = None  # asked before the switch, and before a switch back
    pause_hook: str | None = None  # stops a roll-out at the first suspicion, and lets it go on
    restore_hook: str | None = None  # marks a point of the data to go back to, when the watch begins
    schema_hook: str | None = None  # says which version of its schema the database has
    migrate_down_hook: str | None = None  # takes a migration back; only when an operator asks
    switch_hook: str | None = None  # puts all traffic on the new version; None: it was there when the event came
    bake: Bake | None = None  # what follows once it has passed
    bakes: bool = False  # this is what follows
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
    step: int = 0  # index into plan.steps.shares
    step_at: float | None = None  # when the present share took effect; None: with the deploy
    switched_at: float | None = None  # when our own switch took effect

    @property
    def is_judged(self) -> bool:
        """Whether its looks are judged: while it is watched, and while it is held though nobody called it worse."""
        open_to_doubt = self.hold in STILL_JUDGED or (self.hold is HoldReason.SHARED_CAUSE and self.has_control)
        return self.state is State.WATCHING or (self.state is State.HELD and open_to_doubt)

    @property
    def is_over(self) -> bool:
        """Whether it has had all looks of its plan."""
        return self.looks >= self.plan.judge.planned_looks

    @property
    def has_control(self) -> bool:
        """Whether it is compared with the time before, beside what the deploy cannot have touched."""
        return self.plan.design is Design.BEFORE_AFTER and bool(self.plan.control_labels)

    @property
    def awaits_switch(self) -> bool:
        """Whether no switch of ours has put traffic on it: none was made yet, or none that is known to have worked."""
        return self.plan.switch_hook is not None and self.switched_at is None

    @property
    def live_at(self) -> float:
        """When the new version began to take traffic: interval 0 begins here."""
        return self.deploy.deployed_at if self.switched_at is None else self.switched_at

    @property
    def share(self) -> float | None:
        """The candidate's share of the traffic as it was asked for."""
        return self.deploy.share if self.plan.steps is None else self.plan.steps.shares[self.step]

    @property
    def next_share(self) -> float | None:
        """The share that comes after the present one; None at the last, and where there are no steps."""
        shares = self.plan.steps.shares if self.plan.steps is not None else ()
        return shares[self.step + 1] if self.step + 1 < len(shares) else None

    @property
    def is_before_its_last_step(self) -> bool:
        """Whether the next share is all of the traffic."""
        return self.plan.steps is not None and self.step + 2 == len(self.plan.steps.shares)


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

    @property
    def deed(self) -> str:
        """What it is, in words, such as `rollback to v1`."""
        if self.kind in (ActionKind.PAUSE, ActionKind.RESUME):
            return f"{self.kind.value} of the roll-out"
        if self.kind is ActionKind.SMOKE:
            return f"smoke test of {self.to_version}"
        if self.kind is ActionKind.LOOK_AHEAD:
            return f"look ahead at the way back to {self.to_version}"
        if self.kind is ActionKind.SCHEMA:
            return "schema version"
        if self.kind is ActionKind.RESTORE_POINT:
            return "restore point of the data"
        if self.kind is ActionKind.MIGRATE_DOWN:
            return f"the migration of {self.from_version} taken back"
        if self.kind is ActionKind.PROMOTE and "percent" in self.params:
            return f"promotion of {self.to_version} to {self.params['percent']:g} %"
        return f"{self.kind.value} to {self.to_version}"


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
class Label:
    """An analyst's word about a verdict; the newest counts, the audit keeps the others."""

    watch_id: str
    kind: LabelKind
    note: str
    actor: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLook:
    """One closed interval: what the source said, and the cells of each metric."""

    interval: int
    facts: LookFacts
    cells: Mapping[str, Cells]
    queries: Mapping[str, str] = field(default_factory=dict)  # metric → query text as sent
