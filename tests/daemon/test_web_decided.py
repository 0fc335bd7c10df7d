"""Decisions by a link from a chat: late, twice, or after somebody else. Everybody learns what became of it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.daemon.test_web_sessions import hold, seal_of, sign_in, submit
from tests.samples import a_watch
from tests.web_server import NOW, World, running
from watchdog.model import AuditEntry, HoldReason, State


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture
def world(server: World) -> Iterator[World]:
    server.session.cookies.clear()
    yield server.fresh()
    server.session.cookies.clear()


def decided_by(world: World, actor: str, event: str, *, at: float = NOW) -> None:
    """Somebody was quicker."""
    world.ledger.put(a_watch(state=State.ROLLED_BACK))
    world.ledger.entries.append(AuditEntry(at=at, watch_id="d1", actor=actor, event=event, why="<i>real</i>"))


def test_an_old_link_says_who_decided_and_leads_to_the_deploy(world: World) -> None:
    """Approve, opened from Slack after the rollback."""
    decided_by(world, "token:bob", "operator.approve")
    sign_in(world)
    answer = world.get("/deploys/d1/approve", as_=None)
    assert answer.status_code == 409
    assert "shop v2 is rolled back." in answer.text
    assert "bob approved the rollback at 2023-11-14 22:13:20 UTC: &lt;i&gt;real&lt;/i&gt;" in answer.text
    assert 'href="/deploys/d1"' in answer.text
    assert "Sign out" in answer.text  # still somebody


def test_a_second_click_finds_what_the_first_one_did(world: World) -> None:
    """The form sent twice is one decision, and both answers lead to the deploy."""
    hold(world)
    sign_in(world)
    seal = seal_of(world, "/deploys/d1/approve")
    answers = [submit(world, "/deploys/d1/approve", seal=seal, seen="HELD") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert answers[1].headers["Location"] == "/deploys/d1"
    assert [entry.event for entry in world.ledger.entries] == ["operator.approve"]


@pytest.mark.parametrize(("actor", "event"), [("token:bob", "operator.approve"), ("token:admin", "operator.deny")])
def test_another_decision_is_not_taken_for_ones_own(world: World, actor: str, event: str) -> None:
    """Somebody else's approval, or one's own denial, is told instead."""
    hold(world)
    sign_in(world)
    seal = seal_of(world, "/deploys/d1/approve")
    decided_by(world, actor, event)
    answer = submit(world, "/deploys/d1/approve", seal=seal, seen="HELD")
    assert answer.status_code == 409
    assert f"{actor.removeprefix('token:')} {'approved' if event.endswith('approve') else 'denied'}" in answer.text
    assert len(world.ledger.entries) == 1


def test_an_older_decision_of_ones_own_is_no_second_click(world: World) -> None:
    """Approved an hour ago and held again since: this one did nothing, and says so."""
    hold(world)
    sign_in(world)
    seal = seal_of(world, "/deploys/d1/approve")
    decided_by(world, "token:admin", "operator.approve", at=NOW - 3600)
    assert submit(world, "/deploys/d1/approve", seal=seal, seen="HELD").status_code == 409


def test_what_ended_by_itself_is_told_without_a_name(world: World) -> None:
    """Nobody decided before the hold expired."""
    world.ledger.put(a_watch(state=State.CANCELLED))
    sign_in(world)
    assert "Nobody has decided about it" in world.get("/deploys/d1/deny", as_=None).text


def test_a_hold_says_why_and_until_when(world: World) -> None:
    """In words, on the list and on the deploy's own page."""
    world.ledger.put(replace(a_watch(state=State.HELD), hold=HoldReason.COOL_DOWN, hold_until=1.7e9))
    assert "rolled back not long ago" in world.get("/").text
    page = world.get("/deploys/d1").text
    assert "rolled back not long ago" in page
    assert '<span data-due><time datetime="2023-11-14T22:13:20Z"' in page


def test_what_is_left_to_do_and_its_train_stand_on_the_page(world: World) -> None:
    """Step by step, the commands as such."""
    watch = a_watch(state=State.HELD)
    world.ledger.put(replace(watch, deploy=replace(watch.deploy, train="monday"), hold=HoldReason.TRAIN))
    page = world.get("/deploys/d1").text
    assert "<code>deploy-watchdog deny d1</code>" in page
    assert "another deploy of its train did not go back" in page
    assert "<dd>monday</dd>" in page
    assert "train monday" in world.get("/").text
