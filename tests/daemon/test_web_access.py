"""Who may do what: tokens, scopes, signatures, loopback and limits."""

import base64
import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
from pydantic import SecretStr

from tests.fakes import FakeClock
from tests.samples import a_deploy, a_watch
from tests.web_server import CURRENT, NOW, PREVIOUS, SCOPES, World, credential, running, signed, token
from watchdog.config import Scope
from watchdog.errors import ConfigError
from watchdog.model import State
from watchdog.web import Authenticator, Credential
from watchdog.web.bodies import ErrorBody
from watchdog.web.rate_limit import Limits

EVENT = b'{"service": "shop", "version": "v7", "previous_version": "v6"}'
ROUTES = {  # route → the scope it needs; admin may do everything
    ("POST", "/api/v1/deploys"): "trigger",
    ("GET", "/api/v1/deploys"): "read",
    ("GET", "/api/v1/deploys/d1"): "read",
    ("GET", "/api/v1/deploys/d1/audit"): "read",
    ("GET", "/api/v1/deploys/d1/evidence"): "read",
    ("POST", "/api/v1/deploys/d1/approve"): "approve",
    ("POST", "/api/v1/deploys/d1/deny"): "approve",
    ("POST", "/api/v1/deploys/d1/cancel"): "approve",
    ("POST", "/api/v1/deploys/d1/rollback"): "rollback",
    ("POST", "/api/v1/deploys/d1/migrate-down"): "approve",
    ("POST", "/api/v1/deploys/d1/label"): "label",
    ("GET", "/api/v1/quality"): "read",
    ("POST", "/api/v1/pause"): "admin",
    ("POST", "/api/v1/resume"): "admin",
    ("GET", "/api/v1/status"): "read",
    ("GET", "/api/v1/gate?service=shop"): "read",
    ("POST", "/api/v1/intake/argocd"): "trigger",
    ("POST", "/api/v1/intake/flagger/rollback"): "trigger",
}
BODIES = {
    ("POST", "/api/v1/deploys"): EVENT,
    ("POST", "/api/v1/deploys/d1/label"): b'{"label": "right"}',
    ("POST", "/api/v1/intake/argocd"): b'{"app": {"metadata": {"name": "shop"}, "status": {}}}',
    ("POST", "/api/v1/intake/flagger/rollback"): b'{"name": "shop", "namespace": "prod", "checksum": "1"}',
}
EXAMPLES = {
    "/gate": "/gate?service=shop",
    "{sender}/{hook}": "flagger/rollback",
    "{sender}": "argocd",
    "{deploy_id}": "d1",
}
OPEN_TO_ALL = {"/-/healthy", "/-/ready", "/metrics", "/openapi.json"}


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture
def world(server: World) -> World:
    return server.fresh()


def asked(path: str) -> str:
    """A route with an example for each of its parts."""
    for part, example in EXAMPLES.items():
        path = path.replace(part, example)
    return path


def test_every_route_is_in_the_table_of_scopes(world: World) -> None:
    """A route added without a scope of its own fails here."""
    paths = world.get("/openapi.json", as_=None).json()["paths"]
    served = {(m.upper(), asked(p)) for p, methods in paths.items() for m in methods}
    assert {(m, p) for m, p in served if p not in OPEN_TO_ALL - {"/openapi.json"}} == set(ROUTES)


@pytest.mark.parametrize(("route", "who"), [*product(ROUTES, (*SCOPES, None))])
def test_all_routes_by_all_scopes(world: World, route: tuple[str, str], who: str | None) -> None:
    """Exactly the scope of the route, or admin, comes in; 403 for a wrong one and 401 for none."""
    world.ledger.put(a_watch())
    method, path = route
    answer = world.ask(
        method, path, as_=who, data=BODIES.get(route),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    if who is None:
        assert answer.status_code == 401
    elif who in (ROUTES[route], "admin"):
        assert answer.status_code in (200, 201, 409)  # 409: the state does not allow it
    else:
        assert answer.status_code == 403
        assert ErrorBody.model_validate(answer.json()).error.message == f"token:{who} has no scope {ROUTES[route]!r}."


def test_wrong_credentials_cannot_be_told_apart(world: World) -> None:
    """Missing, unknown, malformed and misplaced credentials get the same answer to the byte."""
    tries = [
        {},
        {"Authorization": "Bearer nobody"},
        {"Authorization": f"Bearer {token('read')[:-1]}"},
        {"Authorization": f"Basic {base64.b64encode(b'x:' + token('read').encode()).decode()}"},
        {"Authorization": f"Token {token('read')}"},
        {"Authorization": "Bearer t\xf6ken".encode("latin-1").decode("latin-1")},
        {"Authorization": "Bearer "},
    ]
    answers = [world.ask("GET", "/api/v1/deploys", headers=headers) for headers in tries]
    assert {a.status_code for a in answers} == {401}
    assert {a.headers["WWW-Authenticate"] for a in answers} == {"Bearer"}
    assert len({a.content for a in answers}) == 1


def test_a_token_sees_and_touches_only_its_services() -> None:
    """A foreign deploy does not exist for it, a foreign event is refused, and the brake is not its to pull."""
    mine = credential("mine", *SCOPES, services=("shop*", "cart"))
    with running(credentials=[mine, credential("all", *SCOPES)]) as world:
        world.ledger.put(a_watch())
        pay = replace(a_deploy(deploy_id="d2"), service="pay")
        world.ledger.put(replace(a_watch(deploy_id="d2"), deploy=pay))
        listed = world.get("/api/v1/deploys", as_="mine").json()["deploys"]
        assert [d["id"] for d in listed] == ["d1"]
        assert world.get("/api/v1/deploys/d1", as_="mine").status_code == 200
        hidden = world.get("/api/v1/deploys/d2", as_="mine")
        missing = world.get("/api/v1/deploys/d3", as_="mine")
        assert (hidden.status_code, hidden.text.replace("d2", "d3")) == (404, missing.text)
        assert world.post("/api/v1/deploys/d2/rollback", as_="mine").status_code == 404
        assert world.ledger.stored["d2"].state is State.WATCHING
        assert world.post("/api/v1/deploys", EVENT.replace(b"shop", b"pay"), as_="mine").status_code == 403
        assert world.post("/api/v1/pause", as_="mine").status_code == 403
        assert world.ledger.brake is None
        assert world.post("/api/v1/pause", b'{"why": "incident"}', as_="all").json()["paused"] == "token:all: incident"


# --- Standard Webhooks ------------------------------------------------------------------------------------


def test_a_signed_event_is_taken_from_either_live_key(world: World) -> None:
    """Rotation without downtime; the reference library signs, we verify."""
    for n, key in enumerate((CURRENT, PREVIOUS)):
        answer = world.send(EVENT, signed(EVENT, key=key, message_id=f"msg_{n}"))
        assert answer.status_code == 201
    assert {w.deploy.triggered_by for w in world.ledger.stored.values()} == {"webhook"}


def test_several_signatures_are_tried(world: World) -> None:
    """A sender in rotation signs with both keys, and future versions stand beside v1."""
    headers = signed(EVENT)
    headers["webhook-signature"] = f"v1a,abc v1,bm90IGl0 {headers['webhook-signature']}"
    assert world.send(EVENT, headers).status_code == 201


@pytest.mark.parametrize("off_s", [-300, 300])
def test_a_clock_may_be_five_minutes_off(world: World, off_s: int) -> None:
    """The tolerance of Standard Webhooks, both ways, to the second."""
    assert world.send(EVENT, signed(EVENT, at=NOW + off_s)).status_code == 201


@pytest.mark.parametrize("off_s", [-301, 301, -86_400])
def test_a_stale_signature_is_refused_with_the_reason(world: World, off_s: int) -> None:
    """Only who holds the key learns that it is the clock."""
    answer = world.send(EVENT, signed(EVENT, at=NOW + off_s))
    assert answer.status_code == 401
    assert "clock" in answer.json()["error"]["message"]
    assert world.intake.received == []


def test_a_replay_has_no_effect(world: World) -> None:
    """The same message again is the same deploy, also re-signed later; another body under its id is a conflict."""
    first = world.send(EVENT, signed(EVENT))
    replayed = world.send(EVENT, signed(EVENT))
    retried = world.send(EVENT, signed(EVENT, at=NOW + 60))
    assert [a.status_code for a in (first, replayed, retried)] == [201, 200, 200]
    assert first.json()["id"] == replayed.json()["id"] == retried.json()["id"]
    other = EVENT.replace(b"v7", b"v8")
    assert world.send(other, signed(other)).status_code == 409
    assert len(world.ledger.stored) == 1


def test_a_delivery_that_failed_can_be_sent_again(world: World) -> None:
    """A replay guard that remembered the id before the commit would lose this deploy."""
    world.ledger.broken = True
    assert world.send(EVENT, signed(EVENT)).status_code == 503
    world.ledger.broken = False
    assert world.send(EVENT, signed(EVENT)).status_code == 201


def _forgeries() -> dict[str, dict[str, str]]:
    good = signed(EVENT)
    value = good["webhook-signature"]
    other_key = SecretStr("whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode())
    return {
        "other key": signed(EVENT, key=other_key),
        "other body": signed(EVENT + b" "),
        "other id": good | {"webhook-id": "msg_2"},
        "other time": good | {"webhook-timestamp": str(int(NOW) + 1)},
        "no id": {k: v for k, v in good.items() if k != "webhook-id"},
        "no time": {k: v for k, v in good.items() if k != "webhook-timestamp"},
        "no signature": {k: v for k, v in good.items() if k != "webhook-signature"},
        "empty": good | {"webhook-signature": ""},
        "bad base64": good | {"webhook-signature": "v1,!!!!"},
        "no comma": good | {"webhook-signature": "v1"},
        "no version": good | {"webhook-signature": value.removeprefix("v1,")},
        "other version": good | {"webhook-signature": value.replace("v1,", "v2,")},
        "truncated": good | {"webhook-signature": value[:-4]},
        "non-ASCII": good | {"webhook-signature": "v1,\xe9\xff"},
        "non-ASCII id": good | {"webhook-id": "msg_\xe9"},
        "float time": good | {"webhook-timestamp": f"{NOW}"},
        "nan time": good | {"webhook-timestamp": "nan"},
        "long time": good | {"webhook-timestamp": "1" * 400},
        "negative time": good | {"webhook-timestamp": "-1"},
        "seventeenth": good | {"webhook-signature": "v1,eA== " * 16 + value},
    }


@pytest.mark.parametrize("name", _forgeries())
def test_a_forged_signature_is_refused_like_no_signature(world: World, name: str) -> None:
    """401, the same bytes as for no credential at all, and nothing is stored."""
    answer = world.send(EVENT, _forgeries()[name])
    assert answer.status_code == 401
    assert answer.content == world.post("/api/v1/deploys", EVENT, as_=None).content
    assert world.intake.received == []


def test_a_bad_token_is_not_saved_by_a_good_signature(world: World) -> None:
    """One way in at a time, and the token is looked at first."""
    assert world.send(EVENT, signed(EVENT) | {"Authorization": "Bearer nobody"}).status_code == 401


@pytest.mark.parametrize("route", [r for r in ROUTES if r != ("POST", "/api/v1/deploys")])
def test_a_signature_is_good_for_deploy_events_only(world: World, route: tuple[str, str]) -> None:
    """It does not cover the address, so it opens one address."""
    headers = signed(b"{}") | {"Content-Type": "application/json"}
    assert world.ask(*route, data=b"{}", headers=headers).status_code == 401


# --- no credential at all ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_server() -> Iterator[World]:
    with running(credentials=(), webhook_secrets=()) as world:
        yield world


@pytest.fixture
def open_world(open_server: World) -> World:
    return open_server.fresh()


def test_without_any_credential_this_machine_may_do_everything(open_world: World) -> None:
    """The first five minutes need no token; the audit says "loopback"."""
    assert open_world.post("/api/v1/deploys", EVENT, as_=None).status_code == 201
    assert open_world.post("/api/v1/pause", as_=None).status_code == 200
    assert open_world.get("/", as_=None).status_code == 200
    assert open_world.ledger.stored["new-0"].deploy.triggered_by == "loopback"
    stopped = open_world.post("/api/v1/deploys/new-0/cancel", as_=None).json()
    assert stopped["sentence"].endswith("stopped by somebody on this machine")
    assert stopped["timeline"][-1]["text"].endswith("(by somebody on this machine)")


@pytest.mark.parametrize("host", ["localhost:8811", "127.0.0.1", "[::1]:8811", "127.1.2.3:1"])
def test_this_machine_has_several_names(open_world: World, host: str) -> None:
    """Whatever can only mean loopback."""
    assert open_world.get("/api/v1/status", as_=None, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name that was made to resolve to loopback
        {"Host": "127.0.0.1.evil.example:8811"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
    ],
)
def test_a_web_page_or_a_proxy_is_not_this_machine(open_world: World, headers: dict[str, str]) -> None:
    """Cross-site requests, rebound names and the world behind a local proxy stay outside."""
    assert open_world.post("/api/v1/pause", as_=None, headers=headers).status_code == 401
    assert open_world.get("/", as_=None, headers=headers).status_code == 401
    assert open_world.ledger.brake is None


def test_what_speaks_http_1_0_is_a_proxy(open_server: World) -> None:
    """nginx speaks it to what stands behind it unless told otherwise, with our own address as the host."""
    host, port = open_server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(f"POST /api/v1/pause HTTP/1.0\r\nHost: {host}:{port}\r\nContent-Length: 0\r\n\r\n".encode())
        assert b" 401 " in raw.makefile("rb").readline()


def test_one_credential_closes_loopback() -> None:
    """As soon as anybody can be told from anybody else, everybody must be."""
    with running(credentials=(), webhook_secrets=(CURRENT,)) as world:
        assert world.get("/api/v1/deploys", as_=None).status_code == 401


# --- what a secret must be, and how often it may be used --------------------------------------------------


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", CURRENT.get_secret_value()[6:]])
def test_a_weak_webhook_secret_does_not_start(secret: str) -> None:
    """An empty key would verify everybody's empty key."""
    with pytest.raises(ConfigError, match="24 to 64") as refused:
        Authenticator((), [SecretStr(secret)], clock=FakeClock())
    assert not secret or secret == "whsec_" or secret not in str(refused.value)


def test_a_guessable_token_does_not_start() -> None:
    """All of them are named at once, and none is printed."""
    weak = [Credential(n, SecretStr(n), frozenset({Scope.READ})) for n in ("", "hunter2")]
    with pytest.raises(ConfigError, match="at least 16") as refused:
        Authenticator(weak, clock=FakeClock())
    assert len(refused.value.problems) == 2


def test_too_many_requests_of_one_caller_leave_the_others_alone() -> None:
    """429 with Retry-After once the bucket is empty; it fills again with time."""
    with running(limits=Limits(per_s=0.5, burst=3)) as world:
        codes = [world.get("/api/v1/status", as_="read").status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        refused = world.get("/api/v1/status", as_="read")
        assert refused.headers["Retry-After"] == "3"
        assert ErrorBody.model_validate(refused.json()).error.code == "too_many_requests"
        assert world.get("/api/v1/status").status_code == 200
        world.clock.sleep(2.0)
        assert world.get("/api/v1/status", as_="read").status_code == 200
