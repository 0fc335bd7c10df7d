"""One more look, carried on, is the same bits as all looks computed anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.decode import Floats
from analysis.dispersion import Noise
from analysis.methods.count_steps import Look, Walk, step, step_counts
from analysis.methods.counts import CountTest, evidence_paths
from analysis.onset import onset_mixture, onset_prior


def _test(counts: Floats, noise: Noise, log_prior: Floats, r0: float = 1.25, floor: float = 0.0) -> CountTest:
    """counts: (events, exposure, other_events, other_exposure) x strata x looks."""
    e, n, e_other, n_other = counts
    return CountTest(e, n, e_other, n_other, r0=r0, floor=floor, noise=noise, log_prior=log_prior)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 5))
def test_steps_are_the_columns_of_the_mixture(seed: int, looks: int, tests: int) -> None:
    """The recursion from look to look gives every column of the whole mixture, to the bit."""
    rng = np.random.default_rng(seed)
    ratios = rng.normal(0, 5, (16, tests, looks))
    prior = np.stack([onset_prior(rng.random(looks) < 0.8, int(rng.integers(1, 40))) for _ in range(tests)])
    whole, walk, even = onset_mixture(ratios, prior), Walk.at_start(16, tests), np.full(16, -np.log(16))
    for look in range(looks):
        walk, said = step(walk, ratios[:, :, look], prior[:, look], even)
        assert said.tobytes() == np.ascontiguousarray(whole[:, look]).tobytes()


@pytest.mark.parametrize("strata", [1, 3])
def test_many_counts_a_look_are_their_whole_paths(strata: int) -> None:
    """50 comparisons with traffic, margins and noise of their own, 12 looks as arrays: the bits of `evidence_paths`."""
    rng = np.random.default_rng(strata)
    counts = rng.poisson(np.array([3.0, 150.0, 27.0, 1350.0])[:, None, None, None], (4, strata, 50, 12)).astype(float)
    counts[:, :, 7], counts[0, :, 8] = 0.0, 0.0
    r0, floor, factor = rng.uniform(1, 2, 50), rng.uniform(0, 1e-3, 50), rng.uniform(1, 9, 50)
    prior = onset_prior(rng.random(12) < 0.9, 12)
    noise = [Noise.fixed(np.full(12, f)) for f in factor]
    tests = [_test(counts[:, :, i], noise[i], prior, float(r0[i]), float(floor[i])) for i in range(50)]
    whole, _ = evidence_paths(tests)
    walk, seen = Walk.at_start(16, 50), np.zeros(50)
    for t in range(12):
        e, n, e_other, n_other = counts[:, :, :, t]
        look = Look(e, n, e_other, n_other, r0, floor, factor, np.full(50, prior[t]))
        walk, seen, said = step_counts(walk, seen, look)
        assert said.tobytes() == np.ascontiguousarray(whole[:, t]).tobytes()
    assert walk.after.shape == walk.started.shape == (16, 50)
