"""What is told beside a healthy verdict: changes worth knowing that are no reason to act."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.judge import judge
from analysis.result import Direction, JudgeSettings, VerdictKind
from analysis.simulate import ERRORS, GAUGE, ORDERS, Service, observe

SETTINGS = JudgeSettings(planned_looks=24)
SHOP = Service(looks=24, past=24, requests=20000, replicas=3, level=40.0, level_sd=1.0)


def _notes(service: Service, *metrics: object) -> tuple[str, ...]:
    (verdict,) = judge([observe(service, np.random.default_rng(3), metrics)], [SETTINGS])  # type: ignore[arg-type]
    assert verdict.kind is VerdictKind.HEALTHY
    return tuple(note for note in verdict.notes if note.startswith("worth knowing"))


def test_a_rate_that_rose_within_the_margin_is_told() -> None:
    """18 % more errors of many: below the margin of 25 %, and sure."""
    (note,) = _notes(replace(SHOP, requests=2_000_000, errors=0.01, factor=1.18), ERRORS)
    assert "errors" in note


def test_fewer_is_told_where_fewer_is_worse() -> None:
    """15 % fewer orders; more of them would be no news."""
    busy = replace(SHOP, requests=2_000_000, orders=0.05)
    assert len(_notes(replace(busy, lost=0.15), ERRORS, ORDERS)) == 1
    assert _notes(replace(busy, lost=-0.15), ERRORS, ORDERS) == ()


@pytest.mark.parametrize("direction", [Direction.UP_IS_BAD, Direction.DOWN_IS_BAD, Direction.EITHER])
def test_a_level_beyond_the_margin_is_told_though_single_replicas_may_differ_so(direction: Direction) -> None:
    """A few replicas on other machines may differ by so much: no proof, yet nobody should learn of it elsewhere."""
    moved = replace(SHOP, level_shift=-18.0 if direction is Direction.DOWN_IS_BAD else 18.0)
    (note,) = _notes(moved, ERRORS, replace(GAUGE, direction=direction))
    assert "cpu" in note
    assert "replicas of one version may differ" in note
    assert _notes(SHOP, ERRORS, GAUGE) == ()


def test_a_level_that_moved_the_good_way_is_no_news() -> None:
    """Nor is one that moved within the margin."""
    assert _notes(replace(SHOP, level_shift=-18.0), ERRORS, GAUGE) == ()
    assert _notes(replace(SHOP, level_shift=6.0), ERRORS, GAUGE) == ()
