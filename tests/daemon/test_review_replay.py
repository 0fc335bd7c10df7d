"""Verdicts judged again from what is stored: identical with the same settings, another answer with others."""

import json
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import create_engine, text

from analysis import review
from analysis.cases import read_cases
from notebooks.simulated_ledger import SERVICES, simulate
from tests.reviewed import bad_canary, replayed_otherwise
from watchdog.app import read_ledger
from watchdog.cli import command_line
from watchdog.quality import report

pytestmark = pytest.mark.xdist_group("review")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bad_canary(str(tmp_path_factory.mktemp("replay") / "watchdog.db"))


@pytest.fixture(scope="module")
def exported(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "cases"
    assert command_line(["export", "--ledger", str(simulated), "--out", str(folder)]) == 0
    return folder


def test_the_last_verdict_replays_to_the_same_words(address: str) -> None:
    """The judge, called again with what the ledger holds, says the same, to the last bit."""
    ledger = review.open(address)
    said, again = ledger.verdicts.iloc[-1], review.replay(ledger, "d1")
    assert (again.kind.value, again.reason, again.sentence) == (said["verdict"], said["reason"], said["sentence"])
    assert again.log_evidence == said["log_evidence"]


def test_every_verdict_of_every_look_replays_bit_for_bit(address: str, simulated: Path) -> None:
    """Not only the last one: all that any deploy of several services and strategies left behind."""
    for place in (address, simulated):
        found = review.recompute(review.open(place))
        assert len(found) > 1
        assert found[~found["bit_for_bit"]].empty
    assert set(found["verdict"]) == {"HEALTHY", "DEGRADED", "INCONCLUSIVE"}


@pytest.mark.spoils_its_ledger
def test_a_verdict_that_was_tampered_with_is_found(simulated: Path, tmp_path: Path) -> None:
    """The comparison would notice: one changed sentence, and one changed number, are told apart from the rest."""
    copy = tmp_path / "watchdog.db"
    copy.write_bytes(simulated.read_bytes())
    changes = ("sentence = 'all is well'", "log_evidence = log_evidence + 1e-6", "log_evidence = log_evidence + 1e-11")
    with create_engine(f"sqlite:///{copy}").begin() as connection:
        for look, change in enumerate(changes):
            connection.execute(text(f"UPDATE verdicts SET {change} WHERE watch_id = 'mail-1' AND look = {look}"))
    found = review.recompute(review.open(copy).select("mail-1")).loc["mail-1"]
    assert found.index[~found["same"]].tolist() == [0, 1]
    assert found.index[~found["bit_for_bit"]].tolist() == [0, 1, 2]
    told = replayed_otherwise(tmp_path)
    assert [line.partition(": ")[0] for line in told] == [f"watchdog.db, ('mail-1', {look})" for look in (0, 1)]


def test_other_settings_give_another_verdict(address: str) -> None:
    """With hardly any budget, or a margin as large as the effect, the same evidence would not have done."""
    ledger = review.open(address)
    assert review.replay(ledger, "d1").kind == "DEGRADED"
    assert review.replay(ledger, "d1", budget=1e-12).kind != "DEGRADED"
    assert review.replay(ledger, "d1", metrics={"errors": {"margin": 9.0}}).kind != "DEGRADED"
    assert review.replay(ledger, "d1", look=0).look == 0


def test_what_is_no_setting_is_refused(address: str) -> None:
    """A misspelt knob does not silently change nothing."""
    ledger = review.open(address)
    with pytest.raises(TypeError, match="'bugdet' is no judge setting"):
        review.replay(ledger, "d1", bugdet=0.1)
    with pytest.raises(KeyError, match="there is no metric 'error'; known are errors"):
        review.replay(ledger, "d1", metrics={"error": {"margin": 0.1}})


def test_what_if_with_the_same_settings_is_what_was(simulated: Path) -> None:
    """And with next to no budget no alarm is left; rollbacks of the real watch are marked as cut short."""
    ledger = review.open(simulated)
    assert len(ledger.deploys) == 2 * len(SERVICES)
    same = review.what_if(ledger)
    assert (same["verdict"] == same["was"]).all()
    cautious = review.what_if(ledger, budget=1e-40)
    metrics = same["reason"] == "METRICS"
    assert metrics.any()
    assert not (cautious["reason"] == "METRICS").any()
    assert cautious.loc[metrics & (ledger.deploys["state"] == "ROLLED_BACK"), "cut_short"].all()


def test_an_exported_ledger_is_judged_to_the_same_verdicts(simulated: Path, exported: Path, tmp_path: Path) -> None:
    """`export`, then `backtest`: word, reason, metric and sentence of every deploy's last verdict."""
    out = tmp_path / "out.jsonl"
    assert command_line(["backtest", "--cases", str(exported), "--json", str(out), "--workers", "1"]) == 0
    judged = pd.read_json(out, lines=True).set_index("id")
    said = review.open(simulated).verdicts.groupby(level="deploy").tail(1).droplevel("look")
    assert sorted(judged.index) == sorted(said.index)
    columns = ["verdict", "reason", "metric", "sentence"]
    pd.testing.assert_frame_equal(
        judged.loc[said.index, columns].astype(object).where(lambda f: f.notna(), None),
        said[columns].astype(object).where(lambda f: f.notna(), None),
        check_names=False, check_column_type=False,
    )  # fmt: skip


def test_exported_cases_hold_what_the_judge_knew_to_the_last_bit(simulated: Path, exported: Path) -> None:
    """Every sample, fact and setting comes back as it was; a replay over the cases says the same."""
    ledger, cases = review.open(simulated), review.open(exported)
    read = {case.id: case.observation() for case in read_cases(exported)}
    for name, said in ledger.verdicts.groupby(level="deploy").tail(1).reset_index("look").iterrows():
        known = ledger.stored(str(name))
        assert cases.stored(str(name)).settings == known.settings
        assert read[str(name)].metrics == known.observation.metrics
        assert {i: f for i, f in known.observation.facts.items() if i <= said["look"]} == read[str(name)].facts
        again = review.replay(cases, str(name))
        assert (again.sentence, again.log_evidence) == (said["sentence"], said["log_evidence"])


def test_labels_become_the_truth_of_exported_cases(simulated: Path, exported: Path) -> None:
    """`backtest` scores against what analysts said."""
    described = {case["id"]: case for case in json.loads((exported / "cases.json").read_text())}
    deploys = review.open(simulated).deploys.join(review.open(simulated).labels["label"])
    bad = (deploys["label"] == "missed") | ((deploys["label"] == "right") & (deploys["verdict"] == "DEGRADED"))
    assert {name: case["kind"] for name, case in described.items()} == bad.map({True: "fault", False: "AA"}).to_dict()
    assert review.open(exported).deploys["truth"].eq("fault").sum() == bad.sum()


def test_export_takes_some_deploys_and_never_writes_over_anything(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By id or service; a folder that has something in it, and an id that is not there, are refused."""
    made = ["export", "--ledger", address, "--out", str(tmp_path / "new"), "--json"]
    assert command_line([*made, "--deploy", "d1", "--service", "shop"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"] == 1
    assert command_line(made) == 4
    assert "is not empty; name a new or an empty folder" in capsys.readouterr().err
    assert command_line(["export", "--ledger", address, "--out", str(tmp_path / "x"), "--deploy", "d9"]) == 4
    assert "no deploy 'd9'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_export_refuses_a_service_without_a_deploy_and_leaves_no_folder(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped name is no record of nothing."""
    made = ["export", "--ledger", address, "--out", str(tmp_path / "new"), "--service"]
    assert command_line([*made, "shpo"]) == 4
    assert capsys.readouterr().err == "error: no deploy of 'shpo' is on record\n"
    assert not (tmp_path / "new").exists()
    assert command_line([*made, "shop"]) == 0
    assert capsys.readouterr().out.startswith(f"1 deploy written to {tmp_path / 'new'}; ")


def test_the_simulations_labels_give_the_quality_that_the_daemon_reports(simulated: Path) -> None:
    """What notebooks count from the frames is what `quality` counts from the tables."""
    opened = read_ledger(simulated)
    found = report(opened.tallies())["all"]
    opened.close()
    ledger = review.open(simulated)
    assert found["healthy"] == len(review.healthy(ledger)) > 0
    assert found["labelled"] == len(ledger.labels) == 2 * len(SERVICES)
    assert found["missed"] == (ledger.labels["label"] == "missed").sum()


def test_the_same_seed_gives_the_same_ledger(tmp_path: Path) -> None:
    """Simulated deploys are reproducible, and a ledger that is there is not written over."""
    made = [
        review.open(_small(tmp_path / f"{name}.db", seed)).verdicts for name, seed in (("a", 4), ("b", 4), ("c", 5))
    ]
    pd.testing.assert_frame_equal(made[0], made[1])
    assert not made[0]["log_evidence"].equals(made[2]["log_evidence"])
    with pytest.raises(FileExistsError):
        _small(tmp_path / "a.db", 4)


def _small(path: Path, seed: int) -> Path:
    simulate(path, rounds=1, seed=seed, services=["profile"])
    return path
