"""An alarm beside the time before the deploy, and what the same hours of earlier days make of it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from analysis.earlier_days import AHEAD, EXCUSE, Day, usual
from analysis.hindsight import known, watch
from analysis.prepare import Observation
from analysis.result import Design, JudgeSettings, MetricSpec, VerdictKind
from analysis.simulate import ERRORS, GAUGE, LATENCY, ORDERS, Service, observe

LOOKS = 30
SETTINGS = JudgeSettings(planned_looks=LOOKS, placebo_rate=0.0)
CALM = Service(design=Design.BEFORE_AFTER, replicas=1, past=60, looks=LOOKS, requests=600, share=0.5)
WORSE = {
    "errors": (ERRORS, replace(CALM, errors_after=0.05, onset=8)),
    "latency": (LATENCY, replace(CALM, slowdown=2.5, onset=8)),
    "orders": (ORDERS, replace(CALM, requests=2000, lost=0.6, onset=8)),
    "level": (GAUGE, replace(CALM, level_shift=60.0, onset=8)),
}
PARAMETERS = pytest.mark.parametrize(("spec", "worse"), WORSE.values(), ids=WORSE.keys())


def calmed(service: Service) -> Service:
    return replace(service, errors_after=None, slowdown=1.0, lost=0.0, level_shift=0.0, shared=())


def alarmed(service: Service, *, seed: int, spec: MetricSpec) -> Observation | None:
    """A watch at the look that alarms; None where none does."""
    whole = observe(service, np.random.default_rng(seed), (spec,))
    verdict = watch(whole, SETTINGS)
    if verdict.kind is not VerdictKind.DEGRADED or verdict.alarm_look is None:
        return None
    return known(whole, verdict.alarm_look + 1)


def days(*services: Service, seed: int, spec: MetricSpec) -> list[Day]:
    rng = np.random.default_rng(10_000 + seed)
    return [observe(service, rng, (spec,)).samples for service in services]


@PARAMETERS
def test_what_earlier_days_did_at_this_hour_too_is_explained(spec: MetricSpec, worse: Service) -> None:
    """Three days that got worse at the same look as this one."""
    own = alarmed(worse, seed=1, spec=spec)
    assert own is not None
    found = usual(own, days(worse, worse, worse, seed=1, spec=spec), SETTINGS, metric=spec.name)
    assert found is not None
    assert (found.worse, found.known) == (3, 3)
    assert spec.name in found.evidence.sentence


@PARAMETERS
def test_calm_days_excuse_nobody(spec: MetricSpec, worse: Service) -> None:
    """The alarm stands as it was raised, at the look at which it was."""
    own = alarmed(worse, seed=2, spec=spec)
    assert own is not None
    calm = calmed(worse)
    assert usual(own, days(calm, calm, calm, seed=2, spec=spec), SETTINGS, metric=spec.name) is None


def test_an_incident_of_one_day_excuses_nobody() -> None:
    """Ten times the errors yesterday at this hour, and two calm days before."""
    spec, worse = WORSE["errors"]
    incident = replace(worse, errors_after=0.1)
    own = alarmed(worse, seed=3, spec=spec)
    assert own is not None
    assert usual(own, days(incident, CALM, CALM, seed=3, spec=spec), SETTINGS, metric=spec.name) is None


def test_one_day_of_history_excuses_nobody() -> None:
    """Once is an incident, and days without samples are no days."""
    spec, worse = WORSE["errors"]
    own = alarmed(worse, seed=4, spec=spec)
    assert own is not None
    one = days(worse, seed=4, spec=spec)
    assert usual(own, [*one, {}, {}], SETTINGS, metric=spec.name) is None
    assert usual(own, [], SETTINGS, metric=spec.name) is None


def test_far_worse_than_usual_is_no_excuse_once_that_is_seen() -> None:
    """Errors double at this hour on every day; today they are ten times as many."""
    spec, worse = WORSE["errors"]
    whole = observe(replace(worse, errors_after=0.1), np.random.default_rng(5), (spec,))
    usually = replace(worse, errors_after=0.02)
    earlier = days(usually, usually, usually, seed=5, spec=spec)
    assert usual(known(whole, 20), earlier, SETTINGS, metric=spec.name) is None


def test_days_are_looked_at_a_little_beyond_the_present_look() -> None:
    """The busy hour of earlier days began two looks later; what lies further ahead is not known to the judge."""
    spec, worse = WORSE["errors"]
    own = alarmed(worse, seed=6, spec=spec)
    assert own is not None
    later = replace(worse, onset=own.looks + 1)
    assert usual(own, days(later, later, seed=6, spec=spec), SETTINGS, metric=spec.name) is not None
    much_later = replace(worse, onset=own.looks + AHEAD)
    assert usual(own, days(much_later, much_later, seed=6, spec=spec), SETTINGS, metric=spec.name) is None


def test_a_calm_day_is_seldom_taken_for_a_bad_one() -> None:
    """An unchanged deploy that alarms by bad luck, and a real fault beside calm days: excused within the bound."""
    spec, worse = WORSE["errors"]
    n, excused = 60, 0
    for seed in range(n):
        own = alarmed(replace(worse, errors_after=0.02), seed=seed, spec=spec)
        assert own is not None
        excused += usual(own, days(CALM, CALM, CALM, seed=seed, spec=spec), SETTINGS, metric=spec.name) is not None
    assert excused <= binom.ppf(0.999, n, EXCUSE)


def test_versions_that_serve_side_by_side_are_not_asked_about() -> None:
    """A busy hour hits both."""
    spec, worse = WORSE["errors"]
    own = alarmed(worse, seed=7, spec=spec)
    assert own is not None
    beside = replace(own, design=Design.CONCURRENT)
    assert usual(beside, days(worse, worse, seed=7, spec=spec), SETTINGS, metric=spec.name) is None
    assert usual(own, days(worse, worse, seed=7, spec=spec), SETTINGS, metric="another") is None


def test_days_that_cannot_be_weighed_excuse_nobody() -> None:
    """Other buckets than today's, more errors than requests, or no numbers at all."""
    spec, worse = WORSE["latency"]
    own = alarmed(worse, seed=8, spec=spec)
    assert own is not None
    shifted = [
        {key: replace(cells, le=tuple(3.0 * le for le in cells.le)) for key, cells in day.items()}
        for day in days(worse, worse, worse, seed=8, spec=spec)
    ]
    assert usual(own, shifted, SETTINGS, metric=spec.name) is None
    spec, worse = WORSE["errors"]
    own = alarmed(worse, seed=9, spec=spec)
    assert own is not None
    for garbage in (1e9, float("nan"), -1.0):
        broken = [
            {key: replace(cells, value=(garbage,) * len(cells.value)) for key, cells in day.items()}
            for day in days(worse, worse, worse, seed=9, spec=spec)
        ]
        assert usual(own, broken, SETTINGS, metric=spec.name) is None
