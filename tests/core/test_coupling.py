"""Which noise both arms share is learnt from the watch itself."""

import numpy as np

from analysis.coupling import SHARES, swings, unshared
from analysis.decode import Floats


def _arms(rng: np.random.Generator, *, own: bool, onset: int = 999) -> tuple[Floats, Floats, Floats, Floats]:
    n = np.full(120, 10_000.0)
    noise = np.exp(0.3 * rng.standard_normal((2, 120)))
    other = noise[1] if own else noise[0]
    worse = np.where(np.arange(120) >= onset, 2.0, 1.0)
    return rng.poisson(100 * noise[0] * worse).astype(float), n, rng.poisson(100 * other).astype(float), n


def test_shared_swings_are_told_from_an_arms_own() -> None:
    """Shared swings are soon left out, also beside a late degradation; an arm's own are kept."""
    rng = np.random.default_rng(1)
    past = swings(rng.poisson(100 * np.exp(0.3 * rng.standard_normal(360))).astype(float), np.full(360, 1e4))
    assert unshared(_arms(rng, own=False), past)[-1] <= 0.1
    assert unshared(_arms(rng, own=False, onset=60), past)[70] <= 0.25
    assert unshared(_arms(rng, own=True), past)[-1] >= 0.5


def test_nothing_is_forgiven_before_anything_is_known_and_later_looks_change_nothing() -> None:
    """The first look believes in the whole noise; prefixes agree bit for bit; empty arms are no evidence."""
    rng = np.random.default_rng(2)
    arms, past = _arms(rng, own=False), np.full(6, 0.1)
    whole = unshared(arms, past)
    assert whole[0] == SHARES[-1]
    assert whole[:33].tobytes() == unshared((arms[0][:33], arms[1][:33], arms[2][:33], arms[3][:33]), past).tobytes()
    nothing = np.zeros(40)
    assert (unshared((nothing, nothing, nothing, nothing), past) == 1.0).all()
    assert np.isnan(swings(nothing, nothing)).all()
