"""Seeded services for tests, benchmarks and notebooks: the same generators everywhere, randomness as an argument."""

from analysis.simulate.draw import draw, observe
from analysis.simulate.noise import ar_levels, autoregressive, client_errors, rate_factors
from analysis.simulate.service import (
    DEFAULT_BOUNDS,
    ERRORS,
    GAUGE,
    LATENCY,
    ORDERS,
    Fault,
    NoiseLaw,
    NoisePer,
    Route,
    Service,
    faulty,
)
from analysis.simulate.watches import DrawnMetric, Watches, gauge_observation

__all__ = [
    "DEFAULT_BOUNDS",
    "ERRORS",
    "GAUGE",
    "LATENCY",
    "ORDERS",
    "DrawnMetric",
    "Fault",
    "NoiseLaw",
    "NoisePer",
    "Route",
    "Service",
    "Watches",
    "ar_levels",
    "autoregressive",
    "client_errors",
    "draw",
    "faulty",
    "gauge_observation",
    "observe",
    "rate_factors",
]
