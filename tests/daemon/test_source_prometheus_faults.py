"""The Prometheus source against servers that lie, hang, drip, flood and refuse."""

import json
import math
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from analysis.result import Arm, Kind, MetricSpec, SourceStatus
from tests.receivers import Answer, Received, Receiver, receiver
from tests.servers import free_port
from watchdog.clock import SystemClock
from watchdog.errors import ConfigError
from watchdog.model import Metric
from watchdog.ports import ArmWindow, LookAnswer, LookRequest
from watchdog.selector import parse_selector
from watchdog.sources.prometheus import PrometheusSource
from watchdog.sources.prometheus_options import PrometheusOptions

DEADLINE_S = 0.6
ERRORS = Metric(
    spec=MetricSpec(name="errors", kind=Kind.RATIO),
    series={"bad": parse_selector('x_total{code=~"5.."}'), "total": parse_selector("x_total")},
)
LOAD = Metric(spec=MetricSpec(name="load", kind=Kind.GAUGE), promql="load{$arm}")
LOOK = LookRequest(
    watch_id="w",
    service="shop",
    interval=0,
    arms=(
        ArmWindow(arm=Arm.BASELINE, start=1000.0, end=1010.0, labels={"version": "v1"}),
        ArmWindow(arm=Arm.CANDIDATE, start=1000.0, end=1010.0, labels={"version": "v2"}),
    ),
    metrics=(ERRORS, LOAD),
)


def vector(*values: tuple[dict[str, str], Any], **more: Any) -> Answer:
    result = [{"metric": labels, "value": [1010, value]} for labels, value in values]
    told = {"status": "success", "data": {"resultType": "vector", "result": result}, **more}
    return Answer(body=json.dumps(told).encode(), headers={"Content-Type": "application/json"})


GOOD = vector(({"version": "v1", "instance": "a"}, "5"), ({"version": "v2", "instance": "c"}, "7"))


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as server:
        server.otherwise = lambda _: GOOD
        yield server


def ask(url: str, *, env: dict[str, str] | None = None, deadline_s: float = DEADLINE_S, **options: Any) -> LookAnswer:
    """One look by a new source; it must never take longer than its deadline."""
    source = PrometheusSource(
        name="prom", options=PrometheusOptions(url=url, **options), clock=SystemClock(), env=env or {}
    )
    source.start()
    try:
        began = time.monotonic()
        [answer] = source.fetch([LOOK], deadline_s=deadline_s)
        assert time.monotonic() - began < deadline_s + 0.4
        return answer
    finally:
        source.close()


def error(status: int, kind: str, words: str) -> Answer:
    return Answer(status=status, body=json.dumps({"status": "error", "errorType": kind, "error": words}).encode())


HTML = Answer(body=b"<html><body>Please log in</body></html>", headers={"Content-Type": "text/html"})
DOWN = {
    "hangs": (Answer(hang=True), "did not answer within"),
    "drips": (Answer(body=b'{"status":', drip=True), "did not answer within"),
    "hangs up": (Answer(cut=True), "cannot be asked"),
    "html": (HTML, "HTML instead of JSON"),
    "html 502": (Answer(status=502, body=HTML.body), "HTTP 502: the proxy before it cannot reach it"),
    "overloaded": (error(503, "timeout", "query timed out in expression evaluation"), "query timed out"),
    "internal": (Answer(status=500, body=b""), "HTTP 500: empty"),
    "unauthorized": (Answer(status=401, body=b""), "does not accept our credentials"),
    "redirect": (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), "redirects us"),
    "not found": (Answer(status=404, body=b"404 page not found"), "no query API at this address"),
    "deep garbage": (Answer(body=b"[" * 100_000), "not what a Prometheus says"),
    "no json": (Answer(body=b"\x00\xff\xfe"), "not what a Prometheus says"),
    "json null": (Answer(body=b"null"), "not what a Prometheus says"),
    "no value": (Answer(body=b'{"data":{"resultType":"vector","result":[{"metric":{}}]}}'), "not what"),
    "half a value": (Answer(body=b'{"data":{"resultType":"vector","result":[{"metric":{},"value":[1]}]}}'), "not what"),
    "odd labels": (vector(({"version": 3}, "1")), "not what a Prometheus says"),  # type: ignore[dict-item]
    "a word": (vector(({"version": "v1"}, "many")), "not what a Prometheus says"),
    "empty": (Answer(body=b""), "(empty)"),
}


@pytest.mark.parametrize("fault", DOWN)
def test_a_server_that_does_not_answer_well_is_down(server: Receiver, fault: str) -> None:
    """DOWN, one sentence that says why, no cells, all within the deadline."""
    answer, why = DOWN[fault]
    server.otherwise = lambda _: answer
    told = ask(server.url)
    assert told.facts.status is SourceStatus.DOWN
    assert why in told.facts.detail
    assert told.facts.detail.startswith(f"Prometheus 'prom' at {server.url}: ")
    assert told.cells == {}
    assert (told.facts.baseline_up, told.facts.candidate_up, told.facts.candidate_down) == (None, None, None)


def test_nobody_listening_is_down() -> None:
    """A refused connection is told as such."""
    told = ask(f"http://127.0.0.1:{free_port()}")
    assert told.facts.status is SourceStatus.DOWN
    assert "refuses connections" in told.facts.detail


def test_dripping_headers_end_at_the_deadline() -> None:
    """A byte of a header now and then keeps every plain timeout waiting; not ours."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = threading.Event()

        def drip() -> None:
            while not done.is_set():
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=feed, args=(peer,), daemon=True).start()

        def feed(peer: socket.socket) -> None:
            with peer:
                try:
                    peer.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                    while not done.wait(0.05):
                        peer.sendall(b".")
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        before = threading.active_count()
        told = ask(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert told.facts.status is SourceStatus.DOWN
        deadline = time.monotonic() + 5  # the workers come free by themselves: no thread is held for ever
        while any(t.name.startswith("source-prom") for t in threading.enumerate()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not [t for t in threading.enumerate() if t.name.startswith("source-prom")], before
        done.set()


def test_a_flood_is_cut_off() -> None:
    """200 MB are on offer; a little more than the limit is read."""
    sent = 0

    def body() -> Answer:
        nonlocal sent
        sent += 1
        return Answer(body=b'{"x":"' + b"a" * 20_000_000)

    with receiver() as server:
        server.otherwise = lambda _: body()
        told = ask(server.url, max_bytes=100_000, deadline_s=5)
    assert told.facts.status is SourceStatus.DOWN
    assert "larger than 100,000 bytes" in told.facts.detail


@pytest.mark.parametrize("lack", [{"warnings": ["store 3 timed out"]}, {"isPartial": True}])
def test_half_an_answer_is_partial(server: Receiver, lack: dict[str, Any]) -> None:
    """What the server says is missing makes the look PARTIAL and leaves the metric out."""
    server.otherwise = lambda _: vector(({"version": "v1", "instance": "a"}, "5"), **lack)
    told = ask(server.url)
    assert told.facts.status is SourceStatus.PARTIAL
    assert told.cells == {}
    assert ("store 3 timed out" if "warnings" in lack else "partial") in told.facts.detail


@pytest.mark.parametrize("lack", [{"warnings": ["store 3 timed out"]}, {"isPartial": True}])
def test_half_an_answer_about_many_intervals_is_partial_for_each(server: Receiver, lack: dict[str, Any]) -> None:
    """Nobody knows which of the intervals the server means."""
    values = [[1010, "5"], [1020, "6"]]
    told = {"data": {"resultType": "matrix", "result": [{"metric": {"version": "v1"}, "values": values}]}, **lack}
    server.otherwise = lambda _: Answer(body=json.dumps(told).encode())
    arms = [tuple(replace(arm, start=arm.start + 10, end=arm.end + 10) for arm in LOOK.arms)]
    looks = [LOOK, *(replace(LOOK, interval=1, arms=moved) for moved in arms)]
    source = PrometheusSource(name="prom", options=PrometheusOptions(url=server.url), clock=SystemClock())
    source.start()
    try:
        answers = source.fetch(looks, deadline_s=2)
    finally:
        source.close()
    assert {request.path for request in server.received} == {"/api/v1/query_range"}
    assert [answer.facts.status for answer in answers] == [SourceStatus.PARTIAL] * 2
    assert [answer.cells for answer in answers] == [{}, {}]


def test_half_an_answer_may_be_allowed(server: Receiver) -> None:
    """With `allow_partial` it is judged like a whole one."""
    server.otherwise = lambda _: vector(({"version": "v1", "instance": "a"}, "5"), warnings=["store 3 timed out"])
    told = ask(server.url, allow_partial=True)
    assert told.facts.status is SourceStatus.OK
    assert told.cells["errors"].total == (5.0,)


def test_one_refused_query_leaves_the_others(server: Receiver) -> None:
    """A mistake in one expression is PARTIAL, named, and the other metrics are there."""
    refused = error(400, "bad_data", "parse error: unexpected character")
    server.otherwise = lambda r: refused if "load" in parse_qs(r.body.decode())["query"][0] else GOOD
    told = ask(server.url)
    assert told.facts.status is SourceStatus.PARTIAL
    assert "load: it refuses the query: parse error: unexpected character" in told.facts.detail
    assert set(told.cells) == {"errors"}


def test_a_ratio_without_its_bad_half_is_no_ratio(server: Receiver) -> None:
    """When only the total is answered there must be no cells that say: no errors."""
    server.otherwise = lambda r: Answer(status=500) if "code" in parse_qs(r.body.decode())["query"][0] else GOOD
    told = ask(server.url)
    assert told.facts.status is SourceStatus.PARTIAL
    assert set(told.cells) == {"load"}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_no_number_never_reaches_a_cell(server: Receiver, value: str) -> None:
    """NaN and infinities are dropped at the port."""
    server.otherwise = lambda _: vector(({"version": "v1", "instance": "a"}, value), ({"version": "v2"}, "1"))
    told = ask(server.url)
    assert told.facts.status is SourceStatus.OK
    assert told.cells["errors"].arm == ("candidate",)
    assert all(math.isfinite(v) for cells in told.cells.values() for v in cells.value)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
@pytest.mark.parametrize("broken", ["bad", "total"])
def test_a_counter_that_nobody_can_read_is_not_one_at_zero(server: Receiver, broken: str, value: str) -> None:
    """Half a ratio that is no number leaves its arm without the ratio; nobody may call that no errors."""
    odd = vector(({"version": "v1", "instance": "a"}, "5"), ({"version": "v2", "instance": "c"}, value))
    server.otherwise = lambda r: odd if ("code" in parse_qs(r.body.decode())["query"][0]) == (broken == "bad") else GOOD
    cells = ask(server.url).cells["errors"]
    assert cells.arm == ("baseline",)
    assert cells.value == cells.total == (5.0,)


def test_a_scalar_is_a_value_of_the_arm(server: Receiver) -> None:
    """`scalar(...)` and plain numbers are answers too."""
    body = json.dumps({"data": {"resultType": "scalar", "result": [1010, "0.25"]}}).encode()
    server.otherwise = lambda r: Answer(body=body) if "load" in r.body.decode() else GOOD
    assert ask(server.url).cells["load"].value == (0.25, 0.25)


def test_a_kept_connection_that_was_closed_is_opened_again(server: Receiver) -> None:
    """The server hangs up once between two looks; the second look does not notice."""
    source = PrometheusSource(name="prom", options=PrometheusOptions(url=server.url), clock=SystemClock())
    source.start()
    try:
        source.fetch([LOOK], deadline_s=2)
        server.script.append(Answer(cut=True))
        [told] = source.fetch([LOOK], deadline_s=2)
    finally:
        source.close()
    assert told.facts.status is SourceStatus.OK, told.facts.detail


def test_a_slow_server_does_not_hold_up_the_next_fetch(server: Receiver) -> None:
    """After a hang the workers come free by themselves, and the source is well again."""
    source = PrometheusSource(
        name="prom", options=PrometheusOptions(url=server.url, max_in_flight=2), clock=SystemClock()
    )
    source.start()
    try:
        server.script.extend([Answer(hang=True)] * 2)
        [told] = source.fetch([LOOK], deadline_s=0.3)
        assert told.facts.status is not SourceStatus.OK
        [told] = source.fetch([LOOK], deadline_s=2)
        assert told.facts.status is SourceStatus.OK, told.facts.detail
    finally:
        source.close()


# --- who we are -------------------------------------------------------------------------------------------


def seen(server: Receiver, **options: Any) -> Received:
    env = options.pop("env", {})
    ask(server.url, env=env, **options)
    return server.received[0]


def test_a_token_goes_along_and_may_rotate(server: Receiver, tmp_path: Path) -> None:
    """The file is read for every fetch."""
    file = tmp_path / "token"
    file.write_text("one\n")
    file.chmod(0o600)
    source = PrometheusSource(
        name="prom", options=PrometheusOptions(url=server.url, token_file=str(file)), clock=SystemClock()
    )
    source.start()
    try:
        source.fetch([LOOK], deadline_s=2)
        file.write_text("two")
        source.fetch([LOOK], deadline_s=2)
        file.unlink()
        [told] = source.fetch([LOOK], deadline_s=2)
    finally:
        source.close()
    assert [server.received[i].headers["authorization"] for i in (0, -1)] == ["Bearer one", "Bearer two"]
    assert told.facts.status is SourceStatus.DOWN
    assert "cannot read" in told.facts.detail


def test_basic_authentication_and_further_headers(server: Receiver) -> None:
    """User and password by environment; a tenant header beside them."""
    request = seen(
        server, username="u", password_env="PW", env={"PW": "p"}, headers={"X-Scope-OrgID": "shop"}, deadline_s=2
    )
    assert request.headers["authorization"] == "Basic dTpw"
    assert request.headers["x-scope-orgid"] == "shop"


def test_a_secret_that_is_not_there_is_told_at_once() -> None:
    """Not at the first deploy."""
    with pytest.raises(ConfigError, match="TOKEN is not set"):
        PrometheusSource(
            name="prom", options=PrometheusOptions(url="http://p:9090", token_env="TOKEN"), clock=SystemClock()
        )


@pytest.mark.parametrize(
    "options",
    [
        {"url": "prometheus:9090"},
        {"url": "http://user:pw@prometheus"},
        {"url": "http://p", "headers": {"Authorization": "Bearer x"}},
        {"url": "http://p", "token_env": "A", "username": "u", "password_env": "B"},
        {"url": "http://p", "username": "u"},
        {"url": "http://p", "instance_label": "pod} or vector(1"},
        {"url": "http://p", "births_per_s": math.inf},
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    """Addresses without a scheme, pasted secrets, two ways in."""
    with pytest.raises(ValidationError):
        PrometheusOptions(**options)


def test_tls_is_verified_and_keeps_the_deadline(tmp_path: Path) -> None:
    """An unknown certificate is refused; with `ca_file` it is taken, and a dripping body still ends in time."""
    certificate = tmp_path / "cert.pem"
    context = self_signed(certificate)
    with receiver() as server:
        server.otherwise = lambda _: GOOD
        with tls_front(server.url, context) as url:
            told = ask(url, deadline_s=8)
            assert told.facts.status is SourceStatus.DOWN
            assert "certificate cannot be verified" in told.facts.detail
            told = ask(url, ca_file=str(certificate), deadline_s=8)
            assert told.facts.status is SourceStatus.OK, told.facts.detail
            server.otherwise = lambda _: Answer(body=b"{", drip=True)
            told = ask(url, ca_file=str(certificate))
            assert told.facts.status is SourceStatus.DOWN
            assert "did not answer within" in told.facts.detail


def self_signed(certificate: Path) -> ssl.SSLContext:
    """A server's side of TLS for this machine, whose certificate nobody knows before it is written here."""
    key = certificate.with_name("key.pem")
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = ["-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *make.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextmanager
def tls_front(url: str, context: ssl.SSLContext) -> Iterator[str]:
    """Speaks TLS before a plain server: one request a connection, answered until the server has no more."""
    target = ("127.0.0.1", int(url.rsplit(":", 1)[1]))

    def serve(plain: socket.socket) -> None:
        with (
            suppress(OSError),
            context.wrap_socket(plain, server_side=True) as tls,
            socket.create_connection(target) as server,
        ):
            request = b""
            while not complete(request):
                request += tls.recv(65536)
            server.sendall(request)
            while data := server.recv(65536):
                tls.sendall(data)

    def complete(request: bytes) -> bool:
        head, ends, body = request.partition(b"\r\n\r\n")
        wanted = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        return bool(ends) and (wanted is None or len(body) >= int(wanted[1]))

    def accept() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                threading.Thread(target=serve, args=(plain,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
