"""docs/review.md is true: its blocks run in order over a ledger, its commands are taken, its tables are the code's."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import typer
from matplotlib import pyplot as plt

from analysis import review
from watchdog.cli import command_line
from watchdog.cli.entry import app

PAGE = (Path(__file__).parents[2] / "docs" / "review.md").read_text(encoding="utf-8")
NEEDS_A_DAEMON = frozenset({"label"})
mpl.use("agg")
pytestmark = pytest.mark.xdist_group("review")


def test_every_block_runs_in_order(simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody would copy them one after the other; what needs a daemon is at least a command that there is."""
    shutil.copy(simulated, tmp_path / "watchdog.db")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    ran = []
    for language, block in re.findall(r"^```(python|sh)\n(.*?)^```", PAGE, re.M | re.S):
        if language == "python":
            exec(compile(block, "docs/review.md", "exec"), namespace)
            continue
        for line in block.splitlines():
            program, name, *arguments = shlex.split(line, comments=True)
            assert program == "deploy-watchdog"
            if name in NEEDS_A_DAEMON:
                typer.main.get_group(app).commands[name].make_context(name, arguments)
            else:
                assert command_line([name, *arguments]) == 0
            ran.append(name)
    plt.close("all")
    assert ran == ["label", "quality", "export", "backtest"]
    assert list(namespace["recorded"].deploys.index)
    assert (tmp_path / "verdict.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("frame", review.COLUMNS)
def test_every_column_is_documented_as_it_is(frame: str) -> None:
    """The tables of the page are those of the code, in the same order."""
    table = PAGE.partition(f"<code>ledger.{frame}</code>")[2].partition("</details>")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.M)) == review.COLUMNS[frame]


def test_all_notebooks_are_named() -> None:
    """With what each answers."""
    named = re.findall(r"notebooks/(\w+)\.ipynb", PAGE)
    assert named == sorted(path.stem for path in (Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
