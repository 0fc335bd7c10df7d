"""Charts and the numbers on them: readable whatever the data is, inert whatever the names are."""

import doctest
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

from watchdog import series, telling
from watchdog.web import scales, sign_in
from watchdog.web.charts import HEIGHT, WIDTH, Level, Line, Mark, Plot, bars, chart, evidence_chart, interval_strip

NAN, INF = math.nan, math.inf
ANY = st.floats(allow_nan=True, allow_infinity=True)
POINTS = st.lists(st.tuples(st.floats(-1e7, 1e7), ANY), max_size=30)
NAME = '"><script>alert(1)</script>'


def plotted(points: list[tuple[float, float]], name: str = "new") -> Markup:
    lines = [Line(name="old", look="baseline", points=points[::2]), Line(name=name, look="candidate", points=points)]
    marks = [Mark(x=0.0, name="deploy", look="deploy"), Mark(x=NAN, name="never", look="onset")]
    return chart(
        Plot(title=name, says=name, lines=lines, marks=marks, levels=[Level(y=1, name=name, look="threshold")])
    )


def places(svg: Markup) -> list[float]:
    """Every coordinate of a drawing."""
    found = []
    for element in ET.fromstring(svg).iter():
        found += [float(v) for k, v in element.attrib.items() if k in {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy"}]
        found += [float(v) for v in re.split(r"[ ,]", element.get("points", "")) if v]
    return found


@pytest.mark.parametrize("module", [scales, series, sign_in, telling])
def test_the_examples_in_the_documentation_are_true(module: object) -> None:
    """Ticks, times, shares and evidence are written as said."""
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "points",
    [[], [(0, NAN)], [(0, INF)], [(5, 3)], [(0, 2), (5, 2)], [(0, 0), (5, 0)], [(0, 1), (5, NAN), (9, 2)], [(0, 1e300)],
     [(0, -5), (1, -2)], [(3, 1), (3, 2)], [(0, 1e-300), (1, 2e-300)], [(-1e9, 1), (1e9, 2)]],
)  # fmt: skip
def test_a_chart_of_anything_stays_on_its_paper(points: list[tuple[float, float]]) -> None:
    """Nothing, one point, a constant, gaps, the largest and the smallest numbers: well-formed and inside."""
    for svg in (plotted(points), evidence_chart("e", "e", points, 2.0, []), evidence_chart("e", "e", points, NAN, [])):
        found = places(svg)
        assert all(math.isfinite(v) and -60 <= v <= max(WIDTH, HEIGHT) + 60 for v in found)
        assert "nan" not in svg.lower()


@given(POINTS)
def test_any_line_can_be_drawn(points: list[tuple[float, float]]) -> None:
    """No list of numbers breaks a chart."""
    assert all(math.isfinite(v) for v in places(plotted(points)))


@given(ANY, ANY, ANY, ANY, st.booleans())
@example(0.0, 0.0, 0.0, 8.6e307, False)  # its axis would have been wider than numbers go
def test_any_effect_can_be_drawn(effect: float, low: float, high: float, limit: float, ratio: bool) -> None:
    """Zero, infinite, negative and unknown effects: the strip stays on its paper."""
    found = places(interval_strip(says="s", effect=effect, low=low, high=high, limit=limit, ratio=ratio))
    assert all(math.isfinite(v) and -1 <= v <= WIDTH + 1 for v in found)


@given(st.lists(st.lists(ANY, max_size=3), max_size=20))
@example([[9e307, 9e307]])  # more than a number can hold
def test_any_bars_can_be_drawn(heights: list[list[float]]) -> None:
    """No column, empty columns, columns of what is no number."""
    svg = bars(
        title="t", says="s", columns=[(f"2026-{i:02d}", [(h, "good-bar") for h in hs]) for i, hs in enumerate(heights)]
    )
    assert all(math.isfinite(v) for v in places(svg))


def test_a_gap_breaks_the_line_and_a_lone_point_is_a_dot() -> None:
    """Nobody is shown traffic that was not there."""
    svg = chart(
        Plot(title="t", says="", lines=[Line(name="a", look="baseline", points=[(0, 1), (1, 2), (2, NAN), (3, 1)])])
    )
    assert svg.count("<polyline") == 1
    assert svg.count('class="dot') == 2  # the lone point, and the mark at the line's end


def test_a_chart_says_in_words_what_it_shows() -> None:
    """A screen reader gets the title and the sentence as one label of an image."""
    svg = ET.fromstring(plotted([(0, 1), (5, 2)], "errors"))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "errors. errors"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plotted([(0, 1), (5, 2)], NAME),
        lambda: evidence_chart(NAME, NAME, [(0, 1)], 2.0, [Mark(x=1, name=NAME, look=NAME)]),
        lambda: interval_strip(says=NAME, effect=2, low=1, high=3, limit=1.25, ratio=True),
        lambda: bars(title=NAME, says=NAME, columns=[(NAME, [(1.0, NAME)])]),
    ],
)
def test_no_name_becomes_markup(draw: Callable[[], Markup]) -> None:
    """Names of versions and metrics come from outside."""
    assert {element.tag for element in ET.fromstring(draw()).iter()} <= {
        "svg",
        "line",
        "text",
        "polyline",
        "circle",
        "rect",
    }


def test_colours_and_lines_differ_between_the_arms() -> None:
    """One arm is dashed, so that nobody needs to tell the colours apart."""
    style = (scales.__file__ or "").replace("scales.py", "static/style.css")
    with open(style, encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    assert re.search(r"\.line\.baseline \{[^}]*stroke-dasharray", text)
    assert not re.search(r"\.line\.candidate \{[^}]*stroke-dasharray", text)


def test_joined_points_lose_no_event_and_never_mix_before_and_after() -> None:
    """The weighted mean of the points is the mean of the intervals, on each side of the deploy."""
    sums = {i: (float(i % 7), 10.0) for i in range(-50, 331)}
    points = series.joined(sums, first=-50, last=330, width=4, step_s=5.0)
    assert len(points) <= 100
    before = [p for p in points if p[0] < 0]
    assert max(p[0] for p in before) <= -5.0
    assert all(math.isfinite(y) for _, y in points)


def test_the_highest_evidence_survives_being_joined() -> None:
    """A short crossing of the threshold among a thousand looks is still to be seen."""
    path = [0.0] * 1000
    path[637] = 5.0
    assert max(y for _, y in series.highest(path, step_s=5.0)) == 5.0
    assert len(series.highest(path, step_s=5.0)) <= series.POINTS
    assert series.highest([], step_s=5.0) == []
    assert math.isnan(series.highest([NAN, NAN], step_s=5.0)[0][1])
