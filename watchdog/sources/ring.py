"""What one target's page said lately: a bounded ring of scrapes, and what happened between two moments."""

import math
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from watchdog.selector import Selector
from watchdog.sources.births import BORN
from watchdog.sources.page import Name
from watchdog.sources.questions import Series

_REMEMBERED = 1000  # selections of watches that may long be over
_FORGOTTEN = 4  # times max_series: series that came and went before the ring begins anew


class Health(StrEnum):
    """How a scrape went."""

    UP = "up"
    FAILING = "failing"  # refused, timed out, server error: the instance does not serve
    UNREADABLE = "unreadable"  # somebody is alive there, only no readable page
    UNKNOWN = "unknown"  # we did not get there: no name, no route, no certificate that we trust


@dataclass(frozen=True, slots=True)
class Scrape:
    """One try to read the page. `values` has one number per series known by then, NaN for those not on the page."""

    health: Health
    reason: str = ""
    refused: bool = False
    values: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """The scrapes of one interval. `first` is the ring's scrape at its start; None for a process born inside it."""

    first: int | None
    later: Sequence[Sequence[float]]

    def counted(self, slot: int, before: Callable[[int], float]) -> tuple[float, bool] | None:
        """Events counted, exactly: differences, and whole values after a reset or for a new series; and whether that
        one is new to a process that was there before. before: what stood in a slot at the start, NaN for nothing."""
        seen = [now for values in self.later if not math.isnan(now := _at(values, slot))]
        if not seen:
            return None
        stood = before(slot)
        is_born = math.isnan(stood) and self.first is not None
        total = 0.0
        for now in seen:
            total += now - stood if now >= stood else now
            stood = now
        return total, is_born

    def level(self, slot: int) -> float | None:
        """Mean of a gauge."""
        found = [now for values in self.later if not math.isnan(now := _at(values, slot))]
        return math.fsum(found) / len(found) if found else None


class Ring:
    """Scrapes of the last `keep_s` seconds of one target. Not safe for threads by itself."""

    def __init__(self, *, keep_s: float, max_series: int, labels: Mapping[str, str]) -> None:
        self._keep_s = keep_s
        self._max_series = max_series
        self._labels = dict(labels)
        self._times: list[float] = []
        self._scrapes: list[Scrape] = []
        self._slots: dict[Name, int] = {}
        self._series: list[Mapping[str, str]] = []
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._selected: dict[Selector, list[tuple[int, Mapping[str, str]]]] = {}

    @property
    def began_at(self) -> float | None:
        """When the oldest scrape still kept was done."""
        return self._times[0] if self._times else None

    def page(self, at: float, page: Mapping[Name, float]) -> None:
        """Keep one page."""
        if len(page) > self._max_series:
            reason = f"a page of {len(page):,} series, more than {self._max_series:,}"
            self.keep(at, Scrape(Health.UNREADABLE, reason))
            return
        if len(self._slots.keys() | page.keys()) > _FORGOTTEN * self._max_series:
            self.clear()
        if len(self._selected) > _REMEMBERED:
            self._selected.clear()
        slots = [self._slot(name) for name in page]
        values = array("d", [math.nan]) * len(self._series)
        for slot, value in zip(slots, page.values(), strict=True):
            values[slot] = value
        self.keep(at, Scrape(Health.UP, values=values))

    def keep(self, at: float, scrape: Scrape) -> None:
        """Append a scrape and drop what is too old. A clock that was set back begins a new ring."""
        if self._times and at < self._times[-1]:
            self._times.clear()
            self._scrapes.clear()
        self._times.append(at)
        self._scrapes.append(scrape)
        old = bisect_right(self._times, at - self._keep_s)
        if old > len(self._times) // 4:  # in portions: cutting the front of a list moves all the rest
            del self._times[:old], self._scrapes[:old]

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self._times, self._scrapes, self._slots, self._series, self._by_name, self._selected):
            kept.clear()

    def last(self, at: float, tolerance_s: float) -> Scrape | None:
        """The scrape that says how things stood at a moment."""
        index = bisect_right(self._times, at) - 1
        return self._scrapes[index] if index >= 0 and self._times[index] >= at - tolerance_s else None

    def span(self, start: float, end: float, tolerance_s: float) -> Span | None:
        """What was read in an interval; None unless pages were read close to both of its ends."""
        later = [index for index in self._between(start, end) if self._scrapes[index].health is Health.UP]
        if not later or self._times[later[-1]] < end - tolerance_s:
            return None
        pages = [self._scrapes[index].values for index in later]
        at_start = bisect_right(self._times, start) - 1
        before = next((i for i in range(at_start, -1, -1) if self._scrapes[i].health is Health.UP), None)
        if before is not None and self._times[before] >= start - tolerance_s:
            return Span(before, pages)
        standing = self.last(start, tolerance_s)
        return Span(None, pages) if standing is not None and standing.refused else None

    def select(self, selector: Selector) -> list[tuple[int, Mapping[str, str]]]:
        """Series of a name whose labels meet the conditions; remembered until a new series appears."""
        if selector not in self._selected:
            slots = self._by_name.get(selector.name, ())
            self._selected[selector] = [(s, self._series[s]) for s in slots if selector.matches(self._series[s])]
        return self._selected[selector]

    def counted(self, selector: Selector, span: Span) -> list[Series]:
        """Events of one interval, per series; those new to a process that was there before are told apart (`BORN`)."""
        before = partial(self._before, span.first)
        found = ((labels, span.counted(slot, before)) for slot, labels in self.select(selector))
        return [
            Series({**labels, BORN: "yes"} if counted[1] else labels, counted[0])
            for labels, counted in found
            if counted is not None
        ]

    def levels(self, selector: Selector, span: Span) -> list[Series]:
        """Mean levels of one interval, per series."""
        found = ((labels, span.level(slot)) for slot, labels in self.select(selector))
        return [Series(labels, value) for labels, value in found if value is not None]

    def _between(self, start: float, end: float) -> range:
        return range(bisect_right(self._times, start), bisect_right(self._times, end))

    def _before(self, first: int | None, slot: int) -> float:
        """What a series stood at when it was last on a page of this process: one page may lack it. NaN if on none."""
        for index in range(-1 if first is None else first, -1, -1):
            scrape = self._scrapes[index]
            if scrape.refused:
                break  # what was read before is another process's
            if not math.isnan(value := _at(scrape.values, slot)):
                return value
        return math.nan

    def _slot(self, name: Name) -> int:
        if name not in self._slots:
            metric, labels = name
            self._selected.clear()
            # as in Prometheus: what the target says of itself gives way to what we know of it
            own = {f"exported_{k}" if k in self._labels else k: v for k, v in labels}
            self._slots[name] = len(self._series)
            self._by_name[metric].append(len(self._series))
            self._series.append({**own, **self._labels})
        return self._slots[name]


def _at(values: Sequence[float], slot: int) -> float:
    return values[slot] if slot < len(values) else math.nan
