"""What the judge would see: the claimed regressions are found as often as claimed, and no smaller ones are claimed."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from analysis.judge import judge
from analysis.prepare import Observation
from analysis.result import Arm, Design, Direction, JudgeSettings, Kind, MetricSpec
from analysis.sensitivity import Seen, Traffic, sensitivity
from analysis.simulate import ERRORS, GAUGE, Service, ar_levels, gauge_observation, observe

SETTINGS = JudgeSettings()
WEB = Traffic(spec=ERRORS, level=0.004, requests_per_minute=3000.0, past_looks=30)
ORDERS = MetricSpec(name="orders", kind=Kind.RATE, direction=Direction.DOWN_IS_BAD)
SLOW = MetricSpec(name="slow requests", kind=Kind.LATENCY)
CPU = Traffic(spec=GAUGE, level=50.0, sd=3.0, phi=0.5, past_looks=30)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"level": 0.0}, "level"),
        ({"level": 1.0}, "level"),
        ({"level": math.nan}, "level"),
        ({"requests_per_minute": 0.0}, "requests_per_minute"),
        ({"requests_per_minute": math.inf}, "requests_per_minute"),
        ({"share": 1.0}, "share"),
        ({"dispersion": 0.9}, "dispersion"),
        ({"phi": 1.0}, "phi"),
        ({"replicas": 0}, "replicas"),
        ({"look_s": 0.0}, "look_s"),
        ({"design": Design.BEFORE_AFTER, "past_looks": 0}, "past_looks"),
        ({"spec": GAUGE, "level": 50.0}, "sd"),
        ({"spec": MetricSpec(name="leak", kind=Kind.TREND)}, "spec"),
    ],
)
def test_rejects_traffic_that_cannot_be(wrong: dict, named: str) -> None:
    """Each impossible figure is refused by its name."""
    with pytest.raises(ValueError, match=f"^{named}: "):
        replace(WEB, **wrong)


@pytest.mark.parametrize(
    "wrong", [{"minutes": [16.0]}, {"minutes": [1.0], "chances": [1.0]}, {"minutes": [1.0], "budget_share": 0.0}]
)
def test_rejects_questions_beyond_the_watch(wrong: dict) -> None:
    """A time after the watch's end, a sure alarm or no budget have no answer."""
    with pytest.raises(ValueError, match=r"beyond the watch|must lie"):
        sensitivity(WEB, **wrong)


def _as_claimed(claims: list[Seen], watches: Callable[[Seen], list[Observation]], draws: int) -> None:
    """Each claim's own watches alarm as often as claimed, up to the noise of claim and check together."""
    for claim in claims:
        drawn = watches(claim)
        alarms = [verdict.alarm_look is not None for verdict in judge(drawn, [SETTINGS] * len(drawn))]
        variance = claim.chance * (1 - claim.chance) * (1 / len(drawn) + len(claims) / draws)
        assert abs(np.mean(alarms) - claim.chance) <= 3 * math.sqrt(variance), claim


def test_claimed_error_rates_are_found_as_often_as_claimed() -> None:
    """5 min at 3 000 requests a minute, 10 %: other draws, from the simulated service, through the judge."""
    rng = np.random.default_rng(77)
    service = Service(requests=500, replicas=4, past=30, looks=30, step_s=10.0, errors=0.004)

    def watches(claim: Seen) -> list[Observation]:
        return [observe(replace(service, factor=claim.ratio), rng) for _ in range(100)]

    _as_claimed(sensitivity(WEB, minutes=[5.0], draws=200), watches, 200)


def test_claimed_levels_are_found_as_often_as_claimed() -> None:
    """A processor level of four replicas with autocorrelated noise, 5 min."""
    rng = np.random.default_rng(78)

    def levels(replicas: int, intervals: int, level: float) -> np.ndarray:
        return ar_levels(rng, replicas, intervals, level=level, sd=3.0, phi=0.5)

    def watches(claim: Seen) -> list[Observation]:
        return [
            gauge_observation(
                {
                    (Arm.HISTORY, -30): levels(4, 30, 50.0),
                    (Arm.BASELINE, 0): levels(4, 30, 50.0),
                    (Arm.CANDIDATE, 0): levels(1, 30, claim.level_to),
                },
                GAUGE, looks=30, step_s=10.0, design=Design.CONCURRENT,
            )
            for _ in range(100)
        ]  # fmt: skip

    _as_claimed(sensitivity(CPU, minutes=[5.0], draws=200), watches, 200)


def test_against_theory_no_test_could_see_less() -> None:
    """A test that alarms wrongly in 1 % and rightly in half needs 1.6 nats (data processing); ours uses under 12."""
    n, n_other, looks = 50.0, 450.0, 30
    ratio = sensitivity(WEB, minutes=[5.0], chances=[0.5], draws=100)[0].ratio
    true, margin = ratio * n / (ratio * n + n_other), 1.25 * n / (1.25 * n + n_other)
    events = looks * 0.004 * (ratio * n + n_other)
    nats = events * (true * math.log(true / margin) + (1 - true) * math.log((1 - true) / (1 - margin)))
    least = 0.5 * math.log(0.5 / 0.01) + 0.5 * math.log(0.5 / 0.99)
    assert least <= nats <= 12


@pytest.mark.parametrize(
    "traffic",
    [
        replace(WEB, spec=ORDERS, level=0.05, share=0.5),
        replace(WEB, spec=SLOW, level=0.01, replicas=2, past_looks=12),
        replace(WEB, design=Design.BEFORE_AFTER),
    ],
    ids=["orders", "slow-requests", "before-after"],
)
def test_time_buys_sight(traffic: Traffic) -> None:
    """For every kind 3 min show smaller changes than 1 min; nine of ten takes more than one of two."""
    one, surely_one, three, surely_three = sensitivity(traffic, minutes=[1.0, 3.0], draws=40)
    size = [abs(math.log(seen.ratio)) for seen in (three, surely_three, one, surely_one)]
    assert size[0] < size[2]
    assert size[1] < size[3]
    assert size[0] < size[1]
    assert ("a fall of" if traffic.falls else "a rise of") in three.sentence
    assert three.level_to == pytest.approx(three.level_from * three.ratio)


def test_clustered_errors_and_a_shared_budget_cost_sight() -> None:
    """Three times the variance, or a tenth of the budget, hides what was visible."""
    plain, noisy, poor = (
        sensitivity(traffic, minutes=[2.0], chances=[0.5], draws=30, budget_share=share)[0].ratio
        for traffic, share in ((WEB, 1.0), (replace(WEB, dispersion=3.0), 1.0), (WEB, 0.01))
    )
    assert noisy > 1.3 * plain
    assert poor > 1.1 * plain


def test_degenerate_next_to_no_traffic_sees_nothing() -> None:
    """One request a minute: no ratio, and a sentence that says so without a number that is none."""
    blind = sensitivity(replace(WEB, requests_per_minute=1.0, share=0.01), minutes=[1.0], chances=[0.9], draws=20)[0]
    assert math.isnan(blind.ratio)
    assert blind.sentence == "within 1 min no regression of errors is seen with 90 % chance"


def test_the_same_question_gets_the_same_answer() -> None:
    """Seeded: to the bit, and whatever else is asked beside it."""
    alone = sensitivity(WEB, minutes=[0.5], draws=8)
    assert sensitivity(WEB, minutes=[0.3, 0.5], draws=8)[2:] == alone
