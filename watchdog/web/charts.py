"""Charts: small pure functions from data to an SVG text.

Nothing but presentation by class, so that the style sheet gives colours for light and dark and the policy forbids
inline styles. Arms differ in colour, line and end mark, and every chart says in words what it shows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from watchdog.web.scales import LARGEST, Axis, Format, clock, evidence, number, spanning, ticks, time_ticks

WIDTH, HEIGHT = 400, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 52, 42
_SAME_PLACE = 34.0  # marks nearer than this would write over each other
_LETTER = 7.6  # about the width of a digit in a wide typeface

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line; `look` is its class in the style sheet. A y that is not finite is a gap."""

    name: str
    look: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment worth a vertical line."""

    x: float
    name: str
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A height worth a horizontal line."""

    y: float
    name: str
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """What a chart over time shows. x in seconds from the deploy; `says` is the chart in one sentence."""

    title: str
    says: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    levels: Sequence[Level] = ()
    write_y: Format = number
    zero: bool = True  # whether the y axis begins at zero
    y_ticks: Sequence[float] | None = None
    span: Sequence[float] = ()  # times that the axis must hold, so that charts side by side have the same


def chart(plot: Plot) -> Markup:
    """Draw lines over time."""
    points = [p for line in plot.lines for p in line.points if all(map(math.isfinite, p))]
    if not points:
        return _svg(plot.title, plot.says, [_text(WIDTH / 2, HEIGHT / 2, "no data yet", "label", "middle")])
    marks = [m for m in plot.marks if math.isfinite(m.x)]
    levels = [level for level in plot.levels if math.isfinite(level.y)]
    x = _tight([p[0] for p in points] + [m.x for m in marks] + [*plot.span], _LEFT, WIDTH - _RIGHT)
    y = spanning([p[1] for p in points] + [v.y for v in levels], HEIGHT - _BOTTOM, _TOP, zero=plot.zero)
    y_ticks = ticks(y.low, y.high) if plot.y_ticks is None else [t for t in plot.y_ticks if y.low <= t <= y.high]
    parts = [*_grid(x, y, y_ticks, plot.write_y), *_legend(plot.lines), *_marks(x, marks), *_levels(y, levels)]
    for line in plot.lines:
        parts += _drawn(line, x, y)
    return _svg(plot.title, plot.says, parts)


def evidence_chart(
    title: str,
    says: str,
    path: Sequence[Point],
    threshold: float,
    marks: Sequence[Mark],
    *,
    span: Sequence[float] = (),
) -> Markup:
    """Draw evidence against its threshold, both as log10 of an e-value; the axis is logarithmic."""
    line = Line(name="evidence", look="evidence", points=[(0.0, 0.0), *path])  # it begins at an e-value of 1
    levels = [Level(y=threshold, name=f"acts at {evidence(threshold)}", look="threshold")]
    finite = [p[1] for p in path if math.isfinite(p[1])]
    low, high = min([0.0, *finite]), max([threshold if math.isfinite(threshold) else 0.0, 0.0, *finite])
    step = max(1, math.ceil((high - low) / 5))
    whole = [float(k) for k in range(math.floor(low / step) * step, math.ceil(high) + 1, step)]
    plot = Plot(
        title=title,
        says=says,
        lines=[line],
        marks=marks,
        levels=levels,
        write_y=evidence,
        zero=False,
        y_ticks=whole,
        span=span,
    )
    return chart(plot)


def interval_strip(*, says: str, effect: float, low: float, high: float, limit: float, ratio: bool) -> Markup:
    """Draw an effect with its interval against `no change` and the tolerated `limit`; ratios on a logarithmic axis."""
    height, middle = 64, 30.0
    none = 1.0 if ratio else 0.0
    limit = limit if math.isfinite(limit) else none
    place = _log2 if ratio else float
    ends = [place(v) for v in (effect, low, high, limit, none) if math.isfinite(v)]
    bound = max([abs(v - place(none)) for v in ends] + [1.0 if ratio else 1e-9])
    bound = min(bound, 6.0 if ratio else LARGEST)
    axis = Axis(place(none) - bound * 1.1, place(none) + bound * 1.1, 16, WIDTH - 16)
    parts = [_line(16, middle, WIDTH - 16, middle, "grid")]
    for value, name, look in ((none, "no change", "none"), (limit, "tolerated", "threshold")):
        if name == "no change" or limit != none:
            at = axis.at(place(value))
            parts.append(_line(at, middle - 12, at, middle + 12, look))
    tolerated = f"tolerated ×{limit:.3g}" if ratio else "tolerated"
    parts += _strip_words(axis.at(place(none)), axis.at(place(limit)), tolerated if limit != none else "", height)
    if math.isfinite(effect):
        left, right = (axis.at(place(v)) if math.isfinite(v) else axis.end for v in (low, high))
        parts.append(_line(left, middle, right, middle, "interval"))
        parts.append(f'<circle class="effect" cx="{axis.at(place(effect)):.1f}" cy="{middle}" r="5"/>')
    return _svg("Effect", says, parts, height=height)


def bars(*, title: str, says: str, columns: Sequence[tuple[str, Sequence[tuple[float, str]]]]) -> Markup:
    """Draw stacked bars: for each column its label and its parts as (height, class)."""
    tallest = max([sum(_positive(h) for h, _ in parts) for _, parts in columns], default=0.0)
    if tallest <= 0:
        return _svg(title, says, [_text(WIDTH / 2, HEIGHT / 2, "none is over yet", "label", "middle")])
    y = Axis(0.0, tallest * 1.05, HEIGHT - _BOTTOM, 12)
    drawn = [
        part
        for t in ticks(0.0, y.high)
        if t == round(t)
        for part in (_line(_LEFT, y.at(t), WIDTH - _RIGHT, y.at(t), "grid"), _tick_y(y.at(t), number(t)))
    ]
    room = (WIDTH - _RIGHT - _LEFT) / len(columns)
    every = max(1, math.ceil((1.2 * _LETTER * max(len(name) for name, _ in columns) + 8) / room))
    for i, (name, stack) in enumerate(columns):
        base, left = 0.0, _LEFT + i * room + room * 0.15
        for height, look in stack:
            top = base + _positive(height)
            size = y.at(base) - y.at(top)
            drawn.append(
                f'<rect class="{escape(look)}" x="{left:.1f}" y="{y.at(top):.1f}" width="{min(room * 0.7, 40):.1f}" '
                f'height="{size:.1f}"/>'
            )
            base = top
        if i % every == 0:
            drawn.append(_text(left + min(room * 0.35, 20), HEIGHT - _BOTTOM + 18, name, "label", "middle"))
    return _svg(title, says, drawn)


def _strip_words(none: float, limit: float, tolerated: str, height: int) -> Iterator[str]:
    """The names of both lines, away from each other where the lines are near."""
    near = abs(limit - none) < 110
    outward = ("end", "start") if limit > none else ("start", "end")
    sides = outward if near and tolerated else ("middle", "middle")
    yield _text(none, height - 6, "no change", "label", sides[0])
    if tolerated:
        yield _text(limit, height - 6, tolerated, "label threshold-word", sides[1])


def _tight(values: Sequence[float], start: float, end: float) -> Axis:
    """A time axis without room at its sides; one moment alone gets a second on both."""
    low, high = min(values), max(values)
    return Axis(low - 1, high + 1, start, end) if low == high else Axis(low, high, start, end)


def _grid(x: Axis, y: Axis, y_ticks: Sequence[float], write_y: Format) -> Iterator[str]:
    for tick in y_ticks:
        yield _line(_LEFT, y.at(tick), WIDTH - _RIGHT, y.at(tick), "grid")
        yield _tick_y(y.at(tick), write_y(tick))
    for tick in time_ticks(x.low, x.high):
        anchor = "end" if x.at(tick) > WIDTH - _RIGHT - 18 else "middle"
        yield _line(x.at(tick), HEIGHT - _BOTTOM, x.at(tick), HEIGHT - _BOTTOM + 4, "axis")
        yield _text(x.at(tick), HEIGHT - _BOTTOM + 17, clock(tick), "label", anchor)
    yield _line(_LEFT, HEIGHT - _BOTTOM, WIDTH - _RIGHT, HEIGHT - _BOTTOM, "axis")
    yield _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, "minutes and seconds since the deploy", "label", "middle")


def _tick_y(at: float, written: str) -> str:
    return _text(_LEFT - 6, at + 4, written, "label", "end")


def _legend(lines: Sequence[Line]) -> Iterator[str]:
    left = float(_LEFT)
    for line in lines if len(lines) > 1 else ():
        yield _line(left, 10, left + 22, 10, f"line {line.look}")
        yield _text(left + 28, 14, line.name, "label", "start")
        left += 28 + _LETTER * len(line.name) + 18


def _marks(x: Axis, marks: Sequence[Mark]) -> Iterator[str]:
    """Vertical lines; names that would meet stand in two rows, and further ones are left to the description."""
    ends = [-math.inf, -math.inf]
    for mark in sorted(marks, key=lambda m: m.x):
        at = x.at(mark.x)
        yield _line(at, _TOP - 5, at, HEIGHT - _BOTTOM, f"mark {mark.look}")
        wide = _LETTER * len(mark.name)
        is_right = at + wide > WIDTH - _RIGHT
        left = at - wide if is_right else at
        row = next((i for i, end in enumerate(ends) if left > end), None)
        if row is not None:
            ends[row] = left + wide + 4
            place = _TOP - 20 if row == 0 else _TOP - 7
            yield _text(at + (-3 if is_right else 3), place, mark.name, f"label {mark.look}-word", "end" if is_right else "start")  # fmt: skip # noqa: E501


def _levels(y: Axis, levels: Sequence[Level]) -> Iterator[str]:
    for level in levels:
        at = y.at(level.y)
        yield _line(_LEFT, at, WIDTH - _RIGHT, at, level.look)
        yield _text(_LEFT + 5, at + 14, level.name, f"label {level.look}-word", "start")


def _drawn(line: Line, x: Axis, y: Axis) -> Iterator[str]:
    """The line in pieces between gaps; a piece of one point is a dot. The last point has a mark."""
    piece: list[Point] = []
    last: Point | None = None
    for point in [*line.points, (math.nan, math.nan)]:
        if all(map(math.isfinite, point)):
            piece.append((x.at(point[0]), y.at(point[1])))
            continue
        if len(piece) > 1:
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in piece)
            yield f'<polyline class="line {escape(line.look)}" points="{path}"/>'
        elif piece:
            yield _dot(piece[0], line.look, 2.5)
        last = piece[-1] if piece else last
        piece = []
    if last is not None:
        yield _dot(last, line.look, 3.5)


def _dot(at: Point, look: str, size: float) -> str:
    return f'<circle class="dot {escape(look)}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{size}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line class="{escape(look)}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, look: str, anchor: str) -> str:
    return f'<text class="{escape(look)}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(title: str, says: str, parts: Sequence[str], *, height: int = HEIGHT) -> Markup:
    spoken = escape(f"{title}. {says}" if says else title)
    return Markup(  # noqa: S704 - every text above went through escape
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{spoken}">{"".join(parts)}</svg>'
    )


def _log2(value: float) -> float:
    return math.log2(value) if value > 0 else -math.inf


def _positive(value: float) -> float:
    return min(value, LARGEST) if math.isfinite(value) and value > 0 else 0.0
