"""The notebooks read as documents, hold no outputs, and run from top to bottom over ledgers of the daemon's road."""

import ast
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat
import pytest
from matplotlib import pyplot as plt

from analysis import review
from notebooks.execute import chosen, execute
from tests.reviewed import bad_canary

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHORTER = {"DEPLOYS, LOOKS, BUDGET, SETTINGS = 300,": "DEPLOYS, LOOKS, BUDGET, SETTINGS = 30,", "draws=40": "draws=4"}
mpl.use("agg")
pytestmark = pytest.mark.xdist_group("review")
each = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bad_canary(str(tmp_path_factory.mktemp("notebooks") / "watchdog.db"))


@pytest.fixture(autouse=True)
def ledgers(demo: str, simulated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_WATCHDOG_LEDGER", demo)
    monkeypatch.setenv("DEPLOY_WATCHDOG_HISTORY", str(simulated))


def cells(notebook: Path, kind: str) -> list[str]:
    return [str(cell.source) for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == kind]


def test_all_six_are_there() -> None:
    """As promised, and no other one; a name chooses."""
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]
    assert chosen([]) == NOTEBOOKS
    assert chosen(["03", "06"]) == [NOTEBOOKS[2], NOTEBOOKS[5]]


@each
def test_a_notebook_is_stored_without_outputs_and_reads_as_a_document(notebook: Path) -> None:
    """Prose first and between any two cells that draw, no outputs, a kernel named, cells short enough to read."""
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    code, prose = cells(notebook, "code"), cells(notebook, "markdown")
    assert content.metadata["kernelspec"]["name"] == "python3"
    assert [c for c in content.cells if c.cell_type == "code" and (c.outputs or c.execution_count)] == []
    assert content.cells[0].cell_type == "markdown"
    assert prose[0].startswith("# ")
    assert max(len(cell.splitlines()) for cell in code) <= 30
    assert 3 * sum(map(len, prose)) > 2 * sum(map(len, code))
    drawing = [cell.cell_type == "code" and "plt.show" in cell.source for cell in content.cells]
    assert not any(one and next_one for one, next_one in pairwise(drawing))


@each
def test_a_notebook_that_reads_simulated_deploys_says_so(notebook: Path) -> None:
    """Nobody may take a simulated figure for a measured one."""
    reads = "DEPLOY_WATCHDOG_HISTORY" in "".join(cells(notebook, "code"))
    said = "simulated" in cells(notebook, "markdown")[0]
    assert said or not reads


@each
def test_every_cell_runs(notebook: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From top to bottom in one namespace; every figure is drawn, with all axes labelled."""
    monkeypatch.chdir(notebook.parent)
    monkeypatch.setattr(plt, "show", lambda: drawn.extend(_closed()))
    drawn: list[str] = []
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(cells(notebook, "code")):
        _run(source, f"{notebook.name}, code cell {number}", namespace)
    assert drawn
    assert all(drawn), f"axes without a label: {drawn}"


def _closed() -> list[str]:
    """The labels of all axes that were drawn, and the figures closed."""
    found = []
    for number in plt.get_fignums():
        figure = plt.figure(number)
        figure.canvas.draw()
        for ax in figure.axes:
            found += [" ".join(twin.get_xlabel() for twin in ax.get_shared_x_axes().get_siblings(ax)).strip()]
            named = [label.get_text() for label in ax.get_yticklabels() if "(" in label.get_text()]  # by category
            found += [" ".join([*named, *(t.get_ylabel() for t in ax.get_shared_y_axes().get_siblings(ax))]).strip()]
    plt.close("all")
    return found


def _run(source: str, where: str, namespace: dict[str, Any]) -> None:
    """One cell as a kernel runs it: the last expression is shown."""
    for long, short in SHORTER.items():
        source = source.replace(long, short)
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), namespace)
    if isinstance(last, ast.Expr):
        shown = eval(compile(ast.Expression(last.value), where, "eval"), namespace)
        assert getattr(shown, "_repr_html_", shown.__repr__)() is not None


def test_the_shortened_lines_are_in_the_notebooks() -> None:
    """The short form shortens something."""
    code = "".join(source for notebook in NOTEBOOKS for source in cells(notebook, "code"))
    assert [line for line in SHORTER if line not in code] == []


@pytest.mark.slow
def test_a_kernel_runs_the_first_one(demo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make notebooks` does; the replayed verdict and a picture are in the executed copy."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    executed = json.loads(execute(NOTEBOOKS[0], tmp_path).read_text())
    outputs = [output for cell in executed["cells"] for output in cell.get("outputs", [])]
    shown = "".join("".join(output.get("text", [])) for output in outputs)
    assert review.open(demo).deploys["sentence"].iloc[0] in shown
    assert any("image/png" in output.get("data", {}) for output in outputs)
