"""The floors hold, and each contract that keeps them would notice a breach."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LINT_IMPORTS = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


@dataclass(frozen=True)
class Breach:
    """One line in one file that must break one contract."""

    contract: str
    file: str
    line: str
    told: str  # what the report must say besides the contract's name


BREACHES = [
    Breach("floors", "watchdog/errors.py", "import watchdog.model", "watchdog.errors -> watchdog.model"),
    Breach("floors", "watchdog/policy.py", "import watchdog.pipeline", "watchdog.policy -> watchdog.pipeline"),
    Breach(
        "floors", "watchdog/hooks/dry_run.py", "import watchdog.action", "watchdog.hooks.dry_run -> watchdog.action"
    ),
    Breach("floors", "watchdog/hooks/dry_run.py", "import watchdog.sinks", "watchdog.hooks.dry_run -> watchdog.sinks"),
    Breach("floors", "watchdog/intake.py", "import watchdog.pipeline", "watchdog.intake -> watchdog.pipeline"),
    Breach("floors", "watchdog/helpers.py", "", "- watchdog.helpers"),
    Breach("senders_only_read", "watchdog/senders/github.py", "import requests", "watchdog.senders.github -> requests"),
    Breach("wiring", "watchdog/pipeline.py", "import watchdog.hooks.http", "watchdog.pipeline -> watchdog.hooks.http"),
    Breach("wiring", "watchdog/action.py", "import watchdog.clock", "watchdog.action -> watchdog.clock"),
    Breach("wiring", "watchdog/web/breach.py", "import watchdog.ledger", "watchdog.web.breach -> watchdog.ledger"),
    Breach("no_way_back", "analysis/result.py", "import watchdog.errors", "analysis.result -> watchdog.errors"),
    Breach("no_way_back", "analysis/review/breach.py", "import watchdog.errors", "analysis.review.breach -> watchdog"),
    Breach("purity", "analysis/prepare.py", "import datetime", "analysis.prepare -> datetime"),
    Breach("purity", "analysis/judge.py", "import pandas", "analysis.judge -> pandas"),
    Breach("purity", "analysis/methods/breach.py", "import os", "analysis.methods.breach -> os"),
    Breach("core_order", "analysis/result.py", "import analysis.prepare", "analysis.result -> analysis.prepare"),
    Breach("core_order", "analysis/judge.py", "import analysis.review", "analysis.judge -> analysis.review"),
    Breach("core_order", "analysis/judge.py", "import analysis.cases", "analysis.judge -> analysis.cases"),
    Breach("core_order", "analysis/helpers.py", "", "- analysis.helpers"),
]


def lint(root: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter as a stranger would, on the packages in `root`."""
    chosen = [word for contract in contracts for word in ("--contract", contract)]
    return subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-logo", "--no-cache", *chosen],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def name_of(contract: str) -> str:
    return str(next(c["name"] for c in CONTRACTS if c["id"] == contract))


@pytest.fixture
def copy_of_the_house(tmp_path: Path) -> Path:
    for package in ("watchdog", "analysis"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_floors_hold() -> None:
    """Every arrow of the tree as it is points down."""
    report = lint(ROOT)
    assert report.returncode == 0, report.stdout + report.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in report.stdout


@pytest.mark.parametrize("breach", BREACHES, ids=lambda b: f"{b.contract}-{Path(b.file).with_suffix('')}-{b.line[7:]}")
def test_a_breach_is_noticed(breach: Breach, copy_of_the_house: Path) -> None:
    """One planted import, or one module without a floor, breaks its contract by name."""
    file = copy_of_the_house / breach.file
    file.parent.mkdir(exist_ok=True)
    if breach.line:
        assert breach.line not in (file.read_text() if file.exists() else "")
    with file.open("a") as text:
        text.write(f"\n{breach.line}\n")
    report = lint(copy_of_the_house, breach.contract)
    assert report.returncode == 1, report.stdout + report.stderr
    assert re.search(re.escape(name_of(breach.contract)) + r"\s+BROKEN", report.stdout), report.stdout
    assert breach.told in report.stdout, report.stdout


def test_every_contract_has_a_breach() -> None:
    """No contract is believed that was never seen to fail."""
    assert {breach.contract for breach in BREACHES} == {contract["id"] for contract in CONTRACTS}
