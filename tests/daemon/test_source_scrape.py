"""The scrape source against pages that prometheus_client really serves, in simulated time."""

import errno
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from pydantic import ValidationError

from analysis.prepare import Cells
from analysis.result import Arm, Kind, MetricSpec, SourceStatus
from tests.daemon.test_source_prometheus_faults import self_signed, tls_front
from tests.fakes import FakeClock
from tests.receivers import Answer, receiver
from tests.servers import free_port, wait_until
from watchdog.clock import SystemClock
from watchdog.model import Metric
from watchdog.ports import ArmWindow, LookAnswer, LookRequest
from watchdog.selector import parse_selector
from watchdog.sources.page import Page, PageError
from watchdog.sources.ring import Health, Scrape
from watchdog.sources.scrape import ScrapeSource
from watchdog.sources.scrape_options import ScrapeOptions
from watchdog.sources.standing import Stand, standing

ERRORS = Metric(
    spec=MetricSpec(name="errors", kind=Kind.RATIO),
    series={"bad": parse_selector('shop_requests_total{code=~"5.."}'), "total": parse_selector("shop_requests_total")},
    by=("route",),
)
LATENCY = Metric(
    spec=MetricSpec(name="latency", kind=Kind.LATENCY), series={"histogram": parse_selector("shop_seconds")}
)
MEMORY = Metric(spec=MetricSpec(name="memory", kind=Kind.GAUGE), series={"level": parse_selector("shop_bytes")})


class Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None: ...


class Pod:
    """A process with a /metrics page, which may die and be born again at its address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.server: WSGIServer | None = None
        self.start()

    def start(self) -> None:
        registry = CollectorRegistry()
        self.requests = Counter("shop_requests", "-", ["route", "code"], registry=registry)
        self.seconds = Histogram("shop_seconds", "-", buckets=(0.1, 0.5), registry=registry)
        self.bytes = Gauge("shop_bytes", "-", registry=registry)
        self.server = make_server("127.0.0.1", self.port, make_wsgi_app(registry), handler_class=Silent)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def serve(self, requests: int, *, route: str = "/", code: str = "200") -> None:
        self.requests.labels(route, code).inc(requests)


@dataclass
class Shop:
    """Two pods of the old and one of the new version, read once a second of simulated time."""

    clock: FakeClock
    source: ScrapeSource
    pods: dict[str, Pod]
    t0: float

    def tick(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.source.read_all()

    def look(self, interval: int, *metrics: Metric, step_s: float = 5.0, before_after: bool = False) -> LookAnswer:
        start = self.t0 + interval * step_s
        versions = [(Arm.CANDIDATE, {})] if before_after else [(Arm.BASELINE, V1), (Arm.CANDIDATE, V2)]
        arms = tuple(ArmWindow(arm=a, start=start, end=start + step_s, labels=labels) for a, labels in versions)
        request = LookRequest(watch_id="w", service="shop", interval=interval, arms=arms, metrics=metrics or (ERRORS,))
        return self.source.fetch([request], deadline_s=1)[0]

    def name(self, pod: str) -> str:
        return f"127.0.0.1:{self.pods[pod].port}"


V1, V2 = {"version": "v1"}, {"version": "v2"}


@pytest.fixture
def shop() -> Iterator[Shop]:
    clock = FakeClock()
    pods = {"a": Pod(), "b": Pod(), "c": Pod()}
    versions = {"a": "v1", "b": "v1", "c": "v2"}
    targets = [
        {"url": f"http://127.0.0.1:{pod.port}/metrics", "labels": {"version": versions[name]}}
        for name, pod in pods.items()
    ]
    options = ScrapeOptions.model_validate({"targets": targets, "timeout_s": 2})
    shop = Shop(clock, ScrapeSource(name="pages", options=options, clock=clock), pods, clock.now())
    shop.source.read_all()
    yield shop
    for pod in pods.values():
        pod.stop()
    shop.source.close()


def rows(cells: Cells) -> dict[tuple[str, str, str], tuple[float, float]]:
    places = zip(cells.arm, cells.replica, cells.stratum, strict=True)
    return dict(zip(places, zip(cells.value, cells.total, strict=True), strict=True))


def test_events_are_counted_exactly_per_instance_and_stratum(shop: Shop) -> None:
    """Intervals add up to what was served, series born inside one included."""
    for second in range(20):
        shop.pods["a"].serve(3)
        shop.pods["b"].serve(2, route="/buy")
        shop.pods["c"].serve(1)
        if second % 7 == 5:
            shop.pods["c"].serve(1, code="500")
        shop.tick()
    looks = [rows(shop.look(i).cells["errors"]) for i in range(4)]
    assert looks[0] == {
        ("baseline", shop.name("a"), "/"): (0.0, 15.0),
        ("baseline", shop.name("b"), "/buy"): (0.0, 10.0),
        ("candidate", shop.name("c"), "/"): (0.0, 5.0),
    }
    served = [look["candidate", shop.name("c"), "/"] for look in looks]
    assert [sum(column) for column in zip(*served, strict=True)] == [3.0, 23.0]


def test_a_restart_inside_an_interval_loses_nothing_that_was_read(shop: Shop) -> None:
    """Before the restart the difference, after it the whole value."""
    shop.pods["c"].serve(100)
    shop.tick(5)
    shop.pods["c"].serve(10)
    shop.tick(2)
    shop.pods["c"].stop()
    shop.tick()
    shop.pods["c"].start()
    shop.pods["c"].serve(7)
    shop.tick(2)
    assert rows(shop.look(1).cells["errors"])["candidate", shop.name("c"), "/"] == (0.0, 17.0)


def test_a_process_born_while_we_watch_counts_whole(shop: Shop) -> None:
    """Its address refused before, so everything on its first page is new."""
    shop.pods["c"].stop()
    shop.tick(5)
    shop.tick(2)
    shop.pods["c"].start()
    shop.pods["c"].serve(9)
    shop.tick(3)
    assert rows(shop.look(1).cells["errors"])["candidate", shop.name("c"), "/"] == (0.0, 9.0)


def test_what_was_counted_before_we_looked_is_nobodys(shop: Shop) -> None:
    """A page first read in the middle of an interval joins with the next one."""
    clock, pod = FakeClock(), shop.pods["a"]
    pod.serve(1_000_000)
    target = {"url": f"http://{shop.name('a')}/metrics", "labels": V1}
    late = ScrapeSource(name="p", options=ScrapeOptions.model_validate({"targets": [target]}), clock=clock)
    other = Shop(clock, late, shop.pods, clock.now())
    other.tick(5)
    pod.serve(4)
    other.tick(5)
    first, second = other.look(0), other.look(1)
    assert first.cells == {}
    assert first.facts.status is SourceStatus.OK
    assert sum(second.cells["errors"].total) == 4.0


def test_a_past_that_comes_into_sight_on_a_page_is_nobodys(shop: Shop) -> None:
    """A gateway that shows another client's counters from some page on: more than can have happened in the interval."""
    shop.tick(5)
    shop.pods["a"].serve(1_000_000)
    shop.pods["b"].serve(30)
    shop.tick(5)
    shop.pods["a"].serve(4)
    shop.tick(5)
    assert [shop.look(i).cells["errors"].total for i in (1, 2)] == [(30.0,), (4.0, 0.0)]


def test_before_the_first_reading_nothing_is_known(shop: Shop) -> None:
    """After a restart of the daemon the past is missing, which is no fault of the source."""
    shop.tick(10)
    told = shop.look(-3)
    assert told.cells == {}
    assert told.facts.status is SourceStatus.OK
    assert told.facts.baseline_up is None
    assert "no page of shop was read at that time" in told.facts.detail


def test_a_gap_in_reading_is_missing_and_not_wrong(shop: Shop) -> None:
    """When nobody read near an interval's ends it has no cells, and no later one makes up for it."""
    for second in range(30):
        shop.pods["a"].serve(1)
        shop.clock.advance(1.0)
        if not 5 <= second < 16:
            shop.source.read_all()
    assert [shop.look(i).cells.get("errors", Cells()).total for i in range(6)] == [(5.0,), (), (), (), (5.0,), (5.0,)]


def test_a_reading_missed_moves_events_and_loses_none(shop: Shop) -> None:
    """Within the tolerance an interval ends at the last reading before its end, and the next begins there."""
    for second in range(15):
        shop.pods["a"].serve(1)
        shop.clock.advance(1.0)
        if second not in {8, 9}:
            shop.source.read_all()
    assert [shop.look(i).cells["errors"].total for i in range(3)] == [(5.0,), (3.0,), (7.0,)]


def test_a_clock_that_is_set_back_makes_a_gap(shop: Shop) -> None:
    """Two readings for one moment would count nonsense."""
    shop.tick(10)
    shop.clock.wall -= 3600
    shop.tick(2)
    assert shop.look(0).cells == {}
    assert shop.look(1).facts.status is SourceStatus.OK


def test_histograms_and_levels(shop: Shop) -> None:
    """Cumulative buckets with their total; a mean over the interval; NaN is no level."""
    for second in range(5):
        for value in (0.05, 0.3, 7.0):
            shop.pods["a"].seconds.observe(value)
        shop.pods["a"].bytes.set(100 + second)
        shop.pods["c"].bytes.set(math.nan if second else math.inf)
        shop.tick()
    told = shop.look(0, LATENCY, MEMORY)
    latency = told.cells["latency"]
    mine = [i for i, replica in enumerate(latency.replica) if replica == shop.name("a")]
    assert [(latency.le[i], latency.value[i], latency.total[i]) for i in mine] == [
        (0.1, 5.0, 15.0),
        (0.5, 10.0, 15.0),
        (math.inf, 15.0, 15.0),
    ]
    assert rows(told.cells["memory"])["baseline", shop.name("a"), ""][0] == 102.0
    assert {arm for arm, _, _ in rows(told.cells["memory"])} == {"baseline"}


def test_an_expression_needs_a_prometheus(shop: Shop) -> None:
    """PromQL cannot be answered from pages; the look says so and stays OK."""
    shop.tick(5)
    load = Metric(spec=MetricSpec(name="load", kind=Kind.GAUGE), promql="avg(x{$arm})")
    told = shop.look(0, load, ERRORS)
    assert told.facts.status is SourceStatus.OK
    assert "load" not in told.cells
    assert told.queries["load"] == "PromQL needs a Prometheus"


# --- who is alive -----------------------------------------------------------------------------------------


def test_a_candidate_that_refuses_is_positive_proof(shop: Shop) -> None:
    """The baseline answers, the candidate's address refuses."""
    shop.tick(4)
    shop.pods["c"].stop()
    shop.tick()
    facts = shop.look(0).facts
    assert facts.status is SourceStatus.OK
    assert (facts.baseline_up, facts.candidate_up, facts.candidate_down) == (2, 0, 1)
    assert "connection refused" in facts.detail


def test_all_pages_gone_is_a_source_that_is_down(shop: Shop) -> None:
    """Nobody can be judged then, and nobody is called absent."""
    for pod in shop.pods.values():
        pod.stop()
    shop.tick(5)
    told = shop.look(0)
    assert told.facts.status is SourceStatus.DOWN
    assert told.facts.detail.startswith("every /metrics page of shop is unreachable: ")
    assert told.cells == {}
    assert (told.facts.baseline_up, told.facts.candidate_down) == (None, None)


def test_a_baseline_that_is_gone_makes_the_look_partial(shop: Shop) -> None:
    """There is nothing to compare the candidate with."""
    shop.pods["a"].stop()
    shop.pods["b"].stop()
    shop.tick(5)
    facts = shop.look(0).facts
    assert facts.status is SourceStatus.PARTIAL
    assert (facts.baseline_up, facts.candidate_up) == (0, 1)


def test_before_and_after_there_is_no_second_arm_to_prove_anything(shop: Shop) -> None:
    """When the only arm's pages are gone, the source is down; one of three is only told."""
    shop.pods["c"].stop()
    shop.tick(5)
    told = shop.look(0, before_after=True)
    assert told.facts.status is SourceStatus.OK
    assert (told.facts.candidate_up, told.facts.candidate_down) == (2, 1)
    for pod in shop.pods.values():
        pod.stop()
    shop.tick(5)
    assert shop.look(1, before_after=True).facts.status is SourceStatus.DOWN


PAGE = b"# TYPE shop_requests_total counter\nshop_requests_total 5\n"
FAULTS = {
    "hangs": (Answer(hang=True), "no answer in time", True),
    "drips": (Answer(body=b"shop_requests_total ", drip=True), "no answer in time", True),
    "hangs up": (Answer(cut=True), "no connection", True),
    "500": (Answer(status=500), "HTTP 500", True),
    "404": (Answer(status=404), "HTTP 404", False),
    "html": (Answer(body=b"<html>\n<body>log in</body>\n"), "no metrics page", False),
    "binary": (Answer(body=b"\x00\xff\xfe\n"), "no metrics page", False),
    "cut short": (Answer(body=PAGE[:-1]), "cut short", False),
    "cut by length": (Answer(body=PAGE, headers={"Content-Length": "500"}), "cut short", False),
    "too big": (Answer(body=b"# x\n" * 10_000), "larger than 20,000 bytes", False),
    "too many": (Answer(body=b"".join(b'x{a="%d"} 1\n' % i for i in range(30))), "30 series", False),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_page_that_cannot_be_used_says_why(fault: str) -> None:
    """An instance that fails is proof; one that answers with something else is alive, and the look PARTIAL."""
    answer, why, failing = FAULTS[fault]
    clock = FakeClock()
    with receiver() as good, receiver() as bad:
        good.otherwise = lambda _: Answer(body=PAGE)
        bad.otherwise = lambda _: answer
        targets = [{"url": good.url, "labels": V1}, {"url": bad.url, "labels": V2}]
        options = {"targets": targets, "timeout_s": 0.3, "max_bytes": 20_000, "max_series": 20}
        source = ScrapeSource(name="p", options=ScrapeOptions.model_validate(options), clock=RunningClock(clock))
        began = time.monotonic()
        shop = Shop(clock, source, {}, clock.now())
        source.read_all()
        clock.advance(5)
        source.read_all()
        assert time.monotonic() - began < 2.0
        facts = shop.look(0).facts
    assert why in facts.detail
    assert facts.status is (SourceStatus.OK if failing else SourceStatus.PARTIAL)
    assert (facts.baseline_up, facts.candidate_up, facts.candidate_down) == ((1, 0, 1) if failing else (1, 1, 0))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "its name cannot be resolved"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "its certificate cannot be verified"),
        (ssl.SSLError(1, "wrong version number"), "no TLS with it"),
        (OSError(errno.ENETUNREACH, "-"), "it cannot be reached from here (ENETUNREACH)"),
        (OSError(errno.EHOSTUNREACH, "-"), "it cannot be reached from here (EHOSTUNREACH)"),
        (OSError(errno.EMFILE, "-"), "it cannot be reached from here (EMFILE)"),
        (OSError(errno.ENFILE, "-"), "it cannot be reached from here (ENFILE)"),
        (ConnectionResetError(errno.ECONNRESET, "-"), ""),
        (TimeoutError(errno.ETIMEDOUT, "-"), ""),
    ],
)
def test_our_own_trouble_is_no_proof_that_the_candidate_fails(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: OSError, why: str
) -> None:
    """Names, certificates, routes and files are ours: the look is told in part, and nobody is down."""
    connect = socket.socket.connect

    def elsewhere(self: socket.socket, address: tuple[str, int]) -> None:
        if address[1] == shop.pods["c"].port:
            raise error
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", elsewhere)
    shop.pods["c"].stop()
    shop.tick(5)
    facts = shop.look(0).facts
    assert why in facts.detail
    found = (facts.status, facts.candidate_up, facts.candidate_down)
    assert found == ((SourceStatus.PARTIAL, None, 0) if why else (SourceStatus.OK, 0, 1))
    assert facts.baseline_up == 2


def test_an_arm_of_which_one_page_fails_and_another_cannot_be_reached_is_not_proven_absent() -> None:
    """The other one may serve."""
    failing, unknown, up = (
        Stand(f"http://{health}", Scrape(health)) for health in (Health.FAILING, Health.UNKNOWN, Health.UP)
    )
    facts = standing("shop", {Arm.BASELINE: [up], Arm.CANDIDATE: [failing, unknown]})
    assert (facts.status, facts.candidate_down) == (SourceStatus.PARTIAL, 1)


def test_pages_behind_a_private_authority_are_read_with_its_certificate(tmp_path: Path) -> None:
    """Without `ca_file` it is said that the certificate cannot be verified."""
    certificate = tmp_path / "cert.pem"
    with receiver() as server, tls_front(server.url, self_signed(certificate)) as url:
        server.otherwise = lambda _: Answer(body=PAGE)
        with pytest.raises(PageError, match="certificate cannot be verified") as told:
            a_page(url).read()
        assert told.value.unknown
        assert list(a_page(url, ca_file=str(certificate)).read().values()) == [5.0]


def a_page(url: str, **options: Any) -> Page:
    return Page(url, timeout_s=5.0, max_bytes=20_000, monotonic=time.monotonic, **options)


class RunningClock(SystemClock):
    """Simulated calendar, real stop-watch: what talks over a network needs real deadlines."""

    def __init__(self, calendar: FakeClock) -> None:
        self.calendar = calendar

    def now(self) -> float:
        return self.calendar.now()


def test_one_page_for_both_arms_proves_nothing_about_either() -> None:
    """Where only the series carry the version, nobody knows which instance is whose; the counts are told apart."""
    clock = FakeClock()
    with receiver() as front:
        text = '# TYPE r_total counter\nr_total{{version="v1"}} {}\nr_total{{version="v2"}} {}\n'
        front.otherwise = lambda _: Answer(body=text.format(*counts).encode())
        options = ScrapeOptions.model_validate({"targets": [{"url": front.url}]})
        source = ScrapeSource(name="p", options=options, clock=RunningClock(clock))
        shop = Shop(clock, source, {}, clock.now())
        counts = (100, 10)
        source.read_all()
        clock.advance(5)
        counts = (190, 13)
        source.read_all()
    metric = Metric(
        spec=MetricSpec(name="errors", kind=Kind.RATIO),
        series={"bad": parse_selector('r_total{code="500"}'), "total": parse_selector("r_total")},
    )
    told = shop.look(0, metric)
    assert dict(zip(told.cells["errors"].arm, told.cells["errors"].total, strict=True)) == {
        "baseline": 90.0,
        "candidate": 3.0,
    }
    assert (told.facts.baseline_up, told.facts.candidate_up, told.facts.candidate_down) == (None, None, None)


# --- threads ----------------------------------------------------------------------------------------------


def test_pages_are_read_in_the_background_and_starting_twice_is_once(shop: Shop) -> None:
    """start and close may be called again; a hanging page delays nobody."""
    with receiver() as slow:
        slow.otherwise = lambda _: Answer(hang=True)
        targets = [{"url": slow.url, "labels": V2}, {"url": f"http://{shop.name('a')}/metrics", "labels": V1}]
        options = ScrapeOptions.model_validate({"targets": targets, "interval_s": 0.05, "timeout_s": 0.5})
        source = ScrapeSource(name="p", options=options, clock=SystemClock())
        source.start()
        source.start()
        assert sum(thread.name.startswith("scrape ") for thread in threading.enumerate()) == 2
        began = SystemClock().now()
        live = Shop(shop.clock, source, shop.pods, began)
        wait_until(lambda: bool(live.look(1, MEMORY, step_s=0.4).cells), within_s=10, what="an interval was read")
        source.close()
        source.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("scrape ")]
        source.start()
        source.close()


@pytest.mark.parametrize(
    "options",
    [
        {"targets": []},
        {"targets": [{"url": "shop:80/metrics"}]},
        {"targets": [{"url": "http://u:p@shop/metrics"}]},
        {"targets": [{"url": "http://shop/metrics", "labels": {"not a label": "x"}}]},
        {"targets": [{"url": "http://shop/metrics"}], "interval": 1},
    ],
)
def test_targets_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    """None at all, no address, a password in it, no label name, an unknown key."""
    with pytest.raises(ValidationError):
        ScrapeOptions.model_validate(options)
