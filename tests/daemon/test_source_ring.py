"""Counting between readings, the folding of series to cells, and the rendering of queries, for any input."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.decode import decode
from analysis.prepare import Cells, Observation
from analysis.result import Arm, Design, Kind, MetricSpec
from watchdog.model import Metric
from watchdog.ports import ArmWindow
from watchdog.selector import Matcher, Selector, parse_selector
from watchdog.sources.births import BORN
from watchdog.sources.fold import fold
from watchdog.sources.page import Name, PageError, parse
from watchdog.sources.promql import Dialect, any_instance, any_of, duration, grouped, quote
from watchdog.sources.questions import Ask, Question, Role, Series, is_named
from watchdog.sources.ring import Health, Ring, Scrape

finite = st.floats(allow_nan=False, allow_infinity=False)


# --- the ring ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=2, max_size=80),
    st.integers(2, 9),
    st.integers(0, 1_000_000),
)
def test_intervals_add_up_whatever_restarts(events: list[tuple[int, bool]], step: int, standing: int) -> None:
    """Sum of all intervals == events after the first reading, for any restarts and any way to cut the time."""
    ring = Ring(keep_s=1e6, max_series=10, labels={})
    value = float(standing)
    ring.page(0.0, {("x", ()): value})
    true = 0
    for at, (count, restarted) in enumerate(events, start=1):
        # a restart shows by a smaller number; a process that overtakes its predecessor unseen cannot be told
        restarts = restarted and count < value
        value = count if restarts else value + count
        true += count
        ring.page(float(at), {("x", ()): float(value)})
    last = len(events)
    found = 0.0
    for start in range(0, last, step):
        span = ring.span(float(start), float(min(start + step, last)), tolerance_s=1.0)
        assert span is not None
        found += sum(series.value for series in ring.counted(Selector("x"), span))
    assert found == true


@pytest.mark.parametrize("lacking", [{10}, {9, 10}, {10, 11, 12}, {5, 10}, set(range(3, 19))])
def test_a_series_that_pages_lack_goes_on_from_where_it_stood(lacking: set[int]) -> None:
    """At the edge of an interval its whole past would count as having happened in it."""
    ring = Ring(keep_s=600.0, max_series=10, labels={})
    for at in range(31):
        page: dict[Name, float] = {("total", ()): 100_000.0 + 10 * at, ("bad", ()): 500.0 + at}
        ring.page(float(at), {name: value for name, value in page.items() if name[0] != "bad" or at not in lacking})
    spans = [ring.span(float(start), start + 10.0, tolerance_s=3.0) for start in (0, 10, 20)]
    found = [one for span in spans if span is not None for one in ring.counted(Selector("bad"), span)]
    assert sum(one.value for one in found) == 30.0
    assert not any(BORN in one.labels for one in found)


def test_a_series_that_is_new_to_its_process_is_told_apart() -> None:
    """It may be its first errors or a past that came into sight; a new process has nothing that is not its own."""
    ring = Ring(keep_s=600.0, max_series=10, labels={})
    for at in range(6):
        ring.page(float(at), {("total", ()): 10.0 * at, **({("bad", ()): 3.0} if at == 5 else {})})
    span = ring.span(0.0, 5.0, tolerance_s=1.0)
    assert span is not None
    assert ring.counted(Selector("bad"), span) == [Series({BORN: "yes"}, 3.0)]
    assert ring.counted(Selector("total"), span) == [Series({}, 50.0)]
    ring.keep(6.0, Scrape(Health.FAILING, "connection refused", refused=True))
    for at in range(7, 12):
        ring.page(float(at), {("total", ()): 10.0, **({("bad", ()): 4.0} if at == 11 else {})})
    born, after = ring.span(6.0, 10.0, tolerance_s=1.0), ring.span(8.0, 11.0, tolerance_s=1.0)
    assert born is not None
    assert after is not None
    assert ring.counted(Selector("total"), born) == [Series({}, 10.0)]
    assert ring.counted(Selector("bad"), after) == [Series({BORN: "yes"}, 4.0)], "3 were its predecessor's"


def test_a_ring_keeps_no_more_than_it_should() -> None:
    """Old readings go; too many series that came and went begin a new ring."""
    ring = Ring(keep_s=100.0, max_series=5, labels={})
    for at in range(1000):
        ring.page(float(at), {("x", (("pod", str(at % 3)),)): 1.0})
    began = ring.began_at
    assert began is not None
    assert 860 <= began <= 900
    for at in range(1000, 1100):
        ring.page(float(at), {("x", (("pod", str(at)),)): 1.0})
    assert len(ring.select(Selector("x"))) <= 4 * 5


def test_what_we_know_of_a_target_outranks_its_page() -> None:
    """As in Prometheus, the page's own label of the same name is kept as `exported_…`."""
    ring = Ring(keep_s=100.0, max_series=5, labels={"version": "v1", "instance": "a:80"})
    ring.page(1.0, {("x", (("version", "v9"), ("route", "/"))): 1.0})
    assert [dict(labels) for _, labels in ring.select(Selector("x", (Matcher("version", "=", "v1"),)))] == [
        {"version": "v1", "instance": "a:80", "exported_version": "v9", "route": "/"}
    ]


# --- the page ---------------------------------------------------------------------------------------------


def test_series_are_called_what_the_page_calls_them() -> None:
    """The parser would call a counter `hits` `hits_total`; a selector says what is on the page."""
    text = "# TYPE hits counter\nhits 3\n# TYPE more_total counter\nmore_total 4\n# TYPE g gauge\ng NaN\nh +Inf\n"
    assert parse(text) == {("hits", ()): 3.0, ("more_total", ()): 4.0}


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_page_or_no_page(text: str) -> None:
    """Garbage never raises anything but PageError, and nothing that is no number gets in."""
    try:
        page = parse(text)
    except PageError:
        return
    assert all(math.isfinite(value) for value in page.values())


# --- cells ------------------------------------------------------------------------------------------------

RATIO = Metric(
    spec=MetricSpec(name="m", kind=Kind.RATIO), series={"bad": Selector("b"), "total": Selector("t")}, by=("route",)
)
LABELS = replace(RATIO, spec=MetricSpec(name="m", kind=Kind.LABELS))
LATENCY = Metric(spec=MetricSpec(name="m", kind=Kind.LATENCY), series={"histogram": Selector("h")})
series = st.builds(
    Series,
    st.fixed_dictionaries(
        {"instance": st.sampled_from(["a", "b", "c"]), "route": st.sampled_from(["/", "/buy"])},
        optional={"le": st.sampled_from(["0.1", "0.10", "1", "+Inf", "NaN", "x"])},
    ),
    st.floats(0, 1e9),
)


def asked(role: str, ask: Ask, metric: Metric, arm: Arm = Arm.CANDIDATE) -> Question:
    of = Role(metric="m", name=role, ask=ask, selector=Selector("x"), by=metric.by)
    return Question(of, ArmWindow(arm=arm, start=0.0, end=10.0))


def judge_takes(metric: Metric, cells: Cells) -> bool:
    """Whether the judge's own decoder accepts the cells."""
    decode(
        Observation(design=Design.CONCURRENT, step_s=10.0, metrics=(metric.spec,), samples={("m", 0): cells}, looks=1)
    )
    return True


@settings(deadline=None)
@given(st.lists(series, max_size=12), st.lists(series, max_size=12), st.integers(1, 4))
def test_ratio_cells_are_possible_and_keep_all_exposure(bad: list[Series], total: list[Series], most: int) -> None:
    """Never more bad events than events, every cell once, nothing lost by grouping replicas."""
    answers = [(asked("bad", Ask.COUNT, RATIO), bad), (asked("total", Ask.COUNT, RATIO), total)]
    cells = fold(RATIO, answers, max_replicas=most)
    assert all(0 <= value <= exposure for value, exposure in zip(cells.value, cells.total, strict=True))
    assert sum(cells.total) == pytest.approx(sum(one.value for one in total))
    assert judge_takes(RATIO, cells)


@settings(deadline=None)
@given(st.lists(series, max_size=12))
def test_bucket_cells_rise_to_their_total(buckets: list[Series]) -> None:
    """Cumulative, with a total, without unreadable bounds; without the bound +Inf nothing at all."""
    cells = fold(LATENCY, [(asked("histogram", Ask.BUCKETS, LATENCY), buckets)], max_replicas=16)
    assert not any(map(math.isnan, (*cells.le, *cells.value, *cells.total)))
    assert judge_takes(LATENCY, cells)


@settings(deadline=None)
@given(st.lists(series, max_size=12), st.lists(series, max_size=12), st.integers(1, 4))
def test_cells_by_label_count_every_request_once(bad: list[Series], total: list[Series], most: int) -> None:
    """All of a replica's requests stand in the row without a label; events without requests are unknown."""
    answers = [(asked("bad", Ask.COUNT, LABELS), bad), (asked("total", Ask.COUNT, LABELS), total)]
    cells = fold(LABELS, answers, max_replicas=most)
    assert sum(cells.total) == pytest.approx(sum(one.value for one in total))
    assert all(exposure == 0 or label == "" for label, exposure in zip(cells.stratum, cells.total, strict=True))
    assert sum(cells.value) <= sum(one.value for one in bad) + 1e-6
    assert judge_takes(LABELS, cells)


def test_replica_groups_follow_from_the_name_alone() -> None:
    """An instance stays in its group while others come and go."""

    def groups(names: list[str]) -> dict[str, str]:
        found = [Series({"instance": name, "route": name}, 1.0) for name in names]
        cells = fold(RATIO, [(asked("total", Ask.COUNT, RATIO), found)], max_replicas=4)
        return dict(zip(cells.stratum, cells.replica, strict=True))

    few, many = groups([f"pod{i}" for i in range(6)]), groups([f"pod{i}" for i in range(40)])
    assert few == {name: many[name] for name in few}
    assert set(many.values()) == {"group-0", "group-1", "group-2", "group-3"}


# --- queries ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_quoted_value_matches_itself_and_nothing_else(value: str, other: str) -> None:
    """In a regular expression as much as outside of one."""
    assert re.fullmatch(quote(value), value)
    assert (re.fullmatch(quote(value), other) is None) == (value != other)
    both = any_of("version", [value, "v2"])
    assert both.matches({"version": value})
    assert both.matches({"version": other}) == (other in {value, "v2"})


@settings(deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=3), st.text(max_size=12))
def test_no_value_ends_its_string(values: list[str], name: str) -> None:
    """A rendered query, read back as a selector, has the conditions it was made of and no more."""
    role = Role(metric="m", name="total", ask=Ask.COUNT, selector=parse_selector('x{code=~"5.."}'))
    question = Question(role, ArmWindow(arm=Arm.BASELINE, start=0.0, end=10.0, labels={"version": name}))
    selector = Selector("x", (any_of("version", [*values, name]), any_instance("instance", values)))
    assert parse_selector(selector.render()) == selector
    [group] = grouped([question], Dialect())
    assert f'version="{Matcher("version", "=", name).render()[9:-1]}"' in group.query(Dialect())


def test_services_that_differ_in_plain_conditions_alone_share_a_query() -> None:
    """Each with its own values, by which its series are told from the other's."""
    window = ArmWindow(arm=Arm.CANDIDATE, start=0.0, end=10.0, labels={"version": "v2"})
    asked = [
        Question(Role(metric="m", name="total", ask=Ask.COUNT, selector=parse_selector(f'x{{job="{job}"}}')), window)
        for job in ("cart", "shop")
    ]
    [group] = grouped(asked, Dialect())
    assert group.values == (("cart", "v2"), ("shop", "v2"))
    told = [Series({"job": job, "version": "v2", "instance": "i"}, 1.0) for job in ("shop", "cart", "none")]
    assert group.share_out([*told, Series({"instance": "i"}, 1.0)], Dialect()) == [[told[1]], [told[0]]]


def test_a_selector_that_contradicts_its_arm_keeps_both_conditions() -> None:
    """Nothing has two values of one label, so nothing is found; the arm's alone would be another question."""
    role = Role(metric="m", name="total", ask=Ask.COUNT, selector=parse_selector('x{version="v1"}'))
    old, new = (
        Question(role, ArmWindow(arm=arm, start=0.0, end=10.0, labels={"version": version}))
        for arm, version in ((Arm.BASELINE, "v1"), (Arm.CANDIDATE, "v2"))
    )
    agreed, contradicted = grouped([old, new], Dialect())
    assert 'x{version="v1"}' in agreed.query(Dialect())
    assert 'x{version="v1",version="v2"}' in contradicted.query(Dialect())


@pytest.mark.parametrize(
    ("name", "instance", "meant"),
    [("a", "a", True), ("a", "a:80", True), ("a:80", "a:80", True), ("a:80", "a:81", False), ("a", "ab:80", False)],
)
def test_an_announced_name_may_leave_out_the_port(name: str, instance: str, meant: bool) -> None:
    """The source and the query agree on it."""
    assert is_named(name, instance) is meant
    assert any_instance("instance", [name]).matches({"instance": instance}) is meant


def test_durations_are_exact() -> None:
    """Whole seconds or milliseconds."""
    assert (duration(10_000), duration(10_001)) == ("10s", "10001ms")
