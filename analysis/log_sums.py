"""Sums of numbers that are known by their logarithms, in a fixed order."""

import numpy as np

from analysis.decode import Floats

NOTHING = -1e300  # stands for ln 0 where sums go on: finite, so that differences are no NaN


def log_mean(values: Floats, log_weights: Floats) -> Floats:
    """ln of the weighted mean of exp(values) over the first axis, added in a fixed order."""
    top = np.maximum.reduce(values, axis=0)
    top = np.where(np.isfinite(top), top, 0.0)
    total, part = np.zeros(values.shape[1:]), np.empty(values.shape[1:])
    for row, log_weight in zip(values, log_weights, strict=True):
        np.subtract(row, top, out=part)
        part += log_weight
        total += np.exp(part, out=part)
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(total))


def log_add(a: Floats, b: Floats) -> Floats:
    """ln(exp(a) + exp(b)), where one of them is finite; many times as quick as `np.logaddexp`, which goes one by one.

    >>> np.exp(log_add(np.log([1.0, 2.0]), np.array([np.log(3.0), -np.inf]))).round(9)
    array([4., 2.])
    """
    top, part = np.maximum(a, b), np.minimum(a, b)
    part -= top
    np.exp(part, out=part)
    part += 1.0
    top += np.log(part, out=part)
    return top
