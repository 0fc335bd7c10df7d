"""Placebo deploys: every instant once, the old version's samples alone, and no more claimed than the past proves."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.calibrate import Calibration, Rate, calibrate, needed_placebos, pool
from analysis.judge import judge
from analysis.placebo import placebos
from analysis.prepare import Cells, Observation
from analysis.result import Design, JudgeSettings, Reason
from analysis.simulate import ERRORS, Service, observe

SETTINGS = JudgeSettings(planned_looks=10)
PAST = Service(design=Design.BEFORE_AFTER, replicas=1, requests=1000, errors=0.01, past=80, looks=10)
PODS = Service(replicas=3, requests=2000, errors=0.01, past=40, looks=30)


def _past(service: Service = PAST, seed: int = 1) -> Observation:
    return observe(service, np.random.default_rng(seed))


def _worse(past: Observation, start: int, *, replica: str | None = None) -> Observation:
    """The same past with eight times the errors of the old version (or of one replica that there is) from then on."""
    assert replica is None or any(replica in cells.replica for cells in past.samples.values())
    samples = {}
    for (name, i), cells in past.samples.items():
        hit = [
            i >= start and arm != "candidate" and replica in (None, r)
            for arm, r in zip(cells.arm, cells.replica, strict=True)
        ]
        samples[name, i] = replace(
            cells, value=tuple(8 * v + 20 if bad else v for v, bad in zip(cells.value, hit, strict=True))
        )
    return replace(past, samples=samples)


@pytest.mark.parametrize("wrong", [{"baseline_looks": 0}, {"baseline_looks": 20, "every": 0}])
def test_rejects_a_cut_that_is_none(wrong: dict) -> None:
    """A placebo needs a past, and instants need a step."""
    with pytest.raises(ValueError, match="at least 1"):
        calibrate(_past(), SETTINGS, **wrong)


def test_every_instant_plays_the_deploy_once() -> None:
    """80 intervals, 20 before and 10 after each: 51 instants, 6 watches that do not overlap, none by the deploy."""
    found = calibrate(_past(), SETTINGS, baseline_looks=20)
    assert (found.service.placebos, found.service.apart) == (51, 6)
    assert calibrate(_past(), SETTINGS, baseline_looks=20, every=10).service.placebos == 6
    assert found.days == pytest.approx(80 * PAST.step_s / 86400)


@given(
    past=st.integers(1, 40),
    watch=st.integers(1, 12),
    before=st.integers(1, 12),
    every=st.integers(1, 5),
    design=st.sampled_from(Design),
)
def test_placebos_know_nothing_later_and_those_apart_share_no_watch(
    past: int, watch: int, before: int, every: int, design: Design
) -> None:
    """Whatever the cut: samples of the past and the watch alone, in the past, and disjoint watches where it says so."""
    cells = Cells(("baseline",) * 2, ("a", "b"), value=(1.0, 2.0), total=(9.0, 9.0))
    told = Observation(
        design=Design.BEFORE_AFTER,
        step_s=1.0,
        metrics=(ERRORS,),
        samples={("errors", -i - 1): cells for i in range(past)},
    )
    settings = JudgeSettings(planned_looks=watch)
    found = list(placebos(told, settings, baseline_looks=before, design=design, every=every))
    for placebo in found:
        assert all(-before <= i < watch for _, i in placebo.observation.samples)
        assert placebo.at + watch <= 0
    starts = sorted(placebo.at for placebo in found if placebo.apart)
    assert all(later - earlier >= watch for earlier, later in pairwise(starts))
    assert bool(found) == bool(starts)


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (1, 30), (3, 500), (5, 5)])
def test_agrees_with_scipy_on_exact_limits(hits: int, n: int) -> None:
    """The interval and the proven limit are the exact binomial ones, of the placebos that stand apart."""
    rate = Rate(name="", placebos=10 * n, hits=hits, apart=n, apart_hits=hits)
    exact = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert rate.interval == pytest.approx((exact.low, exact.high))
    less = stats.binomtest(hits, n, alternative="less").proportion_ci(0.95, method="exact")
    assert rate.proven == pytest.approx(less.high)


def test_against_theory_how_many_placebos_prove_the_budget() -> None:
    """30 clean placebos prove no better than 10 %; 299 prove 1 % and 298 do not."""
    assert Rate(name="", placebos=30, hits=0, apart=30, apart_hits=0).proven == pytest.approx(0.095, abs=0.001)
    assert needed_placebos(0.01) == 299
    enough, few = (Rate(name="", placebos=n, hits=0, apart=n, apart_hits=0).proven for n in (299, 298))
    assert enough <= 0.01 < few


def test_a_step_in_the_past_is_called_where_it_begins() -> None:
    """Eight times the errors from interval -30 on: placebos around it roll back, by the metric's name; later none."""
    found = calibrate(_worse(_past(), -30), SETTINGS, baseline_looks=20)
    assert 8 <= found.service.hits <= 30
    assert [(rate.name, rate.hits) for rate in found.metrics] == [("errors", found.service.hits)]
    late = calibrate(_worse(_past(), -60), replace(SETTINGS, planned_looks=10), baseline_looks=20, every=20)
    assert late.service.hits <= 1


def test_the_candidate_is_never_looked_at() -> None:
    """Whatever the deploy did to the candidate, the past says the same."""
    past, dead = _past(), {}
    for key, cells in past.samples.items():
        rows = zip(cells.arm, cells.value, cells.total, strict=True)
        dead[key] = replace(cells, value=tuple(n if arm == "candidate" else e for arm, e, n in rows))
    same = calibrate(replace(past, samples=dead), SETTINGS, baseline_looks=20)
    assert same == calibrate(past, SETTINGS, baseline_looks=20)


def test_one_bad_replica_is_a_false_rollback_of_its_own_kind() -> None:
    """Three replicas take turns as the candidate; the one that turns bad, and no other, would have been rolled back."""
    past = _past(PODS)
    calm = calibrate(past, SETTINGS, baseline_looks=20, design=Design.CONCURRENT)
    assert calm.service.placebos == 3 * (31 + 21)
    assert calm.service.hits == 0
    assert calm.service.apart == 4 + 3
    bad = calibrate(_worse(past, 10, replica="baseline-000"), SETTINGS, baseline_looks=20, design=Design.CONCURRENT)
    assert 5 <= bad.service.hits <= 20


@pytest.mark.parametrize(
    ("past", "told"),
    [
        (_past(replace(PAST, past=20)), "a placebo deploy takes 30 looks, the longest usable past has 20"),
        (replace(_past(), samples={}), "the longest usable past has 0"),
        (_past(replace(PODS, past=0)), "the longest usable past has 0"),
    ],
    ids=["short", "empty", "only-beside-the-candidate"],
)
def test_degenerate_pasts_prove_nothing_and_say_so(past: Observation, told: str) -> None:
    """No placebo, no rate: a sentence without a number that is none."""
    found = calibrate(past, SETTINGS, baseline_looks=20)
    assert found.placebo_rate is None
    assert found.within_budget is None
    assert told in found.sentence
    assert "nan" not in found.sentence


def test_degenerate_constant_and_silent_pasts_are_no_rollbacks() -> None:
    """No error ever, or no request in half of the intervals."""
    silent = _past(replace(PAST, errors=0.0))
    gaps = {key: cells for key, cells in silent.samples.items() if key[1] % 2}
    for past in (silent, replace(silent, samples=gaps)):
        assert calibrate(past, SETTINGS, baseline_looks=20).service.hits == 0


def test_calibration_a_steady_past_stays_within_the_budget() -> None:
    """40 steady services, 240 watches that do not overlap: at most the budget, by a binomial bound."""
    found = [(str(seed), calibrate(_past(seed=seed), SETTINGS, baseline_looks=20, every=10)) for seed in range(40)]
    whole = pool(found).service
    assert whole.apart == 240
    assert whole.apart_hits <= stats.binom.ppf(0.999, whole.apart, SETTINGS.budget)


def test_a_wandering_past_is_found_to_be_beyond_the_budget() -> None:
    """A rate that jumps for longer than the judge looks back is what no model allowed for: the placebos tell."""
    wave = {}
    past = _past(replace(PAST, past=300))
    for (name, i), cells in past.samples.items():
        factor = 6.0 if (i // 60) % 2 else 1.0
        wave[name, i] = replace(cells, value=tuple(min(factor * v, 900.0) for v in cells.value))
    found = calibrate(replace(past, samples=wave), SETTINGS, baseline_looks=20, every=3)
    assert found.service.rate > SETTINGS.budget
    assert found.within_budget is not True


def test_a_short_clean_past_is_no_licence_to_act() -> None:
    """Its proven rate, handed to the judge, still says UNCALIBRATED; 299 clean placebos act."""
    broken = _past(replace(PAST, factor=8.0), seed=3)
    known = calibrate(broken, SETTINGS, baseline_looks=20)
    assert known.service.hits == 0
    assert known.within_budget is None
    assert known.sentence.endswith("; the budget of 1.0 % takes 299 without a rollback, so a longer past")
    short = judge([broken], [replace(SETTINGS, placebo_rate=known.placebo_rate)])[0]
    assert short.reason is Reason.UNCALIBRATED
    proof = replace(known, service=Rate(name="", placebos=299, hits=0, apart=299, apart_hits=0))
    assert proof.within_budget is True
    assert judge([broken], [replace(SETTINGS, placebo_rate=proof.placebo_rate)])[0].reason is Reason.METRICS


SO_FAR = "on {} of the last 38 minutes it would have rolled back {}, which proves a rate {}"


@pytest.mark.parametrize(
    ("rolled_back", "of", "told"),
    [
        (0, 3, ("3 placebo deploys", "0 times (0 %). Of the 3 that do not overlap, none was rolled back",
                "of at most 63.2 %; the budget of 1.0 % takes 299 without a rollback, so a longer past")),
        (1, 1, ("1 placebo deploy", "1 time (100 %). The one that overlaps no other was rolled back",
                "above the budget of 1.0 %")),
        (2, 8, ("8 placebo deploys", "2 times (25.0 %). Of the 8 that do not overlap, 2 were rolled back",
                "above the budget of 1.0 %")),
        (0, 299, ("299 placebo deploys", "0 times (0 %). Of the 299 that do not overlap, none was rolled back",
                  "of at most 1.00 %, within the budget of 1.0 %")),
    ],
)  # fmt: skip
def test_the_sentence_says_what_is_proven_and_what_is_missing(rolled_back: int, of: int, told: tuple[str, ...]) -> None:
    """One and many, and each of the three ends."""
    rate = Rate(name="", placebos=of, hits=rolled_back, apart=of, apart_hits=rolled_back)
    found = Calibration(design=Design.BEFORE_AFTER, budget=0.01, days=38 / 1440, service=rate, metrics=())
    assert found.sentence == SO_FAR.format(*told)


def test_the_time_before_the_first_sample_is_no_past() -> None:
    """A placebo early in a young record looks back to where nothing was kept yet: only what there is counts."""
    young = _past(replace(PODS, past=12, looks=0))
    found = calibrate(young, SETTINGS, baseline_looks=20, design=Design.CONCURRENT)
    assert found.service.placebos
    assert found.days == pytest.approx(12 * PODS.step_s / 86400)


def test_pasts_of_one_group_count_once_for_the_interval() -> None:
    """All of them for the estimate; designs and budgets are never mixed."""
    one = calibrate(_past(), SETTINGS, baseline_looks=20, every=10)
    both = pool([("a", one), ("a", one), ("b", one)])
    assert (both.service.placebos, both.service.apart) == (3 * one.service.placebos, 2 * one.service.apart)
    assert both.days == pytest.approx(2 * one.days)
    with pytest.raises(ValueError, match="one budget"):
        pool([("a", one), ("a", replace(one, budget=0.05))])


def test_samples_that_cannot_be_are_counted_apart() -> None:
    """A past with more errors than requests is judged nowhere, and the sentence says how often."""
    past = _past()
    bad = {key: Cells(cells.arm, cells.replica, cells.stratum, cells.le, tuple(t + 1 for t in cells.total), cells.total)
           for key, cells in past.samples.items()}  # fmt: skip
    found: Calibration = calibrate(replace(past, samples=bad), SETTINGS, baseline_looks=20, every=10)
    assert (found.service.placebos, found.not_judged) == (0, 6)
    assert "6 placebo deploys had no usable samples" in found.sentence


def test_the_metrics_of_the_past_keep_their_names() -> None:
    """Every metric has its rate, the quiet ones too."""
    found = calibrate(_past(), SETTINGS, baseline_looks=20, every=10)
    assert [rate.name for rate in found.metrics] == [ERRORS.name]
