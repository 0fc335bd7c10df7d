"""How soon count evidence alarms: the short form of benchmarks/delays.py, with the bars that it has to stay under."""

import numpy as np
import pytest

from analysis.simulate import ERRORS
from benchmarks.delays import CASES, POWER, SHIPPED, delays, dispersion_price, service_delays, shipped, wald

N = 60


@pytest.mark.parametrize("name", POWER)
def test_small_regressions_are_seen_in_a_few_looks(name: str) -> None:
    """Median delays of +20 % latency, -20 % orders, and of doubled errors amid noise."""
    power = POWER[name]
    assert np.median(service_delays(power.service, power.metric, N, bare=power.bare)) <= power.most


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_settings_are_near_walds_bound_for_their_margin(name: str) -> None:
    """At most 1.7 times the looks that any test of r0 = 1.25 needs on average."""
    service, bound = shipped(name)
    assert np.median(service_delays(service, ERRORS, N)) / bound <= 1.7


@pytest.mark.parametrize("name", SHIPPED)
def test_independent_requests_pay_little_for_the_correction_for_clusters(name: str) -> None:
    """Four replicas of each version and 360 intervals of past say that nothing clusters: at most 1.3 times as long."""
    assert dispersion_price(shipped(name)[0], N) <= 1.3


@pytest.mark.parametrize(("name", "most"), [("1_to_2_percent_50_50", 1.5), ("1_to_5_percent_5_95", 1.8)])
def test_the_kernel_is_near_walds_bound(name: str, most: float) -> None:
    """Margin 0, no floor, no dispersion; Wald's bound itself is that of the formula, by hand."""
    assert np.median(delays(CASES[name], N)) / wald(*CASES[name]) <= most
    events, p = 15.0, 2 / 3
    information = events * (p * np.log(p / 0.5) + (1 - p) * np.log((1 - p) / 0.5))
    assert wald(0.01, 0.02, 0.5) == pytest.approx(np.log(100) / information)
