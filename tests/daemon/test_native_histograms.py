"""Native histograms as Prometheus' query API tells them, and names that only Prometheus 3 knows."""

import json
import math

import pytest

from analysis.prepare import Cells
from analysis.result import Kind, MetricSpec
from watchdog.model import Metric
from watchdog.ports import ArmWindow
from watchdog.selector import parse_selector
from watchdog.sources.births import BORN
from watchdog.sources.fold import fold
from watchdog.sources.native import BOUNDS, NativeHistogram, read_native
from watchdog.sources.prometheus_answer import Moments, read
from watchdog.sources.promql import Dialect, grouped
from watchdog.sources.questions import Ask, Question, Role, Series

# as Prometheus 3 answers for observations of 0.0011, 0.3, 0.3 and 7 in schema 3, by its API's documentation
TOLD = {
    "count": "4",
    "sum": "7.6011",
    "buckets": [
        [0, "0.001073823549823129", "0.0011710271035466053", "1"],
        [0, "0.2973017787506803", "0.32421013186780906", "2"],
        [0, "6.727171322029716", "7.336032345637369", "1"],
    ],
}


def answer(kind: str, item: dict[str, object]) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": [item]}}).encode()


def by_bound(series: list[Series]) -> dict[float, float]:
    return {float(one.labels["le"]): one.value for one in series}


def test_a_native_histogram_becomes_cumulative_buckets() -> None:
    """At fixed bounds, the same for every look and arm; all of it is below +Inf."""
    found = by_bound(read_native({}, TOLD).buckets())
    assert tuple(found) == (*BOUNDS, math.inf)
    assert found[math.inf] == 4
    assert [found[bound] for bound in (2**-10, 2**-9.5, 0.25, 2**-1.5, 4.0, 8.0)] == [0, 1, 1, 3, 3, 4]


def test_a_bound_that_both_have_is_exact() -> None:
    """What ends at a bound lies below it, however the decimals were rounded."""
    for step in range(-28, 35):
        bound = 2.0 ** (step / 2)
        for told in (bound, math.nextafter(bound, math.inf), math.nextafter(bound, 0.0)):
            found = by_bound(NativeHistogram({}, 5.0, ((told, 5.0),)).buckets())
            assert found[bound] == 5.0
            assert [n for le, n in found.items() if le < bound] == [0.0] * (step + 28)


def test_what_is_zero_negative_or_beyond_is_counted() -> None:
    """The zero bucket and everything below are below the lowest bound; what is beyond the highest is above it."""
    found = by_bound(NativeHistogram({}, 10.0, ((1e-128, 2.0), (-1.0, 3.0), (1e9, 4.0))).buckets())
    assert (found[BOUNDS[0]], found[BOUNDS[-1]], found[math.inf]) == (5.0, 5.0, 10.0)  # one was NaN


@pytest.mark.parametrize("moments", [1, 2])
def test_answers_with_histograms_are_read(moments: int) -> None:
    """At one moment and over a range, beside series that are no histograms."""
    labels = {"version": "v1"}
    if moments == 1:
        (found,) = read(answer("vector", {"metric": labels, "histogram": [10, TOLD]}), Moments(10_000), 10)
    else:
        body = answer("matrix", {"metric": labels, "values": [[10, "3"]], "histograms": [[20, TOLD]]})
        first, found = read(body, Moments(10_000, 10_000, 2), 10)
        assert first.series == (Series(labels, 3.0),)
    assert len(found.series) == len(BOUNDS) + 1
    assert {one.labels["version"] for one in found.series} == {"v1"}


def test_a_histogram_counts_once_against_the_limit_of_series() -> None:
    """Its bounds are ours, not the server's."""
    body = answer("vector", {"metric": {}, "histogram": [10, TOLD]})
    assert read(body, Moments(10_000), 1)[0].series


@pytest.mark.parametrize("broken", [{}, {"count": "x"}, {"count": "1", "buckets": [["0", "1"]]}, 7])
def test_a_histogram_that_is_none_is_no_answer(broken: object) -> None:
    """As any other answer that cannot be read."""
    with pytest.raises(Exception, match="not what a Prometheus says"):
        read(answer("vector", {"metric": {}, "histogram": [10, broken]}), Moments(10_000), 10)


def test_the_judge_gets_buckets() -> None:
    """Rising counts with the observations as their total, as of a classic histogram."""
    metric = Metric(
        spec=MetricSpec(name="l", kind=Kind.LATENCY), series={"histogram": parse_selector("h")}, native=True
    )
    cells = fold(metric, [(question(Ask.BUCKETS), read_native({"instance": "a"}, TOLD).buckets())], max_replicas=4)
    assert isinstance(cells, Cells)
    assert list(cells.value) == sorted(cells.value)
    assert set(cells.total) == {4.0}


def question(ask: Ask, name: str = "h") -> Question:
    role = Role(metric="m", name="r", ask=ask, selector=parse_selector(name), native=True)
    return Question(role, ArmWindow(arm="baseline", start=0.0, end=30.0))


def test_native_histograms_are_asked_for_whole_or_as_counts() -> None:
    """Never compared, only their numbers of observations are; and no label le."""
    (whole,) = grouped([question(Ask.BUCKETS)], Dialect())
    last, before = "last_over_time(h[30s])", "last_over_time(h[1h] offset 30s)"
    went_on = f"(histogram_count({last}) >= histogram_count({before}))"
    assert whole.query(Dialect()) == (
        f"sum by (instance) (({last} - {before}) and {went_on}) or "
        f'label_replace(sum by (instance) ({last} unless {went_on}), "{BORN}", "yes", "", "")'
    )
    (counted,) = grouped([question(Ask.COUNT)], Dialect())
    assert counted.query(Dialect()) == (
        f"sum by (instance) ((histogram_count({last}) - histogram_count({before})) >= 0) or "
        f'label_replace(sum by (instance) (histogram_count({last}) unless {went_on}), "{BORN}", "yes", "", "")'
    )


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ('{"http.requests"}', '{"http.requests"}'),
        ('{ "http.requests" , "http.status"=~"5..", code="1" }', '{"http.requests","http.status"=~"5..",code="1"}'),
        ('{"a\\"b", x="y"}', '{"a\\"b",x="y"}'),
        ('{"plain"}', "plain"),
        ('plain{"a.b"="c"}', 'plain{"a.b"="c"}'),
    ],
)
def test_names_with_dots_are_written_as_prometheus_3_asks(text: str, rendered: str) -> None:
    """In quotes inside the braces; names that need none stay as they were."""
    assert parse_selector(text).render() == rendered


@pytest.mark.parametrize("text", ['{code="5"}', "{}", '{""}', '{"a" "b"}', '{"a", b}', '{"a'])
def test_a_selector_without_a_name_is_refused(text: str) -> None:
    """It would match everything."""
    with pytest.raises(ValueError, match=r"metric name|expected label|selector"):
        parse_selector(text)


def test_labels_with_dots_are_quoted_in_groupings() -> None:
    """As a stratum or as the label that tells versions apart."""
    selector = parse_selector('{"http.requests"}')
    role = Role(metric="m", name="r", ask=Ask.COUNT, selector=selector, by=("http.route",))
    asked = Question(role, ArmWindow(arm="baseline", start=0.0, end=30.0))
    (group,) = grouped([asked], Dialect())
    assert group.query(Dialect()).startswith('sum by ("http.route", instance) ((last_over_time({"http.requests"}[30s])')
