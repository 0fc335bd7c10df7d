"""Watches of every design, length and trouble in one batch: what each would have been told alone, field by field."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from analysis.decode import Decoded, decode
from analysis.judge import alarm_looks, judge_decoded
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec, SourceStatus
from analysis.simulate import ERRORS, GAUGE, LATENCY, ORDERS, Route, Service, observe

EITHER = replace(ERRORS, name="timeouts", critical=False, direction=Direction.EITHER)
LEVELS = (
    GAUGE,
    replace(GAUGE, name="connections", unit="", direction=Direction.EITHER),
    replace(GAUGE, name="free", unit="", direction=Direction.DOWN_IS_BAD),
    replace(GAUGE, name="p90", unit="ms"),
)
MEMORY = MetricSpec(name="memory", kind=Kind.TREND, limit=200.0)
IN_TIME = replace(LATENCY, name="latency in time", slower_by=0.2)
METRICS = (ERRORS, LATENCY, IN_TIME, EITHER, ORDERS, *LEVELS, MEMORY)
COLUMNS = ("arm", "replica", "stratum", "le", "value", "total")


def _services() -> Iterator[Service]:
    for looks, past in ((1, 0), (4, 6), (14, 0), (30, 25)):
        alike = Service(looks=looks, past=past, candidates=2, noise_v=0.1, level_phi=0.5)
        yield alike
        yield replace(alike, factor=6.0, slowdown=2.0, level_shift=12.0, onset=looks // 3)
        yield replace(alike, requests=40.0, level_sd=0.0)
        yield replace(alike, replicas=1, candidates=1, errors=0.03, routes=(Route("a", 0.7, 0.3), Route("b", 0.3, 0.7)))
        yield replace(alike, absent=True, onset=looks // 2)
        yield replace(alike, design=Design.BEFORE_AFTER, past=40, replicas=2)
        yield replace(alike, design=Design.BEFORE_AFTER, past=40, factor=5.0, level_shift=12.0)


def _with_gaps(watch: Observation, rng: np.random.Generator) -> Observation:
    """Some replicas are missing from some intervals, and at some looks the source is down."""
    samples = {}
    for key, cells in watch.samples.items():
        places = list(zip(cells.arm, cells.replica, strict=True))
        gone = {place for place in places if rng.random() < 0.15}
        kept = [i for i, place in enumerate(places) if place not in gone]
        columns = [getattr(cells, name) for name in COLUMNS]
        samples[key] = Cells(*(tuple(column[i] for i in kept) if column else () for column in columns))
    down = {look for look in watch.facts if rng.random() < 0.1}
    facts = {
        look: replace(told, status=SourceStatus.DOWN) if look in down else told for look, told in watch.facts.items()
    }
    return replace(watch, samples=samples, facts=facts)


def _beside_control(watch: Observation) -> Observation:
    """The old version's own past and present as a control series."""
    samples = {}
    for key, cells in watch.samples.items():
        n = len(cells.value)
        columns = {name: getattr(cells, name) * 2 for name in COLUMNS}
        samples[key] = Cells(**columns | {"arm": (*cells.arm, *(Arm.CONTROL.value,) * n)})
    return replace(watch, samples=samples)


@cache
def _batch() -> tuple[list[Decoded], list[JudgeSettings]]:
    watches, given = [], []
    for seed, service in enumerate(_services()):
        rng = np.random.default_rng(seed)
        whole = observe(service, rng, METRICS)
        seen = [whole, _with_gaps(whole, rng)]
        if service.design is Design.BEFORE_AFTER:
            seen.append(_beside_control(observe(replace(service, replicas=1, candidates=1), rng, METRICS)))
        for i, one in enumerate(seen):
            settings = JudgeSettings(planned_looks=30, warm_up_looks=2 * i, placebo_rate=[None, 0.0][seed % 2])
            watches.append(decode(one, warm_up_looks=settings.warm_up_looks))
            given.append(settings)
    order = np.random.default_rng(1).permutation(len(watches)).tolist()
    return [watches[i] for i in order], [given[i] for i in order]


def test_every_field_of_a_verdict_is_the_same_alone_and_among_others() -> None:
    """Evidence, effects, companions, onsets, words: nothing of a watch depends on who is judged beside it."""
    watches, given = _batch()
    together = judge_decoded(watches, given)
    assert {verdict.kind.value for verdict in together} == {"HEALTHY", "DEGRADED", "INCONCLUSIVE"}
    for watch, settings, verdict in zip(watches, given, together, strict=True):
        assert repr(judge_decoded([watch], [settings])[0]) == repr(verdict)


def test_alarms_of_a_mixed_batch_are_those_of_its_verdicts() -> None:
    """The quick way agrees with the long one, whatever is judged beside."""
    watches, given = _batch()
    assert alarm_looks(watches, given) == [verdict.alarm_look for verdict in judge_decoded(watches, given)]
