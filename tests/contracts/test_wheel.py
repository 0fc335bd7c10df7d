"""The wheel is the whole program and nothing else; it runs from an environment outside the checkout."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = {".py", ".toml", ".html", ".css", ".js", ".svg", ".json", ".typed", ".mako", ".sql"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the build backend itself, without asking an index."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed in an environment of its own; what it depends on is lent by ours."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True, timeout=120)
    python = folder / "env/bin/python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet", wheel],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    site = next((folder / "env/lib").glob("python3*/site-packages"))
    ours = next(Path(path) for path in sys.path if (Path(path) / "pydantic").exists())
    (site / "lent.pth").write_text(f"{ours}\n")  # a plain line: no .pth file in that folder is read
    return folder / "env/bin/deploy-watchdog"


def ran(program: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], cwd=program.parent, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(wheel: Path) -> None:
    """Presets, templates, styles, schemas and migrations included; no tests, notebooks or caches."""
    with zipfile.ZipFile(wheel) as opened:
        inside = {name for name in opened.namelist() if ".dist-info/" not in name}
    tree = {
        str(path.relative_to(ROOT))
        for package in ("watchdog", "analysis")
        for path in (ROOT / package).rglob("*")
        if path.suffix in SOURCES and "__pycache__" not in path.parts
    }
    assert inside == tree | {"deploy_watchdog.py"}  # the command, where the other `watchdog` cannot overwrite it
    for needed in (
        "watchdog/presets/",
        "watchdog/web/templates/",
        "watchdog/web/static/",
        "watchdog/ledger/migrations/",
    ):
        assert [name for name in inside if name.startswith(needed)], needed


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    """Name, Python, extras and the licence, as an index shows them."""
    assert re.fullmatch(rf"deploy_watchdog-{re.escape(PROJECT['version'])}-py3-none-any\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        told = Parser().parsestr(opened.read(name).decode())
        licences = [name for name in opened.namelist() if name.endswith("/LICENSE")]
    assert (told["Name"], told["Requires-Python"], len(licences)) == ("deploy-watchdog", ">=3.11", 1)
    assert {"notebooks", "postgres", "kubernetes", "charts", "otel", "dev"} <= set(told.get_all("Provides-Extra", []))
    assert not [need for need in told.get_all("Requires-Dist", []) if re.match(r"watchdog\b", need)]


def test_the_installed_command_runs_outside_the_checkout(program: Path) -> None:
    """Its own code, not the checkout's: the version, a preset, and the demo's list."""
    version = ran(program, "--version")
    assert (version.returncode, version.stdout) == (0, f"deploy-watchdog {PROJECT['version']}\n"), version.stderr
    where = "import watchdog, analysis; print(watchdog.__file__, analysis.__file__)"
    shown = subprocess.run([program.with_name("python"), "-P", "-c", where], capture_output=True, text=True, check=True)
    assert str(ROOT) not in shown.stdout
    listed = ran(program, "demo", "--list")
    assert (listed.returncode, "bad-canary" in listed.stdout) == (0, True), listed.stderr


def test_the_installed_command_finds_its_presets_pages_and_migrations(program: Path, tmp_path: Path) -> None:
    """A configuration that names presets is right, and a ledger is made from nothing."""
    (tmp_path / "config.toml").write_text(
        """
[sources.pages]
kind = "scrape"
targets = [{ url = "http://127.0.0.1:9/metrics" }]
[services.shop]
source = "pages"
presets = ["otel-http", "process"]
"""
    )
    script = (
        "from pathlib import Path; from watchdog.app import build, load_config; "
        f"app = build(load_config(Path({str(tmp_path / 'config.toml')!r}), {{}}), env={{}}); "
        "from starlette.testclient import TestClient; print(TestClient(app.web).get('/sign-in').status_code); "
        "app.ledger.close()"
    )
    done = subprocess.run(
        [program.with_name("python"), "-W", "ignore", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr[-2000:]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_it(program: Path, shell: str) -> None:
    """The command writes the completion that it answers; it else asks its parents which shell they are."""
    written = ran(program, "--show-completion", shell, env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    answered = f"_DEPLOY_WATCHDOG_COMPLETE=complete_{shell}"
    assert (written.returncode, answered in written.stdout) == (0, True), written.stderr + written.stdout


def test_a_completion_is_answered(program: Path) -> None:
    """With the commands that begin so."""
    asked = {"COMP_WORDS": "deploy-watchdog roll", "COMP_CWORD": "1", "_DEPLOY_WATCHDOG_COMPLETE": "complete_bash"}
    assert ran(program, env=asked).stdout.split() == ["rollback"]
