"""What a simulated service is: its traffic, its noise, its levels, and what a bad version of it does."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from analysis.decode import Floats
from analysis.result import Arm, Design, Direction, Kind, MetricSpec

DEFAULT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

ERRORS = MetricSpec(name="errors", kind=Kind.RATIO, critical=True)
LATENCY = MetricSpec(name="latency", kind=Kind.LATENCY, unit="s")
ORDERS = MetricSpec(name="orders", kind=Kind.RATE, direction=Direction.DOWN_IS_BAD)
GAUGE = MetricSpec(name="cpu", kind=Kind.GAUGE, direction=Direction.UP_IS_BAD, unit="%")


class NoiseLaw(StrEnum):
    """Shape of an arm's own rate noise, mean 1 and squared variation v. The judge assumes none of them."""

    LOGNORMAL = "lognormal"
    GAMMA = "gamma"
    BURSTS = "bursts"  # calm, and in one interval of twenty a burst
    HEAVY = "heavy"  # inverse gamma: a power-law tail


class NoisePer(StrEnum):
    """Whose noise it is."""

    REPLICA = "replica"
    ARM = "arm"  # the same in all replicas of a version: only its past tells
    ALL = "all"  # the same in both arms: cancels


class Fault(StrEnum):
    """What a bad version does; `faulty` says how `size` counts."""

    ERRORS = "errors"
    SLOW = "slow"
    TAIL = "tail"
    LEVEL = "level"
    LEAK = "leak"
    ABSENT = "absent"
    LOST_ORDERS = "lost_orders"


@dataclass(frozen=True, slots=True)
class Route:
    """A stratum: its part of each arm's requests, and how its error rate compares with the service's."""

    name: str
    part: float
    candidate_part: float
    errors_times: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service with an old and a new version; every fault begins at look `onset`.

    noise_v: squared variation of the error rate's own noise, AR(1) with `noise_ar`. cluster: mean number of errors
    that come together (1 = independent). client_share: part of the errors that comes from clients who fail again and
    again, `client_errors` times on average with a Pareto tail of index `client_tail`, over `client_looks` looks;
    `client_per`: a client stays on one replica, on one arm, or is routed anew with each request (all). correlation: of
    the metrics' latent noise.
    """

    requests: float = 1500.0  # per look, both arms together
    swing: float = 0.0  # amplitude of the load's sinusoid, as a part of the mean
    period: float = 120.0  # looks of one swing
    share: float = 0.1
    replicas: int = 3
    candidates: int = 1
    looks: int = 18
    past: int = 0  # intervals before the deploy
    step_s: float = 5.0
    design: Design = Design.CONCURRENT
    routes: Sequence[Route] = field(default_factory=tuple)
    onset: int = 0
    # errors
    errors: float = 0.0075
    factor: float = 1.0
    errors_after: float | None = None  # instead of the factor
    noise_v: float = 0.0
    noise_ar: float = 0.0
    noise_per: str = NoisePer.REPLICA
    noise_law: str = NoiseLaw.LOGNORMAL
    cluster: float = 1.0
    client_share: float = 0.0
    client_errors: float = 5.0
    client_looks: float = 10.0
    client_tail: float = 1.5
    client_per: str = NoisePer.REPLICA
    shared: Sequence[float] = field(default_factory=tuple)  # common factor on both arms' errors, per look
    correlation: float = 0.0
    # orders
    orders: float = 0.05  # per request
    lost: float = 0.0
    # latency
    latency_median_s: float = 0.05
    latency_sigma: float = 0.7
    latency_noise: float = 0.0  # standard deviation of the log median, per replica and interval
    slowdown: float = 1.0
    tail_share: float = 0.0  # part of the requests that takes `tail_s`
    tail_s: float = 2.5
    # levels
    level: float = 50.0
    level_sd: float = 1.0
    level_phi: float = 0.0
    level_df: float | None = None  # Student noise with so many degrees of freedom, else normal
    level_offset: float = 0.0  # standard deviation of the replicas' own offsets
    level_shift: float = 0.0
    leak: float = 0.0  # per look
    absent: bool = False

    def pods(self, arm: Arm) -> int:
        return self.candidates if arm is Arm.CANDIDATE else self.replicas

    def load(self, looks: Floats) -> Floats:
        """Requests of both arms at these looks.

        >>> Service(requests=100, swing=0.5, period=4).load(np.array([0.0, 1.0, 2.0, 3.0])).round(6)
        array([100., 150., 100.,  50.])
        """
        return np.asarray(self.requests * (1.0 + self.swing * np.sin(2 * np.pi * looks / self.period)))


def faulty(service: Service, fault: Fault, size: float, onset: int = 0) -> Service:
    """The same service with a bad new version from look `onset` on.

    size: ERRORS times as many errors; SLOW times the latency; TAIL part of the requests in the tail; LEVEL shift and
    LEAK shift per look in standard deviations; LOST_ORDERS part lost; ABSENT has none.

    >>> faulty(Service(level_sd=2.0), Fault.LEVEL, 4.0, onset=3).level_shift
    8.0
    """
    changes: dict[Fault, dict[str, Any]] = {
        Fault.ERRORS: {"factor": size},
        Fault.SLOW: {"slowdown": size},
        Fault.TAIL: {"tail_share": size},
        Fault.LEVEL: {"level_shift": size * service.level_sd},
        Fault.LEAK: {"leak": size * service.level_sd},
        Fault.LOST_ORDERS: {"lost": size},
        Fault.ABSENT: {"absent": True},
    }
    return replace(service, onset=onset, **changes[fault])
