"""What is drawn of stored samples."""

import json
import math

from analysis.result import Kind
from watchdog.ports import CellKeys, RawSamples
from watchdog.summing import Summing, batched, by_columns


def test_a_native_histogram_is_drawn_at_the_bound_that_the_sentence_names() -> None:
    """The sentence says 0.04819; the bound has all digits of a root of two, and its neighbours are not meant."""
    bounds = [2 ** (k / 8) for k in (-36, -35, -34)]
    le: list[float | str | None] = [*bounds, "inf", *bounds, "inf"]
    keys = CellKeys(arm=["baseline"] * 4 + ["candidate"] * 4, replica=[], stratum=[], le=le)
    values = json.dumps([10.0, 30.0, 60.0, 100.0, 10.0, 20.0, 60.0, 100.0])
    sample = RawSamples(interval=0, metric="latency", keys=keys, value_json=values, total_json="[]")
    old, new = Summing(kind=Kind.LATENCY, bound=0.04819).both([sample])
    assert old == {0: (70.0, 100.0)}
    assert new == {0: (80.0, 100.0)}


def gauge(interval: int, *levels: float | str | None) -> RawSamples:
    """One level of each replica, the last of them of the new version."""
    return RawSamples(interval=interval, metric="queue", keys=THREE, value_json=json.dumps(levels), total_json="[]")


THREE = CellKeys(arm=["baseline", "baseline", "candidate"], replica=["a", "b", "c"], stratum=[], le=[])


def test_a_level_that_was_not_told_or_is_infinite_is_left_out() -> None:
    """NaN is null in the ledger and an infinity a word; an arm without any level has no point there."""
    old, new = Summing(kind=Kind.GAUGE).both([gauge(0, 3.0, None, 5.0), gauge(1, "inf", 4.0, None)])
    assert old == {0: (3.0, 1.0), 1: (4.0, 1.0)}
    assert new == {0: (5.0, 1.0)}


def test_intervals_are_summed_together_as_they_are_one_by_one() -> None:
    """Counts with and without what they are counted of; a total that is unknown adds nothing."""
    keys = CellKeys(arm=THREE.arm, replica=THREE.replica, stratum=[], le=[])
    counts = [(0, [1.0, 2.0, 9.0], [10.0, None, 30.0]), (1, [0.0, 0.0, 4.0], [20.0, 20.0, 5.0])]
    samples = [
        RawSamples(interval=i, metric="errors", keys=keys, value_json=json.dumps(v), total_json=json.dumps(t))
        for i, v, t in counts
    ]
    old, new = Summing(kind=Kind.RATIO).both(samples)
    assert (old, new) == ({0: (3.0, 10.0), 1: (0.0, 40.0)}, {0: (9.0, 30.0), 1: (4.0, 5.0)})
    for sample in samples:
        alone = Summing(kind=Kind.RATIO).both([sample])
        assert alone == ({sample.interval: old[sample.interval]}, {sample.interval: new[sample.interval]})
    bare = [sample._replace(total_json="[]") for sample in samples]
    assert Summing(kind=Kind.RATE).both(bare)[0] == {0: (3.0, 0.0), 1: (0.0, 0.0)}


def test_samples_are_put_together_by_metric_and_columns_and_none_is_lost() -> None:
    """A replica more begins new columns; batches keep the order and the rest."""
    other = CellKeys(arm=["candidate"], replica=["c"], stratum=[], le=[])
    samples = [gauge(0, 1.0, 2.0, 3.0), gauge(1, 1.0, 2.0, math.nan)._replace(keys=other), gauge(2, 1.0, 2.0, 3.0)]
    assert [[s.interval for s in alike] for _, alike in by_columns(samples)] == [[0, 2], [1]]
    assert [[s.interval for s in part] for part in batched(samples, 2)] == [[0, 1], [2]]
