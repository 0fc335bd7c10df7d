"""One more look of count evidence, carried on from the look before: O(grid) a test, to the same bits as all anew.

While the noise believed stays the same, the recursion of `onset_mixture` needs only its last sums (`Walk`).
"""

from dataclasses import dataclass

import numpy as np

from analysis.decode import Floats
from analysis.log_sums import NOTHING, log_add, log_mean
from analysis.methods.counts import FEWEST_EVENTS, LOG_WEIGHTS, paired_log_ratios
from analysis.onset import log_waiting


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Where the onset mixtures of some tests stand after a look, under the noise believed then."""

    after: Floats  # (grid, tests) log-ratios of all looks so far
    started: Floats  # (grid, tests) ln of the sum over onsets of their prior over the ratio before them
    begun: Floats  # (tests,) prior weight of all onsets so far

    @classmethod
    def at_start(cls, grid: int, tests: int) -> "Walk":
        """Before the first look."""
        return cls(np.full((grid, tests), -0.0), np.full((grid, tests), NOTHING), np.zeros(tests))


def step(walk: Walk, ratios: Floats, log_prior: Floats, log_weights: Floats) -> tuple[Walk, Floats]:
    """One look of every test: the recursion of `onset_mixture`, whose last column this is, to the bit.

    Parameters
    ----------
    walk
        From the look before, or `Walk.at_start`.
    ratios : (grid, tests)
        Tempered log likelihood ratios of this look.
    log_prior : (tests,)
        From `onset_prior`, at this look.
    log_weights : (grid,)
        Of the grid points; their weights sum to 1.

    Returns
    -------
    The walk after this look, and (tests,) ln e-values.
    """
    started = log_add(walk.started, np.maximum(log_prior - walk.after, NOTHING))
    after = walk.after + ratios
    begun = walk.begun + np.exp(log_prior)
    return Walk(after, started, begun), log_add(log_mean(after + started, log_weights), log_waiting(begun))


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One look of many paired comparisons, (strata, tests) or (tests,); see `CountTest`."""

    events: Floats
    exposure: Floats
    other_events: Floats
    other_exposure: Floats
    r0: Floats
    floor: Floats
    factor: Floats  # variance factor believed, the same as at the looks before
    log_prior: Floats


def step_counts(walk: Walk, seen: Floats, look: Look) -> tuple[Walk, Floats, Floats]:
    """One look of many paired count comparisons at once, from their numbers to their evidence.

    Returns
    -------
    The walk after this look, the events under suspicion so far, and ln e-values, (tests,) each.
    """
    raw = paired_log_ratios(look.events, look.exposure, look.other_events, look.other_exposure, look.r0, look.floor)
    walk, said = step(walk, raw / look.factor, look.log_prior, LOG_WEIGHTS)
    seen = seen + np.cumsum(look.events, axis=0)[-1]
    return walk, seen, np.where(seen < FEWEST_EVENTS, np.minimum(said, 0.0), said)
