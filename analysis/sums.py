"""Sums whose parts are added one after another: the same bits for a row alone and among others.

`np.add.reduce` adds in another order where the shape suits it; `np.add.accumulate` keeps the order, but is ten to a
hundred times slower along any axis but the last, where it goes number by number.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.decode import Floats


def total(parts: Floats, axis: int = 0) -> Floats:
    """Sum along an axis; 0 where it is empty.

    >>> total(np.ones((2, 3))), total(np.ones((2, 3)), axis=1)
    (array([2., 2., 2.]), array([3., 3.]))
    """
    axis %= parts.ndim
    along = parts if axis == 0 else parts.swapaxes(0, 1) if axis == 1 else np.moveaxis(parts, axis, 0)  # quickest first
    if not len(along):
        return np.zeros(along.shape[1:])
    whole: Floats = along[0].copy()
    for part in along[1:]:
        whole += part
    return whole


def so_far(parts: NDArray[Any]) -> NDArray[Any]:
    """Sums of the first one, two, three ... of the first axis.

    >>> so_far(np.ones((3, 2)))[:, 0]
    array([1., 2., 3.])
    """
    found = np.empty(parts.shape, dtype=parts.dtype)
    found[:1] = parts[:1]
    for i in range(1, len(parts)):
        np.add(found[i - 1], parts[i], out=found[i])
    return found
