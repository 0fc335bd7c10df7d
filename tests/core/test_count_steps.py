"""One more look, carried on, is the same bits as all looks computed anew."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.decode import Decoded, Floats, decode
from analysis.dispersion import Noise
from analysis.judge import judge_decoded, judge_one_more
from analysis.methods import count_steps
from analysis.methods.count_steps import Known, Look, Walk, evidence_from, step, step_counts
from analysis.methods.counts import CountTest, evidence_paths
from analysis.onset import onset_mixture, onset_prior
from analysis.result import Design, Direction, JudgeSettings, Kind, MetricSpec
from analysis.simulate import ERRORS, LATENCY, Service, observe

SETTINGS = JudgeSettings(planned_looks=20)
ORDERS = MetricSpec(name="orders", kind=Kind.RATE, direction=Direction.EITHER)


def _test(counts: Floats, noise: Noise, log_prior: Floats, r0: float = 1.25, floor: float = 0.0) -> CountTest:
    """counts: (events, exposure, other_events, other_exposure) x strata x looks."""
    e, n, e_other, n_other = counts
    return CountTest(e, n, e_other, n_other, r0=r0, floor=floor, noise=noise, log_prior=log_prior)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 5))
def test_steps_are_the_columns_of_the_mixture(seed: int, looks: int, tests: int) -> None:
    """The recursion from look to look gives every column of the whole mixture, to the bit."""
    rng = np.random.default_rng(seed)
    ratios = rng.normal(0, 5, (16, tests, looks))
    prior = np.stack([onset_prior(rng.random(looks) < 0.8, int(rng.integers(1, 40))) for _ in range(tests)])
    whole, walk, even = onset_mixture(ratios, prior), Walk.at_start(16, tests), np.full(16, -np.log(16))
    for look in range(looks):
        walk, said = step(walk, ratios[:, :, look], prior[:, look], even)
        assert said.tobytes() == np.ascontiguousarray(whole[:, look]).tobytes()


@pytest.mark.parametrize("strata", [1, 3])
def test_many_counts_a_look_are_their_whole_paths(strata: int) -> None:
    """50 comparisons with traffic, margins and noise of their own, 12 looks as arrays: the bits of `evidence_paths`."""
    rng = np.random.default_rng(strata)
    counts = rng.poisson(np.array([3.0, 150.0, 27.0, 1350.0])[:, None, None, None], (4, strata, 50, 12)).astype(float)
    counts[:, :, 7], counts[0, :, 8] = 0.0, 0.0
    r0, floor, factor = rng.uniform(1, 2, 50), rng.uniform(0, 1e-3, 50), rng.uniform(1, 9, 50)
    prior = onset_prior(rng.random(12) < 0.9, 12)
    noise = [Noise.fixed(np.full(12, f)) for f in factor]
    tests = [_test(counts[:, :, i], noise[i], prior, float(r0[i]), float(floor[i])) for i in range(50)]
    whole, _ = evidence_paths(tests)
    walk, seen = Walk.at_start(16, 50), np.zeros(50)
    for t in range(12):
        e, n, e_other, n_other = counts[:, :, :, t]
        look = Look(e, n, e_other, n_other, r0, floor, factor, np.full(50, prior[t]))
        walk, seen, said = step_counts(walk, seen, look)
        assert said.tobytes() == np.ascontiguousarray(whole[:, t]).tobytes()
    assert walk.after.shape == walk.started.shape == (16, 50)


def _watch(seed: int, looks: int) -> list[Decoded]:
    """One simulated watch at each of its looks."""
    rng = np.random.default_rng(seed)
    design = Design.BEFORE_AFTER if seed % 4 == 3 else Design.CONCURRENT
    past = 40 if seed % 4 == 3 else int(rng.integers(0, 40))
    service = Service(
        looks=looks, past=past, replicas=1 + seed % 4, factor=1.0 + seed % 3, noise_v=0.3, requests=3000, design=design
    )
    drawn = observe(service, rng, (ERRORS, LATENCY, ORDERS))
    return [decode(replace(drawn, looks=n)) for n in range(1, looks + 1)]


@pytest.mark.parametrize("seed", range(8))
def test_a_watch_judged_look_by_look_is_the_watch_judged_anew(seed: int) -> None:
    """Bursts that change the noise believed, replicas, history, histograms, before/after: the same verdicts."""
    known: list[tuple[Known, ...]] = [()]
    for watch in _watch(seed, 16):
        verdicts, known = judge_one_more([watch], [SETTINGS], known)
        assert repr(verdicts) == repr(judge_decoded([watch], [SETTINGS]))
    if seed % 4 == 2:  # three replicas: what is believed of them changes now and then, and stays now and then
        assert all(1 < len(k.test.noise.beliefs()) < 16 for k in known[0][:1])


def test_a_batch_goes_on_for_those_that_can() -> None:
    """New watches, watches without a look, ones a look ahead and ones that missed a look, all together."""
    a, b, c = (_watch(seed, 9) for seed in (0, 1, 2))
    _, known = judge_one_more([a[4], b[4], c[4]], [SETTINGS] * 3, [(), (), ()])
    _, known = judge_one_more([a[5], b[5], c[5]], [SETTINGS] * 3, known)
    now = [a[6], b[8], replace(c[6], looks=0), _watch(5, 3)[2]]
    verdicts, after = judge_one_more(now, [SETTINGS] * 4, [*known, ()])
    assert repr(verdicts) == repr(judge_decoded(now, [SETTINGS] * 4))
    assert [len(own) > 0 for own in after] == [True, True, False, True]


def test_a_wrong_memory_changes_nothing() -> None:
    """Known of another watch, other settings or changed numbers is not believed."""
    mine, other = _watch(0, 8), _watch(4, 8)
    _, of_other = judge_one_more([other[6]], [SETTINGS], [()])
    _, of_mine = judge_one_more([mine[6]], [SETTINGS], [()])
    expected = repr(judge_decoded([mine[7]], [SETTINGS]))
    assert repr(judge_one_more([mine[7]], [SETTINGS], of_other)[0]) == expected
    wider = replace(SETTINGS, margin=0.9)
    assert repr(judge_one_more([mine[7]], [wider], of_mine)[0]) == repr(judge_decoded([mine[7]], [wider]))
    for test_of in ("events", "exposure", "log_prior"):
        changed = [replace(k, test=replace(k.test, **{test_of: getattr(k.test, test_of) + 1.0})) for k in of_mine[0]]
        assert repr(judge_one_more([mine[7]], [SETTINGS], [changed])[0]) == expected


def test_what_is_known_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test has one look more, no whole path is computed, and no walk either while the belief stays."""
    noise = Noise.fixed(np.ones(9))
    counts = np.random.default_rng(0).poisson([[[3.0]], [[150.0]], [[27.0]], [[1350.0]]], (4, 1, 9)).astype(float)

    def until(looks: int) -> CountTest:
        own = Noise(noise.factor[:looks], noise.in_time[:looks], noise.unshared[:looks], noise.trusted[:looks])
        prior = onset_prior(np.ones(looks, dtype=bool), 9)
        return _test(counts[..., :looks], own, prior)

    known: list[Known] = evidence_from([until(6)], [None])[2]
    monkeypatch.setattr(count_steps, "mixed_paths", None)
    known = evidence_from([until(7)], known)[2]
    monkeypatch.setattr(count_steps, "_walked", None)
    known = evidence_from([until(8)], known)[2]
    paths, last, _ = evidence_from([until(9)], known)
    whole = evidence_paths([until(9)])
    assert (paths.tobytes(), last.tobytes()) == (whole[0].tobytes(), whole[1].tobytes())


def test_nothing_to_judge_is_no_evidence() -> None:
    """An empty batch is an empty batch."""
    paths, last, known = evidence_from([], [])
    assert (paths.shape, last.shape, known) == ((0, 0), (0, 0, 0), [])
    assert judge_one_more([], [], []) == ([], [])
