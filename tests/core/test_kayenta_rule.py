"""The benchmark's Kayenta rule says what Kayenta says: its own vectors where they lie at hand, and cases of ours."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.peers import kayenta
from benchmarks.peers.kayenta import Classified, Label, MetricRule, Strategy, classify

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "kayenta_vectors.json"
RNG = np.random.default_rng(1)
CALM, HIGH = RNG.normal(10, 1, 40), RNG.normal(20, 1, 40)


def _vectors(suite: str) -> list[Any]:
    if not VECTORS.exists():
        reason = "the vectors lie beside the project (../shared/data/kayenta_vectors.json) and are not here"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id=suite)]
    found = json.loads(VECTORS.read_text())
    return [pytest.param(v, id=v["name"].split(": ", 1)[-1]) for v in found if v["name"].startswith(suite)]


def _classifier_vectors() -> list[Any]:
    found = _vectors("ClassifierSuite: Mann-Whitney")
    return [p for p in found if p.values[0] is None or p.values[0].get("expected_parsed")]


def _floats(values: list[Any] | None) -> np.ndarray:
    return np.array([math.nan if v is None or v == "NaN" else v for v in values or []], dtype=np.float64)


@pytest.mark.parametrize("vector", _classifier_vectors())
def test_classifier_vectors(vector: dict[str, Any]) -> None:
    """Every structured Mann-Whitney vector of Kayenta's classifier suite gets its label and criticality."""
    parsed = vector["config"]["parsed"]
    rule = MetricRule(
        direction=parsed["direction"].lower(),
        confidence=parsed["conf"],
        tolerance=parsed["tol"],
        measure=parsed.get("measure", "meanRatio"),
        allowed=tuple(parsed["eff"]) if "eff" in parsed else None,
        critical_effect=tuple(parsed["crit"]) if "crit" in parsed else None,
        critical=parsed.get("critical", False),
        nan=Strategy(parsed.get("nan", "Remove").lower()),
    )
    found = classify(_floats(vector["canary"]), _floats(vector["baseline"]), rule)
    assert found.label == vector["expected_parsed"]["classification"]
    if "critical" in vector["expected_parsed"]:
        assert found.critical == vector["expected_parsed"]["critical"]


@pytest.mark.parametrize("vector", _vectors("ScorerSuite"))
def test_scorer_vectors(vector: dict[str, Any]) -> None:
    """Every vector of the scorer suite gets its summary score."""
    results = [
        Classified(Label(m["classification"]), m["critical"], tuple(m["groups"])) for m in vector["config"]["metrics"]
    ]
    assert kayenta.score(results, vector["config"]["groupWeights"]) in vector["expected_parsed"]["summaryScore"]


@pytest.mark.parametrize("vector", _vectors("MannWhitneySuite"))
def test_mann_whitney_vectors_to_the_root_finders_tolerance(vector: dict[str, Any]) -> None:
    """Quantities that are roots agree to its absolute tolerance of 1e-4, the others as the vector says."""
    x, y = _floats(vector["canary"]), _floats(vector["baseline"])
    confidence = vector["config"]["confidenceLevel"]
    quantile = float(stats.norm.ppf(0.5 + confidence / 2))
    for wanted in vector["expected"]:
        ours, tolerance = _quantity(wanted["quantity"], x, y, confidence, quantile), wanted["tol"]
        if ours is not None:
            tolerance = max(tolerance, kayenta.ROOT_TOLERANCE) if _is_root(wanted["quantity"]) else tolerance
            assert ours == pytest.approx(wanted["value"], abs=tolerance), wanted["quantity"]


def _is_root(quantity: str) -> bool:
    return quantity.startswith(("result.", "ci", "estimate"))


def _quantity(name: str, x: np.ndarray, y: np.ndarray, confidence: float, quantile: float) -> float | None:
    if name == "zQuant":  # its level is not told
        return None
    if name.startswith("mannWhitney.wilcoxonDiff("):
        return kayenta.z_of_shift(float(name.removeprefix("mannWhitney.wilcoxonDiff(").partition(",")[0]), x, y)
    smallest, largest = float(x.min() - y.max()), float(x.max() - y.min())
    shift = kayenta.shift_interval(x, y, confidence)
    return {
        "muMin": smallest,
        "muMax": largest,
        "zqLower": quantile,
        "zqUpper": -quantile,
        "fLower1": kayenta.z_of_shift(smallest, x, y) - quantile,
        "fUpper1": kayenta.z_of_shift(largest, x, y) - quantile,
        "fLower2": kayenta.z_of_shift(smallest, x, y) + quantile,
        "fUpper2": kayenta.z_of_shift(largest, x, y) + quantile,
        "ciLower": shift.low,
        "ciUpper": shift.high,
        "estimate": shift.estimate,
        "result.confidenceInterval.head": shift.low,
        "result.confidenceInterval.last": shift.high,
        "result.estimate": shift.estimate,
    }[name]


@pytest.mark.parametrize(
    ("candidate", "baseline", "rule", "label"),
    [
        (HIGH, CALM, MetricRule(), Label.HIGH),
        (CALM, HIGH, MetricRule(), Label.LOW),
        (CALM, HIGH, MetricRule(direction="increase"), Label.PASS),
        (HIGH, CALM, MetricRule(allowed=(0.5, 3.0)), Label.PASS),
        (HIGH, CALM, MetricRule(measure="cles", allowed=(0.2, 0.8)), Label.HIGH),
        (CALM, CALM[::-1], MetricRule(), Label.PASS),
        (np.array([]), CALM, MetricRule(), Label.NODATA),
        (np.array([]), CALM, MetricRule(must_have_data=True), Label.NODATA_FAIL),
        (np.array([]), CALM, MetricRule(nan=Strategy.REPLACE), Label.PASS),
        (np.full(9, 2.0), np.full(9, 1.0), MetricRule(), Label.HIGH),
    ],
    ids=["high", "low", "not-asked", "small", "cles", "same", "empty", "must-have", "replaced", "constants"],
)
def test_metrics_are_classified(candidate: np.ndarray, baseline: np.ndarray, rule: MetricRule, label: Label) -> None:
    """Labels by direction, effect size, missing data and constants."""
    assert classify(candidate, baseline, rule).label == label


def test_a_tiny_shift_with_tiny_noise_is_high() -> None:
    """The tolerance is a part of the shift itself, not of the level: +0.1 % is a failure."""
    rng = np.random.default_rng(2)
    assert classify(100.1 + rng.normal(0, 0.01, 60), 100 + rng.normal(0, 0.01, 60), MetricRule()).label == Label.HIGH


def test_seven_bad_samples_of_ten_pass_and_eight_do_not() -> None:
    """Known trap: ten samples of 1 against seven or eight of 100 and the rest 1."""
    found = [classify(np.array([100.0] * bad + [1.0] * (10 - bad)), np.ones(10), MetricRule()).label for bad in (7, 8)]
    assert found == [Label.PASS, Label.HIGH]


def test_nan_and_outliers_are_removed_and_muted_metrics_do_not_count() -> None:
    """NaN and a far outlier are dropped on request, NaN is replaced on request, muted metrics are not scored."""
    spoilt = np.concatenate([CALM, [np.nan, 1e6]])
    assert len(kayenta.without_outliers(kayenta.without_nan(spoilt, Strategy.REMOVE), 3.0)) == len(CALM)
    assert kayenta.without_nan(spoilt, Strategy.REPLACE)[-2] == 0.0
    good, bad = (CALM, CALM, MetricRule(groups=("a",))), (HIGH, CALM, MetricRule(groups=("a",), muted=True))
    assert kayenta.judge([good, bad]) == ("Pass", 100.0)


def test_a_failing_critical_metric_or_missing_data_makes_the_score_zero() -> None:
    """Score 0 for a critical failure or half of the metrics without data, else the weighted groups."""
    good = Classified(Label.PASS, groups=("a",))
    assert kayenta.score([good, Classified(Label.HIGH, True, ("a",))], {}) == 0.0
    assert kayenta.score([good, Classified(Label.NODATA, False, ("a",))], {}) == 0.0
    assert kayenta.score([good, Classified(Label.HIGH, False, ("b",))], {"a": 75.0, "b": 25.0}) == 75.0


def test_peeking_finds_the_first_look_that_is_high() -> None:
    """No look before the one found is High when classified by itself."""
    candidate = np.concatenate([CALM[:8], HIGH[:32]])
    rule = MetricRule(direction="increase")
    look = kayenta.first_high(candidate, CALM, rule, range(5, 41))
    assert look is not None
    assert classify(candidate[:look], CALM[:look], rule).label == Label.HIGH
    assert all(classify(candidate[:n], CALM[:n], rule).label != Label.HIGH for n in range(5, look))


def test_three_samples_without_overlap_are_high() -> None:
    """The interval ends at the smallest difference where the test cannot reach its level: few samples, no caution."""
    rule = MetricRule(direction="increase")
    assert kayenta.first_high(np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0, 3.0]), rule, [3]) == 3
