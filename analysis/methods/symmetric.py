"""The level test's companion: an e-process that asks for symmetry only, of no scale and no tails.

With u_t the prewhitened step of the level beyond what is tolerated, in any unit, and g on a grid,
    llr = g u - g^2 u^2 / 2.
Where u is symmetric about a value <= 0 given the past, the mean of exp(llr) over u and -u is at most 1: cosh(x) is
below exp(x^2 / 2). So the mixture is an e-process under heavy tails too, where the Gaussian one is nominal. The price:
a step brings half a nat at most, so it takes some fifteen looks to decide, whatever the shift.

Source: de la Pena, "A general class of exponential inequalities for martingales and ratios" (1999), self-normalised
symmetric bound.
"""

import numpy as np

from analysis.decode import Floats
from analysis.onset import onset_mixture

RATES = np.geomspace(0.05, 3.0, 12)
FAR = 1e3  # a step beyond it, either way, is evidence against every rate of the grid: no need for its square


def symmetric_path(steps: Floats, log_prior: Floats) -> Floats:
    """ln e-value after every look that steps which should be symmetric about at most 0 lie above it.

    Parameters
    ----------
    steps : (looks,) in units of the noise, roughly; NaN where there is none
    log_prior : (looks,) from `onset_prior`

    Raises
    ------
    ValueError
        Where the shapes differ.

    >>> never, always = np.array([1.0, -1.0] * 20), np.ones(40)
    >>> prior = np.log(np.full(40, 1 / 40))
    >>> bool(symmetric_path(never, prior).max() < 1), bool(symmetric_path(always, prior)[-1] > np.log(100))
    (True, True)
    """
    if steps.shape != log_prior.shape or steps.ndim != 1:
        raise ValueError(f"steps, log_prior: {steps.shape} and {log_prior.shape} are not (looks,)")
    return np.asarray(symmetric_paths(steps[None], log_prior[None])[0])


def symmetric_paths(steps: Floats, log_prior: Floats) -> Floats:
    """As `symmetric_path`, of many levels at once: (levels, looks)."""
    rates = RATES[:, None, None]
    scaled = rates * np.clip(np.where(np.isnan(steps), 0.0, steps), -FAR, FAR)
    return onset_mixture(scaled - scaled**2 / 2, log_prior)
