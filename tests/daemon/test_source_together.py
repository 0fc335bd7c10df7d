"""Many watches ask a Prometheus as one: a query per template, whatever their services and moments within a second."""

import json
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import parse_qs

import pytest

from analysis.result import Arm, Kind, MetricSpec, SourceStatus
from benchmarks.load.prometheus import Answers
from tests.receivers import Answer, Received, Receiver, receiver
from watchdog.clock import SystemClock
from watchdog.model import Metric
from watchdog.ports import ArmWindow, LookAnswer, LookRequest
from watchdog.selector import parse_selector
from watchdog.sources.prometheus import PrometheusSource
from watchdog.sources.prometheus_options import PrometheusOptions
from watchdog.sources.promql import bounds_ms

T0 = 1_700_000_000.0
METRICS = (
    Metric(
        spec=MetricSpec(name="errors", kind=Kind.RATIO),
        series={
            "bad": parse_selector('http_requests_total{code=~"5.."}'),
            "total": parse_selector("http_requests_total"),
        },
    ),
    Metric(
        spec=MetricSpec(name="latency", kind=Kind.LATENCY),
        series={"histogram": parse_selector("http_request_duration_seconds")},
    ),
    Metric(spec=MetricSpec(name="cpu", kind=Kind.GAUGE), series={"level": parse_selector("process_cpu_share")}),
)
TEMPLATES = 5  # bad, total, buckets, level, and who is up


def a_look(number: int, start: float, *, step_s: float = 10.0) -> LookRequest:
    arms = tuple(
        ArmWindow(
            arm=arm,
            start=start,
            end=start + step_s,
            labels={"job": f"svc-{number:04d}", "version": f"{number:04d}.{letter}"},
        )
        for arm, letter in ((Arm.BASELINE.value, "a"), (Arm.CANDIDATE.value, "b"))
    )
    return LookRequest(watch_id=f"w{number}", service=f"svc-{number}", interval=0, arms=arms, metrics=METRICS)


@pytest.fixture
def town() -> Iterator[Receiver]:
    """The Prometheus of the load test."""
    answers = Answers(replicas=2)

    def said(request: Received) -> Answer:
        return Answer(body=answers.answer(parse_qs(request.body.decode())))

    with receiver() as server:
        server.otherwise = said
        yield server


def fetch(town: Receiver, looks: list[LookRequest], **options: int) -> list[LookAnswer]:
    source = PrometheusSource(
        name="prom",
        options=PrometheusOptions(url=town.url, **options),
        clock=SystemClock(),
    )
    source.start()
    try:
        return source.fetch(looks, deadline_s=30.0)
    finally:
        source.close()


def test_looks_that_end_in_the_same_second_are_one_query_a_template(town: Receiver) -> None:
    """Sixty services that were deployed at moments of their own; each gets its own series, and all of them."""
    answers = fetch(town, [a_look(n, T0 + (n + 1) / 60) for n in range(60)])
    assert len(town.received) == TEMPLATES
    for n, answer in enumerate(answers):
        assert answer.facts.status is SourceStatus.OK
        assert (answer.facts.baseline_up, answer.facts.candidate_up) == (2, 1)
        own = {f"{n:04d}.a-0:8080", f"{n:04d}.a-1:8080", f"{n:04d}.b-0:8080"}
        assert {name: set(cells.replica) for name, cells in answer.cells.items()} == dict.fromkeys(answer.cells, own)
        assert len(answer.cells["latency"].le) == 3 * 11


def test_a_watch_is_told_its_own_part_of_the_query(town: Receiver) -> None:
    """What was sent names every service; what a person is shown, and what is stored, only theirs."""
    answers = fetch(town, [a_look(n, T0) for n in range(60)])
    sent = [parse_qs(request.body.decode())["query"][0] for request in town.received]
    assert all("svc-0007" in query and "svc-0059" in query for query in sent)
    told = "\n".join(answers[7].queries.values())
    assert told.count('job="svc-0007"') >= 4
    assert r'version=~"0007\\.a|0007\\.b"' in told
    assert "svc-0008" not in told
    [alone] = fetch(town, [a_look(7, T0)])
    assert alone.queries == answers[7].queries
    assert {query.split(" = ", 1)[1] for text in alone.queries.values() for query in text.splitlines()} <= {
        parse_qs(request.body.decode())["query"][0] for request in town.received
    }


def test_the_limit_of_series_is_for_each_look(town: Receiver) -> None:
    """Sixty looks may have sixty times the series of one; sums are asked beyond, and said so."""
    many = fetch(town, [a_look(n, T0) for n in range(60)], max_series=40)
    assert all(len(answer.cells["latency"].value) == 33 for answer in many)
    summed = fetch(town, [a_look(n, T0) for n in range(3)], max_series=32)
    assert "by (job, version, le)" in summed[1].queries["latency"]
    assert "by (job, version, instance)" in summed[1].queries["cpu"]


def flooding(town: Receiver, services: set[str], *, byte: int) -> None:
    """Services whose series fill so many bytes: more labels, replicas or routes than anyone thought."""
    plain = town.otherwise

    def said(request: Received) -> Answer:
        answer = plain(request)
        query = parse_qs(request.body.decode())["query"][0]
        return Answer(body=answer.body + b" " * (byte * sum(name in query for name in services)))

    town.otherwise = said


def started(town: Receiver, **options: int) -> PrometheusSource:
    source = PrometheusSource(name="prom", options=PrometheusOptions(url=town.url, **options), clock=SystemClock())
    source.start()
    return source


def test_an_answer_that_is_too_large_costs_only_the_watch_that_makes_it_so(town: Receiver) -> None:
    """One of sixty services floods: it has no data and says why, all others have theirs; and the next round knows."""
    flooding(town, {"svc-0007"}, byte=3_000_000)
    source = started(town, max_bytes=2_000_000)
    looks = [a_look(n, T0) for n in range(60)]
    answers = source.fetch(looks, deadline_s=30.0)
    hurt = [n for n, answer in enumerate(answers) if answer.facts.status is not SourceStatus.OK]
    assert hurt == [7]
    assert (answers[7].cells, "larger than 2,000,000 bytes" in answers[7].facts.detail) == ({}, True)
    assert all(set(answer.cells) == {"errors", "latency", "cpu"} for n, answer in enumerate(answers) if n != 7)
    town.received.clear()
    again = source.fetch([a_look(n, T0 + 10) for n in range(60)], deadline_s=30.0)
    assert [n for n, answer in enumerate(again) if answer.facts.status is not SourceStatus.OK] == [7]
    assert len(town.received) == 2 * (TEMPLATES - 1) + 1  # once for all others, once for it alone
    source.close()


def test_many_that_are_too_large_only_together_are_asked_in_portions(town: Receiver) -> None:
    """Nobody's fault: all have their data, and the next round asks in portions that fit."""
    flooding(town, {f"svc-{n:04d}" for n in range(60)}, byte=50_000)
    source = started(town, max_bytes=2_000_000)
    answers = source.fetch([a_look(n, T0) for n in range(60)], deadline_s=30.0)
    assert {answer.facts.status for answer in answers} == {SourceStatus.OK}
    town.received.clear()
    answers = source.fetch([a_look(n, T0 + 10) for n in range(60)], deadline_s=30.0)
    assert {answer.facts.status for answer in answers} == {SourceStatus.OK}
    assert len(town.received) == 2 * (TEMPLATES - 1) + 1
    source.close()


def test_series_beyond_the_limit_cost_only_the_watch_that_has_them(town: Receiver) -> None:
    """Even the sums of one service are too many: the sums of the others are still read."""
    plain = town.otherwise

    def said(request: Received) -> Answer:
        answer = json.loads(plain(request).body)
        if "svc-0002" in parse_qs(request.body.decode())["query"][0]:
            own = answer["data"]["result"][0]
            answer["data"]["result"] += [own] * 2_000
        return Answer(body=json.dumps(answer).encode())

    town.otherwise = said
    answers = fetch(town, [a_look(n, T0) for n in range(4)], max_series=100)
    assert [n for n, answer in enumerate(answers) if answer.cells.keys() != {"errors", "latency", "cpu"}] == [2]


class Watched(SystemClock):
    """Real deadlines, and a while that passes when the test says so."""

    later_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.later_s


def crowded(town: Receiver, services: set[str]) -> None:
    """Services with so many replicas that nobody reads them one by one; their sums are few."""
    plain = town.otherwise

    def said(request: Received) -> Answer:
        answer = json.loads(plain(request).body)
        query = parse_qs(request.body.decode())["query"][0]
        if "instance" in query.split("(", 2)[1]:
            own = answer["data"]["result"][0]
            answer["data"]["result"] += [own] * (1_500 * sum(name in query for name in services))
        return Answer(body=json.dumps(answer).encode())

    town.otherwise = said


def by_instance(answers: list[LookAnswer]) -> list[int]:
    """The watches that were asked replica by replica."""
    return [n for n, answer in enumerate(answers) if "by (job, version, instance)" in answer.queries["cpu"]]


def test_a_service_with_too_many_series_takes_nobody_elses_replicas_away(town: Receiver) -> None:
    """Sums are asked for it alone, for ten minutes; then it is tried again, and by itself again."""
    plain, clock = town.otherwise, Watched()
    crowded(town, {"svc-0003"})
    source = PrometheusSource(name="prom", options=PrometheusOptions(url=town.url, max_series=100), clock=clock)
    source.start()
    others = [n for n in range(8) if n != 3]
    answers = source.fetch([a_look(n, T0) for n in range(8)], deadline_s=30.0)
    assert {answer.facts.status for answer in answers} == {SourceStatus.OK}
    assert by_instance(answers) == others
    assert set(answers[3].cells["cpu"].replica) == {""}
    town.received.clear()
    assert by_instance(source.fetch([a_look(n, T0 + 10) for n in range(8)], deadline_s=30.0)) == others
    assert len(town.received) == 2 * (TEMPLATES - 1) + 1, "as is remembered"
    clock.later_s = 601.0
    town.otherwise = plain
    assert by_instance(source.fetch([a_look(n, T0 + 20) for n in range(8)], deadline_s=30.0)) == list(range(8))
    source.close()


def test_many_services_with_too_many_series_are_asked_for_their_sums_together(town: Receiver) -> None:
    """Alone each would be a query of its own, in every round."""
    crowded(town, {"svc-0001", "svc-0003", "svc-0004", "svc-0006"})
    source = started(town, max_series=100)
    source.fetch([a_look(n, T0) for n in range(8)], deadline_s=30.0)
    town.received.clear()
    answers = source.fetch([a_look(n, T0 + 10) for n in range(8)], deadline_s=30.0)
    assert by_instance(answers) == [0, 2, 5, 7]
    assert {answer.facts.status for answer in answers} == {SourceStatus.OK}
    assert len(town.received) == 2 * (TEMPLATES - 1) + 1
    source.close()


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (T0 + 0.7, T0 + 10.7, (1_000, 11_000)),
        (T0, T0 + 30.0, (0, 30_000)),
        (T0 + 0.0001, T0 + 5.0001, (0, 5_000)),  # to milliseconds first
        (T0 + 0.75, T0 + 1.25, (750, 1_250)),  # not of whole seconds: as it is
    ],
)
def test_intervals_of_whole_seconds_end_with_one(start: float, end: float, expected: tuple[int, int]) -> None:
    """The next one: looks are taken so late that it has settled too."""
    assert bounds_ms(start, end) == (int(T0 * 1000) + expected[0], int(T0 * 1000) + expected[1])


def test_intervals_in_a_row_leave_no_gap_and_do_not_overlap() -> None:
    """Whatever fraction of a second the deploy came at."""
    for live_at in (T0 + 0.1, T0 + 0.3333333, T0 + 0.99951):
        ends = [bounds_ms(live_at + 7.0 * i, live_at + 7.0 * (i + 1)) for i in range(200)]
        assert all(before[1] == after[0] for before, after in pairwise(ends))


def test_counts_of_the_pretended_prometheus_say_what_was_asked() -> None:
    """The load test's figure of queries is read from it."""
    answers = Answers(replicas=1)
    for _ in range(2):
        answers.answer({"query": ['sum by (version) (x(process_cpu_share{version="1a"}[10s]))'], "time": ["5"]})
    assert json.loads(answers.counts()) == {"process_cpu_share": 2}
