"""A new version starts with cold caches and code not compiled yet: its first looks say little of its latency."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.judge import judge
from analysis.prepare import Observation
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
