"""The hook `http` against a real local server, and what its exchange promises."""

import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes import FakeClock
from tests.receivers import Answer, Receiver, receiver
from watchdog.clock import SystemClock
from watchdog.errors import ConfigError, WatchdogError
from watchdog.hooks.http import HttpHook, HttpOptions
from watchdog.model import ActionKind
from watchdog.ports import HookCall, HookOutcome, ProbeAnswer
from watchdog.signed_http import MAX_REPLY_BYTES, NotSentError, _Attempt, exchange, retry_after_s

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
ENV = {"HOOK_SECRET": SECRET}
CALL = HookCall(
    action_id="a" * 64,
    kind=ActionKind.ROLLBACK,
    attempt=2,
    fence=7,
    service="shop",
    environment="production",
    from_version="v2",
    to_version="v1&x=y z",
    deploy_id="d1",
)


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


def a_hook(url: str, tmp_path: Path, **options: Any) -> HttpHook:
    return HttpHook("back", HttpOptions(url=url, **options), SystemClock(), ENV, tmp_path)


def signature_of(webhook_id: str, timestamp: str, body: bytes) -> str:
    """The Standard Webhooks signature by its own definition."""
    digest = hmac.new(KEY, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_action_is_posted_signed_with_its_key(web: Receiver, tmp_path: Path) -> None:
    """One POST, the document as JSON, Idempotency-Key for the action, and a signature that verifies."""
    result = a_hook(f"{web.url}/roll/back?team=a", tmp_path, secret_env="HOOK_SECRET").run(CALL)
    assert (result.outcome, result.exit_code) == (HookOutcome.OK, 200)
    (request,) = web.received
    assert (request.method, request.path, request.query) == ("POST", "/roll/back", {"team": "a"})
    assert request.headers["idempotency-key"] == CALL.action_id
    assert request.headers["content-type"] == "application/json"
    assert request.json() == {
        "action_id": "a" * 64, "kind": "rollback", "attempt": 2, "fence": 7, "service": "shop",
        "environment": "production", "deploy_id": "d1", "from": "v2", "to": "v1&x=y z", "params": {},
    }  # fmt: skip
    expected = signature_of(request.headers["webhook-id"], request.headers["webhook-timestamp"], request.body)
    assert request.headers["webhook-signature"] == expected
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 10


def test_each_attempt_is_a_message_of_its_own(web: Receiver, tmp_path: Path) -> None:
    """A receiver that refuses replays takes the second attempt; the key still says that it is the same action."""
    hook = a_hook(web.url, tmp_path)
    hook.run(CALL)
    hook.run(HookCall(**{**{name: getattr(CALL, name) for name in CALL.__dataclass_fields__}, "attempt": 3}))
    first, second = (request.headers for request in web.received)
    assert first["webhook-id"] != second["webhook-id"]
    assert first["idempotency-key"] == second["idempotency-key"]
    assert "webhook-signature" not in first
    assert "." not in first["webhook-id"]  # the signed text is divided by points


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, HookOutcome.OK), (202, HookOutcome.OK), (204, HookOutcome.OK),
        (425, HookOutcome.RETRY), (429, HookOutcome.RETRY),
        (502, HookOutcome.TIMED_OUT), (503, HookOutcome.TIMED_OUT), (504, HookOutcome.TIMED_OUT),
        (302, HookOutcome.FAILED), (307, HookOutcome.FAILED), (400, HookOutcome.FAILED), (401, HookOutcome.FAILED),
        (404, HookOutcome.FAILED), (409, HookOutcome.FAILED), (412, HookOutcome.FAILED), (500, HookOutcome.FAILED),
    ],
)  # fmt: skip
def test_status_codes_are_outcomes(web: Receiver, tmp_path: Path, status: int, outcome: HookOutcome) -> None:
    """As the table at the head of the hook says; a gateway's 502, 503 and 504 leave everybody in the dark."""
    web.script.append(Answer(status, b"" if status == 204 else b"why"))
    result = a_hook(web.url, tmp_path).run(CALL)
    assert (result.outcome, result.exit_code) == (outcome, status)


def test_only_a_503_that_says_when_to_come_again_asks_for_another_try(web: Receiver, tmp_path: Path) -> None:
    """A proxy says 503 too where the connection broke after the request had gone through."""
    web.script.append(Answer(503, headers={"Retry-After": "5"}))
    assert a_hook(web.url, tmp_path).run(CALL).outcome is HookOutcome.RETRY


def test_redirects_are_not_followed(web: Receiver, tmp_path: Path) -> None:
    """A configured address never leads to another one."""
    web.script.append(Answer(307, headers={"Location": f"{web.url}/elsewhere"}))
    a_hook(web.url, tmp_path).run(CALL)
    assert [request.path for request in web.received] == ["/"]


def test_proxies_of_the_environment_are_not_used(
    web: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback goes where the configuration says, not where a variable says."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert a_hook(web.url, tmp_path).run(CALL).outcome is HookOutcome.OK


def test_what_cannot_be_sent_is_not_repeated(web: Receiver) -> None:
    """A header with a line break is refused by the library, in a sentence with the whole of it."""
    with pytest.raises(WatchdogError) as raised:
        exchange("GET", web.url, headers={"Authorization": "Bearer canary\nsecond"}, body=b"", deadline_s=5.0)
    assert "canary" not in str(raised.value)
    assert "ValueError" in str(raised.value)


def test_nothing_sent_is_not_started(tmp_path: Path) -> None:
    """A refused connection, a name that does not exist and TLS that fails surely had no effect."""
    hook = a_hook(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert hook.run(CALL).outcome is HookOutcome.NOT_STARTED
    assert a_hook("http://no-such-host.invalid", tmp_path).run(CALL).outcome is HookOutcome.NOT_STARTED


def test_a_server_without_tls_is_not_spoken_to_in_plain(web: Receiver, tmp_path: Path) -> None:
    """https to a server that has none: nothing is sent."""
    result = a_hook(web.url.replace("http:", "https:"), tmp_path).run(CALL)
    assert result.outcome is HookOutcome.NOT_STARTED
    assert web.received == []


@pytest.mark.parametrize("answer", [Answer(hang=True), Answer(drip=True)], ids=["hangs", "drips"])
def test_one_deadline_bounds_the_whole_exchange(web: Receiver, tmp_path: Path, answer: Answer) -> None:
    """Neither silence nor one byte at a time keeps us beyond the deadline, and nobody knows what happened."""
    web.script.append(answer)
    began = time.monotonic()
    result = a_hook(web.url, tmp_path, timeout_s=0.4).run(CALL)
    assert result.outcome is HookOutcome.TIMED_OUT
    assert 0.3 < time.monotonic() - began < 2


def test_a_connection_nobody_accepts_was_not_started(tmp_path: Path) -> None:
    """A deadline that passes while still connecting had no effect, and says so."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]  # fill the queue, so that connects hang
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        hook = a_hook(f"http://127.0.0.1:{full.getsockname()[1]}", tmp_path, timeout_s=0.4)
        assert hook.run(CALL).outcome is HookOutcome.NOT_STARTED
        for sock in waiting:
            sock.close()


def test_an_answer_cut_off_leaves_it_unknown(web: Receiver, tmp_path: Path) -> None:
    """The request arrived and the connection broke: that is not a failure but not knowing."""
    web.script.append(Answer(cut=True))
    result = a_hook(web.url, tmp_path).run(CALL)
    assert result.outcome is HookOutcome.TIMED_OUT
    assert len(web.received) == 1


def test_a_huge_answer_is_cut_and_made_printable(web: Receiver, tmp_path: Path) -> None:
    """Ten megabytes of control characters become a bounded, harmless text."""
    web.script.append(Answer(500, b"\x1b[2J" + b"x" * 10_000_000))
    result = a_hook(web.url, tmp_path).run(CALL)
    assert result.outcome is HookOutcome.FAILED
    assert len(result.output) <= MAX_REPLY_BYTES + 20
    assert "\x1b" not in result.output


@pytest.mark.parametrize("state", ["applied", "not_applied", "partial", "moved_on"])
def test_the_probe_says_what_the_receiver_says(web: Receiver, tmp_path: Path, state: str) -> None:
    """A GET with the action's fields, encoded, beside the query that was configured."""
    web.script.append(Answer(200, json.dumps({"state": state, "more": 1}).encode()))
    hook = a_hook(web.url, tmp_path, probe_url=f"{web.url}/live?cell=eu", secret_env="HOOK_SECRET")
    assert hook.has_probe
    assert hook.probe(CALL) is ProbeAnswer(state)
    (request,) = web.received
    assert (request.method, request.path) == ("GET", "/live")
    assert request.query == {
        "cell": "eu", "action_id": "a" * 64, "kind": "rollback", "attempt": "2", "fence": "7", "service": "shop",
        "environment": "production", "deploy_id": "d1", "from": "v2", "to": "v1&x=y z",
    }  # fmt: skip
    expected = signature_of(request.headers["webhook-id"], request.headers["webhook-timestamp"], b"")
    assert request.headers["webhook-signature"] == expected


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, b'{"state": "applied"}'),
        Answer(302, b'{"state": "applied"}', {"Location": "/"}),
        Answer(200, b"<html>"),
        Answer(200, b"[]"),
        Answer(200, b"null"),
        Answer(200, b'{"state": 1}'),
        Answer(200, b'{"state": ["applied"]}'),
        Answer(200, b'{"state": "APPLIED"}'),
        Answer(200, b"{}"),
        Answer(200, b"\xff\xfe"),
        Answer(200, b"[" * 60_000),
        Answer(cut=True),
        Answer(hang=True),
    ],
    ids=lambda answer: f"{answer.status} {answer.body[:20]!r} {answer.hang}",
)
def test_a_probe_that_does_not_say_it_plainly_says_unknown(web: Receiver, tmp_path: Path, answer: Answer) -> None:
    """Everything but 200 with one of the four words is UNKNOWN, never an error."""
    web.script.append(answer)
    hook = a_hook(web.url, tmp_path, probe_url=web.url, probe_timeout_s=0.5)
    assert hook.probe(CALL) is ProbeAnswer.UNKNOWN


def test_without_a_probe_url_nobody_is_asked(web: Receiver, tmp_path: Path) -> None:
    """No probe is UNKNOWN and not a request."""
    hook = a_hook(web.url, tmp_path)
    assert not hook.has_probe
    assert hook.probe(CALL) is ProbeAnswer.UNKNOWN
    assert web.received == []


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "file:///etc/passwd", "http://", "https://user:pw@host/", "host/path", "http://h:port"]
)
def test_only_plain_web_addresses_are_taken(url: str) -> None:
    """Another scheme, no host, or a password in the address is refused with the configuration."""
    with pytest.raises(ValidationError):
        HttpOptions(url=url)


def test_a_secret_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    """A key that cannot sign is a mistake of the configuration, not of the first rollback; it is not repeated."""
    options = HttpOptions(url="https://x.invalid/", secret_env="HOOK_SECRET")
    with pytest.raises(ConfigError) as refused:
        HttpHook("back", options, SystemClock(), {"HOOK_SECRET": "whsec_a"}, tmp_path)
    assert "whsec_a" not in str(refused.value)


def test_wishes_of_the_receiver_are_read_and_bounded() -> None:
    """Retry-After as seconds or as a date, never longer than an hour, never negative."""
    clock = FakeClock(1_700_000_000.0)  # Tue, 14 Nov 2023 22:13:20 GMT
    asked = {"30": 30.0, "999999": 3600.0, "Tue, 14 Nov 2023 22:14:20 GMT": 60.0, "Tue, 14 Nov 2023 22:00:00 GMT": 0.0}
    for header, seconds in asked.items():
        assert retry_after_s({"retry-after": header}, now=clock.now()) == seconds
    for header in ("", "soon", "-1", "1e9", "٣"):
        assert retry_after_s({"retry-after": header}, now=clock.now()) is None


def test_nothing_is_sent_after_it_was_said_that_nothing_was(web: Receiver) -> None:
    """A connection that comes about just after the deadline stays silent: NOT_STARTED must remain true."""
    attempt = _Attempt("POST", web.url, {}, b"{}", 5.0)
    attempt.give_up()
    attempt.run()
    assert isinstance(attempt.error, NotSentError)
    assert web.received == []
