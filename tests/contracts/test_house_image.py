"""The image is what the Dockerfile promises: nobody's root, the daemon as its command, no surprises inside."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests import servers
from watchdog.app import load_config

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continued lines joined, comments dropped."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def last_stage() -> list[tuple[str, str]]:
    all_of_them = instructions()
    start = max(i for i, (word, _) in enumerate(all_of_them) if word == "FROM")
    return all_of_them[start:]


def only(word: str) -> str:
    found = [rest for name, rest in last_stage() if name == word]
    assert len(found) == 1, f"{word}: {found}"
    return found[0]


def test_it_runs_as_nobody_of_importance() -> None:
    """The daemon runs with a numeric, unprivileged user, so that runAsNonRoot can be checked."""
    user, group = only("USER").split(":")
    assert int(user) >= 10000
    assert int(group) >= 10000
    words = [word for word, _ in last_stage()]
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")


def test_it_starts_the_daemon() -> None:
    """The entry point is the package, so that signals reach it and commands can be given after the image's name."""
    assert json.loads(only("ENTRYPOINT")) == ["python", "-m", "watchdog"]
    assert json.loads(only("CMD"))[0] == "run"


def test_it_says_when_it_is_unwell() -> None:
    """The health check asks the daemon itself, with a deadline, in exec form."""
    check = only("HEALTHCHECK")
    argv = json.loads(check[check.index("[") :])
    compile(argv[2], "healthcheck", "exec")
    assert "timeout=" in argv[2]
    assert dict(line.split("=", 1) for _, rest in last_stage() if _ == "ENV" for line in shlex.split(rest))[
        "WATCHDOG_HEALTH_URL"
    ].endswith("/-/healthy")


def test_only_the_ledgers_folder_needs_to_be_written() -> None:
    """The root file system may be mounted read-only: everything written lies in the one volume."""
    assert only("VOLUME") == only("WORKDIR") == "/var/lib/deploy-watchdog"


def test_the_base_is_one_version() -> None:
    """Both stages are built on the same base, whose tag names a version down to the patch."""
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert set(bases) == {"${BASE}"}
    (base,) = [rest for word, rest in instructions() if word == "ARG"]
    assert re.fullmatch(r"BASE=python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)


def test_hadolint_has_nothing_to_say() -> None:
    """Not one rule is switched off."""
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        servers.without("hadolint", "it has a wheel for x86-64 Linux only")
    linted = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")
    assert "hadolint ignore" not in (ROOT / "Dockerfile").read_text()


def test_make_image_starts_a_right_configuration() -> None:
    """What the built image is tried with."""
    config = load_config(ROOT / "tests/image.toml", {"WATCHDOG_CI_TOKEN": "x" * 20})
    assert config.services["shop"].metrics


def test_packages_come_from_the_lock() -> None:
    """Nothing is installed that is not pinned by hash."""
    installs = [
        part for word, rest in instructions() if word == "RUN" for part in rest.split("&&") if "pip install" in part
    ]
    assert len(installs) == 2
    assert all("--require-hashes" in part or "--no-deps --no-build-isolation" in part for part in installs)


def test_nothing_gets_in_by_accident() -> None:
    """The build context is a list of what may come in, and every COPY takes from that list."""
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert ignore[0] == "*"
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = {
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
