"""What is marked on a time axis, and the staircase of the traffic share."""

from dataclasses import replace
from typing import Any

from tests.samples import DEPLOYED_AT, a_watch
from watchdog.model import Action, ActionKind, ActionState, Steps, Watch
from watchdog.moments import asked_shares, moments, onset

STEPS = Steps(shares=(0.05, 0.25, 1.0), bake_s=10.0, hook="front")


def an_action(kind: ActionKind, at_s: float, state: ActionState = ActionState.APPLIED, **params: Any) -> Action:
    return Action(
        id=f"{kind}-{at_s}", watch_id="d1", kind=kind, state=state, hook="front", service="shop",
        environment="production", from_version="v1", to_version="v2", created_at=DEPLOYED_AT,
        finished_at=DEPLOYED_AT + at_s, params=params,
    )  # fmt: skip


def a_promoted_watch() -> Watch:
    return replace(a_watch(), plan=replace(a_watch().plan, steps=STEPS))


GROWN = [
    an_action(ActionKind.PROMOTE, 30.0, share=0.25),
    an_action(ActionKind.PROMOTE, 40.0, ActionState.NOT_NEEDED, share=0.5),
    an_action(ActionKind.PROMOTE, 50.0, ActionState.FAILED, share=1.0),
    an_action(ActionKind.ROLLBACK, 70.0),
]


def test_promotions_verdict_and_way_back_are_marked() -> None:
    """What took effect, when it did, or had done so already; what failed is no mark."""
    watch = replace(a_promoted_watch(), degraded_at=DEPLOYED_AT + 65.0)
    found = {(m.name, m.at_s, m.look) for m in moments(watch, GROWN)}
    assert found == {
        ("deploy", 0.0, "deploy"),
        ("25 %", 30.0, "step"),
        ("50 %", 40.0, "step"),
        ("verdict", 65.0, "verdict"),
        ("back", 70.0, "back"),
    }


def test_the_share_asked_for_is_a_staircase() -> None:
    """Up at each promotion, down to nothing at the way back, level to the end."""
    stairs = asked_shares(a_promoted_watch(), GROWN, 90.0)
    assert stairs == [
        (0.0, 0.05),
        (30.0, 0.05),
        (30.0, 0.25),
        (40.0, 0.25),
        (40.0, 0.5),
        (70.0, 0.5),
        (70.0, 0.0),
        (90.0, 0.0),
    ]
    assert asked_shares(a_watch(), [], 20.0) == [(0.0, 0.1), (20.0, 0.1)]


def test_where_no_share_was_asked_for_there_is_no_staircase() -> None:
    """A direct deploy has all the traffic."""
    watch = a_watch()
    assert asked_shares(replace(watch, deploy=replace(watch.deploy, share=None)), [], 20.0) == []


def test_an_onset_is_marked_only_where_something_speaks_for_one() -> None:
    """No evidence, no onset; infinite evidence is stored as a word."""
    assert [m.at_s for m in onset(a_watch(), {"since_look": 3, "log_evidence": "inf"})] == [15.0]
    assert onset(a_watch(), {"since_look": 3, "log_evidence": -0.1}) == []
    assert onset(a_watch(), {"since_look": None, "log_evidence": 4.0}) == []
    assert onset(a_watch(), {"since_look": 3, "log_evidence": None}) == onset(a_watch(), None) == []
