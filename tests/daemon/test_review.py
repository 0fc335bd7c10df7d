"""What analysts see: ledgers and cases as frames, without a lock, in the columns that are documented."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from analysis import review
from analysis.cases import Recording, write_cases
from analysis.prepare import Cells, Observation
from analysis.result import Design, JudgeSettings, Kind, MetricSpec
from analysis.review.ledger import slow_bound
from analysis.review.nouns import number
from analysis.review.stored_ledger import StoredLedger
from tests.fakes import FakeClock
from tests.reviewed import bad_canary
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.ledger import open_ledger
from watchdog.model import AuditEntry, Label, LabelKind

mpl.use("agg")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bad_canary(str(tmp_path_factory.mktemp("review") / "watchdog.db"))


@pytest.fixture(scope="module")
def ledger(address: str) -> review.Ledger:
    return review.open(f"sqlite:///{address}")


def test_a_deploy_is_one_row_with_its_story(ledger: review.Ledger) -> None:
    """State, verdict, times and blast radius stand in one row."""
    row = ledger.deploys.loc["d1"]
    assert (row["state"], row["verdict"], row["metric"]) == ("ROLLED_BACK", "DEGRADED", "errors")
    assert 0 < row["degraded_after_s"] <= row["recovered_after_s"]
    assert 0 < row["affected_requests"] < row["exposed_requests"] < row["total_requests"]
    assert row["deployed_at"] == pd.Timestamp(DEPLOYED_AT, unit="s", tz="UTC")


@pytest.mark.parametrize("name", sorted(review.COLUMNS))
def test_every_frame_has_the_documented_columns(ledger: review.Ledger, name: str) -> None:
    """No column without a line in the documentation, and none that is documented and missing."""
    assert list(getattr(ledger, name).columns) == list(review.COLUMNS[name])


@pytest.mark.parametrize("name", sorted(review.COLUMNS))
def test_a_frame_without_rows_has_its_columns_too(ledger: review.Ledger, name: str) -> None:
    """A notebook over a new ledger shows empty tables, not errors."""
    none = getattr(ledger.select([]), name)
    assert (len(none), list(none.columns)) == (0, list(review.COLUMNS[name]))


def test_samples_are_what_was_stored(ledger: review.Ledger) -> None:
    """Values come back per arm and interval, and their sums agree with the blast radius."""
    candidate = ledger.samples.query("arm == 'candidate' and interval >= 0")
    assert candidate["total"].sum() == ledger.deploys.loc["d1", "exposed_requests"]
    assert candidate["le"].isna().all()
    assert (candidate["at_s"] == (candidate["interval"] + 1) * 5.0).all()


def test_levels_show_the_difference(ledger: review.Ledger) -> None:
    """The candidate's bad share lies above the baseline's, as it was simulated."""
    levels = ledger.levels("d1", "errors")
    assert np.nanmean(levels["candidate"]) == pytest.approx(0.06, abs=0.03)
    assert np.nanmean(levels["baseline"]) == pytest.approx(0.008, abs=0.004)


def test_evidence_and_paths_end_where_the_verdict_stood(ledger: review.Ledger) -> None:
    """The path's last point is the evidence of the last verdict, and it has one row per look."""
    paths, said = ledger.paths("d1"), ledger.verdicts.droplevel("deploy")
    assert paths["errors"].iloc[-1] == ledger.evidence["log_evidence"].iloc[0]
    assert said.index.tolist() == list(range(len(paths)))


def test_actions_and_audit_tell_who_did_what(ledger: review.Ledger) -> None:
    """The rollback is there with its fence, and the audit ends with the state the watch ended in."""
    assert ledger.actions[["deploy", "kind", "state", "fence"]].to_numpy().tolist() == [
        ["d1", "rollback", "APPLIED", 1]
    ]
    assert "ROLLED_BACK" in ledger.audit["after"].tolist()


def test_selecting_restricts_every_frame(address: str) -> None:
    """An id, ids or rows of deploys; what is not selected is in no frame."""
    ledger = review.open(address)
    chosen = ledger.select(ledger.deploys.query("service == 'shop'"))
    assert len(chosen.verdicts) == len(ledger.verdicts) > 0
    assert len(ledger.select("other").verdicts) == 0
    assert repr(chosen) == "<ledger of 1 deploys>"


def test_several_ledgers_are_read_as_one_and_no_deploy_twice(tmp_path: Path, address: str) -> None:
    """A folder stands for the ledgers in it; an id that two of them have is refused by name."""
    (tmp_path / "one").mkdir()
    copy = tmp_path / "one" / "watchdog.db"
    copy.write_bytes(Path(address).read_bytes())
    both = review.open(address, tmp_path)
    with pytest.raises(ValueError, match="'d1' is in two"):
        _ = both.deploys
    assert review.open(tmp_path).deploys.index.tolist() == ["d1"]
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "other.db").touch()
    with pytest.raises(FileNotFoundError, match="neither"):
        review.open(tmp_path / "none")
    with pytest.raises(ValueError, match="is no ledger of this version"):
        review.open(tmp_path / "none" / "other.db")


def test_labels_are_seen_as_soon_as_they_are_given(tmp_path: Path, address: str) -> None:
    """The daemon holds the ledger and writes; the notebook reads on, and sees what is new."""
    copy = tmp_path / "watchdog.db"
    copy.write_bytes(Path(address).read_bytes())
    clock = FakeClock(DEPLOYED_AT)
    daemon = open_ledger(copy, clock=clock, owner="me", sinks_for=lambda service: ())
    ledger = review.open(copy)
    assert len(ledger.labels) == 0
    label = Label(watch_id="d1", kind=LabelKind.RIGHT, note="seen", actor="ann", at=clock.now())
    daemon.set_label(label, AuditEntry(at=clock.now(), watch_id="d1", actor="ann", event="operator.label"))
    assert ledger.labels[["label", "actor"]].to_numpy().tolist() == [["right", "ann"]]
    daemon.close()


def test_a_reader_in_the_middle_of_a_question_does_not_hold_up_the_daemon(tmp_path: Path, address: str) -> None:
    """The daemon commits while a notebook's rows are still being fetched."""
    copy = tmp_path / "watchdog.db"
    copy.write_bytes(Path(address).read_bytes())
    daemon = open_ledger(copy, clock=FakeClock(DEPLOYED_AT), owner="me", sinks_for=lambda service: ())
    with StoredLedger(str(copy)).database.engine.connect() as reader:
        rows = reader.execute(text("SELECT * FROM samples"))
        assert rows.fetchone() is not None
        daemon.append_audit(AuditEntry(at=DEPLOYED_AT, watch_id="d1", actor="me", event="noted"))
    daemon.close()
    assert "noted" in review.open(copy).audit["event"].tolist()


def test_reading_cannot_write(address: str) -> None:
    """A notebook cannot change what happened."""
    with pytest.raises(OperationalError, match="readonly"):
        list(StoredLedger(address).database.rows("DELETE FROM verdicts"))


def test_a_missing_ledger_is_not_created(tmp_path: Path) -> None:
    """A wrong path is told as such, and so is no path at all."""
    with pytest.raises(FileNotFoundError, match="no ledger at"):
        review.open(tmp_path / "none.db")
    with pytest.raises(TypeError, match="name at least one"):
        review.open()


def test_what_is_unknown_is_told_as_such(ledger: review.Ledger) -> None:
    """A wrong deploy and a wrong metric are named."""
    with pytest.raises(KeyError, match="nothing of 'd9'"):
        ledger.stored("d9")
    with pytest.raises(KeyError, match="no metric 'cpu'; it has errors"):
        ledger.levels("d1", "cpu")


def test_plots_show_arms_threshold_and_moments(ledger: review.Ledger) -> None:
    """Both arms, the budget's threshold and the marked moments are in the drawings, and the sentence above them."""
    figure = review.plot_verdict(ledger, "d1")
    above, below = figure.axes
    assert {"baseline", "candidate"} <= {str(line.get_label()) for line in above.get_lines()}
    assert [label.get_text() for label in above.texts] == ["deploy and onset", "verdict", "recovered"]
    threshold = next(line for line in below.get_lines() if str(line.get_label()).startswith("needed"))
    assert math.isclose(float(np.asarray(threshold.get_ydata())[0]), 100.0)
    assert "shop v2: DEGRADED, ROLLED_BACK" in figure.get_suptitle()


def test_a_deploy_that_was_never_looked_at_is_shown_empty(tmp_path: Path) -> None:
    """Just announced, or ended by its smoke test: no sample, no verdict, and no error."""
    opened = open_ledger(tmp_path / "w.db", clock=FakeClock(DEPLOYED_AT), owner="me", sinks_for=lambda service: ())
    opened.record_deploy(a_watch(), [], [])
    opened.close()
    ledger = review.open(tmp_path / "w.db")
    assert "shop v2: no verdict, WATCHING" in review.plot_verdict(ledger, "d1").get_suptitle()
    assert len(review.recompute(ledger)) == 0
    assert review.replay(ledger, "d1").reason == "NO_DATA"
    assert review.what_if(ledger)["verdict"].tolist() == ["INCONCLUSIVE"]


def test_calibration_counts_what_the_labels_call_healthy(ledger: review.Ledger) -> None:
    """A ledger without labels has no healthy deploys, and the plot of it is empty and no error."""
    found = review.calibration(ledger)
    assert found["healthy"].tolist() == [0] * len(found)
    assert review.plot_calibration(found).get_title(loc="left") == "0 healthy deploys"


def test_slow_requests_are_those_beyond_the_old_versions_90th_percentile() -> None:
    """The bound just above nine tenths of the baseline's requests; without a histogram there is none."""
    cells = pd.DataFrame({"arm": "baseline", "le": [0.1, 0.5, math.inf], "value": [80.0, 95.0, 100.0]})
    assert slow_bound(cells) == 0.5
    assert slow_bound(cells[cells["le"] == 0.1]) == math.inf


def test_labels_are_drawn_as_the_share_that_the_candidate_alone_shows(tmp_path: Path) -> None:
    """Codes that the old version shows too are left out; the total of all codes counts once."""
    codes = [("baseline", "500", 9.0, 100.0), ("candidate", "500", 1.0, 10.0), ("candidate", "507", 2.0, 10.0)]
    cells = Cells(*map(tuple, zip(*((arm, "r", code, math.nan, v, n) for arm, code, v, n in codes), strict=True)))
    spec = MetricSpec(name="codes", kind=Kind.LABELS)
    seen = Observation(
        design=Design.CONCURRENT, step_s=5.0, metrics=(spec,), samples={("codes", 0): cells}, looks=1, share=0.1
    )
    write_cases(tmp_path / "cases", [Recording(id="c", observation=seen, settings=JudgeSettings())])
    levels = review.open(tmp_path / "cases").levels("c", "codes")
    assert levels.loc[5.0].to_dict() == {"baseline": 0.0, "candidate": 0.2}
    assert review.open(tmp_path / "cases").stored("c").observation.metrics == (spec,)
    lines = review.plot_evidence(review.open(tmp_path / "cases"), "c").get_lines()
    assert [str(line.get_label()) for line in lines[:2]] == ["codes", "needed: 100"]


def test_stored_numbers_come_back() -> None:
    """Null is NaN and infinities are words, as the ledger writes them."""
    assert math.isnan(number(None))
    assert [number(x) for x in json.loads('["inf", "-inf", 1]')] == [math.inf, -math.inf, 1.0]


def test_a_ledger_in_postgresql_reads_the_same(new_home: Callable[[str], str], address: str) -> None:
    """The same story through the other database."""
    place = bad_canary(new_home("postgresql"))
    there, here = review.open(place), review.open(address)
    pd.testing.assert_frame_equal(there.deploys, here.deploys)
    pd.testing.assert_frame_equal(there.samples, here.samples)
    assert review.recompute(there)["bit_for_bit"].all()
