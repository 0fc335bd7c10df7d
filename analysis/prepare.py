"""The one decoder: stored samples in, arrays out. Daemon, backtest and notebooks all come through here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from analysis.result import Design, MetricSpec, SourceStatus


@dataclass(frozen=True, slots=True)
class Cells:
    """One metric's values in one closed interval, as columns of equal length.

    value: bad events, events, cumulative bucket count (`le` set) or level. total: exposure in events, NaN where
    the kind has none. A cell is one (arm, replica, stratum, le); absent cells are absent, never zero.
    """

    arm: tuple[str, ...] = ()
    replica: tuple[str, ...] = ()
    stratum: tuple[str, ...] = ()
    le: tuple[float, ...] = ()
    value: tuple[float, ...] = ()
    total: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LookFacts:
    """What is known about one interval apart from its values. None = nobody knows."""

    status: SourceStatus = SourceStatus.OK
    baseline_up: int | None = None  # baseline instances seen alive
    candidate_up: int | None = None  # candidate instances seen alive
    candidate_down: int | None = None  # candidate instances positively failing: refused, up == 0, gone
    detail: str = ""
    share: float | None = None  # asked traffic share of the candidate, in force through all of it
    frozen: bool = False  # the baseline's cells are of an earlier time, for the old version is gone
    known_from: int | None = field(default=None, metadata={"seldom": True})  # look that a past came late with


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything the judge may know about one watch: nothing later than its last closed interval.

    Interval i covers [deploy + i*step_s, deploy + (i+1)*step_s). Concurrent: i < 0 is history; before/after:
    i < 0 is the baseline (and history before it).
    """

    design: Design
    step_s: float
    metrics: tuple[MetricSpec, ...]
    samples: Mapping[tuple[str, int], Cells]
    facts: Mapping[int, LookFacts] = field(default_factory=dict)
    looks: int = 0  # closed candidate intervals, 0..looks-1
    share: float | None = None  # asked traffic share of the candidate; where it changes, each look's facts have it
    candidate_expected: int | None = None  # candidate instances announced by the deploy event
