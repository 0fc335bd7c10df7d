"""How many users were hit, and whether it is over: pure functions over stored looks."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.prepare import Cells
from analysis.result import Arm, Design, Direction, Kind, Reason, SourceStatus
from watchdog.model import Metric, Plan, StoredLook, Watch

REQUEST_KINDS = (Kind.RATIO, Kind.LATENCY)
LEVEL_LOOKS = 3  # intervals that say how far the metric had fallen when the rollback began
SIGMAS = 3.0  # standard errors within which two levels are called the same


@dataclass(frozen=True, slots=True, kw_only=True)
class BlastRadius:
    """exposed: requests the candidate served. affected: of these, bad by the deciding metric. total: both arms.

    Bad by a rate or a share that fell, such as orders per visit, is what is missing of what the old version would have
    had.
    """

    exposed: float
    affected: float
    total: float


def radius_fields(watch: Watch, looks: Sequence[StoredLook], *, applied_at: float | None = None) -> dict[str, float]:
    """The blast radius as columns of a watch; `applied_at`: when its rollback took effect."""
    step_ends = math.inf
    if applied_at is not None:
        step_ends = (applied_at - watch.live_at) / watch.plan.step_s
    if watch.reason == Reason.CANDIDATE_ABSENT.value and watch.share is not None:
        radius = sent_to_the_absent(watch.plan, looks, share=watch.share, step_ends=step_ends)
    else:
        radius = blast_radius(watch.plan, looks, watch.metric, step_ends=step_ends)
    return as_fields(radius)


def as_fields(radius: BlastRadius) -> dict[str, float]:
    """As columns of a watch."""
    return {
        "exposed_requests": radius.exposed,
        "affected_requests": radius.affected,
        "total_requests": radius.total,
    }


def blast_radius(
    plan: Plan, looks: Sequence[StoredLook], deciding: str | None, *, step_ends: float = math.inf
) -> BlastRadius:
    """Count from the deploy on; history and baseline before the deploy do not count.

    step_ends: intervals after the deploy (with a fraction) at which the rollback took effect. Before/after, everybody
    is the candidate until then and nobody afterwards; of the interval in between, the errors that the baseline would
    have had anyway in its second part are not counted.
    """
    metric = request_metric(plan, deciding)
    exposed = affected = total = 0.0
    if metric is None:
        return BlastRadius(exposed=exposed, affected=affected, total=total)
    name, kind = metric.spec.name, metric.spec.kind
    bound = _slow_bound(looks, name) if kind is Kind.LATENCY else math.nan
    usual = _level([x for x in looks if x.interval < 0], metric, Arm.BASELINE, looks)
    for look in looks:
        cells = look.cells.get(name)
        if look.interval < 0 or cells is None:
            continue
        served, bad = requests(cells, (Arm.CANDIDATE,)), _bad(cells, kind, bound)
        share = 1.0
        if plan.design is Design.BEFORE_AFTER:
            share = min(max(step_ends - look.interval, 0.0), 1.0)
            innocent = (1.0 - share) * served * (usual if math.isfinite(usual) else 0.0)
            bad = max(bad - innocent, 0.0) if share > 0 else 0.0
        total += served if look.facts.frozen else requests(cells, (Arm.BASELINE, Arm.CANDIDATE))
        exposed += share * served
        affected += bad
    fell = fallen(plan, deciding)
    affected = affected if fell is None else _missing(plan, looks, fell, step_ends)
    return BlastRadius(exposed=exposed, affected=affected, total=total)


def fallen(plan: Plan, deciding: str | None) -> Metric | None:
    """The metric that says what the candidate lacks, where fewer events are worse: a rate that decided while both
    versions serve at once, or a share of the requests; of these the events themselves are what went well."""
    metric = next((m for m in plan.metrics if m.spec.name == deciding), None)
    is_rate = metric is not None and metric.spec.kind is Kind.RATE and plan.design is Design.CONCURRENT
    if metric is not None and is_rate and metric.spec.direction is not Direction.UP_IS_BAD:
        return metric
    counted = request_metric(plan, deciding)
    return counted if counted is not None and is_share_of_good(counted) else None


def is_share_of_good(metric: Metric) -> bool:
    """Whether it is a share of the requests that should not fall."""
    return metric.spec.kind is Kind.RATIO and metric.spec.direction is Direction.DOWN_IS_BAD


def _missing(plan: Plan, looks: Sequence[StoredLook], metric: Metric, step_ends: float) -> float:
    """Events that the candidate lacks of what the old version has beside it, or had before it."""
    name, concurrent = metric.spec.name, plan.design is Design.CONCURRENT
    seen = [look for look in looks if look.interval >= 0 and name in look.cells]
    usual = _level(seen if concurrent else [x for x in looks if x.interval < 0], metric, Arm.BASELINE, looks)
    seen = seen if concurrent else [look for look in seen if look.interval < step_ends]
    got = _level(seen, metric, Arm.CANDIDATE, looks)
    served = sum(requests(look.cells[name], (Arm.CANDIDATE,)) for look in seen)
    return max(usual - got, 0.0) * served if math.isfinite(usual) and math.isfinite(got) else 0.0


def sent_to_the_absent(
    plan: Plan, looks: Sequence[StoredLook], *, share: float, step_ends: float = math.inf
) -> BlastRadius:
    """An estimate where the candidate is absent and so counted nothing itself: its share of the traffic, all lost."""
    metric = request_metric(plan, None)
    if metric is None or share >= 1:
        return BlastRadius(exposed=0.0, affected=0.0, total=0.0)
    sent = served = 0.0
    for look in looks:
        cells = look.cells.get(metric.spec.name)
        if look.interval < 0 or cells is None:
            continue
        baseline = requests(cells, (Arm.BASELINE,))
        served += baseline
        sent += baseline * share / (1 - share) * min(max(step_ends - look.interval, 0.0), 1.0)
    return BlastRadius(exposed=sent, affected=sent, total=served + sent)


def recovered(
    plan: Plan,
    past: Sequence[StoredLook],
    look: StoredLook,
    *,
    deciding: str | None,
    previous: StoredLook | None = None,
    absent: bool = False,
) -> bool | None:
    """Whether one interval after the rollback shows that it took effect; None where the interval cannot tell.

    Concurrent: the candidate serves nothing any more; one that merely has no samples must be known to be gone, or,
    where nobody watches its instances, have none in the `previous` interval after the rollback either; of one that
    is up, missing samples prove nothing. Before/after: the deciding metric is nearer to the baseline's level than to
    the level it had fallen to in the last intervals of `past`; where there was no level at all, because nothing was
    served any more (`absent`: the verdict said so), that the traffic is back.
    """
    if look.facts.status is not SourceStatus.OK:
        return None
    metric = request_metric(plan, deciding)
    if plan.design is Design.CONCURRENT:
        return _candidate_is_silent(look, previous, metric)
    if metric is not None and (absent or _was_silent(past, metric)):
        return _traffic_is_back(past, look, metric)
    metric = next((m for m in plan.metrics if m.spec.name == deciding), metric)
    if metric is None:
        return None
    before = _level([x for x in past if x.interval < 0], metric, Arm.BASELINE, past)
    fallen = _level([x for x in past if x.interval >= 0][-LEVEL_LOOKS:], metric, Arm.CANDIDATE, past)
    now = _level([look], metric, Arm.CANDIDATE, past)
    if not all(map(math.isfinite, (before, fallen, now))):
        return None
    return abs(now - before) < abs(now - fallen)


def nothing_was_worse(
    plan: Plan, past: Sequence[StoredLook], after: Sequence[StoredLook], *, deciding: str | None
) -> bool:
    """Before/after: whether there was nothing to recover from, so that no interval can ever show it.

    Every metric of requests, and the one that decided, was on the baseline's level in the last intervals of `past`, and
    is on it in those `after` the rollback, as far as noise and the tolerated worsening let anybody tell.
    """
    drifting = (Kind.GAUGE, Kind.TREND)
    metrics = [m for m in plan.metrics if m.spec.kind not in drifting or m.spec.name == deciding]
    found = [_stayed(plan, metric, past, after) for metric in metrics]
    return any(found) and False not in found


def _stayed(plan: Plan, metric: Metric, past: Sequence[StoredLook], after: Sequence[StoredLook]) -> bool | None:
    """Whether one metric stayed on the baseline's level; None where it has none."""
    baseline = [x for x in past if x.interval < 0]
    before = _level(baseline, metric, Arm.BASELINE, past)
    if not math.isfinite(before):
        return None
    tolerated = plan.judge.margin if metric.spec.margin is None else metric.spec.margin
    near = max(tolerated * abs(before), metric.spec.floor or 0.0)
    for looks in ([x for x in past if x.interval >= 0][-LEVEL_LOOKS:], after):
        level = _level(looks, metric, Arm.CANDIDATE, past)
        noise = 0.0
        if metric.spec.kind not in (Kind.GAUGE, Kind.TREND):
            sizes = _exposure(baseline, metric, Arm.BASELINE), _exposure(looks, metric, Arm.CANDIDATE)
            noise = SIGMAS * math.sqrt(max(before, 0.0) * sum(1 / size for size in sizes if size > 0))
        if not abs(level - before) <= max(near, noise):  # an unknown level is none that stayed
            return False
    return True


def _exposure(looks: Sequence[StoredLook], metric: Metric, arm: Arm) -> float:
    return sum(requests(look.cells[metric.spec.name], (arm,)) for look in looks if metric.spec.name in look.cells)


def _was_silent(past: Sequence[StoredLook], counted: Metric) -> bool:
    """Whether nothing was served in the last intervals, of which the source knew."""
    last = [look for look in past if look.interval >= 0][-LEVEL_LOOKS:]
    known = all(look.facts.status is SourceStatus.OK for look in last)
    return bool(last) and known and _exposure(last, counted, Arm.CANDIDATE) == 0


def _traffic_is_back(past: Sequence[StoredLook], look: StoredLook, counted: Metric) -> bool | None:
    """Whether an interval has the traffic of the time before the deploy again: nearer to it than to none, and what is
    served nearer to the level of then than to all bad."""
    baseline = [x for x in past if x.interval < 0 and counted.spec.name in x.cells]
    usual = _exposure(baseline, counted, Arm.BASELINE)
    if usual <= 0:
        return None
    if _exposure([look], counted, Arm.CANDIDATE) <= usual / len(baseline) / 2:
        return False
    before = _level(baseline, counted, Arm.BASELINE, past)
    now = _level([look], counted, Arm.CANDIDATE, past)
    return abs(now - before) < abs(1.0 - now)


def requests(cells: Cells, arms: Iterable[Arm]) -> float:
    """Requests served by the arms in one interval: exposure counted once, however many buckets it has."""
    wanted = {a.value for a in arms}
    once: dict[tuple[str, str, str], float] = {}
    for arm, replica, stratum, total in zip(cells.arm, cells.replica, cells.stratum, cells.total, strict=True):
        if arm in wanted and math.isfinite(total):
            once[(arm, replica, stratum)] = total
    return sum(once.values())


def _level(looks: Sequence[StoredLook], metric: Metric, arm: Arm, past: Sequence[StoredLook]) -> float:
    """One arm's level over some intervals: bad share, rate, share of slow requests, or mean gauge."""
    name, kind = metric.spec.name, metric.spec.kind
    held = [look.cells[name] for look in looks if name in look.cells]
    if kind is Kind.LATENCY:
        bound = _slow_bound(past, name)
        known = [found for cells in held if (found := slower(cells, arm).get(bound)) is not None]
        served = sum(of for _, of in known)
        return sum(slow for slow, _ in known) / served if served > 0 else math.nan
    values = [v for cells in held for a, v in zip(cells.arm, cells.value, strict=True) if a == arm.value]
    if kind in (Kind.GAUGE, Kind.TREND):
        return sum(values) / len(values) if values else math.nan
    exposure = sum(requests(cells, (arm,)) for cells in held)
    if exposure <= 0:
        return math.nan
    return sum(values) / exposure


def _candidate_is_silent(look: StoredLook, previous: StoredLook | None, counted: Metric | None) -> bool | None:
    if counted is None:  # nothing counts requests here: only a candidate that is gone is a proof
        return True if look.facts.candidate_up == 0 and look.facts.baseline_up else None
    cells = look.cells.get(counted.spec.name)
    if cells is None or requests(cells, (Arm.BASELINE,)) <= 0:
        return None  # nothing at all was counted: no proof that traffic went back
    if Arm.CANDIDATE.value in cells.arm:
        return requests(cells, (Arm.CANDIDATE,)) == 0
    if look.facts.candidate_up == 0:
        return True
    if look.facts.candidate_up:
        return None  # it stands and counts nothing that was heard of: a missing sample, not a proof
    return True if previous is not None and _without_candidate(previous, counted) else None


def _without_candidate(look: StoredLook, counted: Metric) -> bool:
    """A whole interval with samples of the baseline and none of the candidate."""
    cells = look.cells.get(counted.spec.name)
    whole = look.facts.status is SourceStatus.OK and cells is not None
    return whole and cells is not None and requests(cells, (Arm.BASELINE,)) > 0 and Arm.CANDIDATE.value not in cells.arm


def request_metric(plan: Plan, deciding: str | None) -> Metric | None:
    """The deciding metric where it counts requests, else the first metric that does."""
    counting = [m for m in plan.metrics if m.spec.kind in REQUEST_KINDS]
    return next((m for m in counting if m.spec.name == deciding), counting[0] if counting else None)


def _bad(cells: Cells, kind: Kind, slow_bound: float) -> float:
    if kind is Kind.LATENCY:
        return slower(cells, Arm.CANDIDATE).get(slow_bound, (0.0, 0.0))[0]
    return sum(v for a, v in zip(cells.arm, cells.value, strict=True) if a == Arm.CANDIDATE.value)


def slower(cells: Cells, arm: Arm) -> dict[float, tuple[float, float]]:
    """By bound: one arm's requests that were slower, and of how many; of instances that have the bucket alone."""
    under: dict[float, float] = {}
    served: dict[float, float] = {}
    for own, le, value, total in zip(cells.arm, cells.le, cells.value, cells.total, strict=True):
        if own == arm.value and math.isfinite(total):
            under[le] = under.get(le, 0.0) + value
            served[le] = served.get(le, 0.0) + total
    return {le: (max(0.0, of - under[le]), of) for le, of in served.items()}


def _slow_bound(looks: Sequence[StoredLook], name: str) -> float:
    under: dict[float, float] = {}
    shared: set[float] = set()
    for look in looks:
        if name in look.cells:
            add_old_buckets(under, look.cells[name])
            shared |= slower(look.cells[name], Arm.CANDIDATE).keys() if look.interval >= 0 else set()
    return slow_bound(under, shared)


def add_old_buckets(under: dict[float, float], cells: Cells) -> None:
    """Add the old version's cumulative counts by bound."""
    for arm, le, value in zip(cells.arm, cells.le, cells.value, strict=True):
        if arm != Arm.CANDIDATE.value:
            under[le] = under.get(le, 0.0) + value


def slow_bound(under: Mapping[float, float], shared: Collection[float]) -> float:
    """The bucket bound just above the old version's 90th percentile: slower than that counts as affected.

    shared: the new version's bounds. Other bounds say nothing about it; NaN where none is left.
    """
    count = under.get(math.inf, 0.0)
    if count <= 0:
        return math.nan
    above = (le for le, v in under.items() if v >= 0.9 * count and math.isfinite(le) and le in shared)
    return min(above, default=math.nan)
