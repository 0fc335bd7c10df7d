"""The house rules that no linter knows, kept as tests."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import watchdog

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("watchdog", "analysis") for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

MODULE_LINES = 350  # aim for 250
FUNCTION_LINES = 60  # aim for 10 to 20
LOCKS = [ROOT / "requirements.lock", ROOT / "deploy" / "requirements.lock"]
LONG_MODULES: frozenset[str] = frozenset()  # each with a reason
LONG_FUNCTIONS: frozenset[str] = frozenset()  # "file:function", each with a reason

# Written in pieces, so that this file does not accuse itself.
_MACHINE_PATHS = re.compile(r"(?<![\w.~-])/(?:" + "work|root|home/[a-z]+|Users" + r")/\w")
_REGISTRIES = re.compile(
    r"pypi\." + r"org/simple|files\.pythonhosted" + r"\.org|--(?:extra-)?index-" + r"url|artifac" + "tory", re.I
)
_LOCK_LINE = re.compile(r"[a-z0-9][a-z0-9-]*==[\w.!+-]+( ; [\w.'\"<>=!() ]+)?( \\)?| +--hash=sha256:[0-9a-f]{64}( \\)?")


def files_of_the_project() -> list[Path]:
    """Everything that is, or would be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.split("\0") if listed.returncode == 0 and (ROOT / ".git").exists() else []
    hidden = (".venv", "build", ".git", "__pycache__")
    found = [ROOT / name for name in names if name] or [
        path
        for path in ROOT.rglob("*")
        if not any(part in hidden or part.endswith("_cache") for part in path.relative_to(ROOT).parts)
    ]
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring and without the functions defined in it, which count themselves."""
    lines = set(range(function.lineno, (function.end_lineno or 0) + 1))
    inner = [node for node in ast.walk(function) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)][1:]
    for node in [*inner, *(function.body[:1] if ast.get_docstring(function) else [])]:
        lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(lines)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_watchdog_is_ours() -> None:
    """`import watchdog` finds this repository, not the file-watching library of the same name."""
    assert Path(watchdog.__file__).parent == ROOT / "watchdog"


def test_modules_are_read_in_one_sitting() -> None:
    """No module is longer than the limit, and no exception outlives its reason."""
    long = {shown(path) for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > MODULE_LINES}
    assert long == LONG_MODULES


def test_functions_do_one_thing() -> None:
    """No function is longer than the limit, and no exception outlives its reason."""
    long = {
        f"{shown(path)}:{function.name}"
        for path in MODULES
        for function in functions_of(path)
        if own_lines(function) > FUNCTION_LINES
    }
    assert long == LONG_FUNCTIONS


def test_modules_say_what_they_are() -> None:
    """Every module but an empty one begins with a docstring."""
    trees = {shown(path): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}
    assert [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


def test_tests_say_what_they_show() -> None:
    """Every test carries a docstring: the behaviour in one sentence."""
    silent = [
        f"{shown(path)}:{function.name}"
        for path in TESTS
        for function in functions_of(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert silent == []


def test_test_files_have_unique_names() -> None:
    """A test's file name is enough to find it."""
    names = [path.name for path in TESTS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("pattern", [_MACHINE_PATHS, _REGISTRIES], ids=["machine paths", "registries"])
def test_no_file_knows_a_machine_or_a_registry(pattern: re.Pattern[str]) -> None:
    """No path of somebody's machine and no package index address is in any file."""
    files = files_of_the_project()
    assert ROOT / "pyproject.toml" in files
    told = []
    for path in files:
        text = path.read_bytes().decode("utf-8", errors="ignore")
        told += [f"{shown(path)}: {hit.group()}" for hit in pattern.finditer(text)]
    assert told == []


@pytest.mark.parametrize("lock", LOCKS, ids=shown)
def test_a_lock_has_names_versions_and_hashes_only(lock: Path) -> None:
    """Whoever installs from a lock decides where from; every package is pinned by hash."""
    lines = lock.read_text().splitlines()
    assert [line for line in lines if not _LOCK_LINE.fullmatch(line)] == []
    entries = [i for i, line in enumerate(lines) if "==" in line.split(" ; ")[0]]
    assert entries
    assert [lines[i] for i in entries if i + 1 == len(lines) or "--hash=" not in lines[i + 1]] == []


def test_the_image_gets_what_was_tested() -> None:
    """The image's lock is a part of the lock that the tests run on."""
    tested, shipped = (set(re.findall(r"^\S+==\S+", lock.read_text(), re.M)) for lock in LOCKS)
    assert shipped < tested


def test_the_lock_holds_what_the_project_asks_for() -> None:
    """Every dependency of pyproject.toml is in the lock, and the file-watching library is not."""
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = {
        re.split(r"[\[<>=~ ]", line)[0].lower().replace("_", "-")
        for line in [*project["dependencies"], *extras["test"], *extras["dev"], *extras["postgres"]]
    }
    assert asked - {"deploy-watchdog"} - locked == set()
    assert "watchdog" not in locked
