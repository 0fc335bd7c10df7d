"""The pages of services: how their deploys went, and what is known of their verdicts before they get more freedom."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.samples import a_watch
from tests.web_server import NOW, World, credential, running
from watchdog.model import Label, LabelKind, Mode, State


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture
def world(server: World) -> World:
    return server.fresh()


def deploys(world: World, count: int, service: str = "shop", *, alarm: bool = False, label: LabelKind | None = None,
            mode: Mode = Mode.NOTIFY) -> None:  # fmt: skip
    """Deploys that are over."""
    for number in range(count):
        name = f"{service}-{alarm}-{label}-{number}"
        watch = a_watch(deploy_id=name, state=State.ROLLED_BACK if alarm else State.PASSED)
        verdict = "DEGRADED" if alarm else "HEALTHY"
        deploy = replace(watch.deploy, service=service)
        world.ledger.put(replace(watch, deploy=deploy, verdict=verdict, mode=mode, created_at=NOW - 60))
        if label is not None:
            world.ledger.labelled[name] = Label(watch_id=name, kind=label, note="", actor="token:ann", at=NOW)


def test_every_service_has_a_row(world: World) -> None:
    """Its mode, its failures and its promise, with a link to its own page."""
    deploys(world, 3)
    deploys(world, 1, "pay/out", alarm=True)
    page = world.get("/services").text
    assert 'href="/services/shop"' in page
    assert 'href="/services/pay%2Fout"' in page
    assert "1 of 1; 2.5–100.0" in page
    assert "1 alarm without a label" in page


def test_only_ones_own_services_have_one() -> None:
    """What the token may not see is not counted either."""
    with running(credentials=[credential("till", "read", services=("till",))]) as world:
        deploys(world, 2)
        assert "shop" not in world.get("/services", as_="till").text


def test_without_deploys_the_page_says_so(world: World) -> None:
    """No empty table."""
    page = world.get("/services").text
    assert "No deploy has been sent" in page
    assert "<table" not in page


def test_deploys_a_week_have_as_many_digits_as_anybody_needs(world: World) -> None:
    """1 521, not 1521.1; and 3.0 of a quiet service."""
    deploys(world, 12)
    assert "12 a week" in world.get("/services/shop").text
    deploys(world, 3, "till")
    assert "3.0 a week" in world.get("/services/till").text


def test_a_kept_promise_speaks_for_the_next_mode(world: World) -> None:
    """400 healthy deploys without an alarm: the rate is below 1 % beyond doubt."""
    deploys(world, 400)
    page = world.get("/services/shop").text
    assert "The promise is kept beyond doubt" in page
    assert 'Ready for the next mode: <code>mode = "approve"</code>' in page


def test_alarms_without_a_label_leave_it_open(world: World) -> None:
    """They could all be false."""
    deploys(world, 400)
    deploys(world, 6, alarm=True)
    page = world.get("/services/shop").text
    assert "6 alarms have no label." in page
    assert "too many alarms without a label" in page
    assert "Ready for" not in page


def test_few_deploys_say_how_many_it_takes(world: World) -> None:
    """A promise of 1 % is not proved by three."""
    deploys(world, 3)
    assert "Without any false alarm it takes 368." in world.get("/services/shop").text


def test_a_broken_promise_speaks_for_the_mode_before(world: World) -> None:
    """20 false alarms of 400."""
    deploys(world, 380)
    deploys(world, 20, alarm=True, label=LabelKind.FALSE_ALARM)
    page = world.get("/services/shop").text
    assert "The promise is broken beyond doubt" in page
    assert 'Less freedom until it is mended: <code>mode = "observe"</code>' in page


def test_what_was_found_and_each_month_are_told(world: World) -> None:
    """Recall by label, and a row for the month."""
    deploys(world, 3, alarm=True, label=LabelKind.RIGHT)
    deploys(world, 1, label=LabelKind.MISSED)
    page = world.get("/services/shop").text
    assert "Found: 3 of 4 deploys that were worse." in page
    assert "All 3 alarms have a label." in page
    assert '<th scope="row">2023-11</th>' in page
