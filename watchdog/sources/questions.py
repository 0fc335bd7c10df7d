"""What a look asks for, taken apart: one question per arm, metric and role. Both live sources answer these."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from analysis.result import Kind
from watchdog.identity import This
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


class Series(NamedTuple):
    """One series' share in the answer to a question. A `value` that is not finite is not known, which is not zero."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Role:
    """What one metric asks for in one of its roles, whatever the arm and the interval; equal to itself alone."""

    metric: str
    name: str
    ask: Ask
    selector: Selector
    expression: str = ""
    by: tuple[str, ...] = ()
    native: bool = False


class Question(NamedTuple):
    """One metric's role in one arm and interval."""

    of: Role
    window: ArmWindow

    def concerns(self, instance: str) -> bool:
        """Whether an instance belongs to the arm, as far as its name tells."""
        names = self.window.instances
        return not names or any(is_named(name, instance) for name in names)


def is_named(name: str, instance: str) -> bool:
    """Whether an announced name means this instance; the port may be left out."""
    return instance in {name, f"{name}:{instance.rpartition(':')[2]}"}


def questions(request: LookRequest) -> list[Question]:
    """Everything one look asks for, in the order of its metrics."""
    return [Question(role, window) for role in roles(request.metrics) for window in request.arms]


def roles(metrics: tuple[Metric, ...]) -> tuple[Role, ...]:
    """What these metrics ask for. The watches of a service share its plan, and so its metrics and their roles."""
    return _roles_of(This(metrics))


@lru_cache(maxsize=2048)  # as many as plans are kept
def _roles_of(this: This[tuple[Metric, ...]]) -> tuple[Role, ...]:
    return tuple(
        Role(
            metric=metric.spec.name,
            name=name,
            ask=ask,
            selector=selector,
            expression=metric.promql or "",
            by=() if metric.spec.kind is Kind.LABELS and name == "total" else metric.by,
            native=metric.native,
        )
        for metric in this.one
        for name, ask, selector in _roles(metric)
    )


def _roles(metric: Metric) -> Iterator[tuple[str, Ask, Selector]]:
    if metric.promql is not None:
        yield "level", Ask.EXPRESSION, Selector("")
        return
    ask = {Kind.LATENCY: Ask.BUCKETS, Kind.GAUGE: Ask.LEVEL, Kind.TREND: Ask.LEVEL}.get(metric.spec.kind, Ask.COUNT)
    for role, selector in metric.series.items():
        bounded = ask is Ask.BUCKETS and not metric.native
        yield role, ask, selector.with_suffix("_bucket") if bounded else selector
