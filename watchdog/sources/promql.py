"""Questions into PromQL: what shares a template is asked once, and the answer is shared out again.

Every value from outside is a label value and passes `watchdog.selector.escape`; inside a regular expression it is
quoted first, so that it stands for itself.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from watchdog.selector import Matcher, Selector, label_name
from watchdog.sources.births import BORN
from watchdog.sources.questions import INSTANCE, LE, Ask, Question, Role, Series

LOOK_BACK = "1h"  # how old the last value before an interval may be
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")
_OF_A_RANGE = re.compile(r"(?i)@|\b(start|end|range|step)\s*\(")  # speaks of the moments asked together with its own
_ANYTHING = Matcher(INSTANCE, "=~", ".*")  # what `$arm` becomes where an arm has no condition at all


class Template(NamedTuple):
    """What questions must share to be one query: all but their interval and the values of their label conditions."""

    ask: Ask
    selector: Selector  # without the conditions that are plain equalities
    expression: str
    by: tuple[str, ...]
    native: bool
    names: tuple[str, ...]  # labels with a condition, by which the answer is told apart


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a Prometheus is asked differently from others."""

    instance_label: str = INSTANCE


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The questions that one query answers; `values`: of each, what the labels of the template's `names` must be."""

    template: Template
    start_ms: int
    end_ms: int
    questions: tuple[Question, ...]
    values: tuple[tuple[str, ...], ...]

    def of(self, positions: Sequence[int]) -> "Group":
        """Some of its questions, by their places."""
        questions, values = self.questions, self.values
        return replace(
            self, questions=tuple([questions[at] for at in positions]), values=tuple([values[at] for at in positions])
        )

    def query(self, dialect: Dialect, *, per_instance: bool = True) -> str:
        """Render the query; without `per_instance` the instances are summed up by Prometheus."""
        return self.conditioned(self.frame(dialect, per_instance=per_instance), self.values)

    def frame(self, dialect: Dialect, *, per_instance: bool = True) -> str:
        """The query with a hole for its conditions."""
        template = self.template
        if template.ask is Ask.EXPRESSION:
            return template.expression
        return _query(template, self.end_ms - self.start_ms, per_instance, dialect)

    def conditioned(self, frame: str, values: Iterable[tuple[str, ...]]) -> str:
        """A frame with the conditions of questions with these `values`."""
        if self.template.ask is Ask.EXPRESSION:
            return frame
        return frame.replace(_HOLE, _where(self.template.names, tuple(dict.fromkeys(values))))

    @property
    def askers(self) -> int:
        """How many looks the answer is for, at least: each asks once per arm."""
        return max(Counter([question.window.arm for question in self.questions]).values())

    @property
    def names_its_range(self) -> bool:
        """Whether the answer at one moment depends on which others are asked for with it."""
        return _OF_A_RANGE.search(self.template.expression) is not None

    def share_out(self, series: Sequence[Series], dialect: Dialect) -> list[list[Series]]:
        """The series that answer each question."""
        shared: list[list[Series]] = [[] for _ in self.questions]
        asked: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for position, values in enumerate(self.values):
            asked[values].append(position)
        told_apart = self.template.ask is not Ask.EXPRESSION
        by_name = told_apart and any(question.window.instances for question in self.questions)
        values_of, instance_label = _values_of(self.template.names), dialect.instance_label
        for one in series if instance_label == INSTANCE else [_with_instance(one, instance_label) for one in series]:
            for position in asked.get(values_of(one.labels), ()):
                if not by_name or self.questions[position].concerns(one.labels.get(INSTANCE, "")):
                    shared[position].append(one)
        return shared


def grouped(questions: Iterable[Question], dialect: Dialect) -> list[Group]:
    """Put together what one query can answer."""
    groups: dict[tuple[int, int, int], tuple[Template, list[Question], list[tuple[str, ...]]]] = {}
    for question in questions:
        template, values = _told_apart(question, dialect)
        start_ms, end_ms = bounds_ms(question.window.start, question.window.end)
        members = groups.get((id(template), start_ms, end_ms))
        if members is None:
            members = groups[id(template), start_ms, end_ms] = (template, [], [])
        members[1].append(question)
        members[2].append(values)
    return [
        Group(template, start_ms, end_ms, tuple(members), tuple(values))
        for (_, start_ms, end_ms), (template, members, values) in groups.items()
    ]


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


@lru_cache(maxsize=1024)  # of one round many are alike
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


class _Hole(Matcher):
    """Where the conditions go; what `escape` has written holds no such character."""

    __slots__ = ()

    def render(self) -> str:
        return _HOLE


_HOLE = "\n"
_CONDITIONS = _Hole("", "", "")


@lru_cache(maxsize=4096)
def _query(template: Template, span_ms: int, per_instance: bool, dialect: Dialect) -> str:
    """A query with a hole for its conditions; the same for all watches of a kind, and for all their looks."""
    selector = (template.selector.with_matchers(_CONDITIONS) if template.names else template.selector).render()
    bounded = template.ask is Ask.BUCKETS and not template.native
    labels = dict.fromkeys([*template.names, *template.by, *([LE] if bounded else [])])
    if per_instance:
        labels[dialect.instance_label] = None
    by = ", ".join(map(label_name, labels))
    if template.ask is Ask.LEVEL:
        return f"avg by ({by}) (avg_over_time({selector}[{duration(span_ms)}]))"
    added, born = _added_and_born(selector, span_ms, native=template.native, whole=template.ask is Ask.BUCKETS)
    return f'sum by ({by}) ({added}) or label_replace(sum by ({by}) ({born}), "{BORN}", "yes", "", "")'


class _Apart(NamedTuple):
    """A role without its plain equalities, and these; `names`: their labels and the arm's."""

    template: Template
    equalities: Mapping[str, str]
    names: tuple[str, ...]


def _told_apart(question: Question, dialect: Dialect) -> tuple[Template, tuple[str, ...]]:
    """What a question has in common with others (one object for all of them), and the values of the labels by which it
    is told from them: those of its arm, and of the plain equalities of its selector."""
    role, window = question
    if role.ask is Ask.EXPRESSION:
        expression = _expression(question, dialect)
        return _one_object(Template(role.ask, role.selector, expression, role.by, role.native, ())), ()
    labels = window.labels
    contradicted = tuple([m for m in role.selector.matchers if m.op == "=" and labels.get(m.label, m.value) != m.value])
    template, equalities, names = _apart(role, tuple(labels), contradicted)
    return template, tuple([labels[name] if name in labels else equalities[name] for name in names])


@lru_cache(maxsize=8192)
def _apart(role: Role, labels: tuple[str, ...], contradicted: tuple[Matcher, ...]) -> _Apart:
    """contradicted: equalities that ask for another value than the arm's. Both conditions then stand in the query, and
    nothing is found."""
    matchers = role.selector.matchers
    equalities = {m.label: m.value for m in matchers if m.op == "=" and m not in contradicted}
    shared = tuple([m for m in matchers if m.op != "=" or m in contradicted])
    names = tuple(sorted({*equalities, *labels}))
    selector = Selector(role.selector.name, shared)
    return _Apart(_one_object(Template(role.ask, selector, "", role.by, role.native, names)), equalities, names)


@lru_cache(maxsize=16384)
def _one_object(template: Template) -> Template:
    """Of equal templates the first: what follows tells them apart by identity."""
    return template


def _values_of(names: Sequence[str]) -> Callable[[Mapping[str, str]], tuple[str, ...]]:
    """Picks these labels' values; one that a series lacks is empty."""

    def each(labels: Mapping[str, str]) -> tuple[str, ...]:
        return tuple([labels.get(name, "") for name in names])

    if len(names) < 2:
        return each
    all_of: Callable[[Mapping[str, str]], tuple[str, ...]] = itemgetter(*names)

    def picked(labels: Mapping[str, str]) -> tuple[str, ...]:
        try:
            return all_of(labels)
        except KeyError:
            return each(labels)

    return picked


@lru_cache(maxsize=16)  # the metrics of one look have the same, one after the other
def _where(names: tuple[str, ...], values: tuple[tuple[str, ...], ...]) -> str:
    return ",".join(any_of(name, {one[at] for one in values}).render() for at, name in enumerate(names))


def _expression(question: Question, dialect: Dialect) -> str:
    role, window = question
    matchers = [Matcher(label, "=", value) for label, value in sorted(window.labels.items())]
    if window.instances:
        matchers.append(any_instance(dialect.instance_label, window.instances))
    return role.expression.replace("$arm", ",".join(m.render() for m in matchers or [_ANYTHING]))


def _with_instance(series: Series, label: str) -> Series:
    """Call the instance `instance`, whatever label names it here."""
    if label == INSTANCE or label not in series.labels:
        return series
    labels: Mapping[str, str] = {**series.labels, INSTANCE: series.labels[label]}
    return Series(labels, series.value)
