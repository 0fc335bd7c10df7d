"""What a look asks for, taken apart: one question per arm, metric and role. Both live sources answer these."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from analysis.result import Kind
from watchdog.model import Metric
from watchdog.ports import ArmWindow, LookRequest
from watchdog.selector import Selector

INSTANCE = "instance"
LE = "le"


class Ask(StrEnum):
    """What is done with the series of one interval."""

    COUNT = "count"  # events counted in the interval
    BUCKETS = "buckets"  # the same, per bucket of a histogram
    LEVEL = "level"  # mean over the interval
    EXPRESSION = "expression"  # the user's own PromQL at the interval's end


@dataclass(frozen=True, slots=True)
class Series:
    """One series' share in the answer to a question. A `value` that is not finite is not known, which is not zero."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One metric's role in one arm and interval."""

    metric: str
    role: str
    ask: Ask
    arm: str
    start: float
    end: float
    selector: Selector
    expression: str = ""
    by: tuple[str, ...] = ()
    native: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    instances: tuple[str, ...] = ()

    def concerns(self, instance: str) -> bool:
        """Whether an instance belongs to the arm, as far as its name tells."""
        return not self.instances or any(is_named(name, instance) for name in self.instances)


def is_named(name: str, instance: str) -> bool:
    """Whether an announced name means this instance; the port may be left out."""
    return instance in {name, f"{name}:{instance.rpartition(':')[2]}"}


def questions(request: LookRequest) -> list[Question]:
    """Everything one look asks for, in the order of its metrics."""
    return list(_questions(request.metrics, request.arms))


def _questions(metrics: Iterable[Metric], arms: Iterable[ArmWindow]) -> Iterator[Question]:
    windows = list(arms)
    for metric in metrics:
        for role, ask, selector in _roles(metric):
            for window in windows:
                yield Question(
                    metric=metric.spec.name,
                    role=role,
                    ask=ask,
                    arm=window.arm,
                    start=window.start,
                    end=window.end,
                    selector=selector,
                    expression=metric.promql or "",
                    by=() if metric.spec.kind is Kind.LABELS and role == "total" else metric.by,
                    native=metric.native,
                    labels=window.labels,
                    instances=window.instances,
                )


def _roles(metric: Metric) -> Iterator[tuple[str, Ask, Selector]]:
    if metric.promql is not None:
        yield "level", Ask.EXPRESSION, Selector("")
        return
    ask = {Kind.LATENCY: Ask.BUCKETS, Kind.GAUGE: Ask.LEVEL, Kind.TREND: Ask.LEVEL}.get(metric.spec.kind, Ask.COUNT)
    for role, selector in metric.series.items():
        bounded = ask is Ask.BUCKETS and not metric.native
        yield role, ask, selector.with_suffix("_bucket") if bounded else selector
