"""Axes: where values lie on paper, which round values get a tick, and how numbers are written. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Format = Callable[[float], str]
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LARGEST = 1e100  # differences of larger numbers overflow; nobody measures any


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear map from [low, high] to [start, end] on paper; low < high always, whatever the data was."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value; what lies outside is put on the edge."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def spanning(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> Axis:
    """An axis that holds all finite values; a single value, or none, gets room around it.

    >>> spanning([3.0, 3.0], 0, 10).low < 3.0 < spanning([3.0], 0, 10).high
    True
    >>> spanning([], 0, 10)
    Axis(low=0.0, high=1.0, start=0, end=10)
    """
    finite = [min(max(v, -LARGEST), LARGEST) for v in values if math.isfinite(v)] + ([0.0] if zero else [])
    if not finite or (zero and not any(finite)):
        return Axis(0.0, 1.0, start, end)
    low, high = min(finite), max(finite)
    if low == high:
        room = abs(low) / 2 or 0.5
        return Axis(low - room, high + room, start, end)
    room = 0.06 * (high - low)
    return Axis(low if zero and low == 0.0 else low - room, high + room, start, end)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values inside [low, high]: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(-3.0, 14.0)
    [0.0, 5.0, 10.0]
    """
    rough = (high - low) / wanted
    if not (math.isfinite(rough) and rough > 0):
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + i) * step, 12) for i in range(count)]


def time_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Seconds that people find round: 5 s, 30 s, 1 min, 1 h, 1 d and their like.

    >>> time_ticks(-60.0, 100.0)
    [-60.0, 0.0, 60.0]
    """
    steps = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    span = high - low
    step = next((s for s in steps if span / s <= wanted), 86400 * max(1, math.ceil(span / 86400 / wanted)))
    return [float(i * step) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def clock(seconds: float) -> str:
    """Time since the deploy: `0:45`, `12:00`, `-5:00`, beyond an hour `1:30 h`.

    >>> [clock(s) for s in (0, 45, -300, 5400, 172800)]
    ['0:00', '0:45', '−5:00', '1:30 h', '2 d']
    """
    sign = "−" if seconds < 0 else ""
    whole = round(abs(seconds))
    if whole >= 86400 and whole % 86400 == 0:
        return f"{sign}{whole // 86400} d"
    if whole >= 3600:
        return f"{sign}{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{sign}{whole // 60}:{whole % 60:02d}"


def percent(value: float) -> str:
    """A share with as many digits as it needs.

    >>> [percent(v) for v in (0.0, 0.0003, 0.0672, 0.25, 1.0)]
    ['0 %', '0.03 %', '6.7 %', '25 %', '100 %']
    """
    return f"{_digits(100 * value)} %"


def number(value: float) -> str:
    """A level, short: thousands as k, millions as M; NaN is a dash.

    >>> [number(v) for v in (0.0, 0.25, 12.34, 1800.0, 2.5e6, float("nan"))]
    ['0', '0.25', '12', '1.8 k', '2.5 M', '–']
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return _digits(value / size) + letter
    return _digits(value)


def evidence(log10: float) -> str:
    """An e-value on a logarithmic axis, as a plain number as long as that is short.

    >>> [evidence(v) for v in (-2.0, 0.0, 2.0, 4.0, 9.0)]
    ['0.01', '1', '100', '10 k', '10⁹']
    """
    if not math.isfinite(log10):
        return number(log10)
    if -3 <= log10 < 6:
        return number(10.0**log10)
    return "10" + f"{log10:.0f}".translate(_RAISED)


def _digits(value: float) -> str:
    if not math.isfinite(value):
        return number(value)
    if value and abs(value) < 1e-4:
        return f"{value:.0e}".replace("-", "−")
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.2g}"
    return text.replace("-", "−")
