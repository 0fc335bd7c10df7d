"""What no data can break: no future, no order, no batch, no chance."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.decode import Arrays, Decoded, Panel, decode
from analysis.judge import alarm_looks, judge, judge_decoded
from analysis.prepare import Cells, LookFacts, Observation
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


def test_arrays_are_judged_as_the_observations_they_come_from() -> None:
    """Decoding first and judging the arrays says the same, bit for bit, in a mixed batch with a warm-up."""
    watches = [_watch(seed, factor=4.0) for seed in range(3)]
    watches.append(replace(watches[0], looks=0, samples={}, facts={}))
    given = [SETTINGS, replace(SETTINGS, warm_up_looks=2), SETTINGS, SETTINGS]
    arrays = [decode(watch, warm_up_looks=s.warm_up_looks) for watch, s in zip(watches, given, strict=True)]
    assert [_bits(v) for v in judge_decoded(arrays, given)] == [_bits(v) for v in judge(watches, given)]


def test_alarms_alone_are_those_of_the_verdicts() -> None:
    """The quick way for many watches alarms where the verdicts do: healthy, worse, absent, before and after, empty."""
    watches = [_watch(seed, factor=factor) for seed, factor in enumerate((1.0, 4.0, 10.0))]
    services = (Service(looks=20, absent=True, onset=8), Service(looks=30, past=30, factor=5.0))
    watches += [observe(service, np.random.default_rng(4), METRICS[:2]) for service in services]
    watches.append(observe(replace(services[1], design=Design.BEFORE_AFTER), np.random.default_rng(4), METRICS[:2]))
    arrays = [*(decode(watch) for watch in watches), decode(replace(watches[0], looks=0, samples={}, facts={}))]
    given = [SETTINGS] * len(arrays)
    expected = [verdict.alarm_look for verdict in judge_decoded(arrays, given)]
    assert expected[0] is None
    assert expected[-1] is None
    assert None not in expected[2:-1]
    assert alarm_looks(arrays, given) == expected


def test_arrays_built_without_cells_are_judged_alike() -> None:
    """A simulation that fills a panel directly gets what the cells would have given."""
    rng = np.random.default_rng(1)
    n = rng.poisson(300, (2, 1, 20)).astype(float)
    bad = rng.binomial(n.astype(int), np.array([0.01, 0.05])[:, None, None]).astype(float)
    arms = (Arm.BASELINE, Arm.CANDIDATE)
    samples = {
        (ERRORS.name, i): Cells(("baseline", "candidate"), value=tuple(bad[:, 0, i]), total=tuple(n[:, 0, i]))
        for i in range(20)
    }
    panels = {arm: Panel(bad[k][None, :, None, :], n[k][None]) for k, arm in enumerate(arms)}
    direct = Decoded(
        design=Design.CONCURRENT,
        step_s=5.0,
        looks=20,
        share=0.5,
        candidate_expected=1,
        usable=np.ones(20, dtype=bool),
        facts=(LookFacts(),) * 20,
        metrics=(Arrays(ERRORS, ("",), np.array([np.inf]), 0, panels),),
    )
    cells = Observation(
        design=Design.CONCURRENT,
        step_s=5.0,
        metrics=(ERRORS,),
        samples=samples,
        looks=20,
        share=0.5,
        candidate_expected=1,
    )
    found = judge_decoded([direct], [SETTINGS])[0]
    assert found.alarm_look is not None
    assert _bits(found) == _bits(judge([cells], [SETTINGS])[0])


def test_every_watch_needs_its_settings() -> None:
    """A batch with too few settings is refused."""
    with pytest.raises(ValueError, match="settings: 0 for 1 observations"):
        judge([_watch(1)], [])
    with pytest.raises(ValueError, match="settings: 1 for 0 watches"):
        judge_decoded([], [SETTINGS])
    with pytest.raises(ValueError, match="settings: 1 for 0 watches"):
        alarm_looks([], [SETTINGS])
