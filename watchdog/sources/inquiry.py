"""Queries as they are asked: equal ones about intervals that follow each other go in one request."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from watchdog.sources.presence import Roll
from watchdog.sources.prometheus_answer import Moments
from watchdog.sources.promql import Dialect, Group, Template
from watchdog.sources.questions import Ask

MOST_MOMENTS = 11_000  # Prometheus' own limit of points per series in one answer
Width = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One query about one interval, evaluated at its end."""

    text: str
    start_ms: int
    end_ms: int
    alone: bool = False  # it would mean something else beside others
    askers: int = 1  # looks that the answer is for: so many times the series of one may be in it

    @property
    def kin(self) -> tuple[object, ...]:
        """What inquiries must have in common to be one request."""
        return (self.text, self.alone, self.end_ms - self.start_ms)


@dataclass(frozen=True, slots=True)
class Run:
    """An inquiry, and the moments at which it is made."""

    inquiry: Inquiry
    moments: Moments
    positions: tuple[int, ...]  # of the inquiries it stands for, by moment


def about_group(group: Group, dialect: Dialect, *, summed: bool = False) -> Inquiry:
    """Ask by instance, or for sums over them."""
    return Inquiry(
        text=group.query(dialect, per_instance=not summed),
        start_ms=group.start_ms,
        end_ms=group.end_ms,
        alone=group.names_its_range,
        askers=group.askers,
    )


def about_roll(roll: Roll, text: str, askers: int) -> Inquiry:
    """Ask who is alive."""
    return Inquiry(text=text, start_ms=roll.start_ms, end_ms=roll.end_ms, askers=askers)


def runs(inquiries: Sequence[Inquiry], *, most_moments: int = MOST_MOMENTS) -> list[Run]:
    """Put together equal inquiries about equally long intervals, each of which begins where the one before ends."""
    found: list[list[int]] = []
    growing: dict[tuple[object, ...], list[int]] = {}  # by what continues it
    for position in sorted(range(len(inquiries)), key=lambda at: inquiries[at].end_ms):
        inquiry = inquiries[position]
        run = growing.pop((inquiry.kin, inquiry.start_ms), None)
        if run is None or inquiry.alone or len(run) >= most_moments:
            found.append(run := [])
        run.append(position)
        growing[inquiry.kin, inquiry.end_ms] = run
    return [_run(inquiries, run) for run in found]


def _run(inquiries: Sequence[Inquiry], positions: Iterable[int]) -> Run:
    mine = tuple(positions)
    first = inquiries[mine[0]]
    return Run(first, Moments(first.end_ms, first.end_ms - first.start_ms, len(mine)), mine)


def may_be_summed(group: Group) -> bool:
    """Whether sums answer the questions too; announced instances cannot be told from them."""
    expression = group.template.ask is Ask.EXPRESSION
    return not expression and not any(question.window.instances for question in group.questions)


def width(template: Template) -> Width:
    """What decides how many series answer a template, whatever the interval."""
    return (template.ask, template.selector, template.by, template.native, template.names)
