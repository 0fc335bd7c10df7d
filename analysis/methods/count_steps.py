"""One more look of count evidence, carried on from the look before: O(grid) a test, to the same bits as all anew.

While the noise believed stays the same, the recursion of `onset_mixture` needs only its last sums (`Walk`). When the
belief changes, all looks so far are tempered anew, once; what was said at earlier looks stands either way. Nothing is
remembered here: what is known goes in and comes out (`Known`), and is used only where it was computed from the very
numbers that the test still holds, so a wrong or missing memory costs time and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from analysis.decode import Floats
from analysis.dispersion import Noise
from analysis.methods.counts import (
    FEWEST_EVENTS,
    LOG_WEIGHTS,
    CountTest,
    log_ratios,
    mixed_paths,
    paired_log_ratios,
    sobered,
)
from analysis.onset import log_mean

_BY_LOOK = ("events", "exposure", "other_events", "other_exposure", "log_prior")


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Where the onset mixtures of some tests stand after a look, under the noise believed then."""

    after: Floats  # (grid, tests) log-ratios of all looks so far
    started: Floats  # (grid, tests) ln of the sum over onsets of their prior over the ratio before them
    begun: Floats  # (tests,) prior weight of all onsets so far

    @classmethod
    def at_start(cls, grid: int, tests: int) -> "Walk":
        """Before the first look."""
        return cls(np.full((grid, tests), -0.0), np.full((grid, tests), -np.inf), np.zeros(tests))


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
    started = np.logaddexp(walk.started, log_prior - walk.after)
    after = walk.after + ratios
    begun = walk.begun + np.exp(log_prior)
    waiting = 1.0 - begun
    with np.errstate(divide="ignore"):
        log_waiting = np.log(np.where(waiting > 1e-9, waiting, 0.0))
    return Walk(after, started, begun), np.logaddexp(log_mean(after + started, log_weights), log_waiting)


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


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What was computed of one test up to a look."""

    test: CountTest
    raw: Floats  # (grid, looks) log-ratios before tempering
    path: Floats  # (looks,) as `mixed_paths` gives it
    walk: Walk | None  # of this test alone, under the noise believed at its last look; None where nobody walked yet


def evidence_from(tests: Sequence[CountTest], known: Sequence[Known | None]) -> tuple[Floats, Floats, list[Known]]:
    """The same bits as `evidence_paths(tests)`, going on from what is known of each test where it has one look more.

    Returns
    -------
    paths : (tests, looks)
    last : (grid, tests, looks) tempered log-ratios under the noise believed at each test's last look
    known : what to hand in at the next look
    """
    going_on = [i for i, (k, test) in enumerate(zip(known, tests, strict=True)) if k is not None and _goes_on(k, test)]
    found: list[Known | None] = [None] * len(tests)
    anew = sorted(set(range(len(tests))) - set(going_on))
    for i, fresh in zip(anew, _anew([tests[i] for i in anew]), strict=True):
        found[i] = fresh
    before = [k for i in going_on if (k := known[i]) is not None]
    for i, longer in zip(going_on, _one_more(before, [tests[i] for i in going_on]), strict=True):
        found[i] = longer
    all_known = [k for k in found if k is not None]
    looks = max((len(test.log_prior) for test in tests), default=0)
    paths = np.zeros((len(tests), looks))
    last = np.zeros((len(all_known[0].raw) if all_known else 0, len(tests), looks))
    for i, k in enumerate(all_known):
        width = len(k.path)
        paths[i, :width] = k.path
        last[:, i, :width] = k.raw / k.test.noise.at(-1)
    return sobered(tests, paths), last, all_known


def _anew(tests: Sequence[CountTest]) -> list[Known]:
    if not tests:
        return []
    raw, (paths, _) = log_ratios(tests), mixed_paths(tests)
    widths = [len(test.log_prior) for test in tests]
    return [
        Known(test, raw[:, i, :width].copy(), paths[i, :width].copy(), None)
        for i, (test, width) in enumerate(zip(tests, widths, strict=True))
    ]


def _one_more(known: Sequence[Known], tests: Sequence[CountTest]) -> list[Known]:
    """Known one look further: a step where the belief stayed, all looks under the new belief where it changed."""
    if not tests:
        return []
    newest = log_ratios([_last_look(test) for test in tests])
    raws = [np.concatenate([k.raw, newest[:, i]], axis=1) for i, k in enumerate(known)]
    walks = [
        k.walk if k.walk is not None and _same_belief(k.test, test) else _walked(raw, test)
        for k, raw, test in zip(known, raws, tests, strict=True)
    ]
    together = Walk(
        np.concatenate([walk.after for walk in walks], axis=1),
        np.concatenate([walk.started for walk in walks], axis=1),
        np.concatenate([walk.begun for walk in walks]),
    )
    factors = np.array([test.noise.at(-1)[-1] for test in tests])
    log_prior = np.array([test.log_prior[-1] for test in tests])
    walk, said = step(together, newest[:, :, 0] / factors, log_prior, LOG_WEIGHTS)
    return [
        Known(test, raws[i], np.append(k.path, said[i]), _only(walk, i))
        for i, (k, test) in enumerate(zip(known, tests, strict=True))
    ]


def _walked(raw: Floats, test: CountTest) -> Walk:
    """A test's walk up to the look before its last, under the noise believed at its last."""
    ratios = (raw / test.noise.at(-1))[:, :-1]
    log_prior = test.log_prior[:-1]
    if not len(log_prior):
        return Walk.at_start(len(raw), 1)
    after = np.cumsum(ratios, axis=-1)
    before = np.concatenate([np.zeros((len(raw), 1)), after[:, :-1]], axis=-1)
    started = np.logaddexp.accumulate(log_prior - before, axis=-1)
    return Walk(after[:, -1:], started[:, -1:], np.cumsum(np.exp(log_prior))[-1:])


def _only(walk: Walk, i: int) -> Walk:
    return Walk(walk.after[:, i : i + 1], walk.started[:, i : i + 1], walk.begun[i : i + 1])


def _last_look(test: CountTest) -> CountTest:
    return replace(test, **{name: getattr(test, name)[..., -1:] for name in _BY_LOOK})


def _same_belief(before: CountTest, test: CountTest) -> bool:
    """Whether the looks known are tempered as they were at the last of them."""
    return bool((before.noise.at(-1) == test.noise.at(-1)[:-1]).all())


def _goes_on(known: Known, test: CountTest) -> bool:
    """Whether the test is the one that is known, with exactly one look more."""
    looks = len(known.path)
    return looks > 0 and len(test.log_prior) == looks + 1 and _carries_on(known.test, test)


def _carries_on(old: object, new: object) -> bool:
    """Whether `new` is `old`, its arrays perhaps one look longer."""
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        longer = old.ndim > 0 and old.ndim == new.ndim and new.shape[-1] == old.shape[-1] + 1
        kept = new[..., :-1] if longer else new
        return old.shape == kept.shape and bool((old == kept).all())
    if isinstance(old, CountTest | Noise) and isinstance(new, CountTest | Noise):
        return all(_carries_on(getattr(old, f.name), getattr(new, f.name)) for f in fields(old))
    return type(old) is type(new) and old == new
