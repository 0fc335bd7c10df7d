"""What analysts see: a ledger as frames, its verdict replayed to the same words, the notebook over it."""

import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from analysis.prepare import Cells
from analysis.result import Arm
from analysis.review import Review, plot_arms, plot_evidence, replay
from tests.fakes import FakeClock, FakeHook, FakeSource, counts
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.action import ActionEdge
from watchdog.ledger import open_ledger
from watchdog.model import FINAL, MessageKind, Severity
from watchdog.pipeline import Pipeline
from watchdog.ports import LookRequest
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry
from watchdog.telling import message

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "01_review_a_verdict.ipynb"
mpl.use("agg")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger that a bad canary left, written by the daemon's own road."""
    path = tmp_path_factory.mktemp("review") / "watchdog.db"
    clock, hook = FakeClock(DEPLOYED_AT), FakeHook()
    opened = open_ledger(path, clock=clock, owner="me", sinks_for=lambda service: ("log",))
    watch = a_watch()
    opened.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
    road = Pipeline(
        ledger=opened,
        surroundings=Surroundings(ledger=opened),
        sources={"pages": FakeSource(lambda request: _samples(request, hook))},
        edge=ActionEdge(ledger=opened, hooks={"back": hook}, clock=clock, owner="me"),
        clock=clock,
        owner="me",
        telemetry=Telemetry(),
        submit=lambda job, key: job(),
    )
    for _ in range(300):
        clock.advance(1.0)
        road.tick()
        ended = opened.watch("d1")
        if ended is not None and ended.state in FINAL:
            break
    opened.close()
    return path


def _samples(request: LookRequest, hook: FakeHook) -> Mapping[str, Cells]:
    rng = np.random.default_rng(request.interval + 1000)
    rows = []
    for window in request.arms:
        if window.arm == Arm.CANDIDATE.value and hook.live == "v2":
            rows.append((window.arm, "v2-0", float(rng.binomial(150, 0.06)), 150.0))
        elif window.arm != Arm.CANDIDATE.value:
            rows += [(window.arm, f"v1-{i}", float(rng.binomial(450, 0.008)), 450.0) for i in range(3)]
    return {"errors": counts(rows)}


def test_a_deploy_is_one_row_with_its_story(ledger: Path) -> None:
    """State, verdict, times and blast radius stand in one row."""
    row = Review(ledger).deploys().loc["d1"]
    assert (row["state"], row["verdict"], row["metric"]) == ("ROLLED_BACK", "DEGRADED", "errors")
    assert 0 < row["degraded_after_s"] <= row["recovered_after_s"]
    assert 0 < row["affected_requests"] < row["exposed_requests"] < row["total_requests"]


def test_samples_are_what_was_stored(ledger: Path) -> None:
    """Values come back per arm and interval, and their sums agree with the blast radius."""
    review = Review(ledger)
    samples = review.samples("d1")
    candidate = samples[(samples["arm"] == "candidate") & (samples["interval"] >= 0)]
    assert candidate["total"].sum() == review.deploys().loc["d1", "exposed_requests"]
    assert samples["le"].isna().all()
    assert (samples["at_s"] == (samples["interval"] + 1) * 5.0).all()


def test_levels_show_the_difference(ledger: Path) -> None:
    """The candidate's bad share lies above the baseline's, as it was simulated."""
    levels = Review(ledger).levels("d1", "errors")
    assert levels["candidate"].mean() == pytest.approx(0.06, abs=0.03)
    assert levels["baseline"].mean() == pytest.approx(0.008, abs=0.004)


def test_the_last_verdict_replays_to_the_same_words(ledger: Path) -> None:
    """The judge, called again with what the ledger holds, says the same."""
    review = Review(ledger)
    stored = review.last_verdict("d1")
    again = replay(review, "d1", looks=stored["look"] + 1)
    assert (again.kind, again.reason, again.metric, again.look) == ("DEGRADED", "METRICS", "errors", stored["look"])
    assert again.sentence == stored["sentence"]
    assert again.log_evidence == pytest.approx(stored["log_evidence"], abs=1e-9)


def test_other_settings_give_another_verdict(ledger: Path) -> None:
    """Replaying answers what-if questions: with hardly any budget the same evidence would not have done."""
    review = Review(ledger)
    looks = review.last_verdict("d1")["look"] + 1
    assert replay(review, "d1", looks=looks, budget=1e-12).kind != "DEGRADED"


def test_evidence_and_paths_end_where_the_verdict_stood(ledger: Path) -> None:
    """The path's last point is the evidence of the last verdict, and one more row per look."""
    review = Review(ledger)
    paths, evidence = review.paths("d1"), review.evidence("d1")
    assert paths["errors"].iloc[-1] == evidence.loc["errors", "log_evidence"]
    assert len(paths) == review.last_verdict("d1")["look"] + 1
    assert list(review.verdicts("d1").index) == sorted(set(review.verdicts("d1").index))


def test_actions_and_audit_tell_who_did_what(ledger: Path) -> None:
    """The rollback is there with its fence, and the audit ends with the state the watch ended in."""
    review = Review(ledger)
    assert review.actions("d1")[["kind", "state"]].to_numpy().tolist() == [["rollback", "APPLIED"]]
    assert "ROLLED_BACK" in review.audit("d1")["after"].tolist()


def test_plots_show_arms_threshold_and_moments(ledger: Path) -> None:
    """Both arms, the budget's threshold and the marked moments are in the drawings."""
    review = Review(ledger)
    arms, evidence = plot_arms(review, "d1", "errors"), plot_evidence(review, "d1")
    assert {"baseline", "candidate"} <= {str(line.get_label()) for line in arms.get_lines()}
    assert [label.get_text() for label in arms.texts] == ["deploy", "degraded", "recovered"]
    threshold = next(line for line in evidence.get_lines() if line.get_label() == "the budget's threshold")
    stored = review.last_verdict("d1")["log_threshold"]
    assert math.isclose(float(np.asarray(threshold.get_ydata())[0]), stored)


def test_reading_cannot_write(ledger: Path) -> None:
    """A notebook cannot change what happened."""
    with pytest.raises(OperationalError, match="readonly"):
        Review(ledger).rows("DELETE FROM verdicts")


def test_a_missing_ledger_is_not_created(tmp_path: Path) -> None:
    """A wrong path is told as such."""
    with pytest.raises(FileNotFoundError, match="no ledger at"):
        Review(tmp_path / "none.db")


def test_an_unknown_deploy_is_told_as_such(ledger: Path) -> None:
    """A wrong id is named."""
    with pytest.raises(KeyError, match="nothing of 'd9'"):
        Review(ledger).plan("d9")


def test_the_notebook_is_stored_without_outputs() -> None:
    """Prose first, no outputs, a kernel named, cells short enough to read."""
    content = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(content)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    prose = [cell for cell in content.cells if cell.cell_type == "markdown"]
    assert content.cells[0].cell_type == "markdown"
    assert content.metadata["kernelspec"]["name"] == "python3"
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []
    assert max(len(cell.source.splitlines()) for cell in code) <= 30
    assert sum(len(cell.source) for cell in prose) > sum(len(cell.source) for cell in code)


@pytest.mark.slow
def test_the_notebook_runs(ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, over a ledger that the daemon's own road wrote; the replayed verdict is shown."""
    monkeypatch.setenv("DEPLOY_WATCHDOG_LEDGER", str(ledger))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    spec = importlib.util.spec_from_file_location("notebooks_execute", ROOT / "notebooks" / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    executed = json.loads(module.execute(NOTEBOOK, tmp_path).read_text())
    shown = "".join("".join(output.get("text", [])) for cell in executed["cells"] for output in cell.get("outputs", []))
    assert Review(ledger).last_verdict("d1")["sentence"] in shown
    assert any("image/png" in o.get("data", {}) for cell in executed["cells"] for o in cell.get("outputs", []))
