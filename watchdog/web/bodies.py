"""The shapes of the API's bodies, for /openapi.json. Answers are built by `views`; a test holds the two together."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from watchdog.clean_text import clean
from watchdog.model import LabelKind

_EXAMPLE_WATCH: dict[str, JsonValue] = {
    "id": "shop-v42",
    "service": "shop",
    "environment": "production",
    "version": "v42",
    "previous_version": "v41",
    "strategy": "canary",
    "mode": "auto",
    "state": "WATCHING",
    "outcome": None,
    "verdict": "INCONCLUSIVE",
    "reason": "LOW_TRAFFIC",
    "metric": None,
    "sentence": "shop v42: watching, next look in 10 s",
    "hold": None,
    "deployed_at": 1767225600.0,
    "received_at": 1767225600.4,
    "degraded_at": None,
    "recovered_at": None,
    "time_to_detect_s": None,
    "time_to_recover_s": None,
    "exposed_requests": 412,
    "affected_requests": 4,
    "total_requests": 4120,
    "next_look_at": 1767225620.0,
    "looks": 1,
    "share": 0.1,
    "train": None,
    "steps": None,
}


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorDetail(Body):
    code: str = Field(description="One word for programs.")
    message: str = Field(description="One sentence for people: what is wrong.")
    remedy: str = Field(description="What to do about it.")


class ErrorBody(Body):
    error: ErrorDetail


class IntakeBody(BaseModel):
    """What came of what another system sent; which keys there are depends on what it was."""

    model_config = ConfigDict(extra="allow")

    id: str | None = Field(None, description="The deploy it was about.")
    sentence: str | None = Field(None, description="Where that deploy stands.")
    ignored: str | None = Field(None, description="Why nothing was done.")


class GateBody(Body):
    """What may be done with a deploy now."""

    id: str | None
    gate: str = Field(description="go, wait, ask (a human must look) or back.")
    verdict: str | None
    outcome: str | None = Field(description="Where the watch stands, as a word.")
    sentence: str


class WhyBody(Body):
    """An operator's request. `why` goes into the audit and to the team."""

    why: Annotated[str, AfterValidator(clean)] = Field("", max_length=500, description="The reason, for the audit.")


class SummaryBody(Body):
    """One watch, as lists show it. Times are Unix seconds (`_at`), durations seconds (`_s`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": _EXAMPLE_WATCH})

    id: str
    service: str
    environment: str
    version: str
    previous_version: str | None
    strategy: str
    mode: str = Field(description="observe, notify, approve or auto")
    state: str
    outcome: str | None = Field(description="The state in lower case once the watch rests, else null.")
    verdict: str | None = Field(description="HEALTHY, DEGRADED or INCONCLUSIVE; null before the first look.")
    reason: str | None
    metric: str | None = Field(description="The deciding metric.")
    sentence: str = Field(description="What is going on, in one sentence.")
    hold: str | None = Field(description="Why a rollback waits for a human.")
    deployed_at: float
    received_at: float
    degraded_at: float | None = Field(description="When the verdict fell.")
    recovered_at: float | None = Field(description="When traffic was proven back on the old version.")
    time_to_detect_s: float | None
    time_to_recover_s: float | None
    exposed_requests: int = Field(description="Requests the new version served.")
    affected_requests: int = Field(
        description="Of these, bad by the deciding metric; of one that should not fall, what is missing."
    )
    total_requests: int
    next_look_at: float
    looks: int
    share: float | None = Field(description="The new version's share of the traffic as asked for, 0 to 1.")
    train: str | None = Field(description="The release train it belongs to.")
    steps: list[float] | None = Field(description="The shares it goes through, where it grows by itself.")


class TimelineEntry(Body):
    at: float
    event: str
    text: str


class LabelBody(Body):
    """An analyst's word about a verdict."""

    label: LabelKind = Field(description="right, false_alarm, missed or unclear")
    note: Annotated[str, AfterValidator(clean)] = Field("", max_length=2000, description="Why, for those who read it.")


class Labelled(LabelBody):
    actor: str
    at: float


class WatchBody(SummaryBody):
    """One watch with its history."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": _EXAMPLE_WATCH
            | {
                "hook_started_at": None,
                "label": None,
                "recovery_steps": [],
                "timeline": [{"at": 1767225600.0, "event": "deployed", "text": "shop v42 went live, before it v41"}],
            }
        }
    )

    hook_started_at: float | None = Field(description="When the rollback hook was started first.")
    label: Labelled | None = Field(description="What an analyst said of the verdict.")
    recovery_steps: list[str] = Field(description="What is left to do for a human, in order.")
    timeline: list[TimelineEntry]


class DeploysBody(Body):
    deploys: list[SummaryBody] = Field(description="Newest first.")
    next_before: float | None = Field(description="Pass as `before` for the next page; null on the last.")
    next_before_id: str | None = Field(description="Pass as `before_id` with it, so that equal times lose nobody.")


class AuditLine(Body):
    at: float
    actor: str
    event: str
    before: str
    after: str
    why: str
    details: dict[str, Any]


class AuditBody(Body):
    id: str
    audit: list[AuditLine]


class VerdictBody(Body):
    look: int
    at: float
    kind: str
    reason: str | None
    metric: str | None
    log_evidence: float | None
    log_threshold: float | None
    sentence: str
    payload: dict[str, Any] = Field(description="The whole verdict, with the evidence of each metric after this look.")


class EvidenceBody(Body):
    id: str
    verdict: VerdictBody | None = Field(description="null before the first look")


class StatusBody(Body):
    version: str
    now: float = Field(description="This daemon's clock; webhook-timestamp is compared with it.")
    alive: bool
    ready: bool
    tick_age_s: float | None
    ledger_ok: bool
    problems: list[str]
    paused: str | None = Field(description="Why the kill switch is on; null while it is off.")
    watches: dict[str, int] = Field(description="Watches on record, by state.")


class ShareBody(Body):
    """A share with its exact 95 % interval."""

    value: float | None
    low: float
    high: float
    hits: int
    of: int


class QualityCounts(Body):
    judged: int = Field(description="Called HEALTHY or DEGRADED.")
    inconclusive: int = Field(description="Over, and nobody can tell; in no share unless labelled.")
    alarms: int
    labelled: int
    true_alarms: int
    false_alarms: int
    false_rollbacks: int
    missed: int
    healthy: int = Field(description="Labelled so, or called HEALTHY and without a label.")
    unlabelled_alarms: int
    unlabelled_rollbacks: int
    precision: ShareBody
    recall: ShareBody
    false_alarm_rate: ShareBody
    false_rollback_rate: ShareBody
    false_alarm_rate_at_most: float | None = Field(description="If every alarm without a label was false.")
    budget: float | None = Field(description="The promised share of healthy deploys that are called DEGRADED.")
    standing: str = Field(description="kept, broken, or open: too few deploys to tell")


class ServiceQuality(QualityCounts):
    service: str


class PeriodQuality(QualityCounts):
    period: str = Field(description="Its first day.")


class QualityBody(Body):
    all: QualityCounts
    services: list[ServiceQuality]
    periods: list[PeriodQuality]
    by: str = Field(description="month or week")


class ProbeBody(Body):
    status: str = Field(description="ok or failing")
    tick_age_s: float | None
