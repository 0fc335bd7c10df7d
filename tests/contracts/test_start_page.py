"""docs/start.md: what it says can be typed."""

import subprocess
from pathlib import Path

import pytest

from tests.start_page import commands, shell_blocks, toml_blocks
from watchdog.app import load_config
from watchdog.cli import command_line

RUN_IN_E2E = {"init", "check", "run", "trigger", "list"}  # tests/e2e/test_init_real.py
RUN_ON_A_PAST = {"backtest", "sensitivity", "calibrate"}  # tests/e2e/test_trust_ladder.py
PROMETHEUS = '[sources.prometheus]\nkind = "prometheus"\nurl = "http://127.0.0.1:9090"\n'


def test_every_command_of_the_page_is_run_by_a_test() -> None:
    """By the tests named here; a new command needs one too."""
    assert set(commands()) == RUN_IN_E2E | RUN_ON_A_PAST


def test_the_pages_shell_can_be_read() -> None:
    """Every block, by the shell itself."""
    for block in shell_blocks():
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_every_option_of_the_page_exists(capsys: pytest.CaptureFixture[str]) -> None:
    """As `--help` tells them."""
    for words in commands().values():
        assert command_line([words[0], "--help"]) == 0
        helped = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in helped] == []


def test_the_pages_configuration_is_right(tmp_path: Path) -> None:
    """What is copied from it is without mistakes."""
    (block,) = toml_blocks()
    (tmp_path / "config.toml").write_text(PROMETHEUS + block)
    service = load_config(tmp_path / "config.toml", {}).services["shop"]
    assert (service.mode, service.rollback_hook) == ("approve", "back")
