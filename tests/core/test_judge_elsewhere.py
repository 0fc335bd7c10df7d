"""A stored verdict recomputes on another machine: here the same one with its vector units switched off."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.judge import judge
from analysis.prepare import Observation
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec, Verdict
from analysis.simulate import ERRORS, LATENCY, Service, ar_levels, gauge_observation, observe

ORDERS = MetricSpec(name="orders", kind=Kind.RATE, direction=Direction.DOWN_IS_BAD)
CPU = MetricSpec(name="cpu", kind=Kind.GAUGE, unit="%", direction=Direction.EITHER)
SETTINGS = JudgeSettings(planned_looks=40)
ROOT = Path(__file__).parents[2]
ELSEWHERE = """
import pickle, sys
import numpy as np
from analysis.judge import judge
watches, settings = pickle.load(sys.stdin.buffer)
found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
pickle.dump((found, judge(watches, settings)), sys.stdout.buffer)
"""


def _vector_units() -> list[str]:
    """What numpy uses of this processor beyond what every processor has, under the names that switch it off."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return [str(name) for name in found]


def _watches() -> list[Observation]:
    drawn = []
    for seed, factor in enumerate((1.0, 1.0, 2.0, 4.0)):
        rng = np.random.default_rng(seed)
        service = Service(looks=40, past=30, replicas=4, onset=10, factor=factor, noise_v=0.1 * (seed % 2))
        counts = observe(service, rng, (ERRORS, LATENCY, ORDERS))
        arms = {
            (Arm.BASELINE, -30): ar_levels(rng, 3, 70, phi=0.5),
            (Arm.CANDIDATE, 0): ar_levels(rng, 2, 40, level=50.0 + 3 * factor),
        }
        levels = gauge_observation(arms, CPU, looks=40, design=Design.CONCURRENT)
        samples = {**counts.samples, **levels.samples}
        drawn.append(replace(counts, metrics=(ERRORS, LATENCY, ORDERS, CPU), samples=samples))
    before_after = Service(design=Design.BEFORE_AFTER, past=60, looks=40, factor=3.0)
    return [*drawn, observe(before_after, np.random.default_rng(9), (ERRORS, ORDERS))]


def _elsewhere(watches: list[Observation], switched_off: list[str]) -> tuple[list[str], list[Verdict]]:
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(switched_off), "PYTHONPATH": str(ROOT)}
    told = pickle.dumps((watches, [SETTINGS] * len(watches)))
    child = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=told, env=environment, capture_output=True, check=True
    )
    found, verdicts = pickle.loads(child.stdout)
    return found, verdicts


def test_a_verdict_recomputes_without_the_vector_units() -> None:
    """Same verdict, look and sentence; log-evidence within 1e-9 at every look of every metric."""
    units = _vector_units()
    if not units:
        pytest.skip("numpy uses no vector unit of this processor that could be switched off")
    watches = _watches()
    here = judge(watches, [SETTINGS] * len(watches))
    left, there = _elsewhere(watches, units)
    assert not set(units) & set(left)
    assert {verdict.kind.value for verdict in here} >= {"HEALTHY", "DEGRADED"}
    for ours, theirs in zip(here, there, strict=True):
        assert _said(theirs) == _said(ours)
        assert theirs.log_evidence == pytest.approx(ours.log_evidence, rel=0, abs=1e-9)
        for mine, its in zip(ours.evidence, theirs.evidence, strict=True):
            assert np.allclose(its.path, mine.path, rtol=0, atol=1e-9)
            assert (its.sentence, its.since_look) == (mine.sentence, mine.since_look)


def test_a_verdict_recomputes_in_another_process_to_the_same_bits() -> None:
    """With the same vector units nothing differs at all."""
    watches = _watches()
    _, there = _elsewhere(watches, [])
    assert repr(there) == repr(judge(watches, [SETTINGS] * len(watches)))


def _said(verdict: Verdict) -> tuple[object, ...]:
    return (
        verdict.kind,
        verdict.reason,
        verdict.metric,
        verdict.look,
        verdict.alarm_look,
        verdict.since_look,
        verdict.sentence,
        verdict.notes,
    )
