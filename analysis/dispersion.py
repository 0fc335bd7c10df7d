"""How much noisier than independent events the counts of an unchanged version are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Floats
from analysis.sums import so_far
from analysis.sums import total as added
from analysis.together import Rows, in_groups

SCALES = (1, 3, 12)  # block lengths in intervals; the whole time seen so far is the last scale
FEWEST_EVENTS = 8.0  # a block with fewer events says nothing about clustering
ENOUGH_DF = 10.0  # degrees of freedom from which the replicas are believed without a default
DEFAULT_V = 0.05  # squared variation of an arm's own rate, assumed where nothing is known
_CAUTION = 0.9  # the factor is this quantile of what is believed
_SPIKE = 0.9  # prior belief in independent events
_SLOPE = 0.5  # else: density of ln D falls as exp(-slope ln D)
_INHERIT = 0.9  # belief that a coarser scale is as noisy as the finer one
_LEAST_DF = 1e-9  # less is the rounding of sums
_USUAL_D = np.linspace(0.1, np.log(1000.0), 48)
_FAR_D = np.arange(1, 80) * (_USUAL_D[1] - _USUAL_D[0]) + _USUAL_D[-1]  # to 1e8: it grows with the size of a service
_LOG_D = np.concatenate([[0.0], _USUAL_D, _FAR_D])
_D, _INVERSE_D = np.exp(_LOG_D), np.exp(-_LOG_D)[:, None]
_SLAB = np.exp(-_SLOPE * _LOG_D[1:])
_FRESH = np.concatenate([[_SPIKE], (1 - _SPIKE) * _SLAB / np.add.accumulate(_SLAB)[len(_USUAL_D) - 1]])[:, None]
_AT_ONCE = 1024  # rows of that grid in one array operation: more of them leave the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Variance factors of one comparison, (looks,) each: what is believed at a look holds for all looks up to it.

    factor: measured between replicas up to each look. in_time: of each look's own events, assumed or from history,
    were none of it shared by both arms. unshared: the share of it that is believed at each look not to be.
    trusted: from where on the replicas are believed; then noise in time counts where it outweighs that of counting.
    """

    factor: Floats
    in_time: Floats
    unshared: Floats
    trusted: NDArray[np.bool_]

    @classmethod
    def fixed(cls, in_time: Floats) -> "Noise":
        """Noise that no replica tells anything about."""
        return cls(np.ones(len(in_time)), in_time, np.ones(len(in_time)), np.zeros(len(in_time), dtype=bool))

    def at(self, look: int) -> Floats:
        """(looks,) the factors to temper every look with, as known at `look`."""
        one = slice(look, look + 1 or None)
        swing = self.in_time[None] - 1.0
        return np.asarray(tempering(self.factor[one], self.unshared[one], self.trusted[one], swing)[0])

    @property
    def now(self) -> float:
        """The factor of the last look, as known at it."""
        own = float(self.unshared[-1]) * (float(self.in_time[-1]) - 1.0)
        return max(float(self.factor[-1]), own if self.trusted[-1] else 1.0 + own)

    def beliefs(self) -> tuple[list[int], list[int], list[int]]:
        """Of every different belief of the watch the first and the last look that held it; of every look its belief."""
        told = list(zip(self.factor.tolist(), self.unshared.tolist(), self.trusted.tolist(), strict=True))
        last = dict(zip(told, range(len(told)), strict=True))  # a later look takes the earlier one's place
        if len(last) == 1:
            return [0], [len(told) - 1], [0] * len(told)
        first = dict(zip(reversed(told), reversed(range(len(told))), strict=True))
        number = {belief: i for i, belief in enumerate(last)}
        return [first[belief] for belief in last], list(last.values()), [number[belief] for belief in told]


def tempering(factor: Floats, unshared: Floats, trusted: NDArray[np.bool_], swing: Floats) -> Floats:
    """(beliefs, looks) variance factors of every look under each of some beliefs; see `Noise`.

    factor, unshared, trusted: (beliefs,) what is believed; swing: (beliefs, looks) the noise in time beyond 1.
    """
    own = unshared[:, None] * swing
    return np.asarray(np.maximum(factor[:, None], np.where(trusted[:, None], own, 1.0 + own)))


def believed_factor(chi2: Floats, df: Floats) -> Floats:
    """Variance factor D >= 1 to temper with, from Pearson chi-squares at rising time scales.

    chi2_s ~ D_s chi-square(df_s). Prior of D: mostly on 1 (independent events), the rest on a heavy-tailed slab; a
    coarser scale inherits most of the finer one's posterior. The factor is the 90 % posterior quantile, the largest
    over the scales: where little is known it stays near 1 only if nothing speaks against independence.

    Parameters
    ----------
    chi2, df : (scales, ...) df = 0 where a scale says nothing

    >>> believed_factor(np.array([[7.0, 70.0]]), np.array([[7.0, 7.0]])).round(1)
    array([ 1., 20.])
    """
    factor = np.ones(chi2.shape[1:])
    told = (df > 0).any(axis=0)  # where nothing is said it stays at 1
    some_chi2, some_df, found = chi2[:, told], df[:, told], np.empty(np.count_nonzero(told))
    for at in range(0, len(found), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        found[part] = _believed(some_chi2[:, part], some_df[:, part])
    factor[told] = found
    return factor


def _believed(chi2: Floats, df: Floats) -> Floats:
    """As `believed_factor`, (rows,) from (scales, rows). The grid lies along the first axis, where sums are quick."""
    belief = np.broadcast_to(_FRESH, (len(_FRESH), chi2.shape[1]))
    factor = np.ones(chi2.shape[1])
    for scale_chi2, scale_df in zip(chi2, df, strict=True):
        weight = (-0.5 * scale_df) * _LOG_D[:, None]
        weight -= (0.5 * scale_chi2) * _INVERSE_D
        weight -= np.maximum.reduce(weight, axis=0)
        np.exp(weight, out=weight)
        weight *= belief
        running = so_far(weight)
        place = np.add.reduce(running < _CAUTION * running[-1], axis=0, dtype=np.uint8)
        factor = np.where(scale_df > 0, np.maximum(factor, _D[place]), factor)
        weight /= running[-1]
        weight *= _INHERIT
        weight += (1 - _INHERIT) * _FRESH
        belief = weight
    return factor


def between_replicas(value: Floats, total: Floats) -> tuple[Floats, Floats]:
    """Pearson chi-square of the replicas' event counts given their exposures, accumulated over time.

    Errors cluster by client and a sticky client stays on one replica: only this shows it. Every replica is held against
    the rate of all replicas in the same interval, so that a rate that changes while replicas come and go is no spread
    between them.

    Parameters
    ----------
    value, total : (..., replicas, strata, intervals) events and exposure, 0 where absent

    Returns
    -------
    chi2, df : (scales, ..., intervals) each column uses its own and earlier intervals only; df is what chi2 would be on
        the average, were the events independent
    """
    width = value.shape[-1]
    shape = (len(SCALES) + 1, *value.shape[:-3], width)
    chi2, df = np.zeros(shape), np.zeros(shape)
    if value.shape[-3] < 2 or width == 0:
        return chi2, df
    seen = _held_against_all(value, total)
    for i, scale in enumerate(SCALES):
        ends = np.arange(scale - 1, width, scale)
        chi2[i][..., ends], df[i][..., ends] = _chi2(*[_blocks(part, scale) for part in seen])
        chi2[i], df[i] = np.cumsum(chi2[i], axis=-1), np.cumsum(df[i], axis=-1)
    elapsed = np.arange(1, width + 1)
    longest = np.max([np.where(elapsed >= scale, scale, 1) for scale in SCALES], axis=0)
    apart = elapsed >= 2 * longest  # else the last scale would count the longest blocks twice
    whole_chi2, whole_df = _chi2(*[np.cumsum(part, axis=-1) for part in seen])
    chi2[-1], df[-1] = np.where(apart, whole_chi2, 0.0), np.where(apart, whole_df, 0.0)
    return chi2, df


def _held_against_all(value: Floats, total: Floats) -> tuple[Floats, Floats, Floats]:
    """Each replica's events, those expected at the rate of all in that interval and stratum, and the part of these that
    is its own doing, (..., replicas, intervals) each."""
    events, exposure = _last(value, axis=-3), _last(total, axis=-3)
    served = exposure > 0
    rate = np.divide(events, exposure, out=np.zeros_like(events), where=served)
    each = np.divide(1.0, exposure, out=np.zeros_like(exposure), where=served)
    expected = total * rate[..., None, :, :]
    own = expected * (total * each[..., None, :, :])
    return _last(value, axis=-2), _last(expected, axis=-2), _last(own, axis=-2)


def _blocks(series: Floats, scale: int) -> Floats:
    """Sums of whole blocks of intervals."""
    if scale == 1:
        return series
    whole = series.shape[-1] // scale
    blocks = series[..., : whole * scale].reshape(*series.shape[:-1], whole, scale)
    return np.asarray(np.add.accumulate(blocks, axis=-1)[..., -1])


def _chi2(seen: Floats, expected: Floats, own: Floats) -> tuple[Floats, Floats]:
    """Chi-square and degrees of freedom of each column of (..., replicas, columns).

    The variance of seen - expected is expected - own: replicas that were never there together tell nothing about their
    spread, and a constant set of k replicas has the k - 1 degrees of freedom of the textbook.
    """
    there = expected > 0
    parts = np.divide((seen - expected) ** 2, expected, out=np.zeros_like(seen), where=there)
    free = np.divide(expected - own, expected, out=np.zeros_like(seen), where=there)
    chi2, df = _last(parts, axis=-2), _last(free, axis=-2)
    told = (_last(seen, axis=-2) >= FEWEST_EVENTS) & (df > _LEAST_DF)
    return np.where(told, chi2, 0.0), np.where(told, df, 0.0)


def _last(parts: Floats, axis: int = -1) -> Floats:
    """Sums along an axis, added one after another: the same bits in every batch."""
    if axis == -1:
        return np.asarray(np.add.accumulate(parts, axis=-1)[..., -1])
    return added(parts, axis)


def over_time(value: Floats, total: Floats) -> tuple[float, float, float]:
    """Long-run variance factor of one series of counts, and what it rests on.

    Blocks of 1, 3 and 12 intervals against one common rate: slow swings show at the longer scales.

    Parameters
    ----------
    value, total : (intervals,) events and exposure, 0 exposure where nothing was seen

    Returns
    -------
    factor : believed variance of a count over its mean
    mean : mean events per interval
    df : degrees of freedom at the finest scale
    """
    return all_over_time([(value, total)])[0]


def all_over_time(series: Rows) -> list[tuple[float, float, float]]:
    """As `over_time`, of many series."""
    used = [(value[total > 0], total[total > 0]) for value, total in series]
    told = [i for i, (value, _) in enumerate(used) if len(value) >= 2]
    found = [(1.0, 0.0, 0.0)] * len(used)
    for i, (factor, mean) in zip(told, in_groups([used[i] for i in told], _over_time), strict=True):
        found[i] = float(factor), float(mean), float(len(used[i][0]) - 1)
    return found


def _over_time(value: Floats, total: Floats) -> tuple[Floats, Floats]:
    """Factor and mean, (...,) each, of series without gaps, (..., intervals)."""
    chi2, df = _in_time(value, total, SCALES)
    return believed_factor(chi2, df), np.asarray(_last(value) / value.shape[-1])


def _in_time(value: Floats, total: Floats, scales: Sequence[int]) -> tuple[Floats, Floats]:
    """Chi-square and degrees of freedom of blocks against the common rate, (scales, ...)."""
    width = value.shape[-1]
    rate = np.add.accumulate(value, axis=-1)[..., -1:] / np.add.accumulate(total, axis=-1)[..., -1:]
    shape = (len(scales), *value.shape[:-1])
    chi2, df = np.zeros(shape), np.zeros(shape)
    for i, scale in enumerate(scales):
        number = width // scale
        if number < 3:
            continue
        expected = _blocks(total, scale) * rate
        telling = (rate[..., 0] > 0) & (_last(expected) >= number)
        miss = _blocks(value, scale) - expected
        parts = np.divide(miss**2, expected, out=np.zeros_like(expected), where=expected > 0)
        chi2[i], df[i] = np.where(telling, _last(parts), 0.0), np.where(telling, number - 1.0, 0.0)
    return chi2, df


def own_variation(value: Floats, total: Floats, clustering: Floats) -> tuple[Floats, Floats]:
    """Squared variation per interval of one arm's rate in time, at most: at once, and in the long run beyond that.

    What clusters bring (the factor between replicas) is no swing of a rate and is taken off. Nor is a rate that swings
    by more than its own mean from interval to interval (squared variation above 1): those are bursts, of clients, which
    the replicas show, or of the whole site, which both arms share; the excess is taken off at all scales alike.

    Parameters
    ----------
    value, total : (..., intervals) events and exposure, all exposures above 0, at least two intervals
    clustering : (...,) variance factor between the replicas

    Returns
    -------
    at_once, beyond : (...,) each; 0 where there were no events
    """
    factor, mean = _over_time(value, total)
    quiet = mean <= 0
    mean = np.where(quiet, 1.0, mean)
    expected = total * (_last(value) / _last(total))[..., None]
    parts = np.divide((value - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0)
    chi2, df = _last(parts), value.shape[-1] - 1.0
    sure = 2.0 / (2.0 + 1.0 / mean)  # a term's variance is 2 + 1 / mean: few events say little
    quick = believed_factor((sure * chi2)[None], (sure * df)[None])
    bursts = np.maximum(1.0, (chi2 / df - clustering) / mean)
    at_once = np.minimum(np.maximum(quick - clustering, 0.0) / mean / bursts, 1.0)
    beyond = np.maximum((factor - clustering) / mean / bursts - at_once, 0.0)
    return np.where(quiet, 0.0, at_once), np.where(quiet, 0.0, beyond)
