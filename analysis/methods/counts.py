"""Errors, timeouts, orders: one-sided e-processes for counts of events with an exposure.

Concurrent arms: given e = e_b + e_c events in an interval, e_c ~ Bin(e, r n_c / (r n_c + n_b)) whatever the common
rate does; the log-ratio of r = r0 rel against the margin r0 is

    llr = e_c ln rel - e ln((r0 rel n_c + n_b) / (r0 n_c + n_b)),

a supermartingale for every true ratio <= r0 (Lindon and Malek, arXiv 2011.03567; margin and changing exposures as in
docs/statistics.md). Divided by a variance factor phi where events cluster.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from analysis.decode import Floats
from analysis.dispersion import Noise, tempering
from analysis.onset import onset_mixture

LOG_REL = np.linspace(np.log(1.15), np.log(30.0), 16)  # the grid of ratios beyond the margin
DOUBLED, SPREAD = np.log(2.0), 0.5  # regressions that canaries are there to tell: about twice as many
MILD = 0.4  # of the prior weight lies around them, where looks are dear; the rest takes all sizes alike
_BELL = np.exp(-(((LOG_REL - DOUBLED) / SPREAD) ** 2) / 2)
LOG_WEIGHTS = np.log(MILD * _BELL / np.add.accumulate(_BELL)[-1] + (1 - MILD) / len(LOG_REL))
FEWEST_EVENTS = 3.0  # one or two events never decide
_AT_ONCE = 256  # beliefs mixed in one array operation: more of them leave the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class CountTest:
    """One count comparison over the looks of one watch. `worse` is the arm with too many events under suspicion.

    Arrays are (strata, looks), 0 where nothing was seen; `log_prior` (looks,). `known_rate` (strata,) turns
    the test into its one-sample form: the other arm is a rate fixed before the deploy (an upper limit of it). Of it,
    `counted` (grid, strata) says which strata a point of the grid counts, where not all, and `believed` (strata,) the
    rates that a claim of what would have been seen starts from, where not those of `known_rate`.
    """

    events: Floats
    exposure: Floats
    other_events: Floats
    other_exposure: Floats
    r0: float
    floor: float
    noise: Noise
    log_prior: Floats
    known_rate: Floats | None = None
    counted: NDArray[np.bool_] | None = None
    believed: Floats | None = None
    fewer: bool = False  # one-sample form only: too few events are suspected
    swapped: bool = False  # paired form: the arm under suspicion is the baseline, which has too many


def log_ratios(tests: Sequence[CountTest]) -> Floats:
    """(grid, tests, looks) log likelihood ratios before tempering; shorter tests are padded with 0.

    >>> one = CountTest(*(np.array([[v]]) for v in (9.0, 150.0, 13.0, 1350.0)), r0=1.25, floor=0.0,
    ...                 noise=Noise.fixed(np.ones(1)), log_prior=np.log([0.5]))
    >>> log_ratios([one]).shape
    (16, 1, 1)
    """
    looks = max((len(test.log_prior) for test in tests), default=0)
    found = np.zeros((len(LOG_REL), len(tests), looks))
    paired = [i for i, test in enumerate(tests) if test.known_rate is None]
    if paired:
        found[:, paired] = _paired([tests[i] for i in paired], looks)
    for i, test in enumerate(tests):
        if test.known_rate is not None:
            found[:, i, : len(test.log_prior)] = _one_sample(test, test.known_rate)
    return found


def _paired(tests: Sequence[CountTest], looks: int) -> Floats:
    e, n, e_other, n_other = sides_of(tests, looks)
    r0 = np.array([test.r0 for test in tests])[:, None]
    floor = np.array([test.floor for test in tests])[:, None]
    return paired_log_ratios(e, n, e_other, n_other, r0, floor)


def paired_log_ratios(e: Floats, n: Floats, e_other: Floats, n_other: Floats, r0: Floats, floor: Floats) -> Floats:
    """(grid, ...) log likelihood ratios of concurrent arms, before tempering; the counts are (strata, ...)."""
    total = np.zeros((len(LOG_REL), *e.shape[1:]))
    for s in range(len(e)):
        virtual = floor / r0 * n_other[s]
        both = e[s] + e_other[s] + virtual
        at_margin = r0 * n[s] + n_other[s]
        safe = np.where(at_margin > 0, at_margin, 1.0)
        for k, log_rel in enumerate(LOG_REL):
            growth = np.where(at_margin > 0, 1.0 + np.expm1(log_rel) * (r0 * n[s]) / safe, 1.0)
            total[k] = total[k] + (e[s] * log_rel - both * np.log(growth)) * (at_margin > 0)
    return total


def sides_of(tests: Sequence[CountTest], looks: int) -> list[Floats]:
    """Events, exposure, and those of the other arm, (strata, tests, looks) each; 0 beyond what a test has."""
    strata = max(test.events.shape[0] for test in tests)
    return [
        _stack([getattr(test, name) for test in tests], strata, looks)
        for name in ("events", "exposure", "other_events", "other_exposure")
    ]


def _stack(arrays: Sequence[Floats], strata: int, looks: int) -> Floats:
    full = np.zeros((strata, len(arrays), looks))
    for i, array in enumerate(arrays):
        full[: array.shape[0], i, : array.shape[1]] = array
    return full


def _one_sample(test: CountTest, known_rate: Floats) -> Floats:
    tolerated = test.r0 * known_rate + test.floor
    if test.fewer:
        tolerated = np.maximum(known_rate / test.r0 - test.floor, 0.0)
    expected = tolerated[:, None] * test.exposure
    sign = -1.0 if test.fewer else 1.0
    step = sign * LOG_REL[:, None]
    if test.counted is None:
        return np.asarray(np.cumsum(test.events, axis=0)[-1] * step - np.cumsum(expected, axis=0)[-1] * np.expm1(step))
    counted = test.counted[:, :, None]
    both = [np.cumsum(np.where(counted, part, 0.0), axis=1)[:, -1] for part in (test.events, expected)]
    return np.asarray(both[0] * step - both[1] * np.expm1(step))


def evidence_paths(tests: Sequence[CountTest]) -> tuple[Floats, Floats]:
    """ln e-value after every look, (tests, looks), and the tempered log-ratios behind the last, (grid, tests, looks).

    At each look all looks so far are tempered with the noise believed at it: a burst that comes early is forgiven
    when the replicas turn out to burst as well, and counts when they do not. The one-sample form pays ln 2 for the
    limit on its known rate (a union bound over the two ways to be wrong).
    """
    paths, last = mixed_paths(tests)
    return sobered(tests, paths), last


def mixed_paths(tests: Sequence[CountTest]) -> tuple[Floats, Floats]:
    """As `evidence_paths`, before the price of an uncertain known rate and the fewest events are looked at."""
    raw = log_ratios(tests)
    looks = raw.shape[-1]
    beliefs = _beliefs([test.noise for test in tests], looks)
    prior = padded([test.log_prior for test in tests], looks, -np.inf)
    believed = np.zeros((len(beliefs.owner), looks))
    by_end = np.argsort(beliefs.end, kind="stable")  # nobody asks what a belief says after the last look that held it
    for at in range(0, len(by_end), _AT_ONCE):
        rows = by_end[at : at + _AT_ONCE]
        seen, owner = slice(0, int(beliefs.end[rows[-1]]) + 1), beliefs.owner[rows]
        tempered = raw[:, owner, seen] / beliefs.factors[rows, seen]
        believed[rows, seen] = onset_mixture(tempered, prior[owner, seen], LOG_WEIGHTS)
    own = beliefs.held >= 0
    paths = np.where(own, believed[beliefs.held, np.arange(looks)], 0.0)
    last = beliefs.held[np.arange(len(tests)), np.add.reduce(own, axis=1) - 1]
    return paths, raw / beliefs.factors[last]


@dataclass(frozen=True, slots=True, eq=False)
class _Beliefs:
    """Every belief about the noise that any test ever held, one row each. `end`: the last look that held it.

    held: (tests, looks) the row of what was believed at each look; -1 where a test has no such look.
    """

    owner: NDArray[np.int64]
    end: NDArray[np.int64]
    factors: Floats
    held: NDArray[np.int64]


def _beliefs(noises: Sequence[Noise], looks: int) -> _Beliefs:
    owner: list[int] = []
    end: list[int] = []
    believed: list[Floats] = []
    held = np.full((len(noises), looks), -1)
    for i, noise in enumerate(noises):
        first, last, numbers = noise.beliefs()
        held[i, : len(numbers)] = np.array(numbers) + len(owner)
        owner += [i] * len(first)
        end += last
        believed.append(np.stack([noise.factor[first], noise.unshared[first], noise.trusted[first]]))
    factor, unshared, trusted = np.concatenate(believed, axis=1)
    swing = padded([noise.in_time for noise in noises], looks, 1.0)[owner] - 1.0
    return _Beliefs(np.array(owner), np.array(end), tempering(factor, unshared, trusted > 0, swing), held)


def padded(rows: Sequence[Floats], looks: int, fill: float) -> Floats:
    """(rows, looks) rows on top of each other, the shorter ones filled up."""
    full = np.full((len(rows), looks), fill)
    for target, row in zip(full, rows, strict=True):
        target[: len(row)] = row
    return full


def sobered(tests: Sequence[CountTest], paths: Floats) -> Floats:
    """Less the price of an uncertain known rate; nothing while there are too few events."""
    events = padded([np.cumsum(np.cumsum(_weighed(test), axis=0)[-1]) for test in tests], paths.shape[1], 0.0)
    one_sample = np.array([test.known_rate is not None for test in tests], dtype=bool)[:, None]
    paths = paths - np.where(one_sample, np.log(2.0), 0.0)
    needs = np.array([not test.fewer for test in tests], dtype=bool)[:, None]
    return np.where(needs & (events < FEWEST_EVENTS), np.minimum(paths, 0.0), paths)


def _weighed(test: CountTest) -> Floats:
    """The events of strata that any point of the grid counts."""
    if test.counted is None:
        return test.events
    return np.where(np.logical_or.reduce(test.counted, axis=0)[:, None], test.events, 0.0)


def rate_limit(events: float, exposure: float, phi: float, alpha: float, *, upper: bool) -> float:
    """One-sided confidence limit of a Poisson rate with variance factor `phi` (Garwood, scaled).

    >>> round(rate_limit(900.0, 90000.0, 1.0, 0.005, upper=True), 5)
    0.01089
    """
    if exposure <= 0:
        return float("inf") if upper else 0.0
    count = events / phi
    if upper:
        return float(special.gammainccinv(count + 1.0, alpha)) * phi / exposure  # 1 - alpha would lose a tiny alpha
    return float(special.gammaincinv(count, alpha)) * phi / exposure if count > 0 else 0.0
