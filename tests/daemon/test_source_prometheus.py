"""The Prometheus source against a real Prometheus that holds samples whose true counts are known."""

import math
import random
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlencode

import pytest

from analysis.prepare import Cells
from analysis.result import Arm, Kind, MetricSpec, SourceStatus
from tests import servers
from tests.receivers import Answer, Received, receiver
from watchdog.clock import SystemClock
from watchdog.model import Metric
from watchdog.ports import ArmWindow, LookAnswer, LookRequest
from watchdog.selector import parse_selector
from watchdog.sources.prometheus import PrometheusSource
from watchdog.sources.prometheus_api import Limits
from watchdog.sources.prometheus_options import PrometheusOptions

T0 = 1_700_000_000.0
SCRAPE_S, STEP_S, LOOKS = 5, 30.0, 20
Points = list[tuple[float, float]]
Labels = Mapping[str, str]

V1 = {"job": "shop", "version": "v1"}
V2 = {"job": "shop", "version": "v2"}
ERRORS = Metric(
    spec=MetricSpec(name="errors", kind=Kind.RATIO),
    series={"bad": parse_selector('shop_requests_total{code=~"5.."}'), "total": parse_selector("shop_requests_total")},
)
LATENCY = Metric(
    spec=MetricSpec(name="latency", kind=Kind.LATENCY), series={"histogram": parse_selector("shop_seconds")}
)
CPU = Metric(spec=MetricSpec(name="cpu", kind=Kind.GAUGE), series={"level": parse_selector("shop_cpu")})


class Story:
    """Counters of a few pods as a Prometheus scraped them, and what truly happened."""

    def __init__(self) -> None:
        self.draw = random.Random(7)
        self.samples: dict[tuple[str, tuple[tuple[str, str], ...]], Points] = {}
        self.true: dict[tuple[str, str], float] = {}  # (instance, code) → events between T0 and the end

    def sample(self, name: str, labels: Labels, at: float, value: float) -> None:
        self.samples.setdefault((name, tuple(sorted(labels.items()))), []).append((at, value))

    def pod(
        self,
        instance: str,
        labels: Labels,
        *,
        from_s: int = -600,
        to_s: int = 600,
        reset_s: int | None = None,
        gap: range = range(0),
        standing: float = 0.0,
        code: str = "200",
    ) -> None:
        """One counter: events come at random; `standing` is what it had counted before it was ever scraped."""
        value, own = standing, {**labels, "instance": instance, "code": code, "route": "/"}
        for second in range(from_s, to_s + 1, SCRAPE_S):
            events = self.draw.randrange(1, 30)
            value = events if second == reset_s else value + events
            if second > 0 or from_s > 0:
                self.true[instance, code] = self.true.get((instance, code), 0.0) + events
            if second not in gap:
                self.sample("shop_requests_total", own, T0 + second, value)

    def began_anew(self, instance: str, labels: Labels, *, at_s: int, held: tuple[int, int]) -> None:
        """The process restarted long before its scrape at `at_s`: by then it had counted this, good and bad."""
        for code, value in zip(("200", "500"), held, strict=True):
            own = {**labels, "instance": instance, "code": code, "route": "/"}
            points = self.samples["shop_requests_total", tuple(sorted(own.items()))]
            there = next(index for index, (at, _) in enumerate(points) if at == T0 + at_s)
            counted = points[there][1]
            points[there:] = [(at, value + now - counted) for at, now in points[there:]]

    def openmetrics(self) -> str:
        lines: list[str] = []
        family = ""
        for (name, labels), points in sorted(self.samples.items()):
            if name != family:
                family = name
                lines.append(f"# TYPE {name} unknown")
            told = ",".join(f'{k}="{v}"' for k, v in labels)
            lines += [f"{name}{{{told}}} {value} {at}" for at, value in points]
        return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def story() -> Story:
    story = Story()
    story.pod("a:80", V1)
    story.pod("a:80", V1, code="500", from_s=125)  # the first error of a pod that has long been known
    story.pod("b:80", V1, gap=range(200, 300))
    story.pod("c:80", V2, from_s=95)  # born between two scrapes
    story.pod("d:80", V2, reset_s=330)
    story.pod("old:80", {"job": "aged", "version": "v1"}, from_s=95, standing=5_000_000)
    story.pod("old:80", {"job": "aged", "version": "v1"}, code="500", from_s=95, standing=17)
    story.pod("slow:80", {"job": "restarted", "version": "v1"}, standing=5_000_000)
    story.pod("slow:80", {"job": "restarted", "version": "v1"}, code="500", standing=3)
    story.began_anew("slow:80", {"job": "restarted", "version": "v1"}, at_s=95, held=(40_000, 17))
    for second in range(-600, 601, SCRAPE_S):
        at = T0 + second
        for bound, share in (("0.1", 6), ("0.5", 9), ("+Inf", 10)):
            labels = {**V1, "instance": "a:80", "le": bound}
            story.sample("shop_seconds_bucket", labels, at, (second + 600) / SCRAPE_S * share)
        for instance, level in (("a:80", 0.5), ("b:80", math.nan), ("e:80", math.inf)):
            story.sample("shop_cpu", {**V1, "instance": instance}, at, level)
        story.sample("shop_cpu", {**V2, "instance": "c:80"}, at, second)
        for instance, labels, up in (("a:80", V1, 1), ("b:80", V1, 1), ("c:80", V2, 0 if second > 300 else 1)):
            story.sample("up", {**labels, "instance": instance}, at, up)
        if second <= 0:
            story.sample("up", {"job": "plain", "instance": "gone:80"}, at, 1)
    return story


# an expression of the user's own is evaluated by VictoriaMetrics' own rules (MetricsQL)
OWN_PROMQL = pytest.mark.parametrize("url", ["prometheus"], indirect=True)


@pytest.fixture(scope="module", params=["prometheus", "victoria-metrics"])
def url(request: pytest.FixtureRequest, story: Story, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same story in either."""
    if request.param == "victoria-metrics":
        with servers.victoria_metrics(openmetrics=story.openmetrics()) as server:
            yield server.url
        return
    blocks = servers.backfill(story.openmetrics(), tmp_path_factory.mktemp("prometheus"))
    with servers.prometheus(blocks=blocks) as server:
        yield server.url


@pytest.fixture
def source(url: str) -> Iterator[PrometheusSource]:
    yield from started(url)


def started(url: str, **options: object) -> Iterator[PrometheusSource]:
    source = PrometheusSource(name="prom", options=PrometheusOptions(url=url, **options), clock=SystemClock())
    source.start()
    yield source
    source.close()


def a_look(
    interval: int,
    *metrics: Metric,
    baseline: Labels = V1,
    candidate: Labels = V2,
    watch: str = "w",
    instances: Sequence[str] = (),
    t0: float = T0,
    step_s: float = STEP_S,
    max_replicas: int = 16,
) -> LookRequest:
    start, end = t0 + interval * step_s, t0 + (interval + 1) * step_s
    return LookRequest(
        watch_id=watch,
        service="shop",
        interval=interval,
        arms=(
            ArmWindow(arm=Arm.BASELINE, start=start, end=end, labels=baseline),
            ArmWindow(arm=Arm.CANDIDATE, start=start, end=end, labels=candidate, instances=tuple(instances)),
        ),
        metrics=metrics,
        max_replicas=max_replicas,
    )


def rows(cells: Cells) -> list[tuple[str, str, float, float]]:
    return list(zip(cells.arm, cells.replica, cells.value, cells.total, strict=True))


def totals(answers: Sequence[LookAnswer], metric: str = "errors") -> dict[str, float]:
    """Exposure per replica over all looks."""
    found: dict[str, float] = {}
    for answer in answers:
        for _, replica, _, total in rows(answer.cells.get(metric, Cells())):
            found[replica] = found.get(replica, 0.0) + total
    return found


def test_the_counts_of_all_intervals_add_up_to_what_happened(source: PrometheusSource, story: Story) -> None:
    """Steady, born, interrupted and new series are exact; a reset loses no more than its own interval's beginning."""
    answers = source.fetch([a_look(i, ERRORS) for i in range(LOOKS)], deadline_s=20)
    assert {(answer.facts.status, answer.facts.detail) for answer in answers} == {(SourceStatus.OK, "")}
    found, true = totals(answers), story.true
    assert found["a:80"] == true["a:80", "200"] + true["a:80", "500"]
    assert found["b:80"] == true["b:80", "200"]
    assert found["c:80"] == true["c:80", "200"]
    assert true["d:80", "200"] - STEP_S / SCRAPE_S * 30 <= found["d:80"] <= true["d:80", "200"]
    bad = sum(value for answer in answers for _, _, value, _ in rows(answer.cells["errors"]))
    assert bad == true["a:80", "500"]


def test_events_of_a_scrape_gap_arrive_together_after_it(source: PrometheusSource) -> None:
    """While nobody scrapes, the replica is absent, not idle; then everything comes in one interval."""
    answers = source.fetch([a_look(i, ERRORS) for i in (7, 8, 10)], deadline_s=20)
    seen = [{replica: total for _, replica, _, total in rows(answer.cells["errors"])} for answer in answers]
    assert "b:80" not in seen[0]
    assert "b:80" not in seen[1]
    assert seen[2]["a:80"] < 200
    late = source.fetch([a_look(9, ERRORS)], deadline_s=20)[0]
    assert {replica: total for _, replica, _, total in rows(late.cells["errors"])}["b:80"] > 200


def test_a_counter_that_comes_into_sight_does_not_add_its_past(source: PrometheusSource, story: Story) -> None:
    """Five million events before the first scrape are nobody's; what is added afterwards counts."""
    looks = [a_look(i, ERRORS, baseline={"job": "aged"}) for i in range(LOOKS)]
    found = totals(source.fetch(looks, deadline_s=20))
    true = story.true["old:80", "200"] + story.true["old:80", "500"]
    assert 0.9 * true <= found["old:80"] <= true


@pytest.mark.parametrize("job", ["aged", "restarted"])
def test_errors_are_never_counted_without_the_requests_beside_them(source: PrometheusSource, job: str) -> None:
    """A target that comes into sight, or began anew unseen, with many requests and seventeen errors: no 17 of 17."""
    looks = source.fetch([a_look(i, ERRORS, baseline={"job": job}) for i in range(LOOKS)], deadline_s=20)
    baseline = [row for look in looks for row in rows(look.cells.get("errors", Cells())) if row[0] == Arm.BASELINE]
    found = [(bad, total) for _, _, bad, total in baseline]
    assert len(found) == LOOKS - (4 if job == "aged" else 1)  # before it was seen; and absent in its first interval
    assert all(total > 1.3 * bad for bad, total in found), found


def test_times_between_milliseconds_lose_nothing(source: PrometheusSource, story: Story) -> None:
    """Odd starts and steps still make disjoint intervals without gaps."""
    step_s = 27.2727
    looks = [a_look(i, ERRORS, t0=T0 + 0.12345, step_s=step_s) for i in range(22)]
    assert totals(source.fetch(looks, deadline_s=20))["b:80"] == story.true["b:80", "200"]


def test_a_histogram_gives_rising_counts_and_its_total(source: PrometheusSource) -> None:
    """Six scrapes of ten requests each, six of them fast."""
    cells = source.fetch([a_look(3, LATENCY)], deadline_s=20)[0].cells["latency"]
    assert cells.le == (0.1, 0.5, math.inf)
    assert cells.value == (36.0, 54.0, 60.0)
    assert cells.total == (60.0, 60.0, 60.0)


def test_levels_are_averaged_and_no_number_is_no_level(source: PrometheusSource) -> None:
    """NaN and infinite gauges are absent; the mean is taken over the interval."""
    cells = source.fetch([a_look(3, CPU)], deadline_s=20)[0].cells["cpu"]
    assert {(arm, replica) for arm, replica, _, _ in rows(cells)} == {("baseline", "a:80"), ("candidate", "c:80")}
    assert dict(zip(cells.replica, cells.value, strict=True)) == {"a:80": 0.5, "c:80": pytest.approx(105.0, abs=2.6)}


def test_an_expression_is_asked_per_arm(source: PrometheusSource) -> None:
    """`$arm` becomes the arm's conditions, beside others of the user's own."""
    load = Metric(spec=MetricSpec(name="load", kind=Kind.GAUGE), promql='sum(shop_requests_total{$arm,code="200"})')
    cells = source.fetch([a_look(10, load)], deadline_s=20)[0].cells["load"]
    assert cells.arm == ("baseline", "candidate")
    assert cells.value[0] > cells.value[1] > 0


@pytest.mark.parametrize("version", ['"} or vector(1)', "v1|v2", ".*", "a\\", "a\nb", 'x"} or up{job=~"', "$(touch x)"])
def test_a_version_is_a_label_value_and_nothing_else(source: PrometheusSource, version: str) -> None:
    """Whatever a version is called, it selects its own series, which do not exist, and the query stays whole."""
    load = Metric(spec=MetricSpec(name="load", kind=Kind.GAUGE), promql="sum(shop_requests_total{$arm})")
    look = a_look(10, ERRORS, load, candidate={"job": "shop", "version": version})
    answer = source.fetch([look], deadline_s=20)[0]
    assert answer.facts.status is SourceStatus.OK, answer.facts.detail
    assert {arm for cells in answer.cells.values() for arm in cells.arm} == {"baseline"}
    assert answer.facts.baseline_up == 2


def test_the_time_before_is_asked_in_its_own_window(source: PrometheusSource, story: Story) -> None:
    """Arms may lie in different times."""
    before = ArmWindow(arm=Arm.BASELINE, start=T0, end=T0 + 300, labels={"job": "shop"})
    after = ArmWindow(arm=Arm.CANDIDATE, start=T0 + 300, end=T0 + 600, labels={"job": "shop"})
    look = LookRequest(watch_id="w", service="shop", interval=0, arms=(before, after), metrics=(ERRORS,))
    cells = source.fetch([look], deadline_s=20)[0].cells["errors"]
    both = [total for _, replica, _, total in rows(cells) if replica == "c:80"]
    assert sum(both) == story.true["c:80", "200"]
    assert len(both) == 2


def test_too_many_replicas_are_put_in_groups(source: PrometheusSource, story: Story) -> None:
    """Nothing is lost when instances are put together."""
    one = source.fetch([a_look(i, ERRORS, max_replicas=1) for i in range(LOOKS)], deadline_s=20)
    many = source.fetch([a_look(i, ERRORS) for i in range(LOOKS)], deadline_s=20)
    assert sum(totals(one).values()) == sum(totals(many).values())
    assert set(one[10].cells["errors"].replica) == {"group-0"}


def test_an_answer_with_too_many_series_is_asked_as_sums(url: str) -> None:
    """Beyond the limit there is one replica per arm, and it counts the same."""
    arms = {"job": "shop"}
    for wide in started(url, max_series=10):
        wide._api._limits = Limits(max_series=2)
        [answer] = wide.fetch([a_look(10, ERRORS, baseline=arms, candidate={"job": "none"})], deadline_s=20)
        assert set(answer.cells["errors"].replica) == {""}
    for narrow in started(url):
        [exact] = narrow.fetch([a_look(10, ERRORS, baseline=arms, candidate={"job": "none"})], deadline_s=20)
    assert answer.cells["errors"].total == (sum(exact.cells["errors"].total),)


# --- who is alive -----------------------------------------------------------------------------------------


def test_targets_that_are_down_are_positive_proof(source: PrometheusSource) -> None:
    """`up` by the arms' labels: first alive, later 0."""
    early, late = source.fetch([a_look(2, ERRORS), a_look(15, ERRORS)], deadline_s=20)
    assert (early.facts.baseline_up, early.facts.candidate_up, early.facts.candidate_down) == (2, 1, 0)
    assert (late.facts.baseline_up, late.facts.candidate_up, late.facts.candidate_down) == (2, 0, 1)


def test_no_target_at_all_is_no_proof(source: PrometheusSource) -> None:
    """A version that never had a target is not seen failing."""
    facts = source.fetch([a_look(2, ERRORS, candidate={"job": "shop", "version": "v9"})], deadline_s=20)[0].facts
    assert (facts.candidate_up, facts.candidate_down) == (0, 0)


def test_without_labels_on_the_targets_nobody_knows(source: PrometheusSource) -> None:
    """Where `up` does not carry the arm's labels and nothing was announced, presence is unknown."""
    look = a_look(2, ERRORS, baseline={"flag": "off"}, candidate={"flag": "on"})
    facts = source.fetch([look], deadline_s=20)[0].facts
    assert (facts.baseline_up, facts.candidate_up, facts.candidate_down) == (None, None, None)


def test_announced_instances_that_prometheus_lost_are_gone(source: PrometheusSource) -> None:
    """A known name that has left counts as failing; a name never heard of proves nothing."""
    off, on = {"flag": "off"}, {"flag": "on"}
    gone, unheard, alive = source.fetch(
        [a_look(8, ERRORS, instances=[name], baseline=off, candidate=on) for name in ("gone", "never:80", "a")],
        deadline_s=20,
    )
    assert (gone.facts.candidate_up, gone.facts.candidate_down) == (0, 1)
    assert (unheard.facts.candidate_up, unheard.facts.candidate_down) == (None, None)
    assert (alive.facts.candidate_up, alive.facts.candidate_down) == (1, 0)


# --- how much is asked ------------------------------------------------------------------------------------


@pytest.fixture
def counting(url: str) -> Iterator[tuple[str, list[Received]]]:
    """A proxy before Prometheus that counts."""

    def forward(request: Received) -> Answer:
        asked = urllib.request.Request(f"{url}{request.path}", data=request.body, method="POST")
        with urllib.request.urlopen(asked, timeout=10) as response:
            return Answer(body=response.read())

    with receiver() as proxy:
        proxy.otherwise = forward
        yield proxy.url, proxy.received


def test_watches_that_share_a_template_share_one_query(counting: tuple[str, list[Received]], story: Story) -> None:
    """Forty watches of two services, both arms, three metrics: four counting queries and one for `up`."""
    address, received = counting
    services: list[Labels] = [{"job": "shop"}, {"job": "aged"}]
    for source in started(address):
        looks = [
            a_look(
                10,
                *(ERRORS, LATENCY, CPU),
                baseline={**services[i % 2], "version": "v1"},
                candidate={**services[i % 2], "version": "v2"},
                watch=f"w{i}",
            )
            for i in range(40)
        ]
        answers = source.fetch(looks, deadline_s=20)
    assert len(received) == 5
    assert all(request.query == {} for request in received), "the query travels in the body"
    assert set(answers[0].cells["errors"].replica) == {"a:80", "b:80", "c:80", "d:80"}
    assert set(answers[1].cells["errors"].replica) == {"old:80"}
    assert {str(answer) for answer in answers[::2]} == {str(answers[0])}
    for request in received:
        asked = parse_qs(request.body.decode())
        assert asked["time"] == [f"{T0 + 330:.3f}"]
        assert request.headers["accept-encoding"] == "identity"


def a_history(interval: int, *metrics: Metric, t0: float, step_s: float) -> LookRequest:
    """An interval before the deploy, when there was only the old version."""
    start, end = t0 + interval * step_s, t0 + (interval + 1) * step_s
    arms = (ArmWindow(arm=Arm.HISTORY, start=start, end=end, labels=V1),)
    return LookRequest(watch_id="w", service="shop", interval=interval, arms=arms, metrics=metrics)


def one_by_one(url: str, looks: Sequence[LookRequest]) -> list[LookAnswer]:
    """What the same looks give when none of them can share a request with another."""
    return [answer for source in started(url) for look in looks for answer in source.fetch([look], deadline_s=20)]


@pytest.mark.parametrize(("t0", "step_s"), [(T0 + 590, 10.0), (T0 + 590.123, 9.997)])
def test_the_history_of_a_watch_is_a_few_requests(
    counting: tuple[str, list[Received]], url: str, t0: float, step_s: float
) -> None:
    """Sixty intervals before the deploy and one after it, three metrics: the same answers as one by one, in nine."""
    address, received = counting
    metrics = (ERRORS, LATENCY, CPU)
    looks = [a_history(i, *metrics, t0=t0, step_s=step_s) for i in range(-60, 0)]
    looks.append(a_look(0, *metrics, t0=t0, step_s=step_s))
    for source in started(address):
        answers = source.fetch(looks, deadline_s=20)
    assert sorted(r.path for r in received) == ["/api/v1/query"] * 5 + ["/api/v1/query_range"] * 4
    assert answers == one_by_one(url, looks)
    assert {name for answer in answers for name in answer.cells} == {"errors", "latency", "cpu"}
    assert {len(answer.cells["errors"].value) for answer in answers} == {1, 2, 4}, "replicas come and go"


def test_intervals_that_were_missed_are_a_few_requests(counting: tuple[str, list[Received]], url: str) -> None:
    """Twenty intervals at once, of two watches between each other's: counts and who was alive, as one by one."""
    address, received = counting
    looks = [a_look(i, ERRORS, t0=T0 + shift) for i in range(LOOKS) for shift in (0, 7)]
    for source in started(address):
        answers = source.fetch(looks, deadline_s=20)
    assert [r.path for r in received] == ["/api/v1/query_range"] * 6
    assert answers == one_by_one(url, looks)
    assert {answer.facts.candidate_down for answer in answers} == {0, 1}


@OWN_PROMQL
def test_an_expression_that_names_its_range_is_asked_alone(counting: tuple[str, list[Received]], url: str) -> None:
    """`@ end()` would be another moment in a range; an expression without it is asked once."""
    address, received = counting
    seen = 'sum(shop_requests_total{$arm,code="200"}%s)'
    at_end = Metric(spec=MetricSpec(name="at_end", kind=Kind.GAUGE), promql=seen % " @ end()")
    plain = Metric(spec=MetricSpec(name="plain", kind=Kind.GAUGE), promql=seen % "")
    looks = [a_history(i, at_end, plain, t0=T0 + 600, step_s=STEP_S) for i in range(-LOOKS, 0)]
    for source in started(address):
        answers = source.fetch(looks, deadline_s=20)
    assert sorted(r.path for r in received) == ["/api/v1/query"] * LOOKS + ["/api/v1/query_range"]
    assert all(answer.cells["at_end"].value == answer.cells["plain"].value for answer in answers)
    assert len({answer.cells["plain"].value for answer in answers}) == LOOKS


def test_a_server_that_rounds_the_moments_is_asked_one_by_one(url: str) -> None:
    """Some servers move a range to multiples of its step; nobody is judged by another interval's counts."""
    looks = [a_look(i, ERRORS, t0=T0 + 3) for i in range(LOOKS)]

    def rounded(request: Received) -> Answer:
        form = {name: value for name, [value] in parse_qs(request.body.decode()).items()}
        for name in {"start", "end"} & set(form):
            form[name] = str(float(form[name]) // STEP_S * STEP_S)
        asked = urllib.request.Request(f"{url}{request.path}", data=urlencode(form).encode(), method="POST")
        with urllib.request.urlopen(asked, timeout=10) as response:
            return Answer(body=response.read())

    with receiver() as proxy:
        proxy.otherwise = rounded
        for source in started(proxy.url):
            first = source.fetch(looks, deadline_s=20)
            proxy.received.clear()
            again = source.fetch(looks, deadline_s=20)
            assert {r.path for r in proxy.received} == {"/api/v1/query"}, "it is remembered"
    assert first == again == one_by_one(url, looks)


def test_too_large_an_answer_is_asked_for_in_pieces(counting: tuple[str, list[Received]], url: str) -> None:
    """What does not fit into one answer fits into several, and nothing is lost."""
    address, received = counting
    looks = [a_look(i, ERRORS) for i in range(LOOKS)]
    for source in started(address):
        source._api._limits = Limits(max_bytes=1_000)
        answers = source.fetch(looks, deadline_s=20)
    assert 3 < len(received) < 3 * LOOKS
    assert answers == one_by_one(url, looks)


@OWN_PROMQL
def test_only_intervals_that_cannot_be_evaluated_are_missing(url: str) -> None:
    """An expression that stops making sense when a second series appears is answered for the time before."""
    square = "max(shop_requests_total{$arm} * on (instance) shop_requests_total{$arm})"
    load = Metric(spec=MetricSpec(name="load", kind=Kind.GAUGE), promql=square)
    looks = [a_look(i, load) for i in range(8)]
    for source in started(url):
        answers = source.fetch(looks, deadline_s=20)
    assert [answer.facts.status for answer in answers] == [SourceStatus.OK] * 4 + [SourceStatus.PARTIAL] * 4
    assert [len(answer.cells) for answer in answers] == [1] * 4 + [0] * 4
    assert "refuses the query" in answers[-1].facts.detail


def test_as_many_queries_as_allowed_run_at_once(counting: tuple[str, list[Received]]) -> None:
    """Twenty intervals apart from each other are sixty queries, of which never more than two are on their way."""
    address, received = counting
    most, now = 0, 0
    inner = ThreadPoolExecutor.submit

    def counted(job: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object, **kwargs: object) -> object:
            nonlocal most, now
            now += 1
            most = max(most, now)
            try:
                return job(*args, **kwargs)
            finally:
                now -= 1

        return run

    for source in started(address, max_in_flight=2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ThreadPoolExecutor, "submit", lambda self, job, *a, **kw: inner(self, counted(job), *a, **kw))
            answers = source.fetch([a_look(2 * i, ERRORS) for i in range(LOOKS)], deadline_s=20)
    assert {(answer.facts.status, answer.facts.detail) for answer in answers} == {(SourceStatus.OK, "")}
    assert len(received) == 3 * LOOKS
    assert most == 2
