"""Arrays that grow look by look are the arrays of all looks decoded anew, to the bit, or are refused."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from analysis.decode import Decoded, decode
from analysis.growing import Growing
from analysis.judge import judge_decoded
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Design, Direction, JudgeSettings, Kind, MetricSpec, SourceStatus

BOUNDS = (0.1, 0.5, float("inf"))
METRICS = (
    MetricSpec(name="errors", kind=Kind.RATIO, critical=True),
    MetricSpec(name="slow", kind=Kind.LATENCY),
    MetricSpec(name="orders", kind=Kind.RATE, direction=Direction.EITHER),
    MetricSpec(name="codes", kind=Kind.LABELS),
    MetricSpec(name="cpu", kind=Kind.GAUGE),
    MetricSpec(name="heap", kind=Kind.TREND),
)
OK, DOWN, PARTIAL = SourceStatus.OK, SourceStatus.DOWN, SourceStatus.PARTIAL


def cells_of(rng: np.random.Generator, interval: int, *, replicas: int = 2) -> Mapping[str, Cells]:
    """One interval as a source folds it; now and then a metric or an arm is missing."""
    old = "history" if interval < 0 else "baseline"
    places = [(old, f"a{i}") for i in range(replicas)]
    if interval >= 0 and rng.random() < 0.9:
        places.append(("candidate", "b0"))
    found: dict[str, Cells] = {}
    for spec in METRICS:
        if rng.random() < 0.1:
            continue
        rows: list[tuple[str, str, str, float, float, float]] = []
        for arm, replica in places:
            total = float(rng.poisson(300))
            if spec.kind is Kind.LATENCY:
                under = [*sorted(float(n) for n in rng.integers(0, int(total) + 1, len(BOUNDS) - 1)), total]
                rows += [(arm, replica, "", le, v, total) for le, v in zip(BOUNDS, under, strict=True)]
            elif spec.kind is Kind.LABELS:
                rows += [(arm, replica, "", np.nan, 0.0, total), (arm, replica, "E1", np.nan, 3.0, 0.0)]
            elif spec.kind in (Kind.GAUGE, Kind.TREND):
                rows.append((arm, replica, "", np.nan, float(rng.normal(5, 1)), np.nan))
            else:
                rows.append((arm, replica, "", np.nan, float(rng.binomial(int(total), 0.02)), total))
        found[spec.name] = Cells(*zip(*rows, strict=True))
    return found


def watched(cells: Mapping[int, Mapping[str, Cells]], facts: Mapping[int, LookFacts], looks: int) -> Observation:
    return Observation(
        design=Design.CONCURRENT,
        step_s=10.0,
        metrics=METRICS,
        samples={(name, i): c for i, own in cells.items() if i < looks for name, c in own.items()},
        facts={i: told for i, told in facts.items() if i < looks},
        looks=looks,
        share=0.3,
    )


def assert_same(grown: Decoded, anew: Decoded) -> None:
    assert (grown.looks, grown.facts, grown.share) == (anew.looks, anew.facts, anew.share)
    assert grown.usable.tobytes() == anew.usable.tobytes()
    for mine, theirs in zip(grown.metrics, anew.metrics, strict=True):
        assert (mine.spec, mine.strata, mine.first, list(mine.panels)) == (
            theirs.spec, theirs.strata, theirs.first, list(theirs.panels))  # fmt: skip
        assert mine.le.tobytes() == theirs.le.tobytes()
        for arm, panel in mine.panels.items():
            for name in ("value", "total"):
                a, b = getattr(panel, name), getattr(theirs.panels[arm], name)
                assert (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype), (mine.spec.name, arm, name)
                assert a.tobytes() == b.tobytes(), (mine.spec.name, arm, name)


@pytest.mark.parametrize("seed", range(6))
def test_grown_arrays_are_decoded_ones(seed: int) -> None:
    """Through outages, partial answers, warm-up, missing arms and metrics, and room that runs out; so are verdicts."""
    rng = np.random.default_rng(seed)
    warm_up, past = seed % 3, 5 * (seed % 2)
    cells = {i: cells_of(rng, i) for i in range(-past, 40)}
    facts = {i: LookFacts(status=(OK, OK, OK, OK, OK, DOWN, PARTIAL)[rng.integers(7)]) for i in range(40)}
    growing = Growing(watched(cells, facts, 1), warm_up_looks=warm_up)
    refused = 0
    for looks in range(2, 41):
        anew = decode(watched(cells, facts, looks), warm_up_looks=warm_up)
        if not growing.add(facts[looks - 1], cells[looks - 1]):
            refused += 1  # a metric or arm that was not there before
            growing = Growing(watched(cells, facts, looks), warm_up_looks=warm_up)
        grown = growing.decoded(share=0.3)
        assert growing.looks == looks
        assert_same(grown, anew)
        if looks % 13 == 0:
            settings = [JudgeSettings(planned_looks=40, warm_up_looks=warm_up)]
            assert repr(judge_decoded([grown], settings)) == repr(judge_decoded([anew], settings))
    assert refused < 10, "the ordinary is taken"


def test_what_was_given_away_does_not_grow() -> None:
    """Verdicts hold on to arrays; a later look must not show in them."""
    rng = np.random.default_rng(1)
    cells, facts = {i: cells_of(rng, i) for i in range(-5, 12)}, {i: LookFacts() for i in range(12)}
    growing = Growing(watched(cells, facts, 10))
    before = growing.decoded(share=0.3)
    kept = decode(watched(cells, facts, 10))
    growing.add(facts[10], cells[10])
    assert_same(before, kept)


def _changed(cells: Cells, **columns: tuple[object, ...]) -> Cells:
    return replace(cells, **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "odd",
    [
        {"replica": ("a0", "a9", "b0")},
        {"stratum": ("", "", "/new")},
        {"arm": ("baseline", "baseline", "nobody")},
        {"replica": ("a0", "a0", "b0")},
        {"value": (1.0, float("nan"), 1.0)},
        {"value": (1.0, -1.0, 1.0)},
        {"value": (1.0, 500.0, 1.0)},
        {"total": (100.0, float("nan"), 100.0)},
        {"total": (100.0,)},
        {"replica": ("a0",)},
    ],
)
def test_whatever_is_not_ordinary_is_refused(odd: dict[str, tuple[object, ...]]) -> None:
    """New names and numbers that cannot be are left to the decoder, which says what is wrong or makes room."""
    usual = Cells(("baseline", "baseline", "candidate"), ("a0", "a1", "b0"), ("",) * 3, (), (1.0,) * 3, (100.0,) * 3)
    facts = LookFacts()
    first = Observation(
        design=Design.CONCURRENT, step_s=1.0, metrics=METRICS[:1], samples={("errors", 0): usual}, looks=1
    )
    assert Growing(first).add(facts, {"errors": usual})
    assert not Growing(first).add(facts, {"errors": _changed(usual, **odd)})


def test_a_histogram_that_falls_or_lacks_its_end_is_refused() -> None:
    """The decoder says what is wrong with it."""
    good = Cells(("candidate",) * 3, ("b0",) * 3, ("",) * 3, BOUNDS, (1.0, 2.0, 9.0), (9.0,) * 3)
    first = Observation(
        design=Design.CONCURRENT, step_s=1.0, metrics=METRICS[1:2], samples={("slow", 0): good}, looks=1
    )
    assert Growing(first).add(LookFacts(), {"slow": good})
    assert not Growing(first).add(LookFacts(), {"slow": replace(good, value=(3.0, 2.0, 9.0))})
    short = Cells(("candidate",) * 2, ("b0",) * 2, ("",) * 2, BOUNDS[:2], (1.0, 2.0), (float("nan"),) * 2)
    assert not Growing(first).add(LookFacts(), {"slow": short})


@pytest.mark.parametrize("large", [2.0**24 + 1, 1e39, 0.1])
def test_numbers_that_need_their_whole_width_keep_it(large: float) -> None:
    """Counts are remembered in half the space, until one comes that would be another number there."""
    spec = MetricSpec(name="orders", kind=Kind.RATE, direction=Direction.EITHER)

    def of(value: float) -> Cells:
        return Cells(("baseline", "candidate"), ("a", "b"), ("", ""), (np.nan,) * 2, (value, 3.0), (2.0**20, 5.0))

    cells = {(spec.name, i): of(value) for i, value in enumerate((1.0, 2.0, large, 4.0))}
    whole = Observation(
        design=Design.CONCURRENT, step_s=10.0, metrics=(spec,), samples=cells, looks=4,
        facts={i: LookFacts() for i in range(4)},
    )  # fmt: skip
    growing = Growing(replace(whole, looks=2, samples={key: c for key, c in cells.items() if key[1] < 2}))
    assert growing.add(LookFacts(), {spec.name: of(large)})
    assert growing.add(LookFacts(), {spec.name: of(4.0)})
    found, expected = growing.decoded(share=None).metrics[0], decode(whole).metrics[0]
    for arm, panel in expected.panels.items():
        assert found.panels[arm].value.tobytes() == panel.value.tobytes()
        assert found.panels[arm].total.tobytes() == panel.total.tobytes()
