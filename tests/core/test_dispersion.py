"""How clustering is noticed, and that independence costs little."""

import numpy as np
import pytest

from analysis.dispersion import believed_factor, between_replicas, over_time


def test_independent_replicas_cost_next_to_nothing() -> None:
    """4 replicas, 360 intervals: the factor stays within 1.1 in the mean."""
    rng = np.random.default_rng(1)
    n = np.full((4, 1, 360), 250.0)
    factors = []
    for _ in range(100):
        chi2, df = between_replicas(rng.poisson(n * 0.01).astype(float), n)
        factors.append(believed_factor(chi2[:, -1:], df[:, -1:])[0])
    assert np.mean(factors) <= 1.1
    assert np.quantile(factors, 0.95) <= 2.0


def test_sticky_clients_are_seen_between_replicas() -> None:
    """Errors in bursts of about 20 that stay on one replica: the factor comes near 20 and is not below half."""
    rng = np.random.default_rng(2)
    n = np.full((8, 1, 60), 500.0)
    factors = []
    for _ in range(50):
        bursts = rng.poisson(n * 0.01 / 20)
        value = np.minimum(rng.poisson(bursts * 20).astype(float), n)
        chi2, df = between_replicas(value, n)
        factors.append(believed_factor(chi2[:, -1:], df[:, -1:])[0])
    assert np.min(factors) > 10
    assert np.median(factors) < 60


def test_what_replicas_share_is_not_noise_between_them() -> None:
    """A burst that hits all replicas alike does not count."""
    rng = np.random.default_rng(3)
    n = np.full((4, 1, 100), 500.0)
    shared = np.where(np.arange(100) % 10 == 0, 20.0, 1.0)
    chi2, df = between_replicas(rng.poisson(n * 0.005 * shared).astype(float), n)
    assert believed_factor(chi2[:, -1:], df[:, -1:])[0] < 2.0


def test_a_replica_with_another_mix_of_routes_is_not_noise() -> None:
    """Expected counts are made per stratum."""
    rng = np.random.default_rng(4)
    n = np.stack([np.full((2, 50), 100.0), np.full((2, 50), 900.0)])
    n[1] = n[1, ::-1]
    n[0, 0], n[0, 1], n[1, 0], n[1, 1] = 100.0, 900.0, 900.0, 100.0
    rates = np.array([0.1, 0.001])[None, :, None]
    chi2, df = between_replicas(rng.poisson(n * rates).astype(float), n)
    assert believed_factor(chi2[:, -1:], df[:, -1:])[0] < 2.0


def test_later_intervals_change_nothing_before() -> None:
    """Chi-squares are running sums: their prefix is that of the shorter series, bit for bit."""
    rng = np.random.default_rng(5)
    n = rng.poisson(300, (3, 2, 80)).astype(float)
    value = rng.poisson(n * 0.02).astype(float)
    whole, short = between_replicas(value, n), between_replicas(value[..., :33], n[..., :33])
    assert whole[0][:, :33].tobytes() == short[0].tobytes()
    assert whole[1][:, :33].tobytes() == short[1].tobytes()


def test_nothing_to_learn_from_leaves_the_factor_at_one() -> None:
    """One replica, no events, no intervals."""
    for shape in ((1, 1, 50), (3, 1, 0)):
        chi2, df = between_replicas(np.zeros(shape), np.full(shape, 100.0))
        assert (believed_factor(chi2, df) == 1.0).all()
    assert over_time(np.zeros(0), np.zeros(0)) == (1.0, 0.0, 0.0)
    assert over_time(np.zeros(30), np.full(30, 10.0))[0] == 1.0


def test_slow_swings_show_in_time() -> None:
    """A rate that drifts over many intervals has a long-run factor far above that of its single intervals."""
    rng = np.random.default_rng(6)
    n = np.full(240, 1000.0)
    drift = np.exp(0.7 * np.sin(np.arange(240) / 20))
    swinging = over_time(rng.poisson(n * 0.02 * drift).astype(float), n)[0]
    steady = over_time(rng.poisson(n * 0.02).astype(float), n)[0]
    assert swinging > 20
    assert steady < 2


def test_replicas_that_come_and_go_while_the_rate_changes_are_no_spread() -> None:
    """What lived only in good times did not fail less than what lived only in bad ones."""
    rng = np.random.default_rng(5)
    n = np.zeros((20, 1, 60))
    n[:2] = 100.0
    n[2:, :, 30:] = 100.0
    rate = np.where(np.arange(60) < 30, 0.01, 0.2)
    chi2, df = between_replicas(rng.binomial(n.astype(int), rate).astype(float), n)
    assert believed_factor(chi2, df)[-1] < 1.3
    assert chi2[-1, -1] == pytest.approx(df[-1, -1], abs=4 * np.sqrt(2 * df[-1, -1]))


def test_replicas_that_never_met_tell_nothing_of_their_spread() -> None:
    """One after the other: every degree of freedom is taken by the rate of its time."""
    n = np.zeros((2, 1, 24))
    n[0, :, :12] = n[1, :, 12:] = 100.0
    chi2, df = between_replicas(n * 0.1, n)
    assert not df.any()
    assert not chi2.any()


def test_degrees_of_freedom_are_those_of_the_textbook_where_nobody_comes_or_goes() -> None:
    """Of k replicas with constant shares: k - 1 in every block, whatever their sizes."""
    n = np.broadcast_to(np.array([100.0, 300.0, 50.0, 50.0])[:, None, None], (4, 1, 12))
    _, df = between_replicas(n * 0.1, np.ascontiguousarray(n))
    assert df[0, -1] == pytest.approx(36.0)
    assert df[2, -1] == pytest.approx(3.0)


def test_a_large_service_is_believed_to_be_as_noisy_as_it_is() -> None:
    """A swing of a rate by a third is a factor of ten thousands where millions are counted."""
    factor = believed_factor(np.full((1, 1), 50_000.0 * 40), np.full((1, 1), 40.0))
    assert 40_000 < factor[0] < 90_000
