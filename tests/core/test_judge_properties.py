"""What no data can break: no future, no order, no batch, no chance."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.judge import judge
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, JudgeSettings, Kind, MetricSpec, Verdict
from analysis.simulate import ERRORS, LATENCY, Service, ar_levels, gauge_observation, observe

SETTINGS = JudgeSettings(planned_looks=24)
GAUGE = MetricSpec(name="cpu", kind=Kind.GAUGE, unit="%")
METRICS = (ERRORS, LATENCY, MetricSpec(name="orders", kind=Kind.RATE, weight=2.0), GAUGE)


def _watch(seed: int, **fault: float) -> Observation:
    rng = np.random.default_rng(seed)
    service = Service(looks=14, past=int(rng.integers(0, 25)), onset=int(rng.integers(0, 14)), **fault)  # type: ignore[arg-type]
    counts = observe(service, rng, METRICS[:3])
    levels = _levels(rng, seed)
    return replace(counts, metrics=METRICS, samples={**counts.samples, **levels.samples})


def _levels(rng: np.random.Generator, seed: int) -> Observation:
    arms = {
        (Arm.BASELINE, 0): ar_levels(rng, 3, 14, phi=0.5),
        (Arm.CANDIDATE, 0): ar_levels(rng, 1, 14, level=50.0 + 20 * (seed % 3)),
    }
    return gauge_observation(arms, GAUGE, looks=14, design=Design.CONCURRENT)


def _bits(verdict: Verdict) -> tuple[object, ...]:
    paths = tuple(np.array(e.path).tobytes() for e in verdict.evidence)
    return (
        verdict.kind,
        verdict.reason,
        verdict.metric,
        verdict.alarm_look,
        verdict.sentence,
        verdict.log_evidence,
        paths,
    )


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 13), st.sampled_from([1.0, 3.0, 10.0]))
def test_later_looks_never_change_what_was_said(seed: int, looks: int, factor: float) -> None:
    """The path up to look k, and every verdict at it, are the same bits with and without what follows."""
    watch = _watch(seed, factor=factor)
    whole = judge([watch], [SETTINGS])[0]
    short = judge([replace(watch, looks=looks)], [SETTINGS])[0]
    for long, cut in zip(whole.evidence, short.evidence, strict=True):
        assert np.array(long.path[:looks]).tobytes() == np.array(cut.path).tobytes()
    rng = np.random.default_rng(seed)
    noise = {
        (name, i): replace_values(cells, rng) if i >= looks else cells for (name, i), cells in watch.samples.items()
    }
    assert _bits(judge([replace(watch, samples=noise, looks=looks)], [SETTINGS])[0]) == _bits(short)


def replace_values(cells: Cells, rng: np.random.Generator) -> Cells:
    """The same cells with other numbers."""
    return Cells(
        cells.arm, cells.replica, cells.stratum, cells.le, tuple(rng.normal(size=len(cells.value))), cells.total
    )


def _shuffled(cells: Cells, rng: np.random.Generator) -> Cells:
    order = rng.permutation(len(cells.value))
    arm, replica, value = ([column[k] for k in order] for column in (cells.arm, cells.replica, cells.value))
    rest = [tuple(column[k] for k in order) if column else () for column in (cells.stratum, cells.le, cells.total)]
    return Cells(tuple(arm), tuple(replica), rest[0], rest[1], tuple(value), rest[2])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_order_of_cells_samples_and_metrics_is_no_input(seed: int, order: list[int]) -> None:
    """Shuffled columns, shuffled dictionaries and shuffled metrics give the same verdict, bit for bit."""
    watch = _watch(seed, factor=5.0)
    expected = judge([watch], [SETTINGS])[0]
    rng = np.random.default_rng(seed + 1)
    items = list(watch.samples.items())
    samples = {items[k][0]: _shuffled(items[k][1], rng) for k in rng.permutation(len(items))}
    metrics = tuple(watch.metrics[k] for k in order)
    found = judge([replace(watch, samples=samples, metrics=metrics)], [SETTINGS])[0]
    assert _bits(found)[:6] == _bits(expected)[:6]
    assert {e.metric: e.path for e in found.evidence} == {e.metric: e.path for e in expected.evidence}


def test_a_batch_is_its_members_and_twice_is_once() -> None:
    """Judged alone, together, or again: the same bits."""
    watches = [_watch(seed, factor=4.0) for seed in range(5)]
    watches.append(observe(Service(looks=3), np.random.default_rng(9), (LATENCY,)))
    watches.append(
        observe(Service(design=Design.BEFORE_AFTER, past=30, looks=20), np.random.default_rng(9), METRICS[:2])
    )
    together = judge(watches, [SETTINGS] * 7)
    again = judge(watches, [SETTINGS] * 7)
    alone = [judge([watch], [SETTINGS])[0] for watch in watches]
    assert [_bits(v) for v in together] == [_bits(v) for v in again] == [_bits(v) for v in alone]


def test_names_of_replicas_and_strata_are_no_input() -> None:
    """Other names, same order: same verdict."""
    watch = _watch(3, factor=4.0)
    renamed = {
        key: replace(cells, replica=tuple(f"pod-{r}" for r in cells.replica), stratum=("all",) * len(cells.value))
        for key, cells in watch.samples.items()
    }
    assert _bits(judge([replace(watch, samples=renamed)], [SETTINGS])[0]) == _bits(judge([watch], [SETTINGS])[0])
