"""Mann-Whitney against scipy, and its companions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.methods.ranks import hodges_lehmann, mann_whitney, rank_inflation


@pytest.mark.parametrize(("n", "m"), [(60, 60), (5, 200), (1, 3)])
def test_mann_whitney_agrees_with_scipy(n: int, m: int) -> None:
    """U and p of batches with ties equal scipy's asymptotic test."""
    rng = np.random.default_rng(n)
    x, y = rng.normal(0.3, 1, (50, n)).round(1), rng.normal(0, 1, (50, m)).round(1)
    u, p, a_hat = mann_whitney(x, y)
    reference = stats.mannwhitneyu(x, y, alternative="greater", method="asymptotic", axis=1)
    assert np.allclose(u, reference.statistic, atol=1e-9)
    assert np.allclose(p, reference.pvalue, atol=1e-12)
    assert np.allclose(a_hat, reference.statistic / (n * m))


def test_mann_whitney_of_constants_and_garbage() -> None:
    """All values equal: no evidence. NaN or an empty arm: refused."""
    u, p, a_hat = mann_whitney(np.ones((1, 4)), np.ones((1, 5)))
    assert (u[0], p[0], a_hat[0]) == (10.0, 1.0, 0.5)
    with pytest.raises(ValueError, match="finite"):
        mann_whitney(np.array([[np.nan]]), np.ones((1, 5)))
    with pytest.raises(ValueError, match="empty"):
        mann_whitney(np.ones((1, 0)), np.ones((1, 5)))


def test_autocorrelated_levels_are_not_called_different() -> None:
    """AR(.8), n = 180: the plain test is wrong 22 % of the time, with the inflation from a long past about 1 %."""
    rng = np.random.default_rng(4)
    false = plain = 0
    for _ in range(300):
        z = np.zeros(720)
        shocks = rng.standard_normal(720)
        for t in range(1, 720):
            z[t] = 0.8 * z[t - 1] + shocks[t]
        x, y, past = z[None, :180], z[None, 180:360], z[360:]
        plain += mann_whitney(x, y)[1][0] < 0.01
        false += mann_whitney(x, y, rank_inflation(past))[1][0] < 0.01
    assert plain > 30
    assert false <= 300 * 0.012 + 3 * np.sqrt(300 * 0.012)


def test_rank_inflation_knows_ar1() -> None:
    """AR(.8) has an integrated autocorrelation time of 9; independent values of 1."""
    rng = np.random.default_rng(6)
    z = np.zeros(20000)
    shocks = rng.standard_normal(20000)
    for t in range(1, 20000):
        z[t] = 0.8 * z[t - 1] + shocks[t]
    assert 7.0 < rank_inflation(z) < 11.0
    assert rank_inflation(shocks) < 1.2
    assert rank_inflation(np.ones(50)) == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=30), st.lists(st.integers(-50, 50), min_size=2, max_size=30))
def test_shift_interval_holds_its_estimate_and_moves_with_the_data(x: list[int], y: list[int]) -> None:
    """Low <= estimate <= high, and adding 7 to x adds 7 to all of them."""
    a, b = np.array(x, dtype=float), np.array(y, dtype=float)
    found, moved = hodges_lehmann(a, b), hodges_lehmann(a + 7, b)
    assert found.low <= found.value <= found.high
    assert (moved.low, moved.value, moved.high) == (found.low + 7, found.value + 7, found.high + 7)
