"""Counters that are new or began anew in an interval: what they hold happened in it, or long before it.

A counter of a process that has just started holds what has happened since; one that has merely come into sight (a
Prometheus that was away, a target found late) holds its whole past. No series tells the two apart by itself, and an
instance's series must not be told apart one by one: a thousand good requests left out as past, and the seventeen bad
ones beside them counted, would be an error rate of 100 %. So an instance counts whole or is absent, in all that a
metric asks of it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from watchdog.sources.questions import INSTANCE, LE, Ask, Question, Series

BORN = "watchdog_born"  # label by which an answer tells these counters from those that went on
_Asked = tuple[Question, Sequence[Series]]
_Whose = tuple[str, str]  # arm, instance


@dataclass(slots=True)
class _Held:
    """Events of one instance in one interval, in the role that has the most of them."""

    went_on: float = 0.0
    born: float = 0.0


def settle_births(answers: Sequence[_Asked], *, births_per_s: float) -> list[_Asked]:
    """One metric's answers without the instances whose past came into sight, the rest as plain series."""
    if not any(BORN in one.labels for _, series in answers for one in series):
        return list(answers)
    unseen = _come_into_sight(answers, births_per_s)
    return [
        (question, [_plain(one) for one in series if _whose(question, one) not in unseen])
        for question, series in answers
    ]


def _come_into_sight(answers: Sequence[_Asked], births_per_s: float) -> set[_Whose]:
    """Where more is new than can have happened, and more than went on: a new status of a busy process is no past."""
    all_held: dict[_Whose, _Held] = defaultdict(_Held)
    most: dict[_Whose, float] = {}
    for question, series in answers:
        for whose, held in _in_one_role(question, series).items():
            mine = all_held[whose]
            mine.went_on, mine.born = max(mine.went_on, held.went_on), max(mine.born, held.born)
            most[whose] = births_per_s * (question.window.end - question.window.start)
    return {whose for whose, held in all_held.items() if held.born > max(most[whose], held.went_on)}


def _in_one_role(question: Question, series: Sequence[Series]) -> Mapping[_Whose, _Held]:
    found: dict[_Whose, _Held] = defaultdict(_Held)
    for one in series:
        if question.of.ask is Ask.BUCKETS and one.labels.get(LE) != "+Inf":
            continue  # they hold the same events again
        held = found[_whose(question, one)]
        if BORN in one.labels:
            held.born += one.value
        else:
            held.went_on += one.value
    return found


def _whose(question: Question, series: Series) -> _Whose:
    return question.window.arm, series.labels.get(INSTANCE, "")


def _plain(series: Series) -> Series:
    if BORN not in series.labels:
        return series
    labels: Mapping[str, str] = {name: value for name, value in series.labels.items() if name != BORN}
    return Series(labels, series.value)
