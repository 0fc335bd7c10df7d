"""The level test's companion, which asks for symmetry only: its theory, its false alarms in wild noise, its limits."""

import numpy as np
import pytest
from scipy import stats

from analysis.judge import judge
from analysis.methods.symmetric import FAR, RATES, symmetric_path
from analysis.onset import onset_prior
from analysis.result import Arm, Design, JudgeSettings, Kind, MetricSpec
from analysis.simulate import ar_levels, gauge_observation

LOOKS = 90
PRIOR = onset_prior(np.ones(LOOKS, dtype=bool), LOOKS)


def test_a_shape_that_does_not_fit_is_refused() -> None:
    """The error names both arrays."""
    with pytest.raises(ValueError, match="steps, log_prior"):
        symmetric_path(np.zeros(3), PRIOR)


def test_no_pair_of_opposite_steps_is_evidence_on_average() -> None:
    """E exp(llr) over m + d and m - d is at most 1 for every rate, distance and m <= 0: the theory, on a grid."""
    d, m = np.meshgrid(np.geomspace(1e-3, 1e3, 400), -np.concatenate([[0.0], np.geomspace(1e-3, 10, 40)]))
    for g in RATES:
        pair = [np.exp(g * u - (g * u) ** 2 / 2) for u in (m + d, m - d)]
        assert np.max(np.mean(pair, axis=0)) <= 1 + 1e-12


@pytest.mark.parametrize("draw", ["cauchy", "t2", "normal", "two points", "scale that bursts"])
def test_false_alarms_stay_within_the_budget_under_any_symmetric_noise(draw: str) -> None:
    """600 watches looked at 90 times, at 5 %: by a binomial bound, tails and scale as they please."""
    rng = np.random.default_rng(7)
    shape = (600, LOOKS)
    steps = {
        "cauchy": lambda: rng.standard_cauchy(shape),
        "t2": lambda: rng.standard_t(2, shape),
        "normal": lambda: rng.normal(size=shape),
        "two points": lambda: rng.choice([-1.0, 1.0], shape),
        "scale that bursts": lambda: rng.normal(size=shape) * np.exp(2 * rng.normal(size=shape)),
    }[draw]()
    alarms = sum(symmetric_path(row, PRIOR).max() >= np.log(20) for row in steps)
    assert alarms <= stats.binom.ppf(0.999, len(steps), 0.05)


def test_a_level_that_rose_is_evidence_after_some_fifteen_looks_and_not_before() -> None:
    """Half a nat a look at best: 3 sd from the first look on."""
    path = symmetric_path(np.full(LOOKS, 3.0), PRIOR)
    first = int(np.argmax(path >= np.log(100)))
    assert 9 <= first <= 25


@pytest.mark.parametrize("step", [0.0, np.nan, np.inf, -FAR])
def test_constant_absent_and_endless_steps_prove_nothing(step: float) -> None:
    """Nothing, nothing at all, and what no noise does: none of them is evidence."""
    path = symmetric_path(np.full(LOOKS, step), PRIOR)
    assert np.isfinite(path[:-1]).all()
    assert path.max() <= 1e-9


def test_no_look_is_no_evidence() -> None:
    """An empty watch has an empty path."""
    assert symmetric_path(np.zeros(0), np.zeros(0)).shape == (0,)


def test_a_verdict_on_levels_names_the_companions_evidence() -> None:
    """It agrees where the level rose, says next to nothing where it did not, and is absent for counts' kinds."""
    cpu = MetricSpec(name="cpu", kind=Kind.GAUGE, unit="%")
    rng = np.random.default_rng(3)
    said = []
    for shift in (0.0, 30.0):
        arms = {
            (Arm.BASELINE, 0): ar_levels(rng, 3, LOOKS, phi=0.0),
            (Arm.CANDIDATE, 0): ar_levels(rng, 3, LOOKS, phi=0.0) + shift,
        }
        watch = gauge_observation(arms, cpu, looks=LOOKS, design=Design.CONCURRENT)
        said.append(judge([watch], [JudgeSettings(planned_looks=LOOKS)])[0].evidence[0].symmetric_log_evidence)
    assert said[0] < 1
    assert said[1] > np.log(100)
