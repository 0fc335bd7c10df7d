"""Mann-Whitney's U and its ties for many pairs of samples at once, exact, in the way that suits the numbers.

All ways count the same thing, so which was taken never shows in a result:

- values on a decimal grid (whole numbers, readings rounded to a few digits) are counted by their steps, without any
  sorting, where there are few steps; else the steps are sorted;
- values without ties are sorted by where they lie between their row's lowest and highest, in 30 bits;
- anything else is sorted by its own bits, half of them where single precision holds it.

A key carries its arm in its lowest bit, so that sorting needs no permutation to be carried along and gathered.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Floats

Whole = NDArray[np.signedinteger[Any]]
_CACHED = 98304  # values worked on at a time: few enough for the processor's cache, enough to make the calls cheap
_GRIDS = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])  # steps per unit that readings are commonly rounded to
_STEPS_PER_VALUE = 4  # counting beats sorting while there are not many more steps than values
_FEW, _LONGEST = 0.15, 12  # ties are few where so small a part of neighbours is equal, and no longer a run
_SHORT_ROW = 2**16  # places in so short a row add up to less than 2^31
_SHORT = 2.0**30  # a key of 32 bits has a sign and an arm beside so much


def pairs_won(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Number of pairs with x > y (equal ones count half), and sum of t^3 - t over groups of t equal values.

    Parameters
    ----------
    x, y : (rows, n) and (rows, m), finite, n and m >= 1

    Returns
    -------
    won, ties : (rows,) each; whole and half numbers, exact

    >>> pairs_won(np.array([[1.0, 2.0]]), np.array([[1.0, 0.5]]))
    (array([3.5]), array([6.]))
    """
    rows, n = x.shape
    step = max(1, _CACHED // (n + y.shape[1]))
    won, ties = np.zeros(rows), np.zeros(rows)
    for at in range(0, rows, step):
        part = slice(at, at + step)
        won[part], ties[part] = _won(np.concatenate([x[part], y[part]], axis=1), n)
    return won, ties


def _won(values: Floats, n: int) -> tuple[Floats, Floats]:
    """As `pairs_won`, x being the first n values of a row."""
    steps = _grid_steps(values)
    if steps is not None:
        width = int(steps.max()) + 1
        return _counted(steps, n, width) if width <= _STEPS_PER_VALUE * values.shape[1] else _sorted(steps, n)
    row = np.sort(values[0])
    if (row[1:] == row[:-1]).any():  # where one row has ties, so have others
        return _sorted(_own_bits(values), n)
    return _sorted_without_ties(values, n)


def _grid_steps(values: Floats) -> Whole | None:
    """(rows, values) steps from the row's lowest on the decimal grid that all lie on; None where there is none."""
    first = values[:, :1]
    with np.errstate(over="ignore", invalid="ignore"):  # the largest floats lie on no grid
        fitting = (np.rint(first * _GRIDS) / _GRIDS == first).all(axis=0)
        if not fitting.any():
            return None
        grid = _GRIDS[np.argmax(fitting)]
        steps = np.rint(values * grid)
        if not (steps / grid == values).all():
            return None
        steps -= np.min(steps, axis=1, keepdims=True)
        return steps.astype(np.int32) if np.max(steps) < _SHORT else None


def _counted(steps: Whole, n: int, width: int) -> tuple[Floats, Floats]:
    """By how often each step occurs in each arm."""
    rows = len(steps)
    place = steps + width * np.arange(rows)[:, None]
    of_x = np.bincount(place[:, :n].ravel(), minlength=rows * width).reshape(rows, width)
    of_y = np.bincount(place[:, n:].ravel(), minlength=rows * width).reshape(rows, width)
    twice = np.add.reduce(of_x * (2 * np.cumsum(of_y, axis=1) - of_y), axis=1)
    size = of_x + of_y
    return twice / 2.0, np.asarray(np.add.reduce(size * (size * size - 1), axis=1), dtype=np.float64)


def _sorted_without_ties(values: Floats, n: int) -> tuple[Floats, Floats]:
    """By short keys; rows in which two keys are equal, so that their values may be, once more by their own bits."""
    lowest, highest = np.min(values, axis=1, keepdims=True), np.max(values, axis=1, keepdims=True)
    with np.errstate(over="ignore", divide="ignore"):
        scale = (_SHORT - 1.0) / (highest - lowest)
    usable = np.isfinite(scale) & (scale > 0)
    short = values - np.where(usable, lowest, 0.0)
    short *= np.where(usable, scale, 0.0)
    keys = _with_arm(short.astype(np.int32), n)
    keys.sort(axis=1)
    won, ties = _places_won(keys, n), np.zeros(len(values))
    alone = ((keys[:, 1:] ^ keys[:, :-1]) > 1).all(axis=1)  # neighbours differ in more than their arm
    again = np.flatnonzero(~alone)
    if len(again):
        won[again], ties[again] = _sorted(_own_bits(values[again]), n)
    return won, ties


def _with_arm(keys: Whole, n: int) -> Whole:
    keys <<= 1
    keys[:, :n] |= 1
    return keys


def _places_won(keys: Whole, n: int) -> Floats:
    """(rows,) pairs won by x in rows of keys sorted upwards, equal ones as if x were larger."""
    width = keys.shape[1]
    places = (keys & 1) * np.arange(width, dtype=keys.dtype)
    exact = keys.dtype if width < _SHORT_ROW else np.int64
    return np.asarray(np.add.reduce(places, axis=1, dtype=exact) - n * (n - 1) // 2, dtype=np.float64)


def _sorted(keys: Whole, n: int) -> tuple[Floats, Floats]:
    """By keys that are equal exactly where the values are; they must leave their highest bit but the sign unused."""
    keys = _with_arm(keys, n)
    keys.sort(axis=1)
    ties, shared = _few_ties(keys) or _many_ties(keys)
    return _places_won(keys, n) - shared / 2.0, ties.astype(np.float64)


def _few_ties(keys: Whole) -> tuple[Whole, Whole] | None:
    """Sum of t^3 - t over groups of equal values, and number of equal pairs of x and y; None where ties are many.

    In a group of t there are t - k pairs k places apart, and t^3 - t = 6 sum_k k (t - k). Only pairs that are equal at
    one distance can be so at the next.
    """
    rows, width = keys.shape
    flat = keys.view(np.uint32 if keys.itemsize == 4 else np.uint64).ravel()
    apart = np.full(flat.shape, 2, dtype=flat.dtype)  # 0 equal, 1 equal of another arm
    np.bitwise_xor(flat[1:], flat[:-1], out=apart[:-1])
    apart[width - 1 :: width] = 2  # the next one is in another row
    at = np.flatnonzero(apart <= 1)
    if len(at) > _FEW * len(flat):
        return None
    differ, row = apart[at], at // width
    ties, shared = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    for distance in range(1, _LONGEST):
        ties += 6 * distance * np.bincount(row, minlength=rows)
        shared += np.bincount(row[differ == 1], minlength=rows)
        inside = at + distance + 1 < width * (row + 1)
        at, row = at[inside], row[inside]
        differ = flat[at + distance + 1] ^ flat[at]
        equal = differ <= 1
        at, row, differ = at[equal], row[equal], differ[equal]
        if not len(at):
            return ties, shared
    return None


def _many_ties(keys: Whole) -> tuple[Whole, Whole]:
    """As `_few_ties`, group by group."""
    rows, width = keys.shape
    from_x, values = (keys & 1).astype(bool), keys >> 1
    new = np.ones((rows, width), dtype=bool)
    np.not_equal(values[:, 1:], values[:, :-1], out=new[:, 1:])
    ends = np.append(np.flatnonzero(new), rows * width)  # where each group of equal values begins; the last ends
    size = np.diff(ends)
    bounds = width * np.arange(rows + 1)
    ties = _by_row(size * (size * size - 1), np.searchsorted(ends, bounds))
    met = np.zeros((rows, width), dtype=bool)  # the first of x in a group that y is in too
    np.greater(from_x[:, 1:], from_x[:, :-1] | new[:, 1:], out=met[:, 1:])
    at = np.flatnonzero(met)
    group = np.cumsum(new)[at] - 1
    return ties, _by_row((at - ends[group]) * (ends[group + 1] - at), np.searchsorted(at, bounds))


def _own_bits(values: Floats) -> Whole:
    """(rows, values) the floats' bits as whole numbers in the floats' order.

    Below 2 in magnitude the highest bit of a float's exponent is unused, which is the bit that `_sorted` needs;
    larger values are brought there by a power of two, which changes nothing but the exponent.
    """
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype(np.float32)
    exact: NDArray[np.floating[Any]] = single if (single == values).all() else values
    scale = exact.dtype.type(np.ldexp(1.0, -max(int(np.frexp(max(np.max(exact), -np.min(exact)))[1]), 0)))
    scaled = exact * scale
    if scale < 1.0 and not (scaled / scale == exact).all():  # the smallest lose bits
        return _dense_ranks(values)
    scaled += 0.0  # -0.0 + 0.0 is 0.0
    bits: Whole = scaled.view(np.int32) if exact is single else scaled.view(np.int64)
    sign = bits >> (8 * bits.itemsize - 1)  # -1 below 0
    bits ^= sign & np.iinfo(bits.dtype).max  # among negative numbers the bits fall as the value rises
    return bits


def _dense_ranks(values: Floats) -> Whole:
    """(rows, values) place of each value among its row's different values."""
    order = np.argsort(values, axis=1)
    climbs = np.diff(np.take_along_axis(values, order, axis=1), axis=1, prepend=values.min(axis=1, keepdims=True)) > 0
    ranks = np.empty(values.shape, dtype=np.int64)
    np.put_along_axis(ranks, order, np.cumsum(climbs, axis=1), axis=1)
    return ranks


def _by_row(values: Whole, bounds: Whole) -> Whole:
    """Sums between bounds; exact, for they are whole numbers."""
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    return np.asarray(running[bounds[1:]] - running[bounds[:-1]])
