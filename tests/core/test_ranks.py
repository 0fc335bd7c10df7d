"""Mann-Whitney against scipy, and its companions."""

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.decode import Floats
from analysis.methods import ranks
from analysis.methods.ranks import hodges_lehmann, mann_whitney, rank_inflation


def _reference(x: Floats, y: Floats) -> Any:
    return stats.mannwhitneyu(x, y, alternative="greater", method="asymptotic", axis=1)


def _agrees(x: Floats, y: Floats) -> None:
    u, p, a_hat = mann_whitney(x, y)
    reference = _reference(x, y)
    assert np.array_equal(u, reference.statistic)
    assert np.abs(p - reference.pvalue).max() <= 1e-12
    assert np.array_equal(a_hat, reference.statistic / (x.shape[1] * y.shape[1]))


@pytest.mark.parametrize("kept", [0, 1, 2, 4, None])
@pytest.mark.parametrize(("n", "m"), [(60, 60), (5, 200), (1, 3), (360, 360)])
def test_mann_whitney_agrees_with_scipy(n: int, m: int, kept: int | None) -> None:
    """U to the bit and p of batches equal scipy's asymptotic test, whether values are rounded or never tie."""
    rng = np.random.default_rng(n)
    x, y = rng.normal(0.3, 3, (50, n)), rng.normal(0, 3, (50, m))
    _agrees(x, y) if kept is None else _agrees(x.round(kept), y.round(kept))


TINY, HUGE = 5e-324, 1.7976931348623157e308
AWKWARD = [0.0, -0.0, 1.0, -1.0, TINY, -TINY, 2e-308, 0.1, 0.1 + 0.2, 0.3, 2.0, np.nextafter(2.0, 3.0), HUGE, -HUGE]
NUMBERS = st.sampled_from(AWKWARD) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3).map(float)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
def test_mann_whitney_agrees_with_scipy_on_any_number(data: st.DataObject, rows: int, n: int, m: int) -> None:
    """Ties, constants, denormals, negative zeros, neighbouring and largest floats: the same U, alone and in a batch."""
    drawn = np.array(data.draw(st.lists(NUMBERS, min_size=rows * (n + m), max_size=rows * (n + m)))).reshape(rows, -1)
    x, y = drawn[:, :n], drawn[:, n:]
    _agrees(x, y)
    together = [np.asarray(found)[0] for found in mann_whitney(x, y)]
    assert together == [found[0] for found in mann_whitney(x[:1], y[:1])]


@pytest.mark.parametrize("single", [False, True])
def test_a_long_run_of_equal_values_among_few_ties_agrees_with_scipy(single: bool) -> None:
    """40 zeros of 720 irregular numbers of both signs, beside rows with pairs only and rows with every value twice."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(60, 720))
    values[:20, ::18] = 0.0
    values[20:40, 0] = values[20:40, 700]
    if single:
        values = values.astype(np.float32).astype(np.float64)
    x, y = values[:, :360], values[:, 360:].copy()
    y[40:] = np.where(np.arange(360) % 2, x[40:], y[40:])
    for rows in (slice(0, 60), slice(0, 40), slice(20, 40)):
        _agrees(x[rows], y[rows])


def test_a_batch_is_its_rows() -> None:
    """Rows of every sort in one large batch, in any company: each as if it were alone."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(900, 70)), rng.normal(size=(900, 50))
    x[::3], y[::3] = x[::3].round(1), y[::3].round(1)
    x[::7, 3:9], y[::7, 4] = x[::7, :1], x[::7, 0]
    x[5], y[5] = 4.0, 4.0
    together = np.stack(mann_whitney(x, y))
    alone = np.concatenate([np.stack(mann_whitney(x[i : i + 1], y[i : i + 1])) for i in range(900)], axis=1)
    assert np.array_equal(together, alone)


def test_mann_whitney_of_constants_and_garbage() -> None:
    """All values equal: no evidence. NaN or an empty arm: refused."""
    u, p, a_hat = mann_whitney(np.ones((1, 4)), np.ones((1, 5)))
    assert (u[0], p[0], a_hat[0]) == (10.0, 1.0, 0.5)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="y must be finite"):
            mann_whitney(np.ones((1, 5)), np.array([[1.0, bad]]))
    with pytest.raises(ValueError, match="leading axes"):
        mann_whitney(np.ones((2, 5)), np.ones((3, 5)))
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


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=25), st.lists(NUMBERS, min_size=1, max_size=25), st.floats(1.0, 9.0))
def test_a_shift_that_is_searched_is_the_one_that_is_held(x: list[float], y: list[float], inflation: float) -> None:
    """Where all differences would not fit into memory, the same order statistics are found without holding them."""
    a, b = np.array(x), np.array(y)
    with np.errstate(over="ignore", invalid="ignore"), pytest.MonkeyPatch.context() as patch:
        whole = hodges_lehmann(a, b, inflation)
        patch.setattr(ranks, "_HELD_PAIRS", 0)
        found = hodges_lehmann(a, b, inflation)
    assert [found.low, found.high] == [whole.low, whole.high]
    assert found.value == whole.value or (np.isnan(found.value) and np.isnan(whole.value))


def test_a_shift_of_long_samples_needs_little_memory() -> None:
    """4000 x 4000 values: 128 MB of differences are never held."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(1.0, 1, 4000), rng.normal(0, 1, 4000)
    tracemalloc.start()
    found = hodges_lehmann(x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6
    assert found.low < 1.0 < found.high
    assert found.high - found.low < 0.1


def test_the_shift_of_nothing_is_unknown() -> None:
    """An empty arm has no shift."""
    assert np.isnan(hodges_lehmann(np.zeros(0), np.ones(3)).value)


def test_batches_are_several_times_faster_than_scipy() -> None:
    """360 v 360, in one run: measured 11 times with rounded and 9 times with untied values; far less is a fault."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 360)), rng.normal(size=(200, 360))
    for a, b in ((x.round(2), y.round(2)), (x, y)):
        ours = min(_took(lambda a=a, b=b: mann_whitney(a, b)) for _ in range(5))  # type: ignore[misc]
        theirs = min(_took(lambda a=a, b=b: _reference(a, b)) for _ in range(5))  # type: ignore[misc]
        assert theirs > 4 * ours


def _took(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
