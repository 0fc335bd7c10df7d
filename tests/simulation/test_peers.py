"""Peers side by side: the samples they get, what is made of what they say, and that none is missing in silence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.bench import PARTS, PROMISED, Bench
from benchmarks.peers import environment, inputs, rules
from benchmarks.peers.side_by_side import Figures, summarise


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    where = tmp_path_factory.mktemp("peers") / "inputs.npz"
    inputs.write(where, 3)
    with np.load(where) as arrays:
        return dict(arrays)


def test_peers_get_counts_and_levels_of_the_same_shape(given: dict[str, Any]) -> None:
    """Arrays of (watches, looks) for every case; the regression to be found is in them."""
    cases = {key.rsplit("/", 1)[0] for key in given}
    assert {f"delay/{name}" for name in inputs.DELAYS} <= cases
    for case in cases:
        assert {given[f"{case}/{key}"].shape for key in ("bad_c", "n_c", "bad_b", "n_b")} == {(3, 180)}
    rate = given["delay/1_to_2_percent_50_50/bad_c"].sum() / given["delay/1_to_2_percent_50_50/n_c"].sum()
    assert rate == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("case", "bound"),
    [("1_to_2_percent_50_50", 5.42), ("1_to_2_percent_5_95", 25.5), ("01_to_03_percent_50_50", 17.6)],
)
def test_walds_bound_is_ln_100_over_the_information_of_a_look(case: str, bound: float) -> None:
    """Three bounds known from elsewhere, in looks."""
    assert inputs.DELAYS[case].wald == pytest.approx(bound, rel=0.002)


@pytest.mark.parametrize("peer", ["scipy_mannwhitney", "kayenta"])
def test_rank_rules_find_a_doubled_rate_and_judge_levels(peer: str, given: dict[str, Any]) -> None:
    """Both rules that need no package alarm within 100 looks of a doubled error rate."""
    wanted = {k: v for k, v in given.items() if k.startswith(("delay/1_to_2_percent_50_50/", "aa/gauge_phi0/"))}
    told = rules.compare(rules.PEERS[peer], wanted, 3)
    assert all(0 < first < 100 for first in told["delay/1_to_2_percent_50_50"]["first"])
    assert all(told["delay/1_to_2_percent_50_50"]["one_look"])
    assert len(told["aa/gauge_phi0"]["first"]) == 3


def test_what_peers_say_becomes_shares_and_ratios() -> None:
    """First alarms of four watches, by hand."""
    told = {
        "aa/counts_1pct_50_50": {"first": [0, 7, 0, 0], "one_look": [False, False, False, False], "seconds": 2.0},
        "delay/1_to_2_percent_50_50": {"first": [5, 7, 6, 0], "one_look": None},
        "delay/late_onset": {"first": [100, 110, 20, 0], "one_look": None},
    }
    found = Figures()
    summarise("savvi", told, found)
    assert found.values["savvi_aa_false_alarm_counts_1pct_50_50"] == 0.25
    assert found.values["savvi_one_look_aa_false_alarm_counts_1pct_50_50"] == 0.0
    assert found.values["savvi_judge_metric_looks_per_s"] == 4 * 180 / 2.0
    assert found.values["savvi_wald_ratio_1_to_2_percent_50_50"] == pytest.approx(
        (5 + 7 + 6 + 180) / 4 / 5.42, rel=0.01
    )
    assert found.values["savvi_late_onset_delay_looks"] == pytest.approx((10 + 20 + 90) / 3)
    assert found.n["savvi_late_onset_delay_looks"] == 3  # an alarm before the onset is a false one
    assert found.values["savvi_found_late_onset"] == pytest.approx(2 / 3)
    assert (
        found.values["savvi_wald_ratio_1_to_2_percent_50_50_max"]
        > found.values["savvi_wald_ratio_1_to_2_percent_50_50"]
    )


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ("noise\n-- Could NOT find Boost (missing)\nERROR: Could not build wheels\n", "Could NOT find Boost (missing)"),
        ("ERROR: No matching distribution found for x==1\n", "No matching distribution found for x==1"),
        ("", "pip failed without a word"),
    ],
)
def test_the_reason_why_a_peer_is_missing_is_the_line_that_says_most(errors: str, said: str) -> None:
    """Of pip's many lines the one a reader needs."""
    assert environment.reason(errors) == said


def test_requirements_are_pinned_hashed_and_name_no_address() -> None:
    """One file per peer; whoever installs from it decides where from."""
    files = sorted(environment.REQUIREMENTS.glob("*.txt"))
    assert {file.stem for file in files} == {"confseq", "savvi", "scipy", "spotify_confidence"}
    for file in files:
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith(" ")]
        assert all("==" in line and line.endswith("\\") for line in lines)
        assert "://" not in file.read_text()


def test_a_part_that_breaks_or_was_not_asked_for_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The other parts' figures are kept and every promised figure that is absent is listed."""

    def broken(bench: Bench) -> None:
        raise RuntimeError("no such thing")

    def works(bench: Bench) -> None:
        bench.figures.add("late_onset_delay_looks", 12.0, 2000)

    monkeypatch.setattr("benchmarks.bench.PARTS", {**dict.fromkeys(PARTS, broken), "delays": works})
    bench = Bench(10, Console(quiet=True))
    bench.run(["speed", "delays"])
    written = bench.written()
    assert written["late_onset_delay_looks"] == 12.0
    assert written["n"] == {"late_onset_delay_looks": 2000}
    assert written["missing"]["speed"] == "RuntimeError: no such thing"
    assert written["missing"]["aa"] == "not asked for"
    assert set(PROMISED) - {"late_onset_delay_looks"} <= set(written["missing"])
