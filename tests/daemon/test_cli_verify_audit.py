"""`verify-audit`: an edited, deleted or cut record is found, and told with an exit status."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.cli import command_line
from watchdog.ledger import open_ledger
from watchdog.model import AuditEntry


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Five rows of audit."""
    path = tmp_path / "w.db"
    opened = open_ledger(str(path), clock=FakeClock(), owner="me", sinks_for=lambda service: ())
    entries = [
        AuditEntry(at=DEPLOYED_AT + n, watch_id="d1", actor="ann", event=f"event.{n}", why="asked") for n in range(5)
    ]
    opened.record_deploy(a_watch(), [], entries)
    opened.close()
    return path


def edit(path: Path, *statements: str) -> None:
    """By somebody who has the file: the triggers that forbid it are the first to go."""
    with sqlite3.connect(path) as raw:
        for verb in ("update", "delete"):
            raw.execute(f"DROP TRIGGER IF EXISTS audit_no_{verb}")
        for statement in statements:
            raw.execute(statement)
    raw.close()


def verify(path: Path, *more: str) -> int:
    return command_line(["verify-audit", "--ledger", str(path), *more])


def test_an_untouched_record_is_confirmed_with_its_head(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The head is what somebody writes down elsewhere."""
    assert verify(ledger, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["problem"], len(told["head"])) == (5, None, 64)
    assert verify(ledger, "--head", told["head"]) == 0
    assert "5 audit rows, each as it was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE audit SET actor = 'bob' WHERE id = 3", "audit row 3: its text is not what was written"),
        ("DELETE FROM audit WHERE id = 2", "audit row 3: does not follow the row before it"),
    ],
)
def test_an_edited_record_is_found(ledger: Path, capsys: pytest.CaptureFixture[str], statement: str, said: str) -> None:
    """Which row, and what is wrong with it; exit status 1, for scripts."""
    edit(ledger, statement)
    assert verify(ledger) == 1
    assert said in capsys.readouterr().out


def test_rows_cut_off_at_the_end_show_against_a_head_that_was_kept(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chain alone cannot know that it was longer."""
    verify(ledger, "--json")
    head = json.loads(capsys.readouterr().out)["head"]
    edit(ledger, "DELETE FROM audit WHERE id = 5")
    assert verify(ledger) == 0
    assert verify(ledger, "--head", head) == 1
    assert "rows were cut off" in capsys.readouterr().out


def test_the_command_that_it_prints_runs(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, with the ledger that was named."""
    assert verify(ledger) == 0
    printed = capsys.readouterr().out.partition("deploy-watchdog ")[2].strip()
    assert command_line(printed.split()) == 0


@pytest.mark.parametrize("head", ["abc", "", "g" * 64])
def test_what_is_no_head_is_no_broken_chain(ledger: Path, capsys: pytest.CaptureFixture[str], head: str) -> None:
    """A slip of the hand raises no alarm."""
    assert verify(ledger, "--head", head) == 4
    assert "64 hex digits" in capsys.readouterr().err


def test_the_configuration_names_the_ledger_too(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a ledger in PostgreSQL there is no file to name; and one of the two is needed."""
    config = ledger.with_name("config.toml")
    config.write_text(f'[daemon]\nledger = "{ledger}"\n', encoding="utf-8")
    assert command_line(["verify-audit", "--config", str(config)]) == 0
    assert command_line(["verify-audit"]) == 4
    assert "--ledger FILE" in capsys.readouterr().err
