"""Counters that are new: an instance counts whole or is absent, whatever is asked of it."""

import math
from collections.abc import Mapping

import pytest

from watchdog.ports import ArmWindow
from watchdog.selector import Selector
from watchdog.sources.births import BORN, settle_births
from watchdog.sources.questions import Ask, Question, Role, Series

SPAN_S, BIRTHS_PER_S = 10.0, 100.0  # at most 1 000 events of an interval
Answered = tuple[Question, list[Series]]


def asked(role: str, *series: Series, ask: Ask = Ask.COUNT, arm: str = "candidate") -> Answered:
    of = Role(metric="m", name=role, ask=ask, selector=Selector("x"))
    return Question(of, ArmWindow(arm=arm, start=0.0, end=SPAN_S)), list(series)


def went_on(value: float, instance: str = "a", **labels: str) -> Series:
    return Series({"instance": instance, **labels}, value)


def born(value: float, instance: str = "a", **labels: str) -> Series:
    return Series({"instance": instance, BORN: "yes", **labels}, value)


def settled(*answers: Answered) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    found = settle_births(answers, births_per_s=BIRTHS_PER_S)
    return {question.of.name: [(one.labels, one.value) for one in series] for question, series in found}


def test_without_new_counters_nothing_is_touched() -> None:
    """The usual look."""
    bad, total = asked("bad", went_on(1)), asked("total", went_on(5_000_000))
    assert settle_births([bad, total], births_per_s=BIRTHS_PER_S) == [bad, total]


def test_a_process_that_has_just_started_counts_whole() -> None:
    """All it holds can have happened in the interval."""
    found = settled(asked("bad", born(17)), asked("total", born(1_000)))
    assert found == {"bad": [({"instance": "a"}, 17)], "total": [({"instance": "a"}, 1_000)]}


def test_an_instance_whose_past_comes_into_sight_is_absent_in_all_roles() -> None:
    """The few errors could have happened now; the requests beside them cannot."""
    answers = asked("bad", born(17), born(2, "b")), asked("total", born(1_001), born(90, "b"))
    assert settled(*answers) == {"bad": [({"instance": "b"}, 2)], "total": [({"instance": "b"}, 90)]}


def test_one_arm_says_nothing_of_the_other() -> None:
    """An instance may be in both, where the versions share its counters."""
    answers = asked("total", born(5_000), arm="baseline"), asked("total", born(5))
    found = settle_births(answers, births_per_s=BIRTHS_PER_S)
    assert [[one.value for one in series] for _, series in found] == [[], [5]]


def test_the_first_errors_of_a_busy_instance_count_however_many() -> None:
    """A new status beside more requests that went on is no past that came into sight."""
    found = settled(asked("bad", born(2_000)), asked("total", went_on(3_000), born(2_000)))
    assert [value for _, value in found["bad"]] == [2_000]
    assert [value for _, value in found["total"]] == [3_000, 2_000]


def test_a_rare_status_that_went_on_does_not_vouch_for_the_rest() -> None:
    """A restart unseen: one counter had held as little before."""
    assert settled(asked("bad", went_on(15)), asked("total", went_on(15), born(40_000))) == {"bad": [], "total": []}


def test_of_a_histogram_only_all_observations_tell() -> None:
    """Its buckets hold the same events again and again, and the low ones fewer than could have happened."""
    low, high = {"le": "0.1"}, {"le": "+Inf"}
    fits = asked("histogram", born(900, **low), born(1_000, **high), ask=Ask.BUCKETS)
    assert [value for _, value in settled(fits)["histogram"]] == [900, 1_000]
    past = asked("histogram", born(900, **low), born(1_001, **high), ask=Ask.BUCKETS)
    assert settled(past) == {"histogram": []}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_left_to_the_fold(value: float) -> None:
    """It says itself that the place is unknown; here it only must not hide another's past."""
    found = settled(asked("total", born(value), born(5_000, "b"), went_on(value, "c")))
    assert "b" not in [labels["instance"] for labels, _ in found["total"]]
