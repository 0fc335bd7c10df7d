"""What the new version serves and the old one does not: routes without a counterpart, and routes with next to no past.

No like can be compared with like there. Against the whole of the old version it can be, but a new kind of request may
fail more often by its nature, so what comes of it holds a deploy and never rolls it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Floats
from analysis.methods.counts import LOG_REL, CountTest
from analysis.noise import Side
from analysis.sums import total

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """One comparison of what has no counterpart. Both tests must speak against the new version.

    alone: what has no counterpart against all of the old version; whole: all against all. A label that merely became
    another one, even one that only failing requests get, moves the first and leaves the second as it is.
    """

    alone: CountTest
    whole: CountTest
    candidate: Side  # without a counterpart, (1, looks)
    share: float  # of the new version's exposure that has no counterpart
    unserved: float  # of it that lies in strata of which the old version served nothing (next to nothing) at all
    rate: float  # of all of the old version


def without_counterpart(candidate: Side, baseline: Side) -> Flags:
    """(strata, looks) where the new version has exposure and the old one, which has some elsewhere, has none.

    >>> new, old = np.array([[5.0, 5.0], [5.0, 5.0]]), np.array([[0.0, 9.0], [9.0, 9.0]])
    >>> without_counterpart(Side(new, new), Side(old, old))
    array([[ True, False],
           [False, False]])
    """
    return (candidate.exposure > 0) & (baseline.exposure <= 0) & (total(baseline.exposure) > 0)


def beside(tests: Sequence[CountTest], candidate: Side, baseline: Side) -> tuple[Apart, ...]:
    """Concurrent arms: a comparison for each test of `tests`; none where everything has a counterpart."""
    alone = without_counterpart(candidate, baseline)
    if not alone.any():
        return ()
    mine, all_of_it, theirs = _pooled(_only(candidate, alone)), _pooled(candidate), _pooled(baseline)
    never = np.add.accumulate(baseline.exposure, axis=1)[:, -1:] <= 0
    share, unserved = (_served(_only(candidate, at)) / _served(candidate) for at in (alone, alone & never))
    return tuple(
        Apart(_paired(test, mine, theirs), _paired(test, all_of_it, theirs), mine, share, unserved, rate_of(baseline))
        for test in tests
    )


def _paired(test: CountTest, mine: Side, theirs: Side) -> CountTest:
    worse, other = (theirs, mine) if test.swapped else (mine, theirs)
    return replace(
        test,
        events=worse.events,
        exposure=worse.exposure,
        other_events=other.events,
        other_exposure=other.exposure,
    )


def since(test: CountTest, candidate: Side, before: Side, limit: float) -> Apart | None:
    """Before and after: what `test` does not count against the limit of the whole rate before the deploy."""
    if test.counted is None:
        return None
    alone = ~np.logical_or.reduce(test.counted, axis=0)[:, None] & (candidate.exposure > 0)
    if not alone.any():
        return None
    mine, all_of_it = _pooled(_only(candidate, alone)), _pooled(candidate)
    own, whole = (_one_sample(test, side, limit) for side in (mine, all_of_it))
    share = _served(mine) / _served(candidate)
    return Apart(own, whole, mine, share, share, rate_of(before))


def _one_sample(test: CountTest, mine: Side, limit: float) -> CountTest:
    nothing = np.zeros(mine.events.shape)
    return replace(
        test,
        events=mine.events,
        exposure=mine.exposure,
        other_events=nothing,
        other_exposure=nothing,
        known_rate=np.array([limit]),
        counted=None,
        believed=None,
    )


def told_by_past(rates: Floats, limits: Floats, whole: float, *, fewer: bool) -> Flags:
    """(grid, strata) which strata's past says enough of them for a point of the grid.

    Chosen from the past alone: where a rate worse by this point's ratio than the stratum's (or than `whole`, the limit
    of all of them, where that is higher) would bring evidence on average, although no more than the limit of the
    stratum's rate may be held against it.

    >>> told = told_by_past(np.array([0.01, 0.0]), np.array([0.011, 1.3]), 0.01, fewer=False)
    >>> bool(told[-1, 0]), bool(told[-1, 1])
    (True, False)
    """
    ratio = np.exp(LOG_REL)[:, None]
    gain = LOG_REL[:, None] / (ratio - 1.0)
    if fewer:
        return np.asarray(limits > rates * gain)
    return np.asarray(limits < np.maximum(rates, whole) * gain * ratio)


def rate_of(side: Side) -> float:
    """Events per exposure, of everything."""
    served = _served(side)
    return float(np.add.accumulate(side.events.ravel())[-1]) / served if served > 0 else 0.0


def _only(side: Side, at: Flags) -> Side:
    return Side(np.where(at, side.events, 0.0), np.where(at, side.exposure, 0.0))


def _pooled(side: Side) -> Side:
    return Side(total(side.events)[None], total(side.exposure)[None])


def _served(side: Side) -> float:
    return float(np.add.accumulate(side.exposure.ravel())[-1])
