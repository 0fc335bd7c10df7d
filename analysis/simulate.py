"""Seeded services for tests, benchmarks and notebooks: the same generators everywhere, randomness as an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.decode import Floats
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Design, Direction, Kind, MetricSpec

DEFAULT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service with an old and a new version; the fault begins at look `onset`.

    noise_v: squared variation of lognormal rate noise, per `noise_per` (arm or replica), AR(1) with `noise_ar`.
    cluster: mean number of errors that come together (1 = independent).
    """

    requests: float = 1500.0  # per look, both arms together
    share: float = 0.1
    replicas: int = 3
    candidates: int = 1
    looks: int = 18
    past: int = 0  # intervals before the deploy
    step_s: float = 5.0
    design: Design = Design.CONCURRENT
    errors: float = 0.0075
    factor: float = 1.0
    errors_after: float | None = None  # instead of the factor
    onset: int = 0
    noise_v: float = 0.0
    noise_ar: float = 0.0
    noise_per: str = "replica"
    cluster: float = 1.0
    latency_median_s: float = 0.05
    latency_sigma: float = 0.7
    slowdown: float = 1.0
    shared: Sequence[float] = field(default_factory=tuple)  # common factor on both arms' errors, per look

    def pods(self, arm: Arm) -> int:
        return self.candidates if arm is Arm.CANDIDATE else self.replicas


ERRORS = MetricSpec(name="errors", kind=Kind.RATIO, critical=True)
LATENCY = MetricSpec(name="latency", kind=Kind.LATENCY, unit="s")


def observe(
    service: Service, rng: np.random.Generator, metrics: Sequence[MetricSpec] = (ERRORS,), *, facts: bool = True
) -> Observation:
    """Draw one watch: every ratio and rate metric as errors, every latency as a histogram, every gauge as a level."""
    samples: dict[tuple[str, int], Cells] = {}
    for spec in metrics:
        parts: dict[int, list[tuple[Arm, Floats]]] = {}
        for arm, start, end in _spans(service):
            n = _requests(service, rng, arm, end - start)
            if spec.kind is Kind.LATENCY:
                drawn = _histograms(service, rng, arm, n, start)
            else:
                drawn = np.stack([_errors(service, rng, arm, n, start), n], axis=-1)
            for i in range(end - start):
                parts.setdefault(start + i, []).append((arm, drawn[:, i]))
        for interval, arms in parts.items():
            samples[spec.name, interval] = _cells(spec, arms)
    known = LookFacts(baseline_up=service.replicas, candidate_up=service.candidates, candidate_down=0)
    return Observation(
        design=service.design,
        step_s=service.step_s,
        metrics=tuple(metrics),
        samples=samples,
        facts=dict.fromkeys(range(service.looks), known) if facts else {},
        looks=service.looks,
        share=service.share if service.design is Design.CONCURRENT else None,
        candidate_expected=service.candidates,
    )


def _spans(service: Service) -> list[tuple[Arm, int, int]]:
    if service.design is Design.BEFORE_AFTER:
        return [(Arm.BASELINE, -service.past, 0), (Arm.CANDIDATE, 0, service.looks)]
    spans = [(Arm.BASELINE, 0, service.looks), (Arm.CANDIDATE, 0, service.looks)]
    return [(Arm.HISTORY, -service.past, 0), *spans] if service.past else spans


def _requests(service: Service, rng: np.random.Generator, arm: Arm, intervals: int) -> Floats:
    pods = service.pods(arm)
    part = 1.0
    if service.design is Design.CONCURRENT:
        part = service.share if arm is Arm.CANDIDATE else 1.0 if arm is Arm.HISTORY else 1 - service.share
    return rng.poisson(service.requests * part / pods, (pods, intervals)).astype(np.float64)


def _errors(service: Service, rng: np.random.Generator, arm: Arm, n: Floats, start: int) -> Floats:
    rate = np.full(n.shape, service.errors)
    look = start + np.arange(n.shape[1])
    if arm is Arm.CANDIDATE:
        worse = service.errors * service.factor if service.errors_after is None else service.errors_after
        rate = np.where(look >= service.onset, worse, rate)
    if len(service.shared):
        rate = rate * np.where(look >= 0, np.resize(np.asarray(service.shared), n.shape[1]), 1.0)
    rate = np.clip(rate * rate_noise(service, rng, n.shape), 0.0, 1.0)
    if service.cluster > 1:
        clusters = rng.poisson(n * rate / service.cluster)
        return np.asarray(np.minimum(rng.poisson(clusters * service.cluster).astype(np.float64), n))
    return rng.binomial(n.astype(np.int64), rate).astype(np.float64)


def rate_noise(service: Service, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Lognormal factors with mean 1 and squared variation noise_v, (pods, intervals)."""
    if service.noise_v <= 0:
        return np.ones(shape)
    rows = 1 if service.noise_per == "arm" else shape[0]
    shocks = rng.standard_normal((rows, shape[1]))
    z = np.empty_like(shocks)
    z[:, 0] = shocks[:, 0]
    for t in range(1, shape[1]):
        z[:, t] = service.noise_ar * z[:, t - 1] + np.sqrt(1 - service.noise_ar**2) * shocks[:, t]
    sigma = np.sqrt(np.log1p(service.noise_v))
    return np.asarray(np.broadcast_to(np.exp(sigma * z - sigma**2 / 2), shape))


def _histograms(service: Service, rng: np.random.Generator, arm: Arm, n: Floats, start: int) -> Floats:
    """(pods, intervals, bounds + 1) cumulative bucket counts of lognormal latencies."""
    from scipy import special

    slow = np.where((start + np.arange(n.shape[1]) >= service.onset) & (arm is Arm.CANDIDATE), service.slowdown, 1.0)
    z = (np.log(DEFAULT_BOUNDS) - np.log(service.latency_median_s * slow)[:, None]) / service.latency_sigma
    cdf = np.concatenate([special.ndtr(z), np.ones((len(z), 1))], axis=1)
    parts = np.diff(cdf, axis=1, prepend=0.0)
    drawn = rng.multinomial(n.astype(np.int64), parts / parts.sum(axis=1, keepdims=True))
    return np.cumsum(drawn, axis=-1).astype(np.float64)


def _cells(spec: MetricSpec, arms: Sequence[tuple[Arm, Floats]]) -> Cells:
    bounds = (*DEFAULT_BOUNDS, float("inf")) if spec.kind is Kind.LATENCY else (float("inf"),)
    arm: list[str] = []
    replica: list[str] = []
    le: list[float] = []
    value: list[float] = []
    total: list[float] = []
    for name, values in arms:
        for pod, row in enumerate(values.tolist()):
            width = len(bounds)
            arm += [name.value] * width
            replica += [f"{name.value}-{pod}"] * width
            le += bounds
            value += row if spec.kind is Kind.LATENCY else row[:1]
            total += [float("nan")] * width if spec.kind is Kind.LATENCY else row[1:]
    return Cells(tuple(arm), tuple(replica), ("",) * len(arm), tuple(le), tuple(value), tuple(total))


def gauge_observation(
    arms: Mapping[tuple[Arm, int], Floats], spec: MetricSpec, *, looks: int, step_s: float = 60.0, design: Design
) -> Observation:
    """A watch over one level: arms[(arm, first interval)] = (replicas, intervals), NaN where missing."""
    samples: dict[tuple[str, int], list[tuple[str, str, float]]] = {}
    for (arm, start), values in arms.items():
        for pod, row in enumerate(values):
            for i, value in enumerate(row.tolist()):
                if not np.isnan(value):
                    samples.setdefault((spec.name, start + i), []).append((arm.value, f"{arm.value}-{pod}", value))
    cells = {
        key: Cells(tuple(r[0] for r in rows), tuple(r[1] for r in rows), value=tuple(r[2] for r in rows))
        for key, rows in samples.items()
    }
    return Observation(design=design, step_s=step_s, metrics=(spec,), samples=cells, looks=looks)


def ar_levels(
    rng: np.random.Generator, replicas: int, intervals: int, *, level: float = 50.0, sd: float = 1.0, phi: float = 0.0
) -> Floats:
    """(replicas, intervals) AR(1) levels with stationary standard deviation `sd`."""
    shocks = rng.standard_normal((replicas, intervals)) * sd
    z = np.empty_like(shocks)
    z[:, 0] = shocks[:, 0]
    for t in range(1, intervals):
        z[:, t] = phi * z[:, t - 1] + np.sqrt(1 - phi**2) * shocks[:, t]
    return level + z


GAUGE = MetricSpec(name="cpu", kind=Kind.GAUGE, direction=Direction.UP_IS_BAD, unit="%")
