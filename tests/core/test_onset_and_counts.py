"""The sequential count test against brute force, exact enumeration and theory."""

import itertools

import numpy as np
import pytest
from scipy import stats

from analysis.combine import first_crossing
from analysis.dispersion import Noise
from analysis.effect import Effect, rate_ratio, wilson
from analysis.methods.counts import LOG_REL, CountTest, evidence_paths, log_ratios, rate_limit
from analysis.onset import likely_onset, onset_mixture, onset_prior


def _test(e: object, n: object, e_other: object, n_other: object, *, r0: float = 1.0, planned: int = 10) -> CountTest:
    events, exposure, other_events, other_exposure = (
        np.atleast_2d(np.asarray(a, dtype=float)) for a in (e, n, e_other, n_other)
    )
    looks = events.shape[1]
    prior = onset_prior(np.ones(looks, dtype=bool), planned)
    return CountTest(
        events,
        exposure,
        other_events,
        other_exposure,
        r0=r0,
        floor=0.0,
        noise=Noise.fixed(np.ones(looks)),
        log_prior=prior,
    )


def test_onset_mixture_agrees_with_the_sum_over_all_onsets() -> None:
    """The recursion equals the definition: every onset and grid point by itself, weighted."""
    rng = np.random.default_rng(5)
    ratios = rng.normal(0, 1.5, (4, 2, 7))
    usable = np.array([True, True, False, True, True, True, True])
    prior = np.stack([onset_prior(usable, 9), onset_prior(np.ones(7, bool), 5)])
    found = onset_mixture(ratios, prior)
    for m, t in itertools.product(range(2), range(7)):
        pi = np.exp(prior[m])
        total = 1 - pi[: t + 1].sum()
        for s in range(t + 1):
            total += pi[s] * np.mean([np.exp(ratios[k, m, s : t + 1].sum()) for k in range(4)])
        assert found[m, t] == pytest.approx(np.log(total), abs=1e-9)


def test_onset_prior_spends_nothing_on_looks_that_are_not_usable() -> None:
    """A source that was down for a while costs no budget; the whole prior never exceeds one."""
    usable = np.array([False, True, False, True, True])
    assert np.exp(onset_prior(usable, 3)).round(6).tolist() == [0.0, 0.85, 0.0, 0.0675, 0.0675]
    for planned in (1, 2, 20):
        assert np.exp(onset_prior(np.ones(planned, bool), planned)).sum() == pytest.approx(1 - 0.015)
        assert 0.999 < np.exp(onset_prior(np.ones(1000 * planned, bool), planned)).sum() < 1.0


def test_a_fault_that_begins_after_the_planned_looks_is_still_found() -> None:
    """A canary that waits for a human over the end of its watch is watched, not only looked at."""
    late = 150
    looks = late + 40
    e = [2] * late + [40] * 40
    (path,) = evidence_paths([_test(e, [200] * looks, [18] * looks, [1800] * looks, planned=30)])[0]
    assert first_crossing(path, np.log(100.0)) in range(late, late + 4)


def test_likely_onset_finds_a_late_change() -> None:
    """The look with the largest share of the evidence is where the fault began."""
    e = [2] * 10 + [40] * 5
    test = _test(e, [200] * 15, [18] * 15, [1800] * 15, planned=15)
    ratios = log_ratios([test])[:, 0]
    assert likely_onset(ratios, test.log_prior, 14) == 10


@pytest.mark.parametrize("r0", [1.0, 1.2, 2.0])
@pytest.mark.parametrize("p", [0.05, 0.3, 0.5])
def test_mean_likelihood_ratio_never_exceeds_one_for_bernoulli_arms(r0: float, p: float) -> None:
    """Exact enumeration at the edge of the margin: the kernel is a supermartingale, not only for Poisson events."""
    n_c, n_b = 4, 6
    p_c, p_b = p, p / r0
    worst = 0.0
    for k in range(len(LOG_REL)):
        mean = 0.0
        for e_c, e_b in itertools.product(range(n_c + 1), range(n_b + 1)):
            ratio = log_ratios([_test([e_c], [n_c], [e_b], [n_b], r0=r0)])[k, 0, 0]
            mean += stats.binom.pmf(e_c, n_c, p_c) * stats.binom.pmf(e_b, n_b, p_b) * np.exp(ratio)
        worst = max(worst, mean)
    assert worst <= 1.0 + 1e-9


def test_strata_add_and_protect_against_a_changed_mix() -> None:
    """A candidate that gets more of a worse route is not a regression; pooled, it looks like one."""
    looks = 60
    n_c = np.array([[20.0] * looks, [180.0] * looks])  # mostly the bad route
    n_b = np.array([[1600.0] * looks, [200.0] * looks])
    rates = np.array([[0.005], [0.05]])
    kept = _test(n_c * rates, n_c, n_b * rates, n_b, planned=looks)
    pooled = _test(*(a.sum(axis=0) for a in (n_c * rates, n_c, n_b * rates, n_b)), planned=looks)
    paths, _ = evidence_paths([kept, pooled])
    assert paths[0].max() < 0.1
    assert paths[1].max() > np.log(100)


def test_two_events_never_decide_and_an_empty_baseline_does_no_harm() -> None:
    """0 -> 2 errors is no evidence, however large the baseline; nothing divides by zero."""
    paths, _ = evidence_paths(
        [_test([2, 0], [10, 10], [0, 0], [10**6, 10**6]), _test([5, 5], [10, 10], [0, 0], [0, 0])]
    )
    assert paths[0].max() <= 0.0
    assert paths[1].max() <= 1e-12


def test_tests_of_different_length_do_not_touch_each_other() -> None:
    """Padding in a batch leaves every test bit for bit as it is alone."""
    rng = np.random.default_rng(3)
    tests = []
    for looks in (1, 7, 30):
        n = rng.poisson(150, looks).astype(float)
        tests.append(_test(rng.poisson(n * 0.02), n, rng.poisson(n * 0.1), 10 * n, r0=1.25, planned=looks))
    together, _ = evidence_paths(tests)
    for i, test in enumerate(tests):
        alone, _ = evidence_paths([test])
        assert together[i, : len(test.log_prior)].tobytes() == alone[0].tobytes()


def test_false_alarms_at_the_edge_of_the_margin_stay_within_the_budget() -> None:
    """2 000 watches of 60 looks at exactly r0: at most 1 % + 3 standard errors ever alarm."""
    rng = np.random.default_rng(11)
    tests = []
    for _ in range(2000):
        n_c, n_b = rng.poisson(150, 60).astype(float), rng.poisson(1350, 60).astype(float)
        tests.append(_test(rng.poisson(n_c * 0.0125), n_c, rng.poisson(n_b * 0.01), n_b, r0=1.25, planned=60))
    paths, _ = evidence_paths(tests)
    false = (paths.max(axis=1) >= np.log(100)).mean()
    assert false <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 2000)


def test_delay_is_near_walds_bound() -> None:
    """1 % -> 2 % at 1 000 requests per look in halves: mean delay at most 1.8 times ln(100) / information."""
    rng = np.random.default_rng(12)
    tests = []
    for _ in range(400):
        e_c, e_b = rng.poisson(10.0, 60), rng.poisson(5.0, 60)
        tests.append(_test(e_c, [500.0] * 60, e_b, [500.0] * 60, planned=180))
    paths, _ = evidence_paths(tests)
    delay = np.argmax(paths >= np.log(100), axis=1) + 1
    p1, p0 = 2 / 3, 1 / 2
    information = 15 * (p1 * np.log(p1 / p0) + (1 - p1) * np.log((1 - p1) / (1 - p0)))
    assert (paths.max(axis=1) >= np.log(100)).all()
    assert delay.mean() / (np.log(100) / information) <= 1.8


def test_rate_limit_agrees_with_scipy() -> None:
    """Garwood's limits are chi-square quantiles."""
    for events in (0.0, 3.0, 900.0):
        upper = stats.chi2.ppf(0.995, 2 * (events + 1)) / 2 / 1e4
        assert rate_limit(events, 1e4, 1.0, 0.005, upper=True) == pytest.approx(upper, rel=1e-9)
        lower = stats.chi2.ppf(0.005, 2 * events) / 2 / 1e4 if events else 0.0
        assert rate_limit(events, 1e4, 1.0, 0.005, upper=False) == pytest.approx(lower, rel=1e-9)


def test_rate_limit_stays_finite_however_small_the_error_it_allows() -> None:
    """A budget split over very many metrics: 1 - alpha is 1 in floating point, alpha is not 0."""
    tiny, small = (rate_limit(5.0, 1e4, 1.0, alpha, upper=True) for alpha in (1e-30, 1e-15))
    assert small < tiny < 1.0
    assert tiny == pytest.approx(stats.chi2.isf(1e-30, 12) / 2 / 1e4, rel=1e-9)


def _ratio(e: float, n: float, e_other: float, n_other: float) -> Effect:
    return rate_ratio(np.array([e]), np.array([n]), np.array([e_other]), np.array([n_other]), 1.0)


def test_effect_interval_agrees_with_scipy_and_covers() -> None:
    """Wilson as scipy has it; the ratio's 95 % interval covers the truth in at least 93 % of draws."""
    reference = stats.binomtest(30, 200).proportion_ci(0.95, method="wilson")
    assert wilson(0.15, 200.0) == pytest.approx((reference.low, reference.high), abs=1e-12)
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(1000):
        e, e_other = float(rng.poisson(20)), float(rng.poisson(60))
        found = _ratio(e, 1000.0, e_other, 9000.0)
        covered += found.low <= 3.0 <= found.high
    assert covered >= 930


def test_effect_of_an_empty_arm_is_unknown_not_infinite() -> None:
    """Without baseline errors there is a lower limit, but no ratio."""
    none = _ratio(0.0, 0.0, 5.0, 100.0)
    assert np.isnan([none.value, none.low, none.high]).all()
    some = _ratio(9.0, 100.0, 0.0, 1000.0)
    assert np.isnan(some.value)
    assert some.low > 1
