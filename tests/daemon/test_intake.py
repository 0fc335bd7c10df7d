"""Deploy events come in."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.fakes import FakeClock, NoOptions
from tests.samples import DEPLOYED_AT
from watchdog.config import AdapterConfig, Config
from watchdog.errors import AlreadyLiveError, LedgerError, NotFoundError, RefusedError
from watchdog.intake import Asking, DeployRequest, Intake, Received
from watchdog.ledger import open_ledger
from watchdog.model import (
    AuditEntry,
    Beginning,
    Change,
    Claim,
    HoldReason,
    MessageKind,
    Mode,
    Recorded,
    Severity,
    State,
    Strategy,
)
from watchdog.planning import Pace, plan_for
from watchdog.ports import Ledger
from watchdog.strategies import STRATEGIES
from watchdog.telling import message


def a_config() -> Config:
    return Config.model_validate(
        {
            "sources": {"pages": AdapterConfig(kind="fake", options=NoOptions())},
            "hooks": {"back": AdapterConfig(kind="fake", options=NoOptions())},
            "services": {
                "shop": {
                    "source": "pages",
                    "mode": "approve",
                    "rollback_hook": "back",
                    "watch_s": 90,
                    "environments": ["stage"],
                    "metrics": [{"name": "errors", "kind": "ratio", "bad": 'r{code="500"}', "total": "r"}],
                }
            },
        }
    )


@pytest.fixture
def ledger(tmp_path: Path, clock: FakeClock) -> Iterator[Ledger]:
    opened = open_ledger(str(tmp_path / "w.db"), clock=clock, owner="me", sinks_for=lambda service: ())
    yield opened
    opened.close()


@pytest.fixture
def intake(ledger: Ledger, clock: FakeClock) -> Intake:
    return Intake(config=a_config(), paces={"pages": Pace(step_s=5.0, settle_s=1.0)}, ledger=ledger, clock=clock)


def event(**fields: Any) -> DeployRequest:
    return DeployRequest.model_validate({"service": "shop", "version": "v2", "previous_version": "v1", **fields})


def test_a_deploy_becomes_a_watch_with_its_frozen_plan(intake: Intake, ledger: Ledger) -> None:
    """Environment, strategy, rhythm and settings come from the configuration."""
    recorded, watch = intake.receive(event(id="d1", share=0.1), actor="ci")
    assert recorded is Recorded.CREATED
    assert (watch.state, watch.mode, watch.deploy.strategy) == (State.WATCHING, Mode.APPROVE, Strategy.CANARY)
    assert (watch.plan.step_s, watch.plan.judge.planned_looks) == (5.0, 18)
    assert watch.next_look_at == DEPLOYED_AT + 6.0
    assert ledger.watch("d1") == watch


def test_a_deploy_to_an_environment_that_is_not_watched_is_refused(intake: Intake, ledger: Ledger) -> None:
    """Staging is not judged by production's metrics, nor is production's way back its own."""
    with pytest.raises(RefusedError, match=r"'staging' would be judged by its metrics.*`environments`"):
        intake.receive(event(id="d1", environment="staging"), actor="ci")
    assert intake.receive(event(id="d2", environment="stage"), actor="ci")[1].deploy.environment == "stage"
    assert [watch.id for watch in ledger.watches()] == ["d2"]


def test_only_who_may_speak_for_a_whole_train_may_join_it(intake: Intake, ledger: Ledger) -> None:
    """What joins can hold the others, and take them back."""
    begin = intake.config.model_copy(update={"services": {"shop": intake.config.services["shop"]}})
    both = begin.model_copy(update={"services": {**begin.services, "blog": begin.services["shop"]}})
    intake = replace(intake, config=both)
    intake.receive(event(id="d1", train="r42"), actor="ci")
    joining = event(id="d2", service="blog", train="r42")
    with pytest.raises(RefusedError, match="has services that blog-ci may not speak for"):
        intake.receive(joining, actor="blog-ci", serves=lambda service: service == "blog")
    assert [watch.id for watch in ledger.watches()] == ["d1"]
    assert intake.receive(joining, actor="ci", serves=lambda service: True)[0] is Recorded.CREATED
    again = intake.receive(joining, actor="blog-ci", serves=lambda service: service == "blog")
    assert again[0] is Recorded.SAME, "a retry asks for nothing new"


def test_the_same_deploy_twice_is_one_watch(intake: Intake, ledger: Ledger) -> None:
    """A CI that retries gets the same answer; the same id with another body is a conflict."""
    intake.receive(event(id="d1"), actor="ci")
    assert intake.receive(event(id="d1"), actor="ci")[0] is Recorded.SAME
    assert intake.receive(event(id="d1", version="v3"), actor="ci")[0] is Recorded.CONFLICT
    assert len(ledger.watches()) == 1


def test_a_newer_deploy_supersedes_the_older_watch(intake: Intake, ledger: Ledger) -> None:
    """The right version is judged; the old watch says by what it was replaced."""
    intake.receive(event(id="d1"), actor="ci")
    intake.receive(event(id="d2", version="v3", previous_version="v2"), actor="ci")
    old = ledger.watch("d1")
    assert old is not None
    assert old.state is State.SUPERSEDED
    assert "v3" in old.sentence


def test_of_two_deploys_that_reach_two_replicas_only_the_newer_is_watched(intake: Intake, ledger: Ledger) -> None:
    """Clocks of replicas differ a little: whichever was recorded first, nobody is left to judge the older one."""
    behind = replace(intake, clock=FakeClock(DEPLOYED_AT - 1.5))
    intake.receive(event(id="newer", version="v3", previous_version="v2"), actor="ci")
    _, older = behind.receive(event(id="older"), actor="ci")
    newer = ledger.watch("newer")
    assert newer is not None
    assert (older.state, newer.state) == (State.SUPERSEDED, State.WATCHING)


def test_a_retry_after_a_crash_supersedes_what_the_first_try_could_not(intake: Intake, ledger: Ledger) -> None:
    """The daemon died between recording and superseding; the same event again does the rest."""
    intake.receive(event(id="d1"), actor="ci")
    _, newer = intake.receive(event(id="d2", version="v3", previous_version="v2"), actor="ci")
    older = replace(newer, id="d0", created_at=newer.created_at - 1, deploy=replace(newer.deploy, id="d0"))
    ledger.record_deploy(older, [], [])
    recorded, _ = intake.receive(event(id="d2", version="v3", previous_version="v2"), actor="ci")
    left = ledger.watch("d0")
    assert left is not None
    assert (recorded, left.state) == (Recorded.SAME, State.SUPERSEDED)


def test_a_deploy_that_another_request_has_just_recorded_ends_the_older_watch_too(
    intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever recorded it may fail before it comes to that; nobody is told that it is on record before it is so."""
    intake.receive(event(id="d1"), actor="ci")
    record = ledger.record_deploys

    def second(begun: Sequence[Beginning]) -> list[Recorded | BaseException]:
        record([replace(one, ended=()) for one in begun])
        return record(begun)

    monkeypatch.setattr(ledger, "record_deploys", second)
    told, _ = intake.receive(event(id="d2", version="v3", previous_version="v2"), actor="ci")
    assert told is Recorded.SAME
    assert [ledger.watch(name).state for name in ("d1", "d2")] == [State.SUPERSEDED, State.WATCHING]  # type: ignore[union-attr]


def test_the_previous_version_is_remembered(intake: Intake) -> None:
    """CI need not send it when the ledger knows what was live."""
    intake.receive(event(id="d1"), actor="ci")
    _, watch = intake.receive(event(id="d2", version="v3", previous_version=None), actor="ci")
    assert watch.deploy.previous_version == "v2"


def test_a_version_that_is_live_already_was_not_deployed(intake: Intake, ledger: Ledger, clock: FakeClock) -> None:
    """A resync or a job that runs once more ends no watch; the same event again is known, with and without an id."""
    named = event(id="d1", previous_version=None)
    unnamed = event(deployed_at=DEPLOYED_AT, previous_version=None)
    intake.receive(event(id="d0", version="v1", previous_version="v0"), actor="ci")
    assert intake.receive(named, actor="ci")[0] is Recorded.CREATED
    for again in (event(id="d2", previous_version=None), unnamed, event(previous_version=None)):
        clock.advance(60)
        with pytest.raises(AlreadyLiveError, match="v2 is live already; nothing was deployed"):
            intake.receive(again, actor="ci")
    assert intake.receive(named, actor="ci")[0] is Recorded.SAME
    assert [(watch.id, watch.state) for watch in ledger.watches()] == [
        ("d1", State.WATCHING),
        ("d0", State.SUPERSEDED),
    ]


def test_an_event_without_an_id_that_comes_again_is_known(intake: Intake) -> None:
    """The id that follows from it says so, though its version is live by now."""
    intake.receive(event(id="d0", version="v1", previous_version="v0"), actor="ci")
    unnamed = event(deployed_at=DEPLOYED_AT, previous_version=None)
    created, same = (intake.receive(unnamed, actor="ci") for _ in range(2))
    assert (created[0], same[0], same[1].id) == (Recorded.CREATED, Recorded.SAME, created[1].id)


@pytest.mark.parametrize(
    "more",
    [{"previous_version": "v0"}, {"share": 0.5}, {"migration": "contract"}, {"train": "r42"}],
    ids=lambda more: next(iter(more)),
)
def test_what_says_more_of_a_live_version_is_watched(intake: Intake, clock: FakeClock, more: dict[str, Any]) -> None:
    """A word of the sender's own, another share, a migration or a train are not on record yet."""
    intake.receive(event(id="d0", version="v1", previous_version="v0"), actor="ci")
    clock.advance(1)
    intake.receive(event(id="d1", share=0.1), actor="ci")
    clock.advance(1)
    with pytest.raises(AlreadyLiveError):
        intake.receive(event(id="d2", previous_version=None, share=0.1), actor="ci")
    again = event(**{"id": "d2", "previous_version": None, **more})
    assert intake.receive(again, actor="ci")[0] is Recorded.CREATED


def test_what_is_live_elsewhere_is_deployed_here(intake: Intake) -> None:
    """Each environment has its own."""
    intake.receive(event(id="d0", version="v1", previous_version="v0", environment="stage"), actor="ci")
    intake.receive(event(id="d1"), actor="ci")
    recorded, watch = intake.receive(event(id="d2", previous_version=None, environment="stage"), actor="ci")
    assert (recorded, watch.deploy.previous_version) == (Recorded.CREATED, "v1")


@pytest.mark.parametrize(("ended_by", "is_live"), [("operator.deny", True), ("expired", False)])
def test_a_version_called_worse_is_live_only_if_a_human_said_that_it_may_stay(
    intake: Intake, ledger: Ledger, clock: FakeClock, ended_by: str, is_live: bool
) -> None:
    """Where nobody answered they may have gone back by hand, so it is watched when it is told of again."""
    intake.receive(event(id="d0", version="v1", previous_version="v0"), actor="ci")
    clock.advance(1)
    intake.receive(event(id="d1"), actor="ci")
    _give_up(ledger, "d1", clock, ended_by)
    clock.advance(1)
    again = event(id="d2", previous_version=None)
    if is_live:
        with pytest.raises(AlreadyLiveError):
            intake.receive(again, actor="ci")
    else:
        assert intake.receive(again, actor="ci")[0] is Recorded.CREATED


def _give_up(ledger: Ledger, deploy_id: str, clock: FakeClock, ended_by: str) -> None:
    """Walk a watch that was called worse to HELD, and to CANCELLED."""
    watch = ledger.watch(deploy_id)
    assert watch is not None
    held = {"hold": HoldReason.COOL_DOWN, "degraded_at": clock.now(), "hold_until": clock.now() + 60}
    for before, after, fields in ((State.WATCHING, State.HELD, held), (State.HELD, State.CANCELLED, {})):
        entry = AuditEntry(
            at=clock.now(), watch_id=deploy_id, actor="t", event=ended_by, before=before.value, after=after.value
        )
        told = message(watch, MessageKind.HELD, Severity.PAGE, "x", key=after.value)
        moved = Change(
            watch_id=deploy_id, at=clock.now(), expect_state=before, to_state=after, fields=fields,
            audit=(entry,), messages=(told,),
        )  # fmt: skip
        assert ledger.commit(moved)


def test_a_version_comes_back_after_it_had_gone(intake: Intake, ledger: Ledger, clock: FakeClock) -> None:
    """After its rollback, and after a newer one was live in between, it is deployed and watched."""
    intake.receive(event(id="d0", version="v1", previous_version="v0"), actor="ci")
    intake.receive(event(id="d1"), actor="ci")
    _roll_back(ledger, "d1", clock)
    clock.advance(1)
    recorded, watch = intake.receive(event(id="d2", previous_version=None), actor="ci")
    assert (recorded, watch.deploy.previous_version) == (Recorded.CREATED, "v1")
    clock.advance(1)
    intake.receive(event(id="d3", version="v3", previous_version=None), actor="ci")
    clock.advance(1)
    recorded, watch = intake.receive(event(id="d4", previous_version=None), actor="ci")
    assert (recorded, watch.deploy.previous_version) == (Recorded.CREATED, "v3")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"previous_version": None}, "previous_version"),
        ({"previous_version": "v2"}, "nothing was deployed"),
        ({"deployed_at": DEPLOYED_AT + 61}, "61 s in the future"),
        ({"deployed_at": DEPLOYED_AT * 1000}, "are these milliseconds"),
        ({"deployed_at": DEPLOYED_AT - 3601}, "1.0 h in the past"),
        ({"deployed_at": 1.0}, "a placeholder"),
    ],
)
def test_an_event_that_cannot_be_watched_is_refused_with_the_reason(
    intake: Intake, ledger: Ledger, fields: dict[str, Any], said: str
) -> None:
    """Nothing is stored of it."""
    with pytest.raises(RefusedError, match=said):
        intake.receive(event(**fields), actor="ci")
    assert ledger.watches() == []


def test_an_unknown_service_is_named_with_its_nearest(intake: Intake) -> None:
    """A typing error is the usual cause."""
    with pytest.raises(NotFoundError, match="did you mean 'shop'"):
        intake.receive(event(service="shopp"), actor="ci")


@pytest.mark.parametrize(
    "version", ["$(touch x)", '"} or vector(1)', "-rf", "", "a b", "v2\n", "v" * 129, "\ud800", "v2\u202e", "ｖ2"]
)
def test_identifiers_are_plain_and_short(version: str) -> None:
    """What reaches hooks, queries and pages is harmless before anything else looks at it."""
    with pytest.raises(ValidationError):
        event(version=version)


@given(st.text(max_size=200))
def test_any_accepted_version_is_plain(version: str) -> None:
    """Whatever is accepted has only the characters of the rule."""
    try:
        accepted = event(version=version, previous_version=None).version
    except ValidationError:
        return
    assert accepted.isascii()
    assert not set(accepted) & set(" \n\"'$`\\{}()<>&;|*?!")


def test_our_own_way_back_is_watched_but_never_rolled_back(intake: Intake, ledger: Ledger, clock: FakeClock) -> None:
    """A CI that echoes every event reports our rollback as a deploy: no rollback of the rollback."""
    config = a_config()
    auto = config.model_copy(
        update={"services": {"shop": config.services["shop"].model_copy(update={"mode": Mode.AUTO})}}
    )
    automatic = replace(intake, config=auto)
    _, bad = automatic.receive(event(id="d1"), actor="ci")
    _roll_back(ledger, bad.id, clock)
    _, echo = automatic.receive(event(id="d2", version="v1", previous_version="v2"), actor="ci")
    assert echo.mode is Mode.NOTIFY
    clock.advance(3601)
    _, later = automatic.receive(event(id="d3", version="v1", previous_version="v2"), actor="ci")
    assert later.mode is Mode.AUTO


def _roll_back(ledger: Ledger, deploy_id: str, clock: FakeClock) -> None:
    """Walk a watch to ROLLED_BACK by the ledger's own rules."""
    from watchdog.intended import rollback_action
    from watchdog.model import ActionState, ActionUpdate

    watch = ledger.watch(deploy_id)
    assert watch is not None
    action = rollback_action(
        replace(watch, plan=replace(watch.plan, rollback_hook="back")), ActionState.INTENT, clock.now()
    )
    assert action is not None

    def move(before: State, after: State, **more: Any) -> None:
        assert ledger.commit(
            Change(
                watch_id=deploy_id, at=clock.now(), expect_state=before, to_state=after,
                audit=(AuditEntry(at=clock.now(), watch_id=deploy_id, actor="t", event="t"),),
                messages=(message(watch, MessageKind.ACTION, Severity.INFO, "x", key=after.value),), **more,
            )
        )  # fmt: skip

    move(State.WATCHING, State.INTENT, new_action=action)
    assert ledger.claim_action(Claim(action_id=action.id, owner="me", now=clock.now(), timeout_s=1)) is not None
    done = ActionUpdate(id=action.id, expect=frozenset({ActionState.RUNNING}), to=ActionState.APPLIED)
    move(State.RUNNING, State.VERIFYING, action=done)
    move(State.VERIFYING, State.ROLLED_BACK)


def test_a_plan_takes_the_sources_rhythm_unless_the_service_sets_one() -> None:
    """look_s = 0 and settle_s = -1 mean: as the source does."""
    plan = plan_for("shop", a_config(), Pace(step_s=10.0, settle_s=3.0), Strategy.DIRECT)
    assert (plan.step_s, plan.settle_s, plan.judge.planned_looks, plan.baseline_looks) == (10.0, 3.0, 9, 90)


@pytest.mark.parametrize("migration", ["contract", "irreversible", "unknown"])
def test_code_and_a_migration_that_v1_may_not_survive_are_warned_about_at_once(
    clock: FakeClock, tmp_path: Path, migration: str
) -> None:
    """Before anything goes wrong: there will be no automatic way back."""
    told = open_ledger(str(tmp_path / "m.db"), clock=clock, owner="me", sinks_for=lambda service: ("log",))
    intake = Intake(config=a_config(), paces={"pages": Pace(step_s=5.0, settle_s=1.0)}, ledger=told, clock=clock)
    intake.receive(event(id="d1", migration=migration), actor="ci")
    started, warning = (row.message for row, _ in told.messages("d1"))
    assert [entry.event for entry in told.audit("d1")] == ["deploy.received", "deploy.warned"]
    told.close()
    assert (started.severity, warning.severity) == (Severity.INFO, Severity.WARNING)
    assert migration in warning.sentence


@pytest.mark.parametrize("migration", ["none", "expand"])
def test_a_migration_that_both_versions_can_live_with_is_not_warned_about(
    clock: FakeClock, tmp_path: Path, migration: str
) -> None:
    """A warning on every deploy is none."""
    told = open_ledger(str(tmp_path / "m.db"), clock=clock, owner="me", sinks_for=lambda service: ("log",))
    intake = Intake(config=a_config(), paces={"pages": Pace(step_s=5.0, settle_s=1.0)}, ledger=told, clock=clock)
    intake.receive(event(id="d1", migration=migration), actor="ci")
    assert len(told.messages("d1")) == 1
    told.close()


@pytest.mark.parametrize(("strategy", "arms"), [(Strategy.DIRECT, 2), (Strategy.CANARY, 2)])
def test_a_control_series_is_asked_for_where_there_is_no_old_version_to_compare_with(
    intake: Intake, strategy: Strategy, arms: int
) -> None:
    """Direct: beside the candidate. A canary has its old version, and needs none."""
    config = intake.config
    shop = config.services["shop"].model_copy(update={"control": {"job": "checkout"}, "selector": {"job": "shop"}})
    told = replace(intake, config=config.model_copy(update={"services": {"shop": shop}}))
    _, watch = told.receive(event(id="d1", strategy=strategy), actor="ci")
    found = STRATEGIES[strategy].arms(watch, 3)
    assert len(found) == arms
    controls = [arm for arm in found if arm.arm == "control"]
    assert [dict(arm.labels) for arm in controls] == ([{"job": "checkout"}] if strategy is Strategy.DIRECT else [])
    assert all((arm.start, arm.end) == (found[0].start, found[0].end) for arm in controls)


# --- several at once --------------------------------------------------------------------------------------


def test_of_events_that_come_together_each_is_answered_for_itself(intake: Intake, ledger: Ledger) -> None:
    """What is wrong with one touches no other; one that is known already is told as such."""
    intake.receive(event(id="d1"), actor="ci")
    told = [event(id="d1"), event(service="nobody"), event(id="d2", environment="stage"), event(id="d1", version="v9")]
    same, unknown, created, conflict = intake.receive_all([Asking(one, "ci") for one in told])
    assert isinstance(same, Received)
    assert (same.recorded, same.begun) == (Recorded.SAME, None)
    assert isinstance(unknown, NotFoundError)
    assert isinstance(created, Received)
    assert (created.recorded, created.watch) == (Recorded.CREATED, ledger.watch("d2"))
    assert created.begun is not None
    assert created.begun.audit == ledger.audit("d2")
    assert list(created.begun.actions) == ledger.actions(watch_id="d2")
    assert isinstance(conflict, Received)
    assert conflict.recorded is Recorded.CONFLICT


def test_of_two_deploys_of_a_service_that_come_together_the_newer_is_watched(
    intake: Intake, ledger: Ledger, clock: FakeClock
) -> None:
    """Neither has seen the other when it began; the same one twice is one."""
    told = [event(id="d1"), event(id="d2", version="v3", previous_version="v2"), event(id="d1")]
    found = intake.receive_all([Asking(one, "ci") for one in told])
    assert [one.recorded for one in found if isinstance(one, Received)] == [
        Recorded.CREATED,
        Recorded.CREATED,
        Recorded.SAME,
    ]
    assert [ledger.watch(name).state for name in ("d1", "d2")] == [State.SUPERSEDED, State.WATCHING]  # type: ignore[union-attr]


def test_an_event_that_comes_twice_together_costs_the_others_no_write_of_their_own(
    tmp_path: Path, intake: Intake, clock: FakeClock
) -> None:
    """A repetition that broke the commit it shares would have each of them written anew."""
    written: list[str] = []
    ledger = open_ledger(
        str(tmp_path / "other.db"), clock=clock, owner="me", sinks_for=lambda service: (), failpoint=written.append
    )
    told = [event(id="d1"), event(id="d2", environment="stage"), event(id="d1"), event(id="d1", version="v9")]
    found = replace(intake, ledger=ledger).receive_all([Asking(one, "ci") for one in told])
    assert [one.recorded for one in found if isinstance(one, Received)] == [
        Recorded.CREATED,
        Recorded.CREATED,
        Recorded.SAME,
        Recorded.CONFLICT,
    ]
    assert written.count("ledger-record-before-commit") == 2
    ledger.close()


def test_a_ledger_that_cannot_write_acknowledges_none_of_them(
    intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sender hears of it, and may send again."""
    broken = LedgerError("the ledger could not be written (disk is full)")
    monkeypatch.setattr(ledger, "record_deploys", lambda begun: [broken] * len(begun))
    found = intake.receive_all([Asking(event(id="d1"), "ci"), Asking(event(id="d2", environment="stage"), "ci")])
    assert found == [broken, broken]
    assert ledger.watches() == []
