"""Bugs that we plant ourselves, each found by the simulator's invariants; `make simulate BUGS=all` looks at length."""

import pytest

from tests.simulator.hunt import soon
from tests.simulator.planted import BUGS

FEWEST_BUGS = 20
OTHERS = 150  # seeds that are tried where those that showed a bug lately do not any more


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if bug.seeds])  # the rare ones: make simulate
def test_a_planted_bug_is_caught(name: str) -> None:
    """By an invariant that names what it breaks, not by chance."""
    found = soon(BUGS[name], others=OTHERS)
    assert found is not None, f"the simulator does not find the bug: {name}"


def test_there_are_bugs_of_every_kind() -> None:
    """Of the edge, of claims, of evidence, and of telling."""
    quick = [bug for bug in BUGS.values() if bug.seeds]
    assert len(quick) >= FEWEST_BUGS
    assert {broken for bug in quick for broken in bug.breaks} >= {"I1", *(f"I{number}" for number in range(3, 10))}
