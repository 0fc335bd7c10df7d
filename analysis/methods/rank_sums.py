"""Mann-Whitney's U and its ties for many pairs of samples at once, exact, in three ways chosen by the data.

All count the same thing, so which way was taken never shows in a result:

- values on a coarse decimal grid (whole numbers, readings rounded to a few digits): counting levels, no sorting;
- values without ties: one sort of short keys;
- anything else: one sort of long keys, which are the values themselves.

A key carries its arm in its lowest bit, so that sorting needs no permutation to be carried along and gathered.
"""

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Floats

Whole = NDArray[np.int64]
_CACHED = 49152  # values worked on at a time, so that they stay in the processor's cache
_GRIDS = (1.0, 10.0, 100.0, 1000.0, 10000.0)  # steps per unit that readings are commonly rounded to
_LEVELS_PER_VALUE = 4  # counting beats sorting while there are not many more levels than values
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)


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
    rows = len(x)
    step = max(1, _CACHED // (x.shape[1] + y.shape[1]))
    won, ties = np.zeros(rows), np.zeros(rows)
    for at in range(0, rows, step):
        part = slice(at, at + step)
        won[part], ties[part] = _counted(x[part], y[part]) or _sorted(x[part], y[part])
    return won, ties


def _counted(x: Floats, y: Floats) -> tuple[Floats, Floats] | None:
    """By counting how often each level occurs; None where the values lie on no coarse grid."""
    n = x.shape[1]
    levels = _levels(np.concatenate([x, y], axis=1))
    if levels is None:
        return None
    rows, width = len(levels), int(levels.max()) + 1
    levels += width * np.arange(rows)[:, None]
    of_x = np.bincount(levels[:, :n].ravel(), minlength=rows * width).reshape(rows, width)
    of_y = np.bincount(levels[:, n:].ravel(), minlength=rows * width).reshape(rows, width)
    twice = np.add.reduce(of_x * (2 * np.cumsum(of_y, axis=1) - of_y), axis=1)
    size = of_x + of_y
    return twice / 2.0, np.add.reduce(size * (size * size - 1), axis=1).astype(np.float64)


def _levels(values: Floats) -> Whole | None:
    """(rows, values) each value's step on the decimal grid that all lie on, 0 being the row's lowest; None without."""
    first = values[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):  # the largest floats lie on no grid
        grid = next((grid for grid in _GRIDS if (np.rint(first * grid) / grid == first).all()), None)
        if grid is None:
            return None
        steps = np.rint(values * grid)
        lowest = np.min(steps, axis=1, keepdims=True)
        if not np.max(steps - lowest) < _LEVELS_PER_VALUE * values.shape[1]:
            return None
        if not (steps / grid == values).all():
            return None
    return np.asarray(steps - lowest, dtype=np.int64)


def _sorted(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    n, rows = x.shape[1], len(x)
    if len(np.unique(np.concatenate([x[0], y[0]]))) < n + y.shape[1]:  # where one row has ties, so have others
        return _sorted_with_ties(x, y)
    keys = _short_keys(x, y)
    keys.sort(axis=1)
    won, ties = _places_won((keys & 1).astype(bool), n), np.zeros(rows)
    alone = ((keys[:, 1:] ^ keys[:, :-1]) > 1).all(axis=1)  # neighbours differ in more than their arm
    again = np.flatnonzero(~alone)
    if len(again):
        won[again], ties[again] = _sorted_with_ties(x[again], y[again])
    return won, ties


def _short_keys(x: Floats, y: Floats) -> NDArray[np.int32]:
    """Where each value lies between its row's lowest and highest, in 30 bits. Equal keys need not be equal values."""
    n = x.shape[1]
    both = np.concatenate([x, y], axis=1)
    lowest, highest = np.min(both, axis=1, keepdims=True), np.max(both, axis=1, keepdims=True)
    with np.errstate(over="ignore", divide="ignore"):
        scale = (2.0**30 - 1.0) / (highest - lowest)
    usable = np.isfinite(scale) & (scale > 0)
    both -= np.where(usable, lowest, 0.0)
    both *= np.where(usable, scale, 0.0)
    keys = both.astype(np.int32)
    keys <<= 1
    keys[:, :n] |= 1
    return keys


def _places_won(from_x: NDArray[np.bool_], n: int) -> Floats:
    """(rows,) pairs won by x in rows sorted upwards, equal ones as if x were larger."""
    rows, width = from_x.shape
    places = np.flatnonzero(from_x).reshape(rows, n)
    before = n * width * np.arange(rows) + n * (n - 1) // 2
    return np.asarray(np.add.reduce(places, axis=1) - before, dtype=np.float64)


def _sorted_with_ties(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    n, (rows, width) = x.shape[1], (len(x), x.shape[1] + y.shape[1])
    keys = _whole_keys(x, y)
    keys.sort(axis=1)
    from_x = (keys & 1).astype(bool)
    keys >>= 1
    new = np.ones((rows, width), dtype=bool)
    np.not_equal(keys[:, 1:], keys[:, :-1], out=new[:, 1:])
    ends = np.append(np.flatnonzero(new), rows * width)  # where each group of equal values begins; the last ends
    size = np.diff(ends)
    bounds = width * np.arange(rows + 1)
    ties = _by_row(size * (size * size - 1), np.searchsorted(ends, bounds))
    met = np.zeros((rows, width), dtype=bool)  # the first of x in a group that y is in too
    np.greater(from_x[:, 1:], from_x[:, :-1] | new[:, 1:], out=met[:, 1:])
    at = np.flatnonzero(met)
    group = np.cumsum(new)[at] - 1
    shared = _by_row((at - ends[group]) * (ends[group + 1] - at), np.searchsorted(at, bounds))
    return _places_won(from_x, n) - shared / 2.0, ties.astype(np.float64)


def _whole_keys(x: Floats, y: Floats) -> Whole:
    """The values themselves as whole numbers in their order, shifted up by one bit that tells the arm.

    Below 2 in magnitude the highest bit of a float's exponent is unused, which makes room for the shift; larger
    values are brought there by a power of two, which changes nothing but the exponent.
    """
    n = x.shape[1]
    values = np.concatenate([x, y], axis=1)
    scale = np.ldexp(1.0, -max(int(np.frexp(max(np.max(values), -np.min(values)))[1]), 0))
    scaled = values * scale
    if scale < 1.0 and not (scaled / scale == values).all():  # the smallest lose bits
        keys = _dense_ranks(values)
    else:
        scaled += 0.0  # -0.0 + 0.0 is 0.0
        keys = scaled.view(np.int64)
        keys ^= (keys >> 63) & _MAGNITUDE  # among negative numbers the bits fall as the value rises
    keys <<= 1
    keys[:, :n] |= 1
    return keys


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
