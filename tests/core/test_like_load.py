"""What an instance uses follows what it serves: a canary that works harder than the old ones is no worse for it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from analysis.decode import decode
from analysis.judge import judge
from analysis.like_load import with_like_load
from analysis.prepare import Cells, Observation
from analysis.result import Design, Direction, JudgeSettings, Kind, MetricSpec, VerdictKind

ERRORS = MetricSpec(name="errors", kind=Kind.RATIO, critical=True)
CPU = MetricSpec(name="cpu", kind=Kind.GAUGE, unit="cores", margin=0.5, floor=0.05)
OLD, LOOKS_EACH, REQUESTS = 5, 12, 3000.0
SHARES = (0.05, 0.1, 0.25, 0.5)


def watch(shares: Sequence[float] = SHARES, *, spec: MetricSpec = CPU, burns: float = 1.0, new: int = 1) -> Observation:
    """Processor time in proportion to requests; the candidate's share grows, and its pods stay as many."""
    rng = np.random.default_rng(1)
    looks = LOOKS_EACH * len(shares)
    samples = {}
    for i in range(-60, looks):
        share = shares[i // LOOKS_EACH] if i >= 0 else 0.0
        arms = ["baseline" if i >= 0 else "history"] * OLD + (["candidate"] * new if i >= 0 else [])
        load = np.array([REQUESTS * (1 - share) / OLD] * OLD + [REQUESTS * share / new] * (len(arms) - OLD))
        used = (0.05 + load / 1000) * np.exp(0.1 * rng.standard_normal(len(arms)))
        used[OLD:] *= burns
        names = tuple(f"{arm}-{k}" for k, arm in enumerate(arms))
        errors = tuple(map(float, rng.binomial(load.astype(int), 0.005)))
        samples[spec.name, i] = Cells(tuple(arms), names, value=tuple(map(float, used)))
        samples["errors", i] = Cells(tuple(arms), names, value=errors, total=tuple(map(float, load.astype(int))))
    return Observation(design=Design.CONCURRENT, step_s=10.0, metrics=(ERRORS, spec), samples=samples, looks=looks)


def settings(seen: Observation) -> JudgeSettings:
    return JudgeSettings(planned_looks=seen.looks)


def test_a_healthy_canary_that_gets_more_to_do_than_an_old_pod_is_not_rolled_back() -> None:
    """One new pod takes half of the traffic of five old ones: it uses more, and what was left out is said."""
    seen = watch()
    verdict = judge([seen], [settings(seen)])[0]
    assert verdict.kind is not VerdictKind.DEGRADED
    told = "cpu: 24 looks at which an instance of the new version served over ×1.5 the load of an old one were left out"
    assert told in verdict.notes


def test_processor_time_that_load_does_not_explain_is_still_found() -> None:
    """With pods that serve alike, and with a pod that has less to do than the others."""
    for shares, new in (((0.2, 0.2), 1), ((0.05, 0.1), 1), ((0.5, 0.5), 5)):
        seen = watch(shares, burns=8.0, new=new)
        verdict = judge([seen], [settings(seen)])[0]
        assert (verdict.kind, verdict.metric) == (VerdictKind.DEGRADED, "cpu")


@pytest.mark.parametrize("direction", list(Direction))
def test_load_excuses_only_what_follows_from_it(direction: Direction) -> None:
    """People wait, whyever; and an instance that has less to do than the others has no excuse."""
    quiet = watch((0.05, 0.1), spec=replace(CPU, direction=direction))
    for seen in (quiet, watch(spec=replace(CPU, unit="s", direction=direction))):
        arrays = decode(seen)
        metric = next(one for one in arrays.metrics if one.spec.name == "cpu")
        assert with_like_load(arrays, metric, 0.5) == (metric, 0)


def test_where_nobody_counts_requests_every_look_stands() -> None:
    """Nor does anything change in before and after, whose loads are those of two times."""
    seen = watch()
    alone = replace(seen, metrics=(CPU,), samples={k: v for k, v in seen.samples.items() if k[0] == "cpu"})
    for arrays in (decode(alone), replace(decode(seen), design=Design.BEFORE_AFTER)):
        metric = next(one for one in arrays.metrics if one.spec.name == "cpu")
        assert with_like_load(arrays, metric, 0.5) == (metric, 0)
