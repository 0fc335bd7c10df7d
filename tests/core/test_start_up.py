"""A new version starts with cold caches and code not compiled yet: its first looks say little of its latency."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.judge import judge
from analysis.prepare import Cells, Observation
from analysis.result import Design, JudgeSettings, VerdictKind
from analysis.simulate import LATENCY, Service, observe

SETTINGS = JudgeSettings(planned_looks=24, act_uncalibrated=True)


def slow_for(looks: int, design: Design, *, times: float = 8.0) -> Observation:
    """A watch whose candidate is slow for its first looks and as fast as the old version afterwards."""
    service = Service(looks=24, past=60, design=design)
    slow, fast = (observe(replace(service, slowdown=x), np.random.default_rng(2), (LATENCY,)) for x in (times, 1.0))
    return replace(fast, samples={key: (slow if 0 <= key[1] < looks else fast).samples[key] for key in fast.samples})


@pytest.mark.parametrize("design", list(Design))
def test_three_slow_looks_at_the_start_are_start_up(design: Design) -> None:
    """They are not judged unless asked for; a candidate that stays slow is found two to three looks later."""
    starting = slow_for(3, design)
    assert judge([starting], [SETTINGS])[0].kind is not VerdictKind.DEGRADED
    strict = replace(SETTINGS, start_up_looks=0)
    assert judge([starting], [strict])[0].kind is VerdictKind.DEGRADED
    late, soon = (judge([slow_for(24, design)], [one])[0].alarm_look for one in (SETTINGS, strict))
    assert late is not None
    assert soon is not None
    assert soon < late <= soon + 3


@pytest.mark.parametrize("design", list(Design))
def test_start_up_ends(design: Design) -> None:
    """Six slow looks are no start-up any more."""
    assert judge([slow_for(6, design)], [SETTINGS])[0].kind is VerdictKind.DEGRADED


def test_start_up_begins_with_the_candidate_s_first_requests() -> None:
    """A candidate that gets its traffic five looks after the deploy has its grace then."""
    late = slow_for(8, Design.CONCURRENT)
    samples = {}
    for (name, i), c in late.samples.items():
        kept = [k for k, arm in enumerate(c.arm) if not (arm == "candidate" and 0 <= i < 5)]
        columns = {
            f: tuple(getattr(c, f)[k] for k in kept) for f in ("arm", "replica", "stratum", "le", "value", "total")
        }
        samples[name, i] = replace(c, **columns)
    assert judge([replace(late, samples=samples)], [SETTINGS])[0].kind is not VerdictKind.DEGRADED


def grows(*, slow_looks: int, forever: bool = False) -> Observation:
    """Two pods from the deploy on, twenty from look 12; each of the new ones is slow for its first looks."""
    bounds = (0.1, 0.5)
    rng = np.random.default_rng(7)
    samples = {}
    for i in range(-30, 40):
        rows = []
        pods = [("history" if i < 0 else "baseline", f"b{k}", 0.05) for k in range(10)]
        pods += [("candidate", f"c{k}", 0.05) for k in range(2)] if i >= 0 else []
        late = 0.6 if i < 12 + slow_looks or forever else 0.05
        pods += [("candidate", f"late{k}", late) for k in range(18)] if i >= 12 else []
        for arm, name, share in pods:
            above = float(rng.binomial(100, share))
            rows += [(arm, name, bounds[0], 100.0 - above), (arm, name, bounds[1], 100.0)]
        samples[LATENCY.name, i] = Cells(
            tuple(r[0] for r in rows),
            tuple(r[1] for r in rows),
            le=tuple(r[2] for r in rows),
            value=tuple(r[3] for r in rows),
            total=(100.0,) * len(rows),
        )
    return Observation(design=Design.CONCURRENT, step_s=10, metrics=(LATENCY,), samples=samples, looks=40)


def test_pods_that_join_later_have_the_grace_of_the_first_ones() -> None:
    """A roll-out that scales up in the middle is as cold as at its begin; pods that stay slow are found."""
    planned = replace(SETTINGS, planned_looks=40)
    assert judge([grows(slow_looks=3)], [planned])[0].kind is not VerdictKind.DEGRADED
    found = judge([grows(slow_looks=3, forever=True)], [planned])[0]
    assert found.kind is VerdictKind.DEGRADED
    assert found.alarm_look is not None
    assert found.alarm_look <= 17


def test_pods_that_are_always_new_stand_for_the_candidate() -> None:
    """One that is killed and replaced every other look never gets old; nobody looks away for that."""
    whole = grows(slow_looks=40)
    samples = {
        (name, i): replace(
            cells,
            replica=tuple(
                f"{who}-{i // 2}" if arm == "candidate" else who
                for arm, who in zip(cells.arm, cells.replica, strict=True)
            ),
        )
        for (name, i), cells in whole.samples.items()
    }
    judged = judge([replace(whole, samples=samples)], [replace(SETTINGS, planned_looks=40)])[0]
    assert judged.kind is VerdictKind.DEGRADED
