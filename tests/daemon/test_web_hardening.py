"""Hostile senders: whatever they send, nobody else notices and nothing breaks."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.samples import a_watch
from tests.web_server import World, running, signed, token
from watchdog.strict_json import JsonError, parse_object
from watchdog.web import server as web_server
from watchdog.web.bodies import ErrorBody

DEPLOYS = "/api/v1/deploys"


@pytest.fixture(scope="module")
def server() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture
def world(server: World) -> World:
    return server.fresh()


def talk(world: World, *pieces: bytes, timeout_s: float = 10.0) -> bytes:
    """Send raw bytes and read until the server closes."""
    with socket.create_connection(("127.0.0.1", world.port), timeout=timeout_s) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def request_head(length: int | None, *more: str) -> bytes:
    framing = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    lines = [f"POST {DEPLOYS} HTTP/1.1", "Host: x", f"Authorization: Bearer {token('trigger')}", framing, *more]
    return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode()


# --- slow and endless senders -----------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A server with deadlines short enough to wait for."""
    monkeypatch.setattr(web_server, "HEADER_DEADLINE_S", 0.3)
    monkeypatch.setattr("watchdog.web.body.BODY_DEADLINE_S", 0.3)
    with running() as world:
        yield world


def test_a_body_that_does_not_come_is_given_up(impatient: World) -> None:
    """408, the connection is closed, and nothing was recorded."""
    answer = talk(impatient, request_head(100), b'{"service":')
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()
    assert impatient.intake.received == []


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_headers_that_do_not_end_are_cut_off(impatient: World, begun: bytes) -> None:
    """A connection that never gets to the point is closed without a word."""
    started = time.monotonic()
    with suppress(ConnectionResetError):
        assert talk(impatient, begun) == b""
    assert 0.2 < time.monotonic() - started < 3


def test_a_second_request_must_end_its_headers_too(impatient: World) -> None:
    """A good request first buys no time for a bad one."""
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as connection:
        for _ in range(3):  # a good request ends the deadline of its own headers
            connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(0.2)
        started = time.monotonic()
        connection.sendall(b"GET /-/hea")
        with suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
        assert time.monotonic() - started < 3


def test_many_slow_senders_do_not_slow_the_others(world: World) -> None:
    """400 connections in the middle of their headers, 100 more in the middle of a body; a probe is answered at once,
    and deploys are taken."""
    slow = [socket.create_connection(("127.0.0.1", world.port), timeout=5) for _ in range(500)]
    try:
        for n, connection in enumerate(slow):
            connection.sendall(b"GET / HTTP/1.1\r\nX-A: " if n < 400 else request_head(50) + b"{")
        times = [world.get("/-/healthy", as_=None).elapsed.total_seconds() for _ in range(20)]
        assert max(times) < 3  # the first waits until all of them are accepted
        for number in range(5):
            body = json.dumps({"id": f"n{number}", "service": "shop", "version": "v2"}).encode()
            taken = world.post(DEPLOYS, body, as_="trigger")
            assert (taken.status_code, taken.elapsed.total_seconds() < 3) == (201, True)
    finally:
        for connection in slow:
            connection.close()


def test_an_endless_body_is_cut_off(world: World) -> None:
    """A chunked body without end is read no further than a bound."""
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", world.port), timeout=10) as connection:
        connection.sendall(request_head(None))
        sent = 0
        with suppress(ConnectionError):
            while sent < 64 * 1024 * 1024:
                connection.sendall(chunk)
                sent += len(chunk)
        assert sent < 32 * 1024 * 1024
    assert world.get("/-/healthy", as_=None).status_code == 200


def test_a_sender_that_hangs_up_leaves_nothing_behind(world: World) -> None:
    """Half a body is no deploy."""
    with socket.create_connection(("127.0.0.1", world.port), timeout=5) as connection:
        connection.sendall(request_head(100) + b'{"service": "shop"')
    assert world.get("/-/healthy", as_=None).status_code == 200
    assert world.intake.received == []


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000,  # and no end in sight
        b"POST /api/v1/deploys HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /api/v1/deploys HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",  # TLS to a plain port
    ],
)
def test_what_is_not_http_is_refused_and_closed(world: World, raw: bytes) -> None:
    """400, and the server lives."""
    assert talk(world, raw).startswith(b"HTTP/1.1 400")
    assert world.get("/-/healthy", as_=None).status_code == 200


@pytest.mark.parametrize(
    "path", [b"/static/../auth.py", b"/static/%2e%2e/auth.py", b"/static/..%2fauth.py", b"/static//etc/passwd",
             b"/deploys/..%2f..%2fetc%2fpasswd", b"/api/v1/deploys/%00", b"/api/v1/deploys/%ed%a0%80", b"/%zz"],
)  # fmt: skip
def test_no_path_leads_to_a_file(world: World, path: bytes) -> None:
    """Raw paths, as no polite client would send them."""
    head = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
    assert talk(world, head + token("admin").encode() + b"\r\n\r\n").startswith(b"HTTP/1.1 404")


# --- random input -----------------------------------------------------------------------------------------

fuzzed = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
events = st.fixed_dictionaries(
    {},
    optional={
        key: anything | st.sampled_from(["shop", "v7", "canary", "none"])
        for key in ("id", "service", "environment", "version", "previous_version", "strategy", "deployed_at", "share",
                    "instances", "migration", "extra")
    },
)  # fmt: skip


def refused_or_taken(answer: requests.Response) -> None:
    assert answer.status_code in (200, 201, 404, 409, 413, 422)
    if answer.status_code >= 400:
        ErrorBody.model_validate(answer.json())


@fuzzed
@given(body=st.binary(max_size=300) | st.builds(lambda e: json.dumps(e).encode(), events | anything))
def test_no_body_breaks_the_intake(world: World, body: bytes) -> None:
    """Random bytes and random JSON are taken or refused in the one shape; never a 5xx."""
    refused_or_taken(world.post(DEPLOYS, body, as_="trigger"))


@fuzzed
@given(body=st.builds(lambda e: json.dumps(e).encode(), events))
def test_no_signed_body_breaks_the_intake(world: World, body: bytes) -> None:
    """A genuine signature makes nothing else true."""
    refused_or_taken(world.send(body, signed(body)))


@fuzzed
@given(
    name=st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "authorization"]),
    value=st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\x85\xa0"), max_size=80),
)
def test_no_header_opens_the_door(world: World, name: str, value: str) -> None:
    """One header changed to anything else is 401, never a 5xx."""
    body = b'{"service": "shop", "version": "v7"}'
    headers = signed(body)
    if headers.get(name) != value:
        assert world.send(body, headers | {name: value.encode("latin-1").decode("latin-1")}).status_code == 401
        assert world.intake.received == []


@fuzzed
@given(query=st.dictionaries(st.sampled_from(["service", "environment", "state", "limit", "before", "wait"]),
                             st.text(max_size=20), max_size=4), deploy_id=st.text(min_size=1, max_size=20))  # fmt: skip
def test_no_query_breaks_the_reading(world: World, query: dict[str, str], deploy_id: str) -> None:
    """Lists and look-ups answer or refuse, never fail."""
    world.ledger.put(a_watch())
    codes = {world.get(DEPLOYS, params=query).status_code}
    if not set(deploy_id) & set("/?#.\\"):
        encoded = quote(deploy_id.encode("utf-8", "replace"), safe="")
        codes.add(world.get(f"{DEPLOYS}/{encoded}/audit", params=query).status_code)
    assert codes <= {200, 404, 422}


@fuzzed
@given(value=st.dictionaries(st.text(max_size=10), anything, max_size=4))
def test_strict_json_agrees_with_the_standard_library_where_it_accepts(value: dict[str, Any]) -> None:
    """It refuses more, and never reads anything differently."""
    raw = json.dumps(value).encode()
    with suppress(JsonError):  # NaN, half surrogates and long numbers
        assert parse_object(raw) == json.loads(raw)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/services/%00", 404), ("/api/v1/deploys/a%00b", 404), ("/deploys/%00?x=%00", 404),
        ("/?before=1&before_id=%00", 422), ("/api/v1/deploys?before=1&before_id=a%00", 422),
    ],
)  # fmt: skip
def test_an_address_with_nul_asks_the_ledger_nothing(world: World, path: str, status: int) -> None:
    """PostgreSQL cannot be asked for one, and would seem to be away."""
    answer = world.get(path)
    assert (answer.status_code, "before_id: a NUL character" in answer.text or "no such address" in answer.text) == (
        status,
        True,
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_what_nobody_foresaw_is_a_plain_500(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one shape, the security headers, and not a word of the traceback."""

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(world.intake, "receive", fails)
    answer = world.post(DEPLOYS, b'{"service": "shop", "version": "v7"}')
    assert answer.status_code == 500
    assert ErrorBody.model_validate(answer.json()).error.code == "internal"
    assert "secret" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
