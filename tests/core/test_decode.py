"""The decoder refuses what cannot be, and says which array it is."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.decode import Arrays, BadSamplesError, Decoded, Panel, decode
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Design, Kind, MetricSpec, SourceStatus

NAN, INF = float("nan"), float("inf")


def _watch(spec: MetricSpec, cells: dict[int, Cells], **more: Any) -> Observation:
    samples = {(spec.name, interval): found for interval, found in cells.items()}
    given = {"design": Design.CONCURRENT, "step_s": 5.0, "looks": 1 + max(cells, default=0), **more}
    return Observation(metrics=(spec,), samples=samples, **given)


def _pair(value: float, total: float) -> Cells:
    return Cells(("baseline", "candidate"), ("a", "b"), ("", ""), (INF, INF), (1.0, value), (100.0, total))


@pytest.mark.parametrize(
    ("value", "total", "said"),
    [
        (NAN, 10.0, "candidate value: nan"),
        (INF, 10.0, "candidate value: inf"),
        (-1.0, 10.0, "candidate value: negative"),
        (11.0, 10.0, "more bad events than events"),
        (1.0, NAN, "candidate total"),
        (1.0, INF, "candidate total"),
        (0.0, -5.0, "candidate total: negative"),
    ],
)
def test_rejects_counts_that_cannot_be(value: float, total: float, said: str) -> None:
    """Every impossible count is refused with the arm and column it stands in."""
    with pytest.raises(BadSamplesError, match=said):
        decode(_watch(MetricSpec(name="errors", kind=Kind.RATIO), {0: _pair(value, total)}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((5.0, 4.0, 9.0), "fall as le rises"),
        ((1.0, NAN, 9.0), "not a number"),
        ((-1.0, 4.0, 9.0), "negative"),
    ],
)
def test_rejects_histograms_that_cannot_be(values: tuple[float, ...], said: str) -> None:
    """Falling, negative or unreadable buckets are refused."""
    cells = Cells(("candidate",) * 3, ("a",) * 3, ("",) * 3, (0.1, 0.5, INF), values, (NAN,) * 3)
    with pytest.raises(BadSamplesError, match=said):
        decode(_watch(MetricSpec(name="latency", kind=Kind.LATENCY), {0: cells}))


def test_rejects_a_histogram_without_its_last_bucket() -> None:
    """Without +Inf nobody knows how many requests there were."""
    cells = Cells(("candidate",) * 2, ("a",) * 2, ("",) * 2, (0.1, 0.5), (1.0, 2.0), (NAN,) * 2)
    with pytest.raises(BadSamplesError, match=r"\+Inf"):
        decode(_watch(MetricSpec(name="latency", kind=Kind.LATENCY), {0: cells}))


def test_rejects_one_cell_twice() -> None:
    """Two values for one replica in one interval contradict each other."""
    cells = Cells(("baseline",) * 2, ("a", "a"), ("", ""), (INF, INF), (1.0, 2.0), (9.0, 9.0))
    with pytest.raises(BadSamplesError, match="same cell twice"):
        decode(_watch(MetricSpec(name="errors", kind=Kind.RATIO), {0: cells}))


def test_rejects_columns_of_different_length_and_unknown_arms() -> None:
    """A column that is too short, or an arm nobody knows, is named."""
    spec = MetricSpec(name="errors", kind=Kind.RATIO)
    with pytest.raises(BadSamplesError, match="replica: 1 cells, value has 2"):
        decode(_watch(spec, {0: Cells(("baseline",) * 2, ("a",), (), (), (1.0, 2.0), (9.0, 9.0))}))
    with pytest.raises(BadSamplesError, match="'canary' is no arm"):
        decode(_watch(spec, {0: Cells(("canary",), ("a",), (), (), (1.0,), (9.0,))}))


def test_intervals_of_a_silent_or_partial_source_are_missing_not_zero() -> None:
    """What a broken source said is not even looked at."""
    spec = MetricSpec(name="errors", kind=Kind.RATIO)
    facts = {1: LookFacts(status=SourceStatus.DOWN), 2: LookFacts(status=SourceStatus.PARTIAL)}
    cells = {0: _pair(1, 9), 1: _pair(NAN, -1), 2: _pair(500.0, 3), 3: _pair(2, 9)}
    watch = decode(_watch(spec, cells, facts=facts))
    assert watch.usable.tolist() == [True, False, False, True]
    value = watch.metrics[0].panel(Arm.CANDIDATE).value[0, 0, 0]
    assert np.isnan(value).tolist() == [False, True, True, False]


def test_nothing_after_the_last_look_is_decoded() -> None:
    """Cells of intervals that are not closed yet are not seen, even if they are garbage."""
    spec = MetricSpec(name="errors", kind=Kind.RATIO)
    watch = decode(_watch(spec, {0: _pair(1, 9), 5: _pair(NAN, NAN)}, looks=2))
    assert watch.metrics[0].panel(Arm.BASELINE).value.shape[-1] == 2


def test_absent_cells_are_absent() -> None:
    """A replica that reports nothing in an interval is not a replica with zero errors."""
    spec = MetricSpec(name="errors", kind=Kind.RATIO)
    watch = decode(_watch(spec, {-2: _pair(1, 9), 1: _pair(3, 9)}))
    value = watch.metrics[0].panel(Arm.CANDIDATE).value[0, 0, 0]
    assert watch.metrics[0].first == -2
    assert value[[0, 3]].tolist() == [1.0, 3.0]
    assert np.isnan(value[[1, 2]]).all()


def test_another_process_gets_the_same_bits() -> None:
    """Pickled and read again every array is the same, NaN and shape included, and so is all the rest."""
    errors, load = MetricSpec(name="errors", kind=Kind.RATIO), MetricSpec(name="load", kind=Kind.GAUGE)
    lone = Cells(("candidate",), ("b",), ("",), (), (0.1,), ())
    samples = {
        ("errors", 0): _pair(1.0, 300.0),
        ("errors", 2): _pair(2.0, 500.0),
        ("load", -1): lone,
        ("load", 1): lone,
    }
    watch = decode(Observation(design=Design.CONCURRENT, step_s=5.0, metrics=(errors, load), samples=samples, looks=3))
    again = pickle.loads(pickle.dumps(watch))
    assert _bits(again) == _bits(watch)
    nothing = replace(watch, metrics=())
    assert _bits(pickle.loads(pickle.dumps(nothing))) == _bits(nothing)


def _bits(found: object) -> object:
    """A watch's parts, arrays by their bytes."""
    if isinstance(found, np.ndarray):
        return found.dtype, found.shape, found.tobytes()
    if isinstance(found, tuple):
        return [_bits(one) for one in found]
    if isinstance(found, dict):
        return {name: _bits(one) for name, one in found.items()}
    if isinstance(found, Decoded | Arrays | Panel):
        return [_bits(getattr(found, name)) for name in found.__slots__]
    return found
