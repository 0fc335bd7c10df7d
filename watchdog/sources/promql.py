"""Questions into PromQL: what shares a template is asked once, and the answer is shared out again.

Every value from outside is a label value and passes `watchdog.selector.escape`; inside a regular expression it is
quoted first, so that it stands for itself.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from watchdog.selector import Matcher, Selector, label_name
from watchdog.sources.births import BORN
from watchdog.sources.questions import INSTANCE, LE, Ask, Question, Series

LOOK_BACK = "1h"  # how old the last value before an interval may be
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")
_OF_A_RANGE = re.compile(r"(?i)@|\b(start|end|range|step)\s*\(")  # speaks of the moments asked together with its own
_ANYTHING = Matcher(INSTANCE, "=~", ".*")  # what `$arm` becomes where an arm has no condition at all


@dataclass(frozen=True, slots=True)
class Template:
    """What questions must share to be one query: all but the values of their label conditions."""

    ask: Ask
    selector: Selector  # without the conditions that are plain equalities
    expression: str
    by: tuple[str, ...]
    native: bool
    names: tuple[str, ...]  # labels with a condition, by which the answer is told apart
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a Prometheus is asked differently from others."""

    instance_label: str = INSTANCE


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The questions that one query answers."""

    template: Template
    questions: tuple[Question, ...]

    def query(self, dialect: Dialect, *, per_instance: bool = True) -> str:
        """Render the query; without `per_instance` the instances are summed up by Prometheus."""
        template = self.template
        if template.ask is Ask.EXPRESSION:
            return template.expression
        frame = _Frame(
            template.ask,
            template.selector,
            template.by,
            template.native,
            template.names,
            template.end_ms - template.start_ms,
            per_instance,
        )
        return _query(frame, dialect).replace(_HOLE, _conditions(self.questions))

    @property
    def askers(self) -> int:
        """How many looks the answer is for, at least: each asks once per arm."""
        return max(Counter(question.arm for question in self.questions).values())

    @property
    def names_its_range(self) -> bool:
        """Whether the answer at one moment depends on which others are asked for with it."""
        return _OF_A_RANGE.search(self.template.expression) is not None

    def share_out(self, series: Sequence[Series], dialect: Dialect) -> dict[int, list[Series]]:
        """Give each question (by its position) the series that answer it."""
        asked = defaultdict(list)
        for position, question in enumerate(self.questions):
            values = conditions(question)
            asked[tuple(values[name] for name in self.template.names)].append(position)
        shared: dict[int, list[Series]] = {position: [] for position in range(len(self.questions))}
        for one in series:
            named = _with_instance(one, dialect.instance_label)
            for position in asked.get(tuple(named.labels.get(name, "") for name in self.template.names), ()):
                if self.template.ask is Ask.EXPRESSION or self._concerns(position, named):
                    shared[position].append(named)
        return shared

    def _concerns(self, position: int, series: Series) -> bool:
        return self.questions[position].concerns(series.labels.get(INSTANCE, ""))


def grouped(questions: Iterable[Question], dialect: Dialect) -> list[Group]:
    """Put together what one query can answer."""
    groups: dict[Template, list[Question]] = defaultdict(list)
    for question in questions:
        groups[_template(question, dialect)].append(question)
    return [Group(template, tuple(members)) for template, members in groups.items()]


def conditions(question: Question) -> dict[str, str]:
    """The label values a question asks for: its arm's, and the plain equalities of its selector."""
    if question.ask is Ask.EXPRESSION:
        return {}
    return {**_parted(question).equalities, **question.labels}


def any_of(label: str, values: Iterable[str]) -> Matcher:
    """A condition that holds for any of these values, each meant literally."""
    wanted = sorted(set(values))
    if len(wanted) == 1:
        return Matcher(label, "=", wanted[0])
    return Matcher(label, "=~", "|".join(map(quote, wanted)))


def any_instance(label: str, names: Iterable[str]) -> Matcher:
    """A condition that holds for instances of these names, with or without a port."""
    return Matcher(label, "=~", f"({'|'.join(map(quote, sorted(set(names))))})(:[0-9]+)?")


def quote(text: str) -> str:
    """Make a text stand for itself in a regular expression."""
    return _SPECIAL.sub(r"\\\1", text)


def duration(milliseconds: int) -> str:
    """Render a PromQL duration."""
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def bounds_ms(start: float, end: float) -> tuple[int, int]:
    """An interval's start and end in Prometheus' own resolution, free of gaps and overlaps with its neighbours.

    Intervals of whole seconds end with one, the next (as `strategies.window.closes_at` waits for it): watches that
    began in the same second then share their queries, and a scrape is no finer than that anyway.
    """
    start_ms, end_ms = round(start * 1000), round(end * 1000)
    span_ms = end_ms - start_ms
    if span_ms % 1000 == 0:
        end_ms += -end_ms % 1000
    return end_ms - span_ms, end_ms


def _added_and_born(series: str, span_ms: int, *, native: bool, whole: bool) -> tuple[str, str]:
    """What was added in one interval where a counter went on, and the last value where it is new or began anew.

    The last value *inside* the interval is taken, so that an instance that has gone keeps its last events, and one
    without a scrape is absent instead of idle. Native histograms cannot be compared, their numbers of observations
    can; `whole` asks for the histograms and not for those numbers.
    """
    span = duration(span_ms)
    last, before = f"last_over_time({series}[{span}])", f"last_over_time({series}[{LOOK_BACK}] offset {span})"
    n, n_before = (f"histogram_count({last})", f"histogram_count({before})") if native else (last, before)
    if native and whole:
        return f"({last} - {before}) and ({n} >= {n_before})", f"{last} unless ({n} >= {n_before})"
    return f"({n} - {n_before}) >= 0", f"{n} unless ({n} >= {n_before})"


class _Frame(NamedTuple):
    """What a query says beside its conditions; the same for all watches of a kind, and for all their looks."""

    ask: Ask
    selector: Selector
    by: tuple[str, ...]
    native: bool
    names: tuple[str, ...]
    span_ms: int
    per_instance: bool


class _Hole(Matcher):
    """Where the conditions go; what `escape` has written holds no such character."""

    __slots__ = ()

    def render(self) -> str:
        return _HOLE


_HOLE = "\n"
_CONDITIONS = _Hole("", "", "")


@lru_cache(maxsize=4096)
def _query(frame: _Frame, dialect: Dialect) -> str:
    """A query with a hole for its conditions."""
    selector = (frame.selector.with_matchers(_CONDITIONS) if frame.names else frame.selector).render()
    bounded = frame.ask is Ask.BUCKETS and not frame.native
    labels = dict.fromkeys([*frame.names, *frame.by, *([LE] if bounded else [])])
    if frame.per_instance:
        labels[dialect.instance_label] = None
    by = ", ".join(map(label_name, labels))
    if frame.ask is Ask.LEVEL:
        return f"avg by ({by}) (avg_over_time({selector}[{duration(frame.span_ms)}]))"
    added, born = _added_and_born(selector, frame.span_ms, native=frame.native, whole=frame.ask is Ask.BUCKETS)
    return f'sum by ({by}) ({added}) or label_replace(sum by ({by}) ({born}), "{BORN}", "yes", "", "")'


class _Parted(NamedTuple):
    """A selector taken apart: what all who share its template have in common, and the plain equalities beside it."""

    shared: Selector
    equalities: Mapping[str, str]
    names: tuple[str, ...]  # of all conditions, the arm's too


def _parted(question: Question) -> _Parted:
    if question.ask is Ask.EXPRESSION:
        return _Parted(question.selector, {}, ())
    labels = question.labels
    told = tuple((m.label, labels[m.label]) for m in question.selector.matchers if m.label in labels)
    return _part(question.selector, tuple(labels), told)


@lru_cache(maxsize=4096)
def _part(selector: Selector, labels: tuple[str, ...], told: tuple[tuple[str, str], ...]) -> _Parted:
    """labels: the names of the arm's; told: the values of those that the selector speaks of as well."""
    values = dict(told)
    equal = [m for m in selector.matchers if m.op == "=" and values.get(m.label, m.value) == m.value]
    equalities = {m.label: m.value for m in equal}
    shared = tuple(m for m in selector.matchers if m not in equal)
    return _Parted(Selector(selector.name, shared), equalities, tuple(sorted({*equalities, *labels})))


def _template(question: Question, dialect: Dialect) -> Template:
    parted = _parted(question)
    start_ms, end_ms = bounds_ms(question.start, question.end)
    return Template(
        ask=question.ask,
        selector=parted.shared,
        expression=_expression(question, dialect) if question.ask is Ask.EXPRESSION else "",
        by=question.by,
        native=question.native,
        names=parted.names,
        start_ms=start_ms,
        end_ms=end_ms,
    )


def _conditions(questions: Iterable[Question]) -> str:
    values: dict[str, set[str]] = {}
    for question in questions:
        for label, value in conditions(question).items():
            values.setdefault(label, set()).add(value)
    return _where(tuple((label, tuple(sorted(found))) for label, found in sorted(values.items())))


@lru_cache(maxsize=16)  # the metrics of one look have the same, one after the other
def _where(values: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    return ",".join(any_of(label, found).render() for label, found in values)


def _expression(question: Question, dialect: Dialect) -> str:
    matchers = [Matcher(label, "=", value) for label, value in sorted(question.labels.items())]
    if question.instances:
        matchers.append(any_instance(dialect.instance_label, question.instances))
    return question.expression.replace("$arm", ",".join(m.render() for m in matchers or [_ANYTHING]))


def _with_instance(series: Series, label: str) -> Series:
    """Call the instance `instance`, whatever label names it here."""
    if label == INSTANCE or label not in series.labels:
        return series
    labels: Mapping[str, str] = {**series.labels, INSTANCE: series.labels[label]}
    return Series(labels, series.value)
