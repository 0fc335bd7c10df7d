"""What is drawn of stored samples."""

import json

from analysis.result import Kind
from watchdog.ports import CellKeys, RawSamples
from watchdog.series import Summing


def test_a_native_histogram_is_drawn_at_the_bound_that_the_sentence_names() -> None:
    """The sentence says 0.04819; the bound has all digits of a root of two, and its neighbours are not meant."""
    bounds = [2 ** (k / 8) for k in (-36, -35, -34)]
    le: list[float | str | None] = [*bounds, "inf", *bounds, "inf"]
    keys = CellKeys(arm=["baseline"] * 4 + ["candidate"] * 4, replica=[], stratum=[], le=le)
    values = json.dumps([10.0, 30.0, 60.0, 100.0, 10.0, 20.0, 60.0, 100.0])
    sample = RawSamples(interval=0, metric="latency", keys=keys, value_json=values, total_json="[]")
    old, new = Summing(kind=Kind.LATENCY, bound=0.04819).both(sample)
    assert old == (70.0, 100.0)
    assert new == (80.0, 100.0)
