"""Draws whole batches of watches as arrays: (watches, replicas, strata, bounds, intervals)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.decode import Floats, Panel
from analysis.prepare import Observation
from analysis.result import Arm, Design, Kind, MetricSpec
from analysis.simulate.noise import autoregressive, client_errors, rate_factors
from analysis.simulate.service import DEFAULT_BOUNDS, ERRORS, NoisePer, Route, Service
from analysis.simulate.watches import DrawnMetric, Watches

ONE_ROUTE = (Route("", 1.0, 1.0),)


def draw(
    service: Service,
    rng: np.random.Generator,
    watches: int,
    metrics: Sequence[MetricSpec] = (ERRORS,),
    *,
    facts: bool = True,
) -> Watches:
    """Draw `watches` deploys: a ratio metric as errors, a rate as orders, a latency as histogram, the rest as levels.

    All metrics of a watch count the same requests. With `correlation` their noise has a common part.
    """
    fleets = [_Fleet(service, rng, watches, arm) for arm in (Arm.BASELINE, Arm.CANDIDATE)]
    drawn = []
    for spec in metrics:
        everywhere = _everywhere(service, rng, watches)
        values = [(fleet, fleet.draw(spec, everywhere)) for fleet in fleets]
        le = np.array([*DEFAULT_BOUNDS, np.inf] if spec.kind is Kind.LATENCY else [np.inf])
        level = spec.kind in {Kind.GAUGE, Kind.TREND}  # belongs to a replica, not to its routes
        routes = ("",) if level else tuple(route.name for route in service.routes or ONE_ROUTE)
        drawn.append(DrawnMetric(spec, routes, le, -service.past, _panels(service, values)))
    return Watches(service, tuple(drawn), facts, watches)


def observe(
    service: Service, rng: np.random.Generator, metrics: Sequence[MetricSpec] = (ERRORS,), *, facts: bool = True
) -> Observation:
    """One watch as an observation; see `draw`."""
    return next(draw(service, rng, 1, metrics, facts=facts).observations())


@dataclass(frozen=True, slots=True, eq=False)
class _Everywhere:
    """What both arms have in common, (watches, 1, intervals): standard normal noise, and failing clients' errors."""

    latent: Floats
    clients: Floats


def _everywhere(service: Service, rng: np.random.Generator, watches: int) -> _Everywhere:
    width = service.past + service.looks
    clients = np.ones((watches, 1, width))
    if service.client_share > 0 and service.client_per == NoisePer.ALL:
        expected = service.requests * service.errors * service.client_share
        clients = client_errors(service, rng, watches, 1, width, expected) / expected
    return _Everywhere(autoregressive(rng, (watches, 1, width), service.noise_ar), clients)


class _Fleet:
    """All replicas of one version in a batch of watches, over the intervals in which it runs."""

    def __init__(self, service: Service, rng: np.random.Generator, watches: int, arm: Arm) -> None:
        self.service, self.rng, self.watches, self.arm = service, rng, watches, arm
        before_after = service.design is Design.BEFORE_AFTER
        self.start = 0 if arm is Arm.CANDIDATE else -service.past
        self.end = 0 if arm is Arm.BASELINE and before_after else service.looks
        self.pods = service.pods(arm)
        look = np.arange(self.start, self.end)
        self.faulty = (look >= service.onset) & (arm is Arm.CANDIDATE)
        part = np.ones(len(look))
        if not before_after:
            part = np.where(look < 0, 1.0, service.share if arm is Arm.CANDIDATE else 1 - service.share)
        mix = [r.candidate_part if arm is Arm.CANDIDATE else r.part for r in service.routes or ONE_ROUTE]
        mean = np.array(mix)[:, None] * (service.load(look.astype(np.float64)) * part / self.pods)
        self.requests = rng.poisson(mean, (watches, self.pods, *mean.shape)).astype(np.float64)
        self.common = self._series(service.noise_ar) if service.correlation > 0 else None
        self.shape = self.requests.shape

    @property
    def intervals(self) -> int:
        return self.end - self.start

    def draw(self, spec: MetricSpec, everywhere: _Everywhere) -> Panel:
        """One metric of this version."""
        if spec.kind is Kind.LATENCY:
            value, total = self._histograms(), self.requests
        elif spec.kind is Kind.RATIO:
            value, total = self._errors(everywhere)[:, :, :, None, :], self.requests
        elif spec.kind is Kind.RATE:
            value, total = self._orders(everywhere)[:, :, :, None, :], self.requests
        else:
            value = self._levels()
            total = np.full(value[:, :, 0].shape, np.nan)
        if self.service.absent:
            value = np.where(self.faulty, np.nan, value)
            total = np.where(self.faulty, np.nan, total)
        return Panel(value, total)

    def _series(self, phi: float, df: float | None = None, rows: int | None = None) -> Floats:
        return autoregressive(self.rng, (self.watches, rows or self.pods, self.intervals), phi, df)

    def _now(self, series: Floats) -> Floats:
        """The intervals of this fleet, of a series over all intervals."""
        at = self.service.past + self.start
        return series[..., at : at + self.intervals]

    def _latent(self, everywhere: _Everywhere) -> Floats:
        """(watches, pods or 1, intervals) standard normal noise of one metric's rate."""
        service = self.service
        if service.noise_per == NoisePer.ALL:
            return self._now(everywhere.latent)
        z = self._series(service.noise_ar, rows=1 if service.noise_per == NoisePer.ARM else None)
        if self.common is None:
            return z
        common = self.common[:, : z.shape[1]]
        return np.asarray(np.sqrt(service.correlation) * common + np.sqrt(1 - service.correlation) * z)

    def _factor(self, everywhere: _Everywhere) -> Floats:
        """(watches, pods or 1, 1, intervals) rate noise."""
        if self.service.noise_v <= 0:
            return np.ones((1, 1, 1, 1))
        return rate_factors(self._latent(everywhere), self.service.noise_v, self.service.noise_law)[:, :, None, :]

    def _errors(self, everywhere: _Everywhere) -> Floats:
        service, rng, n = self.service, self.rng, self.requests
        worse = service.errors * service.factor if service.errors_after is None else service.errors_after
        times = np.array([route.errors_times for route in service.routes or ONE_ROUTE])[:, None]
        rate = np.where(self.faulty, worse, service.errors) * times
        if len(service.shared):
            look = np.arange(self.start, self.end)
            rate = rate * np.where(look >= 0, np.resize(np.asarray(service.shared), self.intervals), 1.0)
        rate = np.broadcast_to(rate, n.shape) * self._factor(everywhere)
        if service.client_share > 0:
            rate = rate * ((1 - service.client_share) + service.client_share * self._clients(everywhere))
        rate = np.clip(rate, 0.0, 1.0)
        if service.cluster > 1:
            clusters = rng.poisson(n * rate / service.cluster)
            return np.asarray(np.minimum(rng.poisson(clusters * service.cluster).astype(np.float64), n))
        return rng.binomial(n.astype(np.int64), rate).astype(np.float64)

    def _clients(self, everywhere: _Everywhere) -> Floats:
        """(watches, pods or 1, 1, intervals) what failing clients bring, as a factor with mean 1."""
        service = self.service
        if service.client_per == NoisePer.ALL:
            return self._now(everywhere.clients)[:, :, None, :]
        errors = float(self.requests.mean()) * len(service.routes or ONE_ROUTE) * service.errors * service.client_share
        rows = self.pods if service.client_per == NoisePer.REPLICA else 1
        expected = errors * self.pods / rows
        found = client_errors(service, self.rng, self.watches, rows, self.intervals, expected)
        return np.asarray(found / expected)[:, :, None, :]

    def _orders(self, everywhere: _Everywhere) -> Floats:
        rate = self.service.orders * np.where(self.faulty, 1 - self.service.lost, 1.0) * self._factor(everywhere)
        return self.rng.poisson(self.requests * rate).astype(np.float64)

    def _histograms(self) -> Floats:
        """Cumulative bucket counts of lognormal latencies, and of a tail that takes `tail_s`."""
        service = self.service
        shift = np.log(service.latency_median_s * np.where(self.faulty, service.slowdown, 1.0))
        if service.latency_noise > 0:
            shift = shift + service.latency_noise * self._series(service.noise_ar)
        shift = np.broadcast_to(shift, (*np.broadcast_shapes(shift.shape, (1, 1, 1)),))
        bounds = np.array(DEFAULT_BOUNDS)
        below = special.ndtr((np.log(bounds) - shift[..., None]) / service.latency_sigma)
        tail = np.where(self.faulty, service.tail_share, 0.0)[:, None]
        below = (1 - tail) * below + tail * (bounds >= service.tail_s)
        parts = np.diff(np.concatenate([below, np.ones((*below.shape[:-1], 1))], axis=-1), axis=-1, prepend=0.0)
        parts = np.maximum(parts, 0.0)
        parts = (parts / parts.sum(axis=-1, keepdims=True))[:, :, None]
        drawn = self.rng.multinomial(
            self.requests.astype(np.int64), np.broadcast_to(parts, (*self.shape, len(bounds) + 1))
        )
        return np.moveaxis(np.cumsum(drawn, axis=-1), -1, 3).astype(np.float64)

    def _levels(self) -> Floats:
        service = self.service
        z = self._series(service.level_phi, service.level_df)
        if self.common is not None:
            z = np.sqrt(service.correlation) * self.common + np.sqrt(1 - service.correlation) * z
        offsets = service.level_offset * self.rng.standard_normal((self.watches, self.pods, 1))
        late = np.arange(self.start, self.end) - service.onset
        worse = np.where(self.faulty, service.level_shift + service.leak * late, 0.0)
        return np.asarray(service.level + service.level_sd * z + offsets + worse)[:, :, None, None, :]


def _panels(service: Service, values: Sequence[tuple[_Fleet, Panel]]) -> Mapping[Arm, Panel]:
    """Each arm over all intervals of the watch, NaN where it has none."""
    width = service.past + service.looks
    found: dict[Arm, Panel] = {}
    for fleet, panel in values:
        spans = [(fleet.arm, fleet.start, fleet.end)]
        if fleet.arm is Arm.BASELINE and service.design is Design.CONCURRENT:
            spans = [(Arm.BASELINE, 0, service.looks)] + ([(Arm.HISTORY, -service.past, 0)] if service.past else [])
        for arm, start, end in spans:
            at = slice(start - fleet.start, end - fleet.start)
            found[arm] = Panel(
                _widened(panel.value[..., at], start + service.past, width),
                _widened(panel.total[..., at], start + service.past, width),
            )
    return {arm: found[arm] for arm in Arm if arm in found}


def _widened(array: Floats, start: int, width: int) -> Floats:
    full = np.full((*array.shape[:-1], width), np.nan)
    full[..., start : start + array.shape[-1]] = array
    return full
