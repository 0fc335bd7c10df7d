"""The words: readable, rounded, never nan."""

import math

import pytest

from analysis import sentence
from analysis.result import Evidence, Kind, MetricSpec

ERRORS = MetricSpec(name="errors", kind=Kind.RATIO)


def _plain(text: str) -> str:
    return text.replace(sentence.THIN, " ")


def _evidence(**values: float) -> Evidence:
    given = {"log_evidence": 0.0, "log_threshold": math.log(100), **values}
    return Evidence(metric="errors", method="counts", **given)  # type: ignore[arg-type]


def test_a_comparison_reads_like_the_design() -> None:
    """Levels, ratio with its interval, amounts."""
    found = _evidence(
        candidate_level=0.009,
        baseline_level=0.00312,
        effect=2.88,
        effect_low=1.74,
        effect_high=4.81,
        n_candidate=4120,
        n_baseline=39800,
    )
    words = _plain(sentence.comparison(ERRORS, found))
    assert words == "errors 0.90 % vs 0.31 % (×2.9, 1.7–4.8; 4 120 vs 39 800 requests)"


def test_a_ratio_that_is_not_that_of_the_levels_says_why() -> None:
    """Over routes compared like for like, 10.6 % against 10.5 % may be ×1.2."""
    known = {"candidate_level": 0.106, "baseline_level": 0.105, "effect_low": 0.69, "effect_high": 1.9}
    found = _evidence(**known, effect=1.2, n_candidate=348, n_baseline=3347)
    words = _plain(sentence.comparison(ERRORS, found))
    assert words == "errors 10.6 % vs 10.5 % (×1.2 like for like, 0.69–1.9; 348 vs 3 347 requests)"
    same = _evidence(**known, effect=1.02, n_candidate=348, n_baseline=3347)
    assert "like for like" not in sentence.comparison(ERRORS, same)


def test_what_is_not_known_is_left_out() -> None:
    """No ratio without baseline errors, no levels without requests."""
    some = _evidence(candidate_level=0.5, baseline_level=0.0, effect_low=3.14, n_candidate=10, n_baseline=90)
    assert _plain(sentence.comparison(ERRORS, some)) == "errors 50.0 % vs 0 % (at least ×3.1; 10 vs 90 requests)"
    assert sentence.comparison(ERRORS, _evidence()) == "errors: no comparison yet"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "evidence 1.0 of 100"),
        (math.log(0.04), "evidence 0.040 of 100"),
        (math.log(61.2), "evidence 61 of 100"),
        (math.log(4100), "evidence 4 100 (100 is enough)"),
        (900.0, "evidence > 1 000 000 (100 is enough)"),
        (-900.0, "evidence < 0.001 of 100"),
        (-math.inf, "evidence < 0.001 of 100"),
    ],
)
def test_evidence_is_a_number_against_what_decides(value: float, words: str) -> None:
    """From next to nothing to astronomical."""
    assert _plain(sentence.evidence_of(value, math.log(100))) == words


def test_levels_carry_their_unit() -> None:
    """A gauge's difference is signed and has a unit."""
    spec = MetricSpec(name="cpu", kind=Kind.GAUGE, unit="%")
    found = _evidence(candidate_level=81.0, baseline_level=50.26, effect=30.6, effect_low=28.0, effect_high=33.0)
    shown = Evidence(**{**{f: getattr(found, f) for f in found.__slots__}, "effect_kind": "difference"})
    assert sentence.comparison(spec, shown) == "cpu 81.0 % vs 50.3 % (+31, +28 to +33)"
