"""Stored samples as lines to draw: summed by arm and interval once, then joined into few enough points.

Closed intervals never change, so the sums of a watch are kept and only newer intervals are read again.
"""

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.result import Kind
from watchdog.model import Metric, Watch
from watchdog.ports import Ledger
from watchdog.summing import Summing, Sums, batched, by_columns

POINTS = 120  # on one line; more could not be told apart on a phone
LEAST_PAST = 12  # intervals shown before the deploy, however short the watch
_KEPT = 16  # watches
_ABOVE = re.compile(r"requests above ([0-9.e+-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """Both arms of one metric. Points are (seconds from the deploy, level); NaN where nobody was seen."""

    old: Sequence[tuple[float, float]]
    new: Sequence[tuple[float, float]]
    share: bool  # whether levels are shares, to be written as per cent
    above: float | None = None  # latency: the bound that requests were slower than


@dataclass(slots=True)
class _Kept:
    """The sums of one watch up to its last closed interval."""

    bounds: Mapping[str, float]
    until: int | None = None
    sums: dict[tuple[str, bool], Sums] = field(default_factory=dict)  # by metric and whether it is the new version
    said: dict[int, Mapping[str, float]] = field(default_factory=dict)  # evidence, by look and metric


@dataclass(slots=True)
class Drawer:
    """Reads what is to be drawn; safe from several threads."""

    ledger: Ledger
    _kept: "OrderedDict[str, _Kept]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arms(self, watch: Watch, evidence: Iterable[Mapping[str, Any]]) -> dict[str, Arms]:
        """By metric, for every metric of the plan."""
        bounds = {name: bound for e in evidence for name, bound in [_bound(e)] if bound is not None}
        with self._lock:
            kept = self._kept.pop(watch.id, None)
            if kept is None or kept.bounds != bounds:
                kept = _Kept(bounds=bounds)
            self._kept[watch.id] = kept
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            self._read_on(watch, kept)
            return {metric.spec.name: _arms(watch, metric, kept) for metric in watch.plan.metrics}

    def evidence(self, watch: Watch) -> dict[str, list[float]]:
        """By metric, the natural logarithm of its evidence after each look, as it was said then; NaN where it was not.
        The verdict that ends a watch holds the same path; those before it do not."""
        with self._lock:
            kept = self._kept.get(watch.id)
            if kept is None:
                return {}
            last = max(kept.said, default=-1)
            kept.said |= dict(self.ledger.metric_evidence(watch.id, after=last if kept.said else None))
            looks = range(max(kept.said, default=-1) + 1)
            return {
                name: [kept.said.get(look, {}).get(name, math.nan) for look in looks]
                for name in {name for said in kept.said.values() for name in said}
            }

    def shares(self, watch: Watch) -> list[tuple[float, float]]:
        """The part of the traffic that the new version served, over time, by what `arms` has read; empty where no
        metric counts requests of both versions."""
        with self._lock:
            kept = self._kept.get(watch.id)
            for metric in watch.plan.metrics:
                old, new = (kept.sums.get((metric.spec.name, age), {}) if kept else {} for age in (False, True))
                if metric.spec.kind in (Kind.RATIO, Kind.LATENCY) and old and new:
                    return _shares(old, new, watch.plan.step_s)
        return []

    def _read_on(self, watch: Watch, kept: _Kept) -> None:
        sums = {metric.spec.name: Summing.of(metric, kept.bounds) for metric in watch.plan.metrics}
        for samples in batched(self.ledger.raw_samples(watch.id, after=kept.until)):
            kept.until = max(sample.interval for sample in samples)
            for metric, alike in by_columns(samples):
                summing = sums.get(metric)
                for is_new, parts in zip((False, True), summing.both(alike) if summing else (), strict=False):
                    kept.sums.setdefault((metric, is_new), {}).update(parts)


def _bound(evidence: Mapping[str, Any]) -> tuple[str, float | None]:
    """The bucket bound that the judge decided by, out of the method's name."""
    found = _ABOVE.search(str(evidence.get("method", "")))
    return str(evidence.get("metric", "")), float(found[1]) if found else None


def _arms(watch: Watch, metric: Metric, kept: _Kept) -> Arms:
    old, new = (kept.sums.get((metric.spec.name, age), {}) for age in (False, True))
    last = max([*old, *new], default=0)
    first = max(min([*old, *new], default=0), -max(LEAST_PAST, last + 1))
    width = max(1, math.ceil((last - first + 1) / POINTS))
    is_latency = metric.spec.kind is Kind.LATENCY
    return Arms(
        old=joined(old, first=first, last=last, width=width, step_s=watch.plan.step_s),
        new=joined(new, first=first, last=last, width=width, step_s=watch.plan.step_s),
        share=metric.spec.kind in (Kind.RATIO, Kind.LABELS) or is_latency,
        above=kept.bounds.get(metric.spec.name, metric.spec.slo_le) if is_latency else None,
    )


def _shares(old: Sums, new: Sums, step_s: float) -> list[tuple[float, float]]:
    seen = [i for i in {*old, *new} if i >= 0]
    last = max(seen, default=0)
    exposed = {i: (new.get(i, (0.0, 0.0))[1], new.get(i, (0.0, 0.0))[1] + old.get(i, (0.0, 0.0))[1]) for i in seen}
    width = max(1, math.ceil((last + 1) / POINTS))
    return joined(exposed, first=0, last=last, width=width, step_s=step_s) if seen else []


def joined(sums: Sums, *, first: int, last: int, width: int, step_s: float) -> list[tuple[float, float]]:
    """Join `width` intervals into one point at their middle; none reaches over the deploy. Gaps are NaN.

    >>> joined({0: (1, 10), 1: (3, 10), 3: (5, 10)}, first=0, last=3, width=2, step_s=10.0)
    [(10.0, 0.2), (30.0, 0.5)]
    """
    found = []
    last_block = last // width
    if last_block * width > max(first, 0) and last + 1 - last_block * width < width / 2:
        last_block -= 1  # a point of very few intervals would only show noise: they join the one before
    for block in range(first // width, last_block + 1):
        end = last + 1 if block == last_block else (block + 1) * width
        inside = [sums[i] for i in range(max(block * width, first), end) if i in sums]
        value, of = sum(v for v, _ in inside), sum(t for _, t in inside)
        level = value / of if of > 0 else (value / len(inside) if inside and value > 0 else math.nan)
        found.append(((block + 0.5) * width * step_s, level))
    return found


def highest(path: Sequence[float], *, step_s: float, points: int = POINTS) -> list[tuple[float, float]]:
    """Evidence after each look, joined by the highest of each part, so that no crossing of a threshold is lost."""
    width = max(1, math.ceil(len(path) / points))
    found = []
    for start in range(0, len(path), width):
        part = [v for v in path[start : start + width] if math.isfinite(v)]
        found.append((min(start + width, len(path)) * step_s, max(part) if part else math.nan))
    return found
