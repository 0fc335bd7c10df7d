"""The one recursion every sequential test shares: a degradation may begin at any look of the watch."""

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Floats
from analysis.log_sums import NOTHING, log_add, log_mean
from analysis.sums import so_far
from analysis.together import Rows, in_groups

FROM_THE_START = 0.85  # prior weight of "bad from the first look on", where most bad requests begin; costs ln 20/17
AFTER_THE_PLAN = 0.1  # of what is left, for looks beyond the plan, where one waits for a human; costs ln 10/9
LEVELS_FROM_THE_START = 0.25  # likewise of levels: memory, queues and caches take looks to fill


def onset_prior(usable: NDArray[np.bool_], planned_looks: int, from_the_start: float = FROM_THE_START) -> Floats:
    """Log prior weight of a degradation that begins at each look, shape (looks,).

    `from_the_start` lies on the first usable look; of the rest most is spread evenly over the other planned ones, and
    `AFTER_THE_PLAN` over all that may follow, falling with the square of the time: m / (n (n + 1)) for the look n >= m
    of a plan of m, which sums to 1. Looks that are not usable carry no weight, so they spend no budget.

    >>> np.round(np.exp(onset_prior(np.array([True, False, True, True, True, True]), 3)), 4)
    array([0.85  , 0.    , 0.0675, 0.0675, 0.0037, 0.0022])
    """
    place = np.cumsum(usable) - 1
    planned = max(planned_looks, 1)
    rest = 1 - from_the_start
    within = (1 - AFTER_THE_PLAN) * rest / max(planned - 1, 1)
    first = from_the_start if planned > 1 else from_the_start + within
    later = np.maximum(place, planned).astype(float)
    beyond = np.log(AFTER_THE_PLAN * rest * planned) - np.log(later) - np.log(later + 1)
    log_weight = np.where(place == 0, np.log(first), np.where(place < planned, np.log(within), beyond))
    return np.where(usable, log_weight, -np.inf)


def onset_mixture(log_ratios: Floats, log_prior: Floats, log_weights: Floats | None = None) -> Floats:
    """ln E_t of the mixture over grid points and onsets.

    E_t = sum_k w_k sum_{s<=t} pi_s prod_{u=s..t} LR_{k,u} + 1 - sum_{s<=t} pi_s. Each start is a supermartingale that
    is 1 until it begins, so E is an e-process: P(ever E >= 1/alpha) <= alpha (Ville), at any looks.
    Shiryaev-Roberts form with a per-deploy level, see Shekhar and Ramdas, arXiv 2309.09111.

    Parameters
    ----------
    log_ratios : (grid, tests, looks) log likelihood ratio of each look
    log_prior : (tests, looks) from `onset_prior`
    log_weights : (grid,) ln w_k, which sum to 1; even where not given

    Returns
    -------
    (tests, looks) natural log of the e-value after every look; later looks never change earlier ones.
    """
    if log_ratios.shape[-1] == 0:
        return np.zeros(log_prior.shape)
    ratios = np.ascontiguousarray(np.moveaxis(log_ratios, -1, 0))  # looks first: they follow one another
    prior = np.ascontiguousarray(np.moveaxis(log_prior, -1, 0))
    grown = np.empty(ratios.shape)
    started, after = np.full(ratios.shape[1:], NOTHING), np.zeros(ratios.shape[1:])
    for look in range(len(ratios)):
        started = log_add(started, np.maximum(prior[look] - after, NOTHING))
        after += ratios[look]
        np.add(after, started, out=grown[look])
    begun = log_mean(np.moveaxis(grown, 1, 0), _even(log_ratios) if log_weights is None else log_weights)
    whole = log_add(begun, log_waiting(so_far(np.exp(prior))))
    return np.ascontiguousarray(np.moveaxis(whole, 0, -1))


def log_waiting(begun: Floats) -> Floats:
    """ln of the prior weight of all onsets that are still to come."""
    waiting = 1.0 - begun
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.where(waiting > 1e-9, waiting, 0.0)))


def _even(log_ratios: Floats) -> Floats:
    return np.full(len(log_ratios), -np.log(len(log_ratios)))


def likely_onset(log_ratios: Floats, log_prior: Floats, look: int) -> int:
    """The look at which the degradation most likely began, as seen at `look`.

    log_ratios: (grid, looks) of one test; log_prior: (looks,).
    """
    return likely_onsets([(log_ratios[:, : look + 1], log_prior[: look + 1])])[0]


def likely_onsets(tests: Rows) -> list[int]:
    """As `likely_onset`, of many tests, each as seen at its last look: (grid, looks) and (looks,)."""
    return [int(at) for (at,) in in_groups(tests, _likely_onsets)]


def _likely_onsets(log_ratios: Floats, log_prior: Floats) -> tuple[NDArray[np.int64]]:
    after = np.add.accumulate(np.moveaxis(log_ratios, 0, 1), axis=-1)
    before = np.zeros(after.shape)
    before[..., 1:] = after[..., :-1]
    return (np.argmax(log_mean(after[..., -1:] - before, _even(after)) + log_prior, axis=-1),)
