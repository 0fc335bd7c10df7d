"""Ten thousand mutated inputs for each piece that reads or writes others' words; `make fuzz` runs a million."""

import pytest

from tests.fuzz.run import TARGETS, fuzz

INPUTS = 10_000


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_reader_or_passes_for_genuine(name: str) -> None:
    """No traceback, no forgery believed, no text that becomes markup, a query or a mention."""
    assert fuzz(TARGETS[name], 1, INPUTS) == []
