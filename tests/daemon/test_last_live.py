"""Which version is live at a place, as its watches tell."""

from dataclasses import replace

import pytest

from tests.samples import a_watch
from watchdog.last_live import before, may_stay, standing
from watchdog.model import AuditEntry, State, Watch


def a(version: str, state: State, *, switches: bool = False) -> Watch:
    """The watch of one version; switches: it waits for a switch of ours before it takes traffic."""
    watch = a_watch(state=state)
    plan = replace(watch.plan, switch_hook="there" if switches else None)
    return replace(watch, deploy=replace(watch.deploy, version=version), plan=plan)


@pytest.mark.parametrize("state", list(State))
def test_a_version_stands_while_its_watch_goes_on_or_ended_with_it(state: State) -> None:
    """What went back, may have gone back, or could not be taken back, comes as a deploy when it is told again."""
    gone = {
        State.SMOKE_FAILED,
        State.SUPERSEDED,
        State.NOT_NEEDED,
        State.FAILED,
        State.UNKNOWN,
        State.VERIFYING,
        State.ROLLED_BACK,
        State.NOT_RECOVERED,
    }
    assert (standing([a("v2", state)], "v2") is None) is (state in gone)


def test_what_never_took_traffic_was_not_live_in_between() -> None:
    """A smoke test that failed, or goes on, leaves the version before it live."""
    live = a("v1", State.PASSED)
    for waits in (a("v2", State.SMOKE_FAILED), a("v2", State.SMOKE, switches=True)):
        assert standing([waits, live], "v1") is live
    assert standing([a("v2", State.CANCELLED, switches=True)], "v2") is None
    assert standing([a("v2", State.PASSED), live], "v1") is None
    assert standing([], "v1") is None


def test_only_a_denied_rollback_says_that_a_version_may_stay() -> None:
    """A step that was denied, or a watch that was stopped, says nothing of it."""
    entries = [
        AuditEntry(at=0.0, watch_id="d1", actor="a", event="operator.deny", before="HELD", after="CANCELLED"),
        AuditEntry(at=0.0, watch_id="d1", actor="a", event="operator.deny", before="WATCHING", after="WATCHING"),
        AuditEntry(at=0.0, watch_id="d1", actor="a", event="operator.cancel", before="HELD", after="CANCELLED"),
    ]
    assert [may_stay([entry]) for entry in entries] == [True, False, False]


def test_a_version_that_was_never_switched_to_is_nothing_to_go_back_to() -> None:
    """Its switch failed, and somebody stopped its watch: the next one comes in place of the version before it."""
    never, live = a("v2", State.CANCELLED, switches=True), a("v1", State.PASSED)
    assert before([never, live], "v3") == "v1"
    assert before([a("v2", State.CANCELLED), live], "v3") == "v2"


def test_a_switch_that_failed_leaves_its_version_to_be_deployed_again() -> None:
    """To run its job once more is the remedy."""
    assert standing([a("v2", State.HELD, switches=True), a("v1", State.PASSED)], "v2") is None


def test_a_version_that_bakes_stands_by_the_deploy_that_came() -> None:
    """Only that one knows with which share and train it was told."""
    base = a("v2", State.PASSED)
    baking = a("v2", State.WATCHING)
    baking = replace(baking, plan=replace(baking.plan, bakes=True))
    assert standing([baking, base], "v2") is base
    assert standing([baking], "v2") is baking
