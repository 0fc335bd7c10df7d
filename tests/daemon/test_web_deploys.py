"""Sending deploy events and following them."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests

from analysis.result import VerdictKind
from tests.samples import a_deploy, a_watch
from tests.web_server import World, running
from watchdog.model import Action, ActionKind, ActionState, AuditEntry, State
from watchdog.ports import StoredVerdict
from watchdog.web.bodies import AuditBody, DeploysBody, ErrorBody, EvidenceBody, WatchBody

EVENT = b'{"id": "d7", "service": "shop", "version": "v7", "previous_version": "v6"}'


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture
def world(server: World) -> World:
    return server.fresh()


def said(answer: requests.Response) -> str:
    """The sentence of a refusal, which must have the one shape."""
    return ErrorBody.model_validate(answer.json()).error.message


def test_a_new_deploy_is_created_once_and_told_where_it_is(world: World) -> None:
    """201 with Location, then 200 with the same watch, then 409 for another body under its id."""
    first = world.post("/api/v1/deploys", EVENT, as_="trigger")
    assert first.status_code == 201
    assert first.headers["Location"] == "/api/v1/deploys/d7"
    assert WatchBody.model_validate(first.json()).version == "v7"
    again = world.post("/api/v1/deploys", EVENT, as_="trigger")
    assert again.status_code == 200
    assert again.json()["id"] == "d7"
    other = world.post("/api/v1/deploys", EVENT.replace(b"v7", b"v8"), as_="trigger")
    assert other.status_code == 409
    assert "another body" in said(other)
    assert len(world.ledger.stored) == 1


def test_an_id_with_a_slash_is_reached_under_its_location(world: World) -> None:
    """`feature/x` is an id like any other; a route's name inside it is not mistaken for the route."""
    made = world.post("/api/v1/deploys", b'{"id": "feature/audit", "service": "shop", "version": "v7"}')
    assert made.headers["Location"] == "/api/v1/deploys/feature%2Faudit"
    assert world.get(made.headers["Location"]).json()["id"] == "feature/audit"
    assert world.get(made.headers["Location"] + "/audit").json()["id"] == "feature/audit"


def test_an_idempotency_key_makes_a_retry_one_deploy(world: World) -> None:
    """Without an id in the body, the key is the identity, for each token its own."""
    event = b'{"service": "shop", "version": "v7"}'
    codes = [
        world.post("/api/v1/deploys", event, as_=who, headers={"Idempotency-Key": "job 4711"}).status_code
        for who in ("trigger", "trigger", "admin")
    ]
    assert codes == [201, 200, 201]
    assert len(world.ledger.stored) == 2


def test_an_unknown_service_is_named_only_to_those_who_may_read(world: World) -> None:
    """The sentence that helps a reader with the name of another service tells a mere sender nothing."""
    event = b'{"service": "shpo", "version": "v7"}'
    sender = world.post("/api/v1/deploys", event, as_="trigger")
    reader = world.post("/api/v1/deploys", event, as_="admin")
    assert (sender.status_code, reader.status_code) == (404, 404)
    assert "'shop'" not in sender.text
    assert "'shop'" in said(reader)


def test_a_deploy_that_cannot_be_watched_is_refused_with_the_reason(world: World) -> None:
    """What the intake refuses is 422 with its own sentence."""
    answer = world.post("/api/v1/deploys", b'{"service": "shop", "version": "v0"}')
    assert answer.status_code == 422
    assert "previous_version" in said(answer)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"service": "shop", "version": "$(touch x)"}', "version: expected 1 to 128"),
        (b'{"service": "shop", "version": "\\"} or vector(1)"}', "version: expected 1 to 128"),
        (b'{"service": "shop", "version": "-rf"}', "version: expected 1 to 128"),
        (b'{"service": "shop", "version": "v7", "verison": "v6"}', "verison: extra inputs are not permitted"),
        (b'{"service": "shop", "version": 7}', "version: input should be a valid string"),
        (b'{"service": "shop", "version": "v7", "share": "0.1"}', "share: input should be a valid number"),
        (b'{"service": "shop", "version": "v7", "share": 2}', "equal to 1 (0.23 means 23 %)"),
        (b'{"service": "shop"}', "version: field required"),
        (b"", "not JSON"),
        (b"{'service': 'shop'}", "not JSON"),
        (b'["shop"]', "not a JSON object"),
        (b'{"share": NaN}', "NaN"),
        (b'{"share": -Infinity}', "-Infinity"),
        (b'{"share": 1e999}', "too large"),
        (b'{"share": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"service": "shop", "service": "shop", "version": "v7"}', "'service' twice"),
        (b'{"a": ' * 9 + b"1" + b"}" * 9, "deeper than 8"),
        (b"[" * 60_000, "deeper than 8"),
        (b'{"service": "\\ud800", "version": "v7"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"service": "sh\\u0000op", "version": "v7"}', "NUL"),
        (b'{"service": "shop", "version": "v7", "safe_to_rollback_until": -1e13}', "greater than or equal to 0"),
        (b'{"service": "shop", "version": "v7", "safe_to_rollback_until": 1e13}', "less than or equal to"),
        (b'{"service": "caf\xe9"}', "not UTF-8"),
    ],
)
def test_a_bad_body_is_told_what_is_wrong_with_it(world: World, body: bytes, expected: str) -> None:
    """422 in the one shape, nothing reaches the intake, and the answer is ASCII whatever was sent."""
    answer = world.post("/api/v1/deploys", body)
    assert answer.status_code == 422
    assert expected in said(answer)
    assert answer.text.isascii()
    assert world.intake.received == []


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024])
def test_a_large_body_is_refused_with_an_answer_that_arrives(world: World, size: int, chunked: bool) -> None:
    """413 whether or not the length was announced, and the sender can read it."""
    body = b'{"service": "' + b"a" * (size - 15) + b'"}'
    pieces = (body[i : i + 9000] for i in range(0, size, 9000))
    answer = world.ask(
        "POST",
        "/api/v1/deploys",
        as_="trigger",
        data=pieces if chunked else body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 413
    assert "64 KB" in said(answer)


def test_a_body_of_just_the_limit_is_read(world: World) -> None:
    """64 KB are not too large: the refusal is about what is in it."""
    body = b'{"service": "' + b"a" * (64 * 1024 - 15) + b'"}'
    assert len(body) == 64 * 1024
    assert world.post("/api/v1/deploys", body).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [{"Content-Encoding": "gzip"}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}],
)
def test_only_plain_json_is_taken(world: World, headers: dict[str, str]) -> None:
    """Nothing is decompressed, and no form of a web page is taken for JSON."""
    answer = world.post("/api/v1/deploys", EVENT, headers=headers)
    assert answer.status_code == 415
    assert world.intake.received == []


def test_a_ledger_that_cannot_write_is_said_and_nothing_is_acknowledged(world: World) -> None:
    """503 with Retry-After and no word about the ledger's insides; afterwards the same event is accepted."""
    world.ledger.broken = True
    answer = world.post("/api/v1/deploys", EVENT)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "nothing was recorded" in said(answer)
    assert "disk" not in answer.text
    world.ledger.broken = False
    assert world.post("/api/v1/deploys", EVENT).status_code == 201


def test_a_list_is_filtered_and_paged_newest_first(world: World) -> None:
    """Filters combine; following `next_before` shows every deploy exactly once."""
    for n in range(5):
        state = State.PASSED if n % 2 else State.WATCHING
        world.ledger.put(replace(a_watch(deploy_id=f"d{n}", state=state), created_at=1000.0 + n))
    world.ledger.put(replace(a_watch(deploy_id="x"), deploy=replace(a_deploy(deploy_id="x"), service="cart")))

    def ids(query: str) -> list[str]:
        page = DeploysBody.model_validate(world.get(f"/api/v1/deploys?{query}", as_="read").json())
        rest = ids(f"{query.partition('&before')[0]}&before={page.next_before}") if page.next_before else []
        return [d.id for d in page.deploys] + rest

    assert ids("service=shop&limit=2") == ["d4", "d3", "d2", "d1", "d0"]
    assert ids("service=shop&state=passed") == ["d3", "d1"]
    assert sorted(ids("state=PASSED&state=watching")) == ["d0", "d1", "d2", "d3", "d4", "x"]
    assert ids("environment=staging") == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=x", "state=GREEN", "before=nan", "before=-1", "service=%00", "service=a%20b"],
)
def test_a_bad_filter_is_refused(world: World, query: str) -> None:
    """422 in the one shape, naming the parameter."""
    answer = world.get(f"/api/v1/deploys?{query}")
    assert answer.status_code == 422
    assert said(answer).startswith(query.partition("=")[0])


def test_audit_evidence_and_timeline_tell_what_happened(world: World) -> None:
    """Every figure is there, non-finite ones as null, and the timeline begins with the deploy."""
    watch = world.ledger.put(
        replace(a_watch(state=State.ROLLED_BACK), degraded_at=1_700_000_020.0, recovered_at=1_700_000_024.5,
                exposed_requests=412.0, affected_requests=25.0, total_requests=4120.0)
    )  # fmt: skip
    world.ledger.entries += [
        AuditEntry(at=1_700_000_021.0, watch_id="d1", actor="token:ci", event="operator.rollback", before="WATCHING",
                   after="INTENT", why="I said so", details={"odds": float("inf")}),
        AuditEntry(at=1_700_000_000.0, watch_id="d1", actor="daemon", event="deploy.received", after="WATCHING",
                   why="v2 of shop went live"),
    ]  # fmt: skip
    world.ledger.intended.append(
        Action(id="a1", watch_id="d1", kind=ActionKind.ROLLBACK, state=ActionState.APPLIED, hook="back",
               service="shop", environment="production", from_version="v2", to_version="v1",
               created_at=1_700_000_020.0, started_at=1_700_000_020.3)
    )  # fmt: skip
    world.ledger.judged.append(
        StoredVerdict(look=3, at=1_700_000_020.0, kind=VerdictKind.DEGRADED.value, reason="METRICS", metric="errors",
                      log_evidence=float("nan"), log_threshold=4.6, sentence="worse", payload={"evidence": ()})
    )  # fmt: skip
    told = WatchBody.model_validate(world.get("/api/v1/deploys/d1", as_="read").json())
    assert (told.outcome, told.time_to_detect_s, told.time_to_recover_s) == ("rolled_back", 20.0, 4.5)
    assert (told.exposed_requests, told.affected_requests, told.total_requests) == (412, 25, 4120)
    assert told.hook_started_at == 1_700_000_020.3
    assert [t.event for t in told.timeline] == ["deployed", "deploy.received", "operator.rollback"]
    assert told.timeline[-1].text == "WATCHING → INTENT: I said so (by token:ci)"
    audit = AuditBody.model_validate(world.get("/api/v1/deploys/d1/audit", as_="read").json())
    assert audit.audit[0].details == {"odds": None}
    evidence = EvidenceBody.model_validate(world.get("/api/v1/deploys/d1/evidence", as_="read").json())
    assert evidence.verdict is not None
    assert (evidence.verdict.look, evidence.verdict.log_evidence) == (3, None)
    assert watch.id == told.id


def test_evidence_before_the_first_look_is_null(world: World) -> None:
    """Nothing judged yet is an answer, not an error."""
    world.ledger.put(a_watch())
    assert world.get("/api/v1/deploys/d1/evidence").json() == {"id": "d1", "verdict": None}


@pytest.mark.parametrize(
    "path", ["/nope", "/..", "/%2e%2e%2fetc%2fpasswd", "/a%00b", "/%ff", "/nope/audit", "/nope/evidence"]
)
def test_what_is_not_there_is_404(world: World, path: str) -> None:
    """Ids are looked up, never joined to a path."""
    connection = world.session.get(
        world.url + "/api/v1/deploys" + path, headers={"Authorization": "Bearer x"}, timeout=5
    )
    assert connection.status_code in (401, 404)
    assert world.get("/api/v1/deploys" + path).status_code == 404


def test_wait_answers_when_the_watch_rests() -> None:
    """A resting watch is answered at once, a busy one as soon as it rests."""
    with running(real_time=True) as live:
        live.ledger.put(a_watch(deploy_id="done", state=State.PASSED))
        live.ledger.put(a_watch(deploy_id="busy"))
        assert live.get("/api/v1/deploys/done?wait=60").elapsed.total_seconds() < 20
        rest = threading.Timer(0.4, lambda: live.ledger.put(a_watch(deploy_id="busy", state=State.HELD)))
        rest.start()
        answer = live.get("/api/v1/deploys/busy?wait=60")
        assert answer.json()["outcome"] == "held"
        assert 0.3 < answer.elapsed.total_seconds() < 20


def test_wait_ends_with_its_time() -> None:
    """A watch that goes on is told as it stands."""
    with running(real_time=True) as live:
        live.ledger.put(a_watch(deploy_id="busy"))
        answer = live.get("/api/v1/deploys/busy?wait=0.6")
        assert (answer.status_code, answer.json()["outcome"]) == (200, None)
        assert 0.5 < answer.elapsed.total_seconds() < 20


@pytest.mark.parametrize("wait", ["121", "-1", "nan", "inf", "soon"])
def test_wait_is_bounded(world: World, wait: str) -> None:
    """Nobody may hold a connection for longer than two minutes."""
    assert world.get(f"/api/v1/deploys/d1?wait={wait}").status_code == 422


def test_webhooks_are_counted_by_code() -> None:
    """Every answer to a deploy event is counted, refusals too."""
    with running() as world:
        for body, who in ((EVENT, "trigger"), (EVENT, "trigger"), (EVENT, None), (b'{"service": "shop"}', "trigger")):
            world.post("/api/v1/deploys", body, as_=who)
        told = world.get("/metrics", as_=None).text
    for code in (201, 200, 401, 422):
        assert f'deploy_watchdog_webhooks_total{{code="{code}"}} 1.0' in told


def test_shells_may_have_three_lines(world: World) -> None:
    """`Accept: text/plain`: id, outcome or `undecided`, sentence; each on one line, whatever the sentence holds."""
    lines = {"Accept": "text/plain"}
    told = world.post("/api/v1/deploys", b'{"id": "d7", "service": "shop", "version": "v7"}', headers=lines)
    assert told.status_code == 201
    assert told.headers["content-type"].startswith("text/plain")
    assert told.text.splitlines()[:2] == ["d7", "undecided"]
    world.ledger.put(replace(a_watch(), state=State.ROLLED_BACK, sentence="back on v1\r\n\x1b[2Jpassed"))
    answer = world.get("/api/v1/deploys/d1", headers=lines)
    assert answer.text.splitlines() == ["d1", "rolled_back", "back on v1 [2Jpassed"]
    assert world.get("/api/v1/deploys/d1", headers={"Accept": "*/*"}).json()["id"] == "d1"
