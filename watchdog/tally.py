"""Running sums over the looks of a watch: the blast radius and the traffic's share, without reading every look again.

What is said from a tally is what `blast_radius` says from the looks themselves, bit for bit: sums are added in the
same order.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from analysis.prepare import Cells
from analysis.result import Arm, Design, Kind, Reason, SourceStatus
from watchdog.blast_radius import (
    REQUEST_KINDS,
    BlastRadius,
    add_old_buckets,
    as_fields,
    fallen,
    is_share_of_good,
    request_metric,
    requests,
    slow_bound,
    slower,
)
from watchdog.model import Metric, Plan, StoredLook, Watch

_ARMS = (Arm.BASELINE, Arm.CANDIDATE)


@dataclass(slots=True)
class _Counted:
    """One metric that counts requests."""

    exposed: float = 0.0
    total: float = 0.0
    bad: float = 0.0  # of a ratio
    slower: dict[float, float] = field(default_factory=dict)  # of a latency, by bound of the new version
    under: dict[float, float] = field(default_factory=dict)  # the old version's buckets


@dataclass(slots=True)
class _Rate:
    """One metric whose missing events are counted, by arm."""

    events: dict[Arm, float] = field(default_factory=lambda: dict.fromkeys(_ARMS, 0.0))
    exposure: dict[Arm, float] = field(default_factory=lambda: dict.fromkeys(_ARMS, 0.0))


class Tally:
    """The sums so far. Looks are added in the order of their intervals, each once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._counted = {m.spec.name: _Counted() for m in plan.metrics if m.spec.kind in REQUEST_KINDS}
        self._rates = {m.spec.name: _Rate() for m in plan.metrics if m.spec.kind is Kind.RATE or is_share_of_good(m)}
        self._first = request_metric(plan, None)
        self._intervals, self._old, self._new = array("l"), array("d"), array("d")  # of the first metric
        self.frozen_from: int | None = None  # the first interval in which the past stands in for the old version
        self.has_past = False  # whether anything of the time before the deploy is among the looks
        self._shares = array("d")  # asked for through all of an interval; nan where it changed, or nobody knows
        self._answered: Counter[float] = Counter()  # usable intervals by asked share
        self._telling = array("b")  # whether both arms were seen, or the candidate known to live

    @classmethod
    def of(cls, plan: Plan, looks: Iterable[StoredLook]) -> "Tally":
        tally = cls(plan)
        for look in looks:
            tally.add(look)
        return tally

    def add(self, look: StoredLook) -> None:
        """One closed interval more."""
        self.has_past = self.has_past or look.interval < 0
        if look.facts.frozen and self.frozen_from is None:
            self.frozen_from = look.interval
        usable = look.interval >= 0 and look.facts.status is SourceStatus.OK and bool(look.cells)
        if usable and look.facts.share is not None:
            self._answered[look.facts.share] += 1
        for metric in self._plan.metrics:
            cells = look.cells.get(metric.spec.name)
            if cells is None:
                continue
            if metric.spec.kind in REQUEST_KINDS:
                self._count(self._counted[metric.spec.name], metric, cells, look)
            if metric.spec.name in self._rates:
                self._rate(self._rates[metric.spec.name], cells, look)
        cells = look.cells.get(self._first.spec.name) if self._first is not None else None
        if cells is not None and look.interval >= 0:
            self._intervals.append(look.interval)
            self._old.append(requests(cells, (Arm.BASELINE,)))
            self._new.append(requests(cells, (Arm.CANDIDATE,)))
            self._shares.append(math.nan if look.facts.share is None else look.facts.share)
            alone = bool(look.facts.candidate_down) or look.facts.frozen
            self._telling.append(look.facts.status is SourceStatus.OK and not alone)

    def looks_at(self, share: float | None) -> int:
        """How many intervals were seen that had this share all through."""
        return 0 if share is None else self._answered[share]

    def served(self) -> Iterator[tuple[int, float, float, float]]:
        """The intervals that can tell how the traffic is shared, with the asked share and the requests of candidate and
        baseline."""
        columns = (self._intervals, self._shares, self._old, self._new, self._telling)
        for interval, share, old, new, tells in zip(*columns, strict=True):
            if tells:
                yield interval, share, new, old

    def radius_fields(self, watch: Watch) -> dict[str, float]:
        """The blast radius of a watch whose candidate still serves, as columns."""
        if watch.reason == Reason.CANDIDATE_ABSENT.value and watch.share is not None:
            return as_fields(self._sent_to_the_absent(watch.share))
        return as_fields(self._radius(watch.metric))

    def _radius(self, deciding: str | None) -> BlastRadius:
        metric = request_metric(self._plan, deciding)
        if metric is None:
            return BlastRadius(exposed=0.0, affected=0.0, total=0.0)
        sums = self._counted[metric.spec.name]
        affected = sums.bad
        if metric.spec.kind is Kind.LATENCY:
            bound = slow_bound(sums.under, sums.slower)
            affected = sums.slower.get(bound, 0.0)
        fell = fallen(self._plan, deciding)
        return BlastRadius(
            exposed=sums.exposed, affected=affected if fell is None else self._missing(fell), total=sums.total
        )

    def _missing(self, fell: Metric) -> float:
        """As `blast_radius` has it, of what should not fall."""
        sums = self._rates[fell.spec.name]
        levels = [sums.events[arm] / sums.exposure[arm] if sums.exposure[arm] > 0 else math.nan for arm in _ARMS]
        if not all(map(math.isfinite, levels)):
            return 0.0
        return max(levels[0] - levels[1], 0.0) * sums.exposure[Arm.CANDIDATE]

    def _sent_to_the_absent(self, share: float) -> BlastRadius:
        if share >= 1:
            return BlastRadius(exposed=0.0, affected=0.0, total=0.0)
        sent = served = 0.0
        for old in self._old:
            served += old
            sent += old * share / (1 - share)
        return BlastRadius(exposed=sent, affected=sent, total=served + sent)

    @staticmethod
    def _count(sums: _Counted, metric: Metric, cells: Cells, look: StoredLook) -> None:
        is_latency = metric.spec.kind is Kind.LATENCY
        if is_latency:
            add_old_buckets(sums.under, cells)
        if look.interval < 0:
            return
        new = requests(cells, (Arm.CANDIDATE,))
        sums.exposed += new
        sums.total += new if look.facts.frozen else requests(cells, _ARMS)
        if not is_latency:
            sums.bad += sum(v for arm, v in zip(cells.arm, cells.value, strict=True) if arm == Arm.CANDIDATE.value)
            return
        for le, (slow, _) in slower(cells, Arm.CANDIDATE).items():
            sums.slower[le] = sums.slower.get(le, 0.0) + slow

    def _rate(self, rate: _Rate, cells: Cells, look: StoredLook) -> None:
        """Before and after, the old version's part is its time before the deploy."""
        concurrent = self._plan.design is Design.CONCURRENT
        for arm in _ARMS:
            if (look.interval < 0) == (arm is Arm.BASELINE and not concurrent):
                for own, value in zip(cells.arm, cells.value, strict=True):
                    rate.events[arm] += value if own == arm.value else 0.0
                rate.exposure[arm] += requests(cells, (arm,))
