"""Native (exponential) histograms as the cumulative buckets of classic ones, so that one judge reads both.

Their own buckets come and go with the values and with the resolution, and empty ones are not told; two looks would
hardly have a bound in common. So they are put onto fixed bounds, powers of the square root of two: bounds of every
schema from 1 on (two buckets per doubling; the usual ones have four to sixteen), so that nothing is interpolated. What
lies in a bucket that reaches over a bound counts as above it, in both arms alike.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from watchdog.sources.questions import LE, Series

LOWEST, HIGHEST = -28, 34  # 2^-14 to 2^17: from 61 us to 36 h in seconds, and from 61 ns to 2 min in milliseconds
BOUNDS = tuple(2.0 ** (step / 2) for step in range(LOWEST, HIGHEST + 1))
_TEXTS = (*(f"{bound!r}" for bound in BOUNDS), "+Inf")
_ROUNDING = 1 - 1e-9  # bounds are told in decimal


@dataclass(frozen=True, slots=True)
class NativeHistogram:
    """One series' native histogram at one moment: what each bucket holds, by its upper bound."""

    labels: Mapping[str, str]
    count: float
    held: tuple[tuple[float, float], ...]  # upper bound, observations

    def buckets(self) -> list[Series]:
        """Cumulative counts at the fixed bounds."""
        inside = [0.0] * len(_TEXTS)
        for upper, n in self.held:
            inside[bisect_left(BOUNDS, upper * _ROUNDING)] += n
        inside[-1] += max(self.count - sum(inside), 0.0)  # NaN was observed too
        return [Series({**self.labels, LE: text}, n) for text, n in zip(_TEXTS, accumulate(inside), strict=True)]


def read_native(labels: Mapping[str, str], told: Mapping[str, Any]) -> NativeHistogram:
    """Read what the query API says of one (KeyError, TypeError, ValueError).

    A bucket is [which of its bounds belong to it, lower, upper, observations]; without any the key is missing.
    """
    held = tuple((float(upper), float(n)) for _, _, upper, n in told.get("buckets", ()))
    return NativeHistogram(labels, float(told["count"]), held)
