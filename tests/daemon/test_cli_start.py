"""The command before any command: it starts at once, says what it is, and knows whose import name it uses."""

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import watchdog.__main__ as start
from watchdog import __version__
from watchdog.cli import command_line

ROOT = Path(__file__).parents[2]
COMMANDS = ["run", "check", "demo", "trigger", "wait", "list", "show"]
COMMANDS += ["rollback", "approve", "deny", "cancel", "pause", "resume", "export", "sensitivity", "calibrate"]
HEAVY = ("numpy", "pandas", "scipy", "sqlalchemy", "fastapi", "requests", "pydantic", "rich", "alembic", "uvicorn")


def python(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_imports_nothing_heavy() -> None:
    """This is what keeps it quick, whatever machine runs it."""
    done = python("-X", "importtime", "-m", "watchdog", "--help")
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert [name for name in HEAVY if name in imported] == []


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """DESIGN's list; without a command it says the same."""
    assert command_line([]) == 0
    said = capsys.readouterr().out
    assert [
        line.split()[0] for line in said.splitlines() if line.startswith("  ") and line.split()[0] in COMMANDS
    ] == COMMANDS


def test_the_version_is_printed() -> None:
    """By `python -m watchdog` as by the command."""
    done = python("-m", "watchdog", "--version")
    assert (done.returncode, done.stdout) == (0, f"deploy-watchdog {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["shwo"], "error: No such command 'shwo'. Did you mean 'show'? see 'deploy-watchdog --help'\n"),
        (["show"], "error: Missing argument 'ID'; see 'deploy-watchdog show --help'\n"),
        (["rollback", "x"], "error: Missing option '--why'; see 'deploy-watchdog rollback --help'\n"),
        (["list", "--limit", "x"], "error: Invalid value for '--limit'"),
        (["wait", "x", "--timeout", "-1"], "error: Invalid value for '--timeout': expected greater than"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_4(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr; stdout stays empty for whoever reads it."""
    assert command_line(arguments) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(told)
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "--ledger", "."], "is a folder; name the ledger's file"),
        (["verify-audit", "--ledger", "."], "is a folder; name the ledger's file"),
        (["demo", "--keep", "a-file"], "error: File exists: "),
        (
            ["init", "--url", "http://127.0.0.1:9", "--yes", "--environment", "a b"],
            "--environment: 'a b' is not allowed",
        ),
        (
            ["init", "--url", "https://127.0.0.1:9", "--yes", "--ca-file", "nowhere"],
            "nowhere: No such file or directory; name a",
        ),
    ],
)
def test_what_is_no_file_of_that_kind_is_one_sentence(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Never a traceback, and not the exit status that means something else."""
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    assert command_line(arguments) == 4
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


def test_an_address_that_is_taken_is_told_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No ledger is made, nothing is watched, and the sentence says what to do."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        Path("config.toml").write_text(f'[daemon]\nlisten = "127.0.0.1:{port}"\nledger = "w.db"\n')
        assert command_line(["run"]) == 4
    assert f"nothing can listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err
    assert not Path("w.db").exists()


def test_every_command_takes_json_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Each --help names --json and begins with a sentence."""
    for name in COMMANDS:
        assert command_line([name, "--help"]) == 0
        said = capsys.readouterr().out
        assert "--json" in said, name
        assert said.splitlines()[2].strip().endswith("."), name


def test_no_command_takes_a_token_as_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    """Other users of the machine can read arguments."""
    for name in ("trigger", "wait", "list", "show", "rollback", "pause"):
        command_line([name, "--help"])
        assert "--token " not in capsys.readouterr().out


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package alone in a folder, as if installed there."""
    shutil.copytree(ROOT / "watchdog", tmp_path / "watchdog", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "analysis", tmp_path / "analysis", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "deploy_watchdog.py", tmp_path)
    return tmp_path


def isolated(folder: Path) -> subprocess.CompletedProcess[str]:
    """Start it with that folder first on the path, before everything that is installed."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from watchdog.__main__ import main; sys.exit(main())"
    done = python("-P", "-c", code, "--help")
    assert "Traceback" not in done.stderr
    return done


def test_it_refuses_beside_the_file_watching_package(copy: Path) -> None:
    """Its distribution lies in the same environment: one sentence with the way out, exit code 4."""
    info = copy / "watchdog-6.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: watchdog\nVersion: 6.0.0\n")
    done = isolated(copy)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "deploy-watchdog cannot start: the file-watching package 'watchdog' 6.0.0 lies in the same environment"
    )
    assert ".venv" in done.stderr


def test_it_refuses_where_the_other_package_was_copied_over_it(copy: Path) -> None:
    """Installed second, the other one overwrites our `__init__` and brings its folders."""
    (copy / "watchdog" / "observers").mkdir()
    (copy / "watchdog" / "__init__.py").write_text("")
    done = isolated(copy)
    assert (done.returncode, done.stdout) == (4, "")
    assert "leads to another package" in done.stderr


def test_it_says_so_where_even_its_start_was_replaced(copy: Path) -> None:
    """The other package has a `__main__` too; the command lies outside the folder that both want."""
    (copy / "watchdog" / "__main__.py").write_text("from watchdog.watchmedo import cli\n")
    code = f"import sys; sys.path.insert(0, {str(copy)!r}); from deploy_watchdog import main; sys.exit(main())"
    done = python("-P", "-c", code, "--help")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert done.stderr.startswith("deploy-watchdog cannot start: the file-watching package")


def test_the_command_starts_where_it_is_alone(copy: Path) -> None:
    """By the module that the command is made of."""
    code = f"import sys; sys.path.insert(0, {str(copy)!r}); from deploy_watchdog import main; sys.exit(main())"
    done = python("-P", "-c", code, "--version")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "deploy-watchdog", "")


def test_it_starts_where_it_is_alone(copy: Path) -> None:
    """The guard does not cry wolf."""
    done = isolated(copy)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_guard_looks_at_the_installed_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the copy that runs is somewhere else, as with an editable install."""

    class Other:
        version = "7.1.0"

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Other())
    assert "'watchdog' 7.1.0" in start.import_clash()
