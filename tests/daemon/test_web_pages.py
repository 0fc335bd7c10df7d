"""The status pages: inert whatever they show, and nothing loaded from elsewhere."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from analysis.result import VerdictKind
from tests.samples import a_deploy, a_watch
from tests.web_server import NOW, World, credential, running, token
from watchdog.model import Action, ActionKind, ActionState, AuditEntry, HoldReason, Mode, State, Steps, Watch
from watchdog.ports import StoredVerdict

OURS = ("/", "/services", "#main", "/static/style.css", "/static/live.js", "/static/icon.svg", "…")
PAYLOADS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</td></tr></table><iframe src=//evil.example>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</title><meta http-equiv=refresh content='0;url=//evil.example'>",
    "<a href='//evil.example'>here</a>",
    "&lt;b&gt; &amp;amp; <b>",
    "\u202egnp.exe",
]


# Attributes that hold what the deploy says, and how those begin that do.
TOLD: dict[str, tuple[str, ...]] = {
    "href": ("/deploys/", "/services/"), "aria-label": ("",), "value": ("",), "x": ("",), "x1": ("",), "x2": ("",)
}  # fmt: skip


class Elements(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(
            (tag, tuple((k, "…" if k in TOLD and (v or "").startswith(TOLD[k]) else v) for k, v in attrs))
        )

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture
def world(server: World) -> World:
    return server.fresh()


def fill(world: World, text: str) -> Watch:
    """A deploy with this text wherever text can be."""
    deploy = replace(a_deploy(), service=text, environment=text, version=text, previous_version=text)
    watch = world.ledger.put(replace(a_watch(state=State.HELD), deploy=deploy, sentence=text, metric=text, reason=text))
    world.ledger.entries[:] = [AuditEntry(at=1.7e9, watch_id="d1", actor=text, event=text, before=text, why=text)]
    evidence: list[dict[str, Any]] = [{"metric": text, "sentence": text}]
    world.ledger.judged[:] = [
        StoredVerdict(look=1, at=1.7e9, kind=VerdictKind.DEGRADED.value, reason=None, metric=text, log_evidence=1.0,
                      log_threshold=2.0, sentence=text, payload={"evidence": evidence})
    ]  # fmt: skip
    world.ledger.brake = text
    return watch


@pytest.mark.parametrize("path", ["/", "/deploys/d1"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_becomes_markup(world: World, path: str, payload: str) -> None:
    """A page full of a payload has exactly the elements of one full of a word, and shows the payload as it is."""
    fill(world, "word")
    harmless = Elements(world.get(path).text)
    fill(world, payload)
    harmful = Elements(world.get(path).text)
    assert harmful.found == harmless.found
    assert harmful.text.count(payload) == harmless.text.count("word") >= 3


def test_a_page_says_the_sentence_first_and_then_the_timeline(world: World) -> None:
    """What is going on is the headline."""
    watch = world.ledger.put(replace(a_watch(), sentence="shop v2: errors 6 % vs 1 %, next look in 10 s"))
    world.ledger.entries.append(
        AuditEntry(at=1.7e9, watch_id="d1", actor="daemon", event="deploy.received", why="live")
    )
    page = world.get("/deploys/d1").text
    assert (
        page.index(watch.sentence) < page.index("Blast radius") < page.index("Timeline") < page.index("deploy.received")
    )
    assert "2023-11-14 22:13:20 UTC" in page
    assert watch.sentence in world.get("/").text


@pytest.mark.parametrize(("kind", "told"), [("ratio", "×3"), ("difference", "+3"), ("slope", "+3 an hour")])
def test_what_would_have_been_seen_is_told_as_what_was_measured(world: World, kind: str, told: str) -> None:
    """A level is no ratio."""
    fill(world, "word")
    metric = world.ledger.stored["d1"].plan.metrics[0].spec.name
    world.ledger.judged[0].payload["evidence"][:] = [{"metric": metric, "effect_kind": kind, "detectable": 3.0}]
    assert f"An effect of {told} would have been seen" in world.get("/deploys/d1").text


def test_what_was_worse_is_marked_where_it_ended_otherwise(world: World) -> None:
    """In the list and on its page; what held it once holds it no more."""
    over = replace(a_watch(state=State.SUPERSEDED), verdict="DEGRADED", degraded_at=NOW, hold=HoldReason.APPROVAL)
    world.ledger.put(over)
    for path in ("/", "/deploys/d1"):
        page = world.get(path).text
        assert page.count('<span class="state was-worse">was worse</span>') == 1
        assert "mode approve asks first" not in page
    world.ledger.put(replace(over, state=State.HELD))
    page = world.get("/").text
    assert "was-worse" not in page
    assert "mode approve asks first" in page


def test_in_mode_observe_nobody_is_asked(world: World) -> None:
    """There is no rollback to deny: the deploy can only be closed, and it does not wait for anybody."""
    held = replace(a_watch(state=State.HELD), mode=Mode.OBSERVE, hold=HoldReason.MODE_OBSERVE, hold_until=NOW + 60)
    world.ledger.put(held)
    listed = world.get("/").text
    assert "for somebody" not in listed
    assert "waiting)" not in listed
    assert 'href="/deploys/d1"' in listed
    page = world.get("/deploys/d1").text
    assert "Close: keep v2" in page
    assert "Nothing is done in mode observe; it is closed" in page
    assert "Deny the rollback" not in page
    assert "Waits for" not in page
    world.ledger.put(replace(held, hold=HoldReason.MODE_NOTIFY, mode=Mode.NOTIFY))
    assert "1 waits for somebody" in world.get("/").text


def test_an_address_without_a_page_is_told_as_a_page(world: World) -> None:
    """To a browser; a program gets the JSON that it knows, and so does everybody below /api."""
    for path in ("/nope", "/static/nope.css"):
        answer = world.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
        assert "There is nothing at this address." in answer.text
        assert world.get(path).json()["error"]["code"] == "not_found"
    below = world.get("/api/v1/nope", headers={"Accept": "text/html"})
    assert below.json()["error"]["code"] == "not_found"


def test_an_empty_ledger_tells_the_next_step(world: World) -> None:
    """No empty table."""
    assert "deploy-watchdog trigger" in world.get("/").text


def test_pages_load_nothing_from_elsewhere_and_run_only_their_own_file(world: World) -> None:
    """Every address is ours, nothing is inline, and the policy says the same."""
    fill(world, "word")
    for path in ("/", "/deploys/d1", "/services", "/deploys/none"):
        answer = world.get(path)
        elements = Elements(answer.text).found
        assert not {tag for tag, _ in elements} & {"style", "iframe", "object", "img", "embed", "base"}
        assert all(k != "style" and not k.startswith("on") for _, attrs in elements for k, _ in attrs)
        links = [v for _, attrs in elements for k, v in attrs if k in ("href", "src")]
        assert all(v in OURS for v in links)
        assert all(v in ("/", "/sign-out") for _, attrs in elements for k, v in attrs if k == "action")
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    style = world.get("/static/style.css", as_=None)
    assert (style.status_code, style.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_a_token_as_password_of_basic_reads_and_no_more(world: World) -> None:
    """Basic is sent by a browser by itself, so it must not be able to change anything."""
    world.ledger.put(a_watch())
    asked = world.get("/deploys/d1", as_=None)
    assert asked.status_code == 401
    assert 'action="/sign-in"' in asked.text
    assert "shop" not in asked.text
    login = {"Authorization": "Basic " + base64.b64encode(f"me:{token('admin')}".encode()).decode()}
    assert world.get("/deploys/d1", as_=None, headers=login).status_code == 200
    assert world.post("/api/v1/deploys/d1/rollback", as_=None, headers=login).status_code == 401
    for wrong in ("Basic bWU6d3Jvbmc=", "Basic ****", "Basic bWU=", "Basic bWU6"):
        assert world.get("/", as_=None, headers={"Authorization": wrong}).status_code == 401


def test_a_page_needs_the_scope_read(world: World) -> None:
    """A token that may only send deploys cannot look around."""
    assert world.get("/", as_="trigger").status_code == 403


def test_a_page_says_so_when_the_ledger_fails(world: World) -> None:
    """503 as a page, not as JSON and not as a traceback."""
    world.ledger.broken = True
    answer = world.get("/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert "ledger" in answer.text


@pytest.mark.parametrize("path", ["/", "/api/v1/deploys", "/nope", "/metrics", "/openapi.json", "/static/style.css"])
def test_every_answer_carries_the_security_headers(world: World, path: str) -> None:
    """Also refusals; and no other origin is ever let in."""
    for as_ in (None, "admin"):
        answer = world.get(path, as_=as_, headers={"Origin": "https://evil.example"})
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == ("same-origin" if path == "/" else "no-referrer")
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def in_train(deploy_id: str, service: str, *, state: State = State.WATCHING, train: str | None = "friday") -> Watch:
    deploy = replace(a_deploy(deploy_id=deploy_id), service=service, train=train)
    return replace(a_watch(deploy_id=deploy_id, state=state), deploy=deploy)


def test_a_deploy_of_a_train_links_the_others_of_it(world: World) -> None:
    """Each with its state; a deploy of another train, or of none, is not among them."""
    world.ledger.put(in_train("d1", "shop"))
    world.ledger.put(in_train("d2", "checkout", state=State.HELD))
    world.ledger.put(in_train("d3", "billing", train="monday"))
    page = world.get("/deploys/d1").text
    assert 'href="/deploys/d2"' in page
    assert ('href="/deploys/d1"' in page, 'href="/deploys/d3"' in page) == (False, False)
    mates = page[page.index("Release train") :]
    mates = mates[: mates.index("</ul>")]
    assert ("checkout v2" in mates, "held" in mates) == (True, True)
    assert 'class="mates"' not in world.get("/deploys/d3").text


def test_the_page_of_a_train_shows_no_service_that_the_caller_may_not_see() -> None:
    """What somebody may not see does not exist for them, its name included."""
    seeing = [credential("narrow", "read", services=("shop",)), credential("wide", "read")]
    with running(credentials=seeing) as guarded:
        guarded.ledger.put(in_train("d1", "shop"))
        guarded.ledger.put(in_train("d2", "payroll"))
        assert "payroll" in guarded.get("/deploys/d1", as_="wide").text
        assert "payroll" not in guarded.get("/deploys/d1", as_="narrow").text


def test_a_canary_that_asks_for_its_next_step_waits_for_somebody(world: World) -> None:
    """It is watched on meanwhile, and stands among those that need a decision, with the share it asks for."""
    steps = Steps(shares=(0.1, 0.25, 1.0), bake_s=10.0, hook="platform")
    for name in ("d1", "d2"):
        watch = a_watch(deploy_id=name)
        world.ledger.put(replace(watch, plan=replace(watch.plan, steps=steps), mode=Mode.APPROVE))
    held = Action(
        id="a1", watch_id="d1", kind=ActionKind.PROMOTE, state=ActionState.HELD, hook="platform", service="shop",
        environment="production", from_version="v1", to_version="v2", created_at=1.7e9,
    )  # fmt: skip
    world.ledger.intended.append(held)
    page = world.get("/").text
    needs = page[page.index('id="needs"') : page.index('id="watched"')]
    assert ("1 waits for somebody" in needs, "asks for 25 % of the traffic" in needs) == (True, True)
    assert ("/deploys/d1" in needs, "/deploys/d2" in needs) == (True, False)
    world.ledger.intended[:] = [replace(held, state=ActionState.APPLIED)]
    assert "for somebody" not in world.get("/").text
