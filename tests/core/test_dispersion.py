"""How clustering is noticed, and that independence costs little."""

import numpy as np

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
