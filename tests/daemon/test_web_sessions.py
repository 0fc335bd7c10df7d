"""Signing in and deciding: nobody acts by a page without a session, a scope, our own form and an up-to-date look."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from tests.samples import a_watch
from tests.web_server import World, credential, running, token
from watchdog.model import Action, ActionKind, ActionState, LabelKind, State
from watchdog.web.sessions import COOKIE, LASTS_S, new_session, read_session

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture
def world(server: World) -> Iterator[World]:
    server.session.cookies.clear()
    yield server.fresh()
    server.session.cookies.clear()


def submit(world: World, path: str, headers: dict[str, str] | None = None, **fields: str) -> requests.Response:
    sent: dict[str, Any] = {"data": fields, "headers": {**FORM, **(headers or {})}, "allow_redirects": False}
    return world.ask("POST", path, **sent)


def sign_in(world: World, name: str = "admin") -> requests.Response:
    return submit(world, "/sign-in", token=token(name), onward="/deploys/d1")


def seal_of(world: World, path: str) -> str:
    found = re.search(r'name="seal" value="([0-9a-f]{64})"', world.get(path, as_=None).text)
    assert found is not None
    return found[1]


def hold(world: World) -> None:
    """A deploy whose rollback waits for approval."""
    world.ledger.put(a_watch(state=State.HELD))
    world.ledger.intended.append(
        Action(
            id="a1", watch_id="d1", kind=ActionKind.ROLLBACK, state=ActionState.HELD, hook="back", service="shop",
            environment="production", from_version="v2", to_version="v1", created_at=1.0,
        )
    )  # fmt: skip


def test_a_token_opens_a_session_that_scripts_and_other_sites_cannot_use(world: World) -> None:
    """The cookie is HttpOnly and SameSite=Strict, and leads on to where the reader wanted to go."""
    answer = sign_in(world)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/deploys/d1")
    cookie = answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token("admin") not in cookie
    assert world.get("/", as_=None).status_code == 200


def test_two_tokens_of_one_user_live_beside_each_other_during_a_rotation() -> None:
    """Both speak for the same name; the former one's session ends with it, the new one's stays."""
    old, new = (
        credential("ops", "admin"),
        replace(credential("ops", "admin"), secret=SecretStr("the-new-token-0123456789")),
    )
    with running(credentials=[new, old], webhook_secrets=[]) as world:
        for secret in (old.secret, new.secret):
            bearer = {"Authorization": f"Bearer {secret.get_secret_value()}"}
            assert world.get("/api/v1/deploys", as_=None, headers=bearer).status_code == 200
        cookies = [
            submit(world, "/sign-in", token=secret.get_secret_value(), onward="/").cookies[COOKIE]
            for secret in (old.secret, new.secret)
        ]
        world.session.cookies.clear()
        assert [world.get("/", as_=None, cookies={COOKIE: cookie}).status_code for cookie in cookies] == [200, 200]
    with running(credentials=[new], webhook_secrets=[]) as world:
        after = [world.get("/", as_=None, cookies={COOKIE: cookie}, allow_redirects=False) for cookie in cookies]
        assert (after[0].status_code == 200, after[1].status_code == 200) == (False, True)
        bearer = {"Authorization": f"Bearer {old.secret.get_secret_value()}"}
        assert world.get("/api/v1/deploys", as_=None, headers=bearer).status_code == 401


@pytest.mark.parametrize("given", ["", "wrong", "token-of-admin-012345678"])
def test_a_wrong_token_opens_nothing(world: World, given: str) -> None:
    """The form again, and no cookie."""
    answer = submit(world, "/sign-in", token=given, onward="/")
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers
    assert "nobody's token" in answer.text.replace("&#39;", "'")


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_another_site_cannot_sign_somebody_in(world: World, headers: dict[str, str]) -> None:
    """Nobody works unknowingly under another's name."""
    assert submit(world, "/sign-in", headers, token=token("admin")).status_code == 403


def test_a_session_does_not_open_the_api(world: World) -> None:
    """The API takes tokens only: a cookie is sent by itself."""
    sign_in(world)
    world.ledger.put(a_watch())
    assert world.get("/api/v1/deploys", as_=None).status_code == 401
    assert world.post("/api/v1/deploys/d1/rollback", b"{}", as_=None).status_code == 401


def test_signing_out_ends_it(world: World) -> None:
    """The cookie is taken back, by our own form only."""
    sign_in(world)
    seal = seal_of(world, "/")
    assert submit(world, "/sign-out", seal="0" * 64).status_code == 403
    assert submit(world, "/sign-out", seal=seal).status_code == 303
    assert world.get("/", as_=None).status_code == 401


def test_a_session_is_over_forged_or_of_a_changed_token_in_every_other_case() -> None:
    """Good until its end, under its own key, unchanged to the letter."""
    secret, now = b"k" * 32, 1.7e9
    cookie = new_session("ann", secret, now=now, nonce="n")
    assert read_session(cookie, secret, now=now + LASTS_S - 1) is not None
    assert read_session(cookie, secret, now=now + LASTS_S) is None
    assert read_session(cookie, b"other" * 8, now=now) is None
    for place in range(len(cookie)):
        changed = cookie[:place] + ("1" if cookie[place] != "1" else "2") + cookie[place + 1 :]
        assert read_session(changed, secret, now=now) is None


@pytest.mark.parametrize("cookie", ["", ".", "a.b.c", "YW5u.9999999999.n.", "\u00e9.1.2.3".encode().decode("latin-1")])
def test_a_cookie_of_nonsense_is_nobodys(world: World, cookie: str) -> None:
    """401, never an error of the daemon."""
    answer = world.get("/", as_=None, headers={"Cookie": f"{COOKIE}={cookie}".encode("latin-1")})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("approve", State.HELD, State.INTENT),
        ("deny", State.HELD, State.CANCELLED),
        ("rollback", State.WATCHING, State.INTENT),
        ("cancel", State.WATCHING, State.CANCELLED),
    ],
)
def test_a_button_asks_first_and_acts_then(world: World, verb: str, before: State, after: State) -> None:
    """GET says what will happen and changes nothing; the form does it, with who and why in the audit."""
    hold(world) if before is State.HELD else world.ledger.put(a_watch(state=before))
    sign_in(world)
    seal = seal_of(world, f"/deploys/d1/{verb}")
    assert world.ledger.stored["d1"].state is before
    answer = submit(world, f"/deploys/d1/{verb}", seal=seal, seen=before.value, why="I \u202elooked")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/deploys/d1")
    assert world.ledger.stored["d1"].state is after
    entry = world.ledger.entries[-1]
    assert (entry.actor, entry.event, entry.why) == ("token:admin", f"operator.{verb}", "I looked")


def test_a_label_is_saved_by_its_form(world: World) -> None:
    """With its note; a word that does not exist is refused."""
    world.ledger.put(replace(a_watch(state=State.PASSED), verdict="HEALTHY"))
    sign_in(world, "label")
    assert submit(world, "/deploys/d1/label", seal="").status_code == 403
    world.session.cookies.clear()
    sign_in(world)
    seal = seal_of(world, "/deploys/d1/label")
    assert submit(world, "/deploys/d1/label", seal=seal, seen="PASSED", label="perfect").status_code == 422
    assert submit(world, "/deploys/d1/label", seal=seal, seen="PASSED", label="right", why="ok").status_code == 303
    assert world.ledger.labelled["d1"].kind is LabelKind.RIGHT


@pytest.mark.parametrize("fields", [{}, {"seal": ""}, {"seal": "0" * 64}, {"seal": "\u00e9"}])
def test_a_form_without_its_seal_changes_nothing(world: World, fields: dict[str, str]) -> None:
    """Not even with a good session."""
    hold(world)
    sign_in(world)
    assert submit(world, "/deploys/d1/approve", None, seen="HELD", **fields).status_code == 403
    assert world.ledger.stored["d1"].state is State.HELD


def test_the_seal_of_one_session_does_not_fit_another(world: World) -> None:
    """Somebody else's form is not mine."""
    hold(world)
    sign_in(world)
    seal = seal_of(world, "/deploys/d1/approve")
    world.session.cookies.clear()
    sign_in(world, "approve")
    assert submit(world, "/deploys/d1/approve", seal=seal, seen="HELD").status_code == 403


def test_a_token_or_a_password_is_no_session(world: World) -> None:
    """Neither bearer nor Basic sends a form: the one is for programs, the other is sent by itself."""
    hold(world)
    bearer = {"Authorization": f"Bearer {token('admin')}"}
    assert submit(world, "/deploys/d1/approve", bearer, seal="", seen="HELD").status_code == 401
    assert world.get("/deploys/d1/approve").status_code == 401
    assert world.ledger.stored["d1"].state is State.HELD


def test_a_scope_is_needed_and_the_page_says_which() -> None:
    """A reader sees what could be done and cannot do it."""
    with running(credentials=[credential("reader", "read", "label")]) as world:
        hold(world)
        sign_in(world, "reader")
        page = world.get("/deploys/d1", as_=None).text
        assert "needs the scope approve" in page
        seal = seal_of(world, "/deploys/d1/label")
        assert world.get("/deploys/d1/approve", as_=None).status_code == 403
        assert submit(world, "/deploys/d1/approve", seal=seal, seen="HELD").status_code == 403
        assert world.ledger.stored["d1"].state is State.HELD


def test_a_deploy_that_moved_on_meanwhile_is_left_alone(world: World) -> None:
    """Who confirms what is no longer so is told, and nothing happens."""
    world.ledger.put(a_watch(state=State.WATCHING))
    sign_in(world)
    seal = seal_of(world, "/deploys/d1/rollback")
    hold(world)
    answer = submit(world, "/deploys/d1/rollback", seal=seal, seen="WATCHING")
    assert answer.status_code == 409
    assert world.ledger.stored["d1"].state is State.HELD


def test_a_service_that_one_may_not_see_cannot_be_decided_about() -> None:
    """404, as for one that does not exist."""
    with running(credentials=[credential("other", "admin", services=("till",))]) as world:
        hold(world)
        sign_in(world, "other")
        seal = seal_of(world, "/")
        assert submit(world, "/deploys/d1/approve", seal=seal, seen="HELD").status_code == 404
        assert world.get("/services/shop", as_=None).status_code == 404


@pytest.mark.parametrize("path", ["/", "/deploys/d1", "/services/shop"])
def test_a_page_that_did_not_change_is_not_sent_again(world: World, path: str) -> None:
    """304 for the browser's entity tag; a new state is a new page."""
    world.ledger.put(a_watch())
    tag = world.get(path).headers["ETag"]
    assert world.get(path, headers={"If-None-Match": tag}).status_code == 304
    world.ledger.put(a_watch(state=State.CANCELLED))
    assert world.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_leafing_through_equal_times_shows_every_deploy_once(world: World) -> None:
    """A release train records many deploys in one moment."""
    for number in range(130):
        world.ledger.put(replace(a_watch(deploy_id=f"d{number:03d}", state=State.PASSED), created_at=1.7e9))
    seen: list[str] = []
    path: str | None = "/"
    while path is not None:
        page = world.get(path).text
        seen += re.findall(r'class="row-name" href="/deploys/([^"]+)"', page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = older[1].replace("&amp;", "&") if older else None
    assert len(seen) == len(set(seen)) == 130


@pytest.mark.parametrize("query", ["service=a%20b", "state=odd", "before=x", "before=nan"])
def test_an_address_of_nonsense_is_refused_as_a_page(world: World, query: str) -> None:
    """422 in words, not a list of something else."""
    answer = world.get(f"/?{query}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, "text/html; charset=utf-8")


def with_a_migration(world: World, *states: ActionState) -> None:
    """A held deploy whose migration can be taken back; `states` are those of what was asked for before."""
    hold(world)
    watch = world.ledger.stored["d1"]
    world.ledger.put(replace(watch, plan=replace(watch.plan, migrate_down_hook="undo-schema")))
    for state in states:
        down = replace(world.ledger.intended[0], id=f"m-{state}", kind=ActionKind.MIGRATE_DOWN, state=state)
        world.ledger.intended.append(down)


def test_a_migration_is_taken_back_by_its_form(world: World) -> None:
    """The page names the hook and what goes on meanwhile; the form needs its seal; the deploy stays held."""
    with_a_migration(world)
    sign_in(world)
    page = world.get("/deploys/d1/migrate-down", as_=None).text
    assert "The hook undo-schema takes the migration of v2 back" in page
    assert submit(world, "/deploys/d1/migrate-down", seen="HELD").status_code == 403
    answer = submit(world, "/deploys/d1/migrate-down", seal=seal_of(world, "/deploys/d1/migrate-down"), seen="HELD")
    assert (answer.status_code, world.ledger.stored["d1"].state) == (303, State.HELD)
    assert world.ledger.entries[-1].event == "operator.migrate_down"


@pytest.mark.parametrize(
    ("states", "is_offered"),
    [((), True), ((ActionState.FAILED,), True), ((ActionState.RUNNING,), False), ((ActionState.APPLIED,), False)],
)
def test_a_migration_is_offered_to_be_taken_back_as_long_as_it_is_there(
    world: World, states: tuple[ActionState, ...], is_offered: bool
) -> None:
    """Not while it is being taken back, and not afterwards; after a failure again."""
    with_a_migration(world, *states)
    assert ("Take the migration back" in world.get("/deploys/d1").text) is is_offered
    sign_in(world)
    assert world.get("/deploys/d1/migrate-down", as_=None).status_code == (200 if is_offered else 409)


def test_without_a_hook_no_migration_is_offered_to_be_taken_back(world: World) -> None:
    """Nothing to click that would only be refused."""
    hold(world)
    assert "Take the migration back" not in world.get("/deploys/d1").text
