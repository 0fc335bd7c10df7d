"""Noise of simulated services, drawn for whole batches at once."""

from collections.abc import Sequence

import numpy as np
from scipy import special

from analysis.decode import Floats
from analysis.simulate.service import NoiseLaw, Service

BURSTS = 0.05  # part of the intervals that have a burst
LARGEST_CLIENT = 200.0  # a client fails at most so many times as often as the average one


def autoregressive(rng: np.random.Generator, shape: Sequence[int], phi: float = 0.0, df: float | None = None) -> Floats:
    """AR(1) series with variance 1 along the last axis; innovations normal, or Student with `df` degrees (> 2).

    >>> autoregressive(np.random.default_rng(1), (2, 3, 5), 0.8).shape
    (2, 3, 5)
    """
    shocks = rng.standard_normal(shape) if df is None else rng.standard_t(df, shape) / np.sqrt(df / (df - 2.0))
    if phi == 0.0:
        return np.asarray(shocks)
    fresh = np.sqrt(1 - phi**2)
    z = np.empty_like(shocks)
    z[..., 0] = shocks[..., 0]
    for t in range(1, shocks.shape[-1]):
        z[..., t] = phi * z[..., t - 1] + fresh * shocks[..., t]
    return z


def rate_factors(z: Floats, v: float, law: str = NoiseLaw.LOGNORMAL) -> Floats:
    """Positive factors with mean 1 and squared variation v from standard normal `z` (rank for rank).

    >>> bool(abs(rate_factors(np.random.default_rng(1).standard_normal(10**5), 0.5, "gamma").var() - 0.5) < 0.02)
    True
    """
    if v <= 0:
        return np.ones_like(z)
    if law == NoiseLaw.LOGNORMAL:
        sigma = np.sqrt(np.log1p(v))
        return np.asarray(np.exp(sigma * z - sigma**2 / 2))
    if law == NoiseLaw.GAMMA:
        return np.asarray(special.gammaincinv(1 / v, special.ndtr(z)) * v)
    if law == NoiseLaw.HEAVY:
        a = 2.0 + 1.0 / v
        return np.asarray((a - 1.0) / special.gammaincinv(a, special.ndtr(-z)))
    high, low = 1 + np.sqrt(v * (1 - BURSTS) / BURSTS), 1 - np.sqrt(v * BURSTS / (1 - BURSTS))
    return np.asarray(np.where(z > special.ndtri(1 - BURSTS), high, low), dtype=np.float64)


def client_errors(
    service: Service, rng: np.random.Generator, watches: int, rows: int, intervals: int, errors_per_row: float
) -> Floats:
    """(watches, rows, intervals) errors expected from the clients of each row (a replica, or all of them).

    Clients come at random, stay a geometric number of looks, and fail at their own constant rate, which has a Pareto
    tail (cut at LARGEST_CLIENT): on average `errors_per_row` errors per row and interval.
    """
    length = service.client_looks
    clients = watches * rows * (intervals + 4 * length) * errors_per_row / service.client_errors
    n = int(rng.poisson(clients))
    row = rng.integers(0, watches * rows, n)
    start = rng.integers(-int(4 * length), intervals, n)
    stays = rng.geometric(1 / length, n)
    tail = service.client_tail
    mean = tail / (tail - 1.0) * (1 - LARGEST_CLIENT ** (1 - tail)) / (1 - LARGEST_CLIENT**-tail)
    drawn = (1 - rng.random(n) * (1 - LARGEST_CLIENT**-tail)) ** (-1 / tail)
    rate = service.client_errors / length * drawn / mean
    found = np.zeros((watches * rows, intervals + 1))
    np.add.at(found, (row, np.clip(start, 0, intervals)), rate)
    np.add.at(found, (row, np.clip(start + stays, 0, intervals)), -rate)
    running = np.maximum(np.cumsum(found[:, :-1], axis=1), 0.0)
    return running.reshape(watches, rows, intervals)


def ar_levels(
    rng: np.random.Generator, replicas: int, intervals: int, *, level: float = 50.0, sd: float = 1.0, phi: float = 0.0
) -> Floats:
    """(replicas, intervals) AR(1) levels with stationary standard deviation `sd`."""
    return level + sd * autoregressive(rng, (replicas, intervals), phi)
