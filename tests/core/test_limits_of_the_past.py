"""Before and after: the limits on what the old version did hold all together."""

from dataclasses import replace

import numpy as np
import pytest

from analysis import contrast
from analysis.decode import decode
from analysis.methods.counts import rate_limit
from analysis.onset import onset_prior
from analysis.prepare import Observation
from analysis.result import Design, Direction, JudgeSettings, MetricSpec
from analysis.simulate import ERRORS, LATENCY, Service, observe
from analysis.weigh import set_up, weighings

LOOKS, PAST = 20, 60
SETTINGS = JudgeSettings(planned_looks=LOOKS, act_uncalibrated=True)
SPEC = replace(ERRORS, critical=True)


def _alphas(watch: Observation, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What every limit on the past may be wrong with, of a metric that has the whole budget."""
    asked: list[float] = []

    def recorded(events: float, exposure: float, phi: float, alpha: float, *, upper: bool) -> float:
        asked.append(alpha)
        return rate_limit(events, exposure, phi, alpha, upper=upper)

    monkeypatch.setattr(contrast, "rate_limit", recorded)
    decoded = decode(watch)
    weighings([set_up(decoded, decoded.metrics[0], SETTINGS, onset_prior(decoded.usable, LOOKS), 1.0)])
    return asked


@pytest.mark.parametrize("spec", [ERRORS, LATENCY, replace(ERRORS, direction=Direction.EITHER)])
def test_the_limits_of_all_bounds_and_directions_share_half_of_the_budget(
    spec: MetricSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A union bound: the chances of being wrong add up to half of the budget, the other half is the evidence's."""
    service = Service(design=Design.BEFORE_AFTER, replicas=1, past=PAST, looks=LOOKS)
    asked = _alphas(observe(service, np.random.default_rng(3), (spec,)), monkeypatch)
    assert sum(asked) == pytest.approx(SETTINGS.budget / 2)
    assert len(asked) > 1 or spec == ERRORS
