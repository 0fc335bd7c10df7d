"""Which inquiries become one request, and what may be believed of its answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.sources.inquiry import Inquiry, runs
from watchdog.sources.prometheus_answer import Moments, OtherMomentsError, QueryError, TooManySeriesError, read

THREE = Moments(1000, 500, 3)


def inquiry(text: str, start_ms: int, span_ms: int, *, alone: bool = False) -> Inquiry:
    return Inquiry(text=text, start_ms=start_ms, end_ms=start_ms + span_ms, alone=alone)


def matrix(*series: list[list[Any]]) -> bytes:
    result = [{"metric": {"instance": str(at)}, "values": values} for at, values in enumerate(series)]
    return json.dumps({"data": {"resultType": "matrix", "result": result}}).encode()


INQUIRIES = st.builds(
    inquiry, st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 3), alone=st.sampled_from([False, False, True])
)


@given(st.lists(INQUIRIES, max_size=30), st.integers(1, 5))
def test_every_inquiry_is_made_once_at_its_own_end(asked: list[Inquiry], most: int) -> None:
    """Whatever overlaps, repeats or is missing: each run evaluates its inquiries' text at their very ends."""
    found = runs(asked, most_moments=most)
    assert sorted(position for run in found for position in run.positions) == list(range(len(asked)))
    for run in found:
        assert run.moments.count == len(run.positions) <= (1 if run.inquiry.alone else most)
        for place, position in enumerate(run.positions):
            assert asked[position].kin == run.inquiry.kin
            assert asked[position].end_ms == run.moments.first_ms + place * run.moments.step_ms


def test_intervals_in_a_row_are_one_run_each_kind_for_itself() -> None:
    """Two watches whose intervals lie between each other's are two runs; another length or a hole is another run."""
    rows = [inquiry("a", start, 10) for start in (0, 3, 10, 13, 20, 23)]
    assert sorted(run.positions for run in runs(rows)) == [(0, 2, 4), (1, 3, 5)]
    others = [inquiry("a", 0, 10), inquiry("b", 10, 10), inquiry("a", 10, 5), inquiry("a", 20, 10)]
    assert sorted(run.positions for run in runs(others)) == [(0,), (1,), (2,), (3,)]


def test_pieces_cover_all_moments() -> None:
    """In order, none twice."""
    assert THREE.pieces(2) == [Moments(1000, 500, 2), Moments(2000, 500, 1)]
    assert THREE.last_ms == 2000


def test_a_missing_point_is_a_series_that_was_not_there() -> None:
    """Absent, not zero; a value that is no number is told as such, for whoever adds up must leave its place out."""
    answers = read(matrix([[1, "5"], [2, "7"]], [[1.5, "NaN"], [2, "0"]]), THREE, max_series=2)
    assert [[(s.labels["instance"], str(s.value)) for s in a.series] for a in answers] == [
        [("0", "5.0")],
        [("1", "nan")],
        [("0", "7.0"), ("1", "0.0")],
    ]


def test_series_are_counted_at_each_moment() -> None:
    """Replicas that follow each other are not many at any time."""
    one_after_another = matrix([[1, "1"]], [[1.5, "1"]], [[2, "1"]])
    assert [len(answer.series) for answer in read(one_after_another, THREE, max_series=1)] == [1, 1, 1]
    with pytest.raises(TooManySeriesError, match="2 series, more than 1"):
        read(matrix([[1, "1"]], [[1, "1"]]), THREE, max_series=1)


@pytest.mark.parametrize("at_s", [0.5, 2.5, 1.25, 1.499, -1e300])
def test_other_moments_are_no_answer(at_s: float) -> None:
    """Before, after and between the moments asked for."""
    with pytest.raises(OtherMomentsError):
        read(matrix([[1, "1"], [at_s, "1"]]), THREE, max_series=9)


@pytest.mark.parametrize("point", [["x", "1"], [1], [1, "many"], [1, None], 5, ["Infinity", "1"], [None, "1"]])
def test_points_that_are_none_are_no_answer(point: Any) -> None:
    """One sentence, whatever stands in a point's place."""
    with pytest.raises(QueryError, match="not what a Prometheus says"):
        read(matrix([point]), THREE, max_series=9)


def test_an_endless_time_is_no_answer() -> None:
    """JSON can say 1e999."""
    with pytest.raises(QueryError, match="not what a Prometheus says"):
        read(matrix([[1, "1"]]).replace(b"[1, ", b"[1e999, "), THREE, max_series=9)
