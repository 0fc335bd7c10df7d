"""Run every notebook from top to bottom and keep the executed copies in build/notebooks.

    python notebooks/execute.py [NAME ...]

The notebooks themselves stay without outputs. `make notebooks` makes the ledgers that they read.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
BUILT = HERE.parent / "build" / "notebooks"


def execute(notebook: Path, into: Path = BUILT) -> Path:
    """Run one notebook in this environment's kernel; raises with the failing cell's traceback."""
    content = nbformat.read(notebook, as_version=4)
    resources = {"metadata": {"path": str(HERE)}}
    client = NotebookClient(content, timeout=300, kernel_name="python3", resources=resources)
    client.extra_arguments = ["--log-level=ERROR"]  # each kernel else warns that it talks over loopback unencrypted
    client.execute()
    into.mkdir(parents=True, exist_ok=True)
    executed = into / notebook.name
    nbformat.write(content, executed)
    return executed


def chosen(names: Sequence[str]) -> list[Path]:
    """The notebooks whose names begin with one of these; all without any."""
    return [path for path in sorted(HERE.glob("*.ipynb")) if not names or path.name.startswith(tuple(names))]


if __name__ == "__main__":
    for path in chosen(sys.argv[1:]):
        sys.stdout.write(f"{execute(path)}\n")
