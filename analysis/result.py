"""The nouns of the core: what is compared, by which settings, and what came of it."""

import math
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a metric is; it chooses the test."""

    RATIO = "ratio"  # bad events of all events, counters: errors of requests
    RATE = "rate"  # events per unit of exposure, counters: orders per visit
    LATENCY = "latency"  # histogram bucket counts
    LABELS = "labels"  # counters by a label's value, such as an error code: values the old version never showed
    GAUGE = "gauge"  # a level per replica and interval: CPU, memory, any PromQL expression
    TREND = "trend"  # a gauge judged by its slope: leaks


class Direction(StrEnum):
    """Which way is worse."""

    UP_IS_BAD = "up_is_bad"
    DOWN_IS_BAD = "down_is_bad"
    EITHER = "either"


class Arm(StrEnum):
    """Whose value it is."""

    BASELINE = "baseline"  # the old version, or the time before the deploy
    CANDIDATE = "candidate"  # the new version
    HISTORY = "history"  # older data of the baseline, before its window
    PEERS = "peers"  # replicas of the old version, for the noise between replicas
    CONTROL = "control"  # series that the deploy cannot have touched, over the same time


class Design(StrEnum):
    """How the arms relate in time."""

    CONCURRENT = "concurrent"  # both arms live in the same intervals
    BEFORE_AFTER = "before_after"  # baseline intervals lie before the deploy


class VerdictKind(StrEnum):
    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    INCONCLUSIVE = "INCONCLUSIVE"


class Reason(StrEnum):
    """Why a verdict is DEGRADED or INCONCLUSIVE."""

    METRICS = "METRICS"
    CANDIDATE_ABSENT = "CANDIDATE_ABSENT"
    LOW_TRAFFIC = "LOW_TRAFFIC"
    NO_DATA = "NO_DATA"
    SOURCE_DOWN = "SOURCE_DOWN"
    SHARED_CAUSE = "SHARED_CAUSE"
    NO_COUNTERPART = "NO_COUNTERPART"  # worse in what the old version did not serve: a new route, or a fault
    MISCONFIGURED = "MISCONFIGURED"
    UNCALIBRATED = "UNCALIBRATED"
    STOPPED = "STOPPED"


class SourceStatus(StrEnum):
    """What the source said about one interval."""

    OK = "ok"
    DOWN = "down"  # no answer, an error, or garbage
    PARTIAL = "partial"  # an answer that says itself that it is not whole


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """What the judge is told about a metric. Units serve for floors and sentences only.

    margin and margin_tell are relative (0.25 = 25 % worse is still tolerated); floor is absolute, in the
    metric's own unit (for ratio and rate: events per unit of exposure); None takes the kind's default. For a trend
    the margin is what its level may climb over the whole planned watch, and floor, if set, is a climb per hour instead.
    """

    name: str
    kind: Kind
    direction: Direction = Direction.UP_IS_BAD
    unit: str = ""
    margin: float | None = None
    margin_tell: float | None = None
    floor: float | None = None
    weight: float = 1.0
    critical: bool = False
    slo_le: float | None = None  # latency: a bucket bound that matters by itself, in the histogram's unit
    slower_by: float | None = None  # latency: tolerated slowness in time, 0.2 = 20 % slower; takes the margin's place
    limit: float | None = None  # trend: where it ends, such as the memory limit; for the sentence alone
    configured_share: bool = False  # exposure = the asked share, where numerator and denominator differ


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """How one watch is judged. Frozen with the watch; a verdict is a function of samples and these."""

    budget: float = 0.01  # chance that a healthy deploy is ever called DEGRADED, all metrics and looks together
    margin: float = 0.25  # relative worsening tolerated before acting
    margin_tell: float = 0.10  # relative worsening worth telling
    planned_looks: int = 90
    min_looks: int = 6  # HEALTHY needs at least these
    absent_looks: int = 3  # consecutive looks with positive proof before CANDIDATE_ABSENT
    judge_absence: bool = True
    guess_absence: bool = True  # where nobody watches targets, as in recorded cases; the daemon never guesses
    act_uncalibrated: bool = False  # before/after verdicts act although no placebo rate is known
    placebo_rate: float | None = None  # measured false-rollback rate of before/after verdicts on the own past
    warm_up_looks: int = 0  # looks skipped, not judged, at the start
    start_up_looks: int = 3  # the candidate's first looks, in which its latency is not judged: caches are cold
    seen_ratio: float = 5.0  # HEALTHY claims at least: a regression this large would have been seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One metric's evidence at one look. `effect` is candidate over baseline (or their difference)."""

    metric: str
    method: str
    log_evidence: float  # ln of the e-value at this look
    log_threshold: float  # ln of the e-value at which this metric alone would decide
    path: tuple[float, ...] = ()  # ln e-value after every look
    effect: float = math.nan
    effect_low: float = math.nan
    effect_high: float = math.nan
    effect_kind: str = "ratio"  # or "difference", or "slope" (per hour)
    baseline_level: float = math.nan
    candidate_level: float = math.nan
    n_baseline: float = 0.0
    n_candidate: float = 0.0
    bad_baseline: float = math.nan  # events counted as bad, counts only
    bad_candidate: float = math.nan
    since_look: int | None = None  # most likely onset
    detectable: float = math.nan  # smallest effect that would have been seen with 90 % chance
    mann_whitney_p: float = math.nan  # fixed-horizon companion, never decides alone
    a_hat: float = math.nan  # P(candidate worse than baseline), ties half
    symmetric_log_evidence: float = (
        math.nan
    )  # ln of an e-value that asks for symmetry only, levels only; a companion too
    dispersion: float = 1.0
    dispersion_from: str = ""  # replicas, history, assumed
    note: str = ""
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judge's word about one watch after one look. It never acts."""

    kind: VerdictKind
    reason: Reason | None
    metric: str | None  # the deciding metric
    look: int  # index of the last look judged, -1 before the first
    alarm_look: int | None  # first look at which the budget's threshold was crossed
    log_evidence: float  # ln of the combined e-value
    log_threshold: float
    sentence: str
    evidence: tuple[Evidence, ...] = ()
    since_look: int | None = None
    notes: tuple[str, ...] = field(default=())
