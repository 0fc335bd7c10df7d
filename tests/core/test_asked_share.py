"""Counts whose exposure is the asked share of the traffic, while that share grows step by step."""

from dataclasses import replace

import numpy as np

from analysis.cases.facts import facts_of, facts_told, put_together
from analysis.judge import judge
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Design, Direction, JudgeSettings, Kind, MetricSpec, VerdictKind

SIGNUPS = MetricSpec(name="signups", kind=Kind.RATE, direction=Direction.DOWN_IS_BAD, configured_share=True)
SETTINGS = JudgeSettings(planned_looks=40)
SHARES = [0.1] * 12 + [None] + [0.5] * 15


def growing(lost: float = 0.0, *, odd: float = 200.0) -> Observation:
    """Visits that cannot be told apart, sign-ups that can; the share changes within look 12, whose counts are `odd`."""
    rng = np.random.default_rng(3)
    samples = {}
    for i, share in enumerate(SHARES):
        means = (odd, odd) if share is None else (200.0 * (1 - share), 200.0 * share * (1 - lost))
        value = tuple(float(rng.poisson(mean)) for mean in means)
        samples["signups", i] = Cells(("baseline", "candidate"), value=value, total=(1000.0, 1000.0))
    facts = {i: LookFacts(share=share) for i, share in enumerate(SHARES)}
    return Observation(
        design=Design.CONCURRENT,
        step_s=10.0,
        metrics=(SIGNUPS,),
        samples=samples,
        facts=facts,
        looks=len(SHARES),
        share=0.5,
    )


def test_a_growing_share_is_no_loss() -> None:
    """Each look has the exposure of its own share; with the last one for all it would have been a rollback."""
    assert judge([growing()], [SETTINGS])[0].kind is not VerdictKind.DEGRADED
    unknown = replace(growing(), facts={})
    assert judge([unknown], [SETTINGS])[0].kind is VerdictKind.DEGRADED


def test_a_real_loss_is_seen_at_any_share() -> None:
    """Half of the sign-ups lost."""
    assert judge([growing(lost=0.5)], [SETTINGS])[0].kind is VerdictKind.DEGRADED


def test_what_was_said_before_a_step_stands_after_it() -> None:
    """The path up to the step has the same bits before and after the share grew."""
    before = judge([replace(growing(), looks=12, share=0.1)], [SETTINGS])[0].evidence[0].path
    assert judge([growing()], [SETTINGS])[0].evidence[0].path[:12] == before


def test_the_look_in_which_the_share_changed_is_not_weighed() -> None:
    """Whatever was counted in it."""
    paths = [judge([growing(odd=odd)], [SETTINGS])[0].evidence[0].path for odd in (200.0, 5.0)]
    assert abs(paths[0][12] - paths[0][11]) < 1e-12
    assert paths[0][:13] == paths[1][:13]


def test_a_recorded_share_is_read_again_and_a_changed_one_is_no_share_of_a_longer_look() -> None:
    """Facts go into a case and come back; two steps put together have a share only where it is the same."""
    facts = {i: LookFacts(share=share) for i, share in enumerate(SHARES)}
    assert facts_of(facts_told(facts)) == facts
    put = put_together(facts, 4)
    assert [put[i].share for i in range(5)] == [0.1, 0.1, 0.1, None, 0.5]
