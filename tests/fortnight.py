"""Two weeks of a shop as its Prometheus would have kept them: a daily cycle, bursts, and twenty deploys, three bad.

Seeded; every scrape's counts are drawn, so that they vary as counts do, and the error and order rates wander as those
of a real shop, for both versions alike. Each version begins as a canary of a fifth of the traffic for an hour.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DAYS = 14
DEPLOYS = 20
CANARY_S, SHARE = 3600.0, 0.2
BAD = {6: "errors", 11: "latency", 16: "orders"}  # by number: errors 1 -> 3 %, p99 x 1.5, orders -20 %
BOUNDS_S = (0.025, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1.0, 2.5)
_REPLICAS = 2


@dataclass(frozen=True)
class Shipped:
    """One deploy of the two weeks; `fault` is empty where nothing was wrong."""

    at: float
    version: str
    previous: str
    fault: str


def fortnight(until: float, *, scrape_s: float = 60.0, seed: int = 20) -> tuple[str, list[Shipped]]:
    """OpenMetrics text with timestamps, ending at `until`, and what was shipped."""
    dice = np.random.default_rng(seed)
    times = np.arange(until - DAYS * 86400.0, until + 1e-6, scrape_s)
    shipped = _timeline(dice, times[0])
    offered, errors, orders = _weather(dice, times)
    shares = _shares(times, shipped)
    lines: dict[str, list[str]] = {name: [] for name in ("requests", "seconds", "orders")}
    faults = {one.version: one.fault for one in shipped}
    for version, share in shares.items():
        alive = np.flatnonzero(share > 0)
        for replica in range(_REPLICAS):
            labels = f'job="shop",instance="10.0.{version[1:]}.{replica}:80",version="{version}"'
            n = dice.poisson(offered[alive] * share[alive] / _REPLICAS * scrape_s)
            _count(dice, lines, labels, times[alive], n, errors[alive], orders[alive], faults.get(version, ""))
    text = [
        "# TYPE shop_requests counter", *lines["requests"],
        "# TYPE shop_request_duration_seconds histogram", *lines["seconds"],
        "# TYPE shop_orders counter", *lines["orders"], "# EOF", "",
    ]  # fmt: skip
    return "\n".join(text), shipped


def _timeline(dice: np.random.Generator, start: float) -> list[Shipped]:
    """A deploy every sixteen hours or so; what was bad was taken back after its hour, by hand."""
    every = DAYS * 86400.0 / (DEPLOYS + 1)
    live, found = "v1", []
    for number in range(1, DEPLOYS + 1):
        at = start + number * every + float(dice.uniform(-7200, 7200))
        version, fault = f"v{number + 1}", BAD.get(number, "")
        found.append(Shipped(at, version, live, fault))
        live = live if fault else version
    return found


def _shares(times: Floats, shipped: list[Shipped]) -> dict[str, Floats]:
    """Every version's share of the traffic over time."""
    shares = {name: np.zeros(len(times)) for name in ("v1", *(one.version for one in shipped))}
    live, since = "v1", times[0]
    for one in [*shipped, None]:
        begin = one.at if one is not None else times[-1] + 1.0
        shares[live][(times >= since) & (times < begin)] = 1.0
        if one is None:
            break
        canary = (times >= begin) & (times < begin + CANARY_S)
        shares[one.version][canary] = SHARE
        shares[live][canary] = 1.0 - SHARE
        live, since = (live if one.fault else one.version), begin + CANARY_S
    return shares


def _weather(dice: np.random.Generator, times: Floats) -> tuple[Floats, Floats, Floats]:
    """Requests per second, error share and orders per request: a daily cycle, bursts, and slow wandering."""
    hours = (times - times[0]) / 3600.0  # from the first scrape: the same fortnight at whatever hour it is made
    offered = (
        600.0 * (1.0 + 0.6 * np.sin(2 * np.pi * (hours - 9.0) / 24.0)) * (1.0 + 0.05 * dice.standard_normal(len(times)))
    )
    for begin in dice.uniform(times[0], times[-1], 40):  # campaigns, crawlers: up to three times as much for a while
        length = dice.uniform(300, 1500)
        offered[(times >= begin) & (times < begin + length)] *= dice.uniform(1.5, 3.0)
    errors = 0.01 * np.exp(_wandering(dice, len(times), sd=0.15))
    orders = (
        0.05 * np.exp(_wandering(dice, len(times), sd=0.10)) * (1.0 + 0.2 * np.sin(2 * np.pi * (hours - 14.0) / 24.0))
    )
    return np.maximum(offered, 1.0), errors, orders


def _wandering(dice: np.random.Generator, n: int, *, sd: float, keep: float = 0.95) -> Floats:
    steps = dice.standard_normal(n) * sd * np.sqrt(1.0 - keep**2)
    found = np.empty(n)
    level = 0.0
    for i, step in enumerate(steps):
        level = keep * level + step
        found[i] = level
    return found


def _latency_shares(*, slow: float) -> Floats:
    """Share of requests in every bucket: most are quick, three of a hundred wait; all of them `slow` times longer."""
    from scipy.stats import lognorm

    edges = np.array([*BOUNDS_S, np.inf])
    quick = lognorm.cdf(edges, s=0.5, scale=0.06 * slow)
    waiting = lognorm.cdf(edges, s=0.5, scale=0.30 * slow)
    return np.diff(0.97 * quick + 0.03 * waiting, prepend=0.0)


def _count(
    dice: np.random.Generator,
    lines: dict[str, list[str]],
    labels: str,
    times: Floats,
    n: NDArray[np.int64],
    errors: Floats,
    orders: Floats,
    fault: str,
) -> None:
    """One instance's counters, from nothing when it starts."""
    bad = dice.binomial(n, np.minimum(errors * (3.0 if fault == "errors" else 1.0), 1.0))
    sold = dice.poisson(n * orders * (0.8 if fault == "orders" else 1.0))
    buckets = dice.multinomial(n, _latency_shares(slow=1.5 if fault == "latency" else 1.0))
    stamps = [f"{at:.0f}" for at in times]
    for code, counted in (("200", n - bad), ("500", bad)):
        lines["requests"] += _series(f'shop_requests_total{{{labels},code="{code}"}}', counted, stamps)
    for bound, counted in zip([*map(str, BOUNDS_S), "+Inf"], np.cumsum(buckets, axis=1).T, strict=True):
        lines["seconds"] += _series(f'shop_request_duration_seconds_bucket{{{labels},le="{bound}"}}', counted, stamps)
    lines["seconds"] += _series(f"shop_request_duration_seconds_count{{{labels}}}", n, stamps)
    lines["orders"] += _series(f"shop_orders_total{{{labels}}}", sold, stamps)


def _series(name: str, counted: NDArray[np.int64], stamps: list[str]) -> Iterator[str]:
    return (f"{name} {value} {at}" for value, at in zip(np.cumsum(counted).tolist(), stamps, strict=True))
