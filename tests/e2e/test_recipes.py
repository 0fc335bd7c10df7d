"""The recipes for systemd, Docker Compose and Helm, run as hooks as they stand in the document.

Neither a booted systemd nor a container engine nor a cluster can be counted on where tests run, so `systemctl`,
`docker` and `helm` are stand-ins here: a few lines that keep a state as the real ones do, start a real process, and
refuse every argument that the recipe should not use. What systemd makes of the unit is asked of `systemd-analyze`.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests import recipes, servers
from tests.hook_calls import rollback
from watchdog.clock import SystemClock
from watchdog.hooks.command import CommandHook, CommandOptions
from watchdog.ports import HookOutcome, ProbeAnswer

pytestmark = pytest.mark.e2e

SYSTEMCTL = """#!/usr/bin/env python3
import os, pathlib, subprocess, sys
pid = pathlib.Path("{folder}/pid")
match sys.argv[1:]:
    case ["restart", "shop.service"]:
        if pid.exists():
            os.kill(int(pid.read_text()), 9)
        # no child of the hook's: it has none of its files open, and outlives its group
        begun = subprocess.Popen(["sh", "./serve"], cwd="{folder}/srv/current", start_new_session=True)
        pid.write_text(str(begun.pid))
        with open("{folder}/log", "a") as log:
            log.write("restarted\\n")
    case ["show", "--property", "MainPID", "--value", "shop.service"]:
        print(pid.read_text() if pid.exists() else 0)
    case words:
        sys.exit(f"what is {words}")
"""
DOCKER = """#!/bin/sh
set -eu
case "$*" in
  "compose up --detach --no-build --wait shop")
    [ ! -e {folder}/broken ] || exit 1
    sed -n 's/^SHOP_VERSION=//p' .env >{folder}/running; echo up >>{folder}/log ;;
  "compose ps --format {{.Image}} shop") echo "registry.example.com:5000/shop:$(cat {folder}/running)" ;;
  *) echo "what is $*" >&2; exit 64 ;;
esac
"""
HELM = """#!/usr/bin/env python3
import json, pathlib, sys
state = pathlib.Path("{folder}/history.json")
history = json.loads(state.read_text())
match sys.argv[1:]:
    case ["history", "shop", "--max", "256", "--output", "json", "--namespace", "production"]:
        print(json.dumps(history))
    case ["rollback", "shop", number, "--wait", "--timeout", "4m", "--namespace", "production"]:
        chosen = next(one for one in history if one["revision"] == int(number))
        history[-1]["status"] = "superseded"
        history.append(chosen | dict(revision=history[-1]["revision"] + 1, status="deployed"))
        state.write_text(json.dumps(history))
        with open("{folder}/log", "a") as log:
            log.write("rollback\\n")
    case words:
        sys.exit(f"what is {words}")
"""


@dataclass(frozen=True)
class Stage:
    """One way to run things: the hook, and how its world is looked at and moved."""

    hook: CommandHook
    folder: Path
    live: Callable[[], str]
    deploy: Callable[[str], None]

    @property
    def done(self) -> int:
        log = self.folder / "log"
        return len(log.read_text().splitlines()) if log.exists() else 0


def a_hook(folder: Path, run: str, probe: tuple[str, ...], tool: str, stand_in: str) -> CommandHook:
    (folder / "bin").mkdir()
    (folder / "bin" / tool).write_text(stand_in.replace("{folder}", str(folder)))
    (folder / "bin" / tool).chmod(0o755)
    env = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    options = CommandOptions(argv=(run,), probe_argv=probe, idempotent=True)
    return CommandHook("back", options, SystemClock(), env, folder / "state")


def systemd(folder: Path) -> Stage:
    root = folder / "srv"
    for version in ("v1", "v2", "v3"):
        (root / "releases" / version).mkdir(parents=True)
        (root / "releases" / version / "serve").write_text("exec sleep 600\n")
    names = {"/srv/shop": str(root)}
    run, probe = (recipes.program(f"systemd-{part}", folder, names=names) for part in ("back", "probe"))
    hook = a_hook(folder, run, (probe,), "systemctl", SYSTEMCTL)

    def deploy(version: str) -> None:
        (root / "current").unlink(missing_ok=True)
        (root / "current").symlink_to(f"releases/{version}")
        subprocess.run([folder / "bin" / "systemctl", "restart", "shop.service"], check=True)
        (folder / "log").unlink()

    def live() -> str:
        return Path(f"/proc/{(folder / 'pid').read_text().strip()}/cwd").readlink().name

    return Stage(hook, folder, live, deploy)


def compose(folder: Path) -> Stage:
    (folder / "srv").mkdir()
    names = {"/srv/shop": str(folder / "srv")}
    run, probe = (recipes.program(f"compose-{part}", folder, names=names) for part in ("back", "probe"))
    hook = a_hook(folder, run, (probe,), "docker", DOCKER)

    def deploy(version: str) -> None:
        (folder / "srv" / ".env").write_text(f"TAX=19\nSHOP_VERSION={version}\nOTHER=x&y\n")
        (folder / "running").write_text(f"{version}\n")

    return Stage(hook, folder, lambda: (folder / "running").read_text().strip(), deploy)


def helm(folder: Path) -> Stage:
    run = recipes.program("helm-back", folder)
    hook = a_hook(folder, run, (run, "probe"), "helm", HELM)
    state = folder / "history.json"

    def deploy(version: str) -> None:
        served = ["v1", "v1", version]
        told = [
            {"revision": n, "app_version": one, "status": "superseded" if n < len(served) else "deployed"}
            for n, one in enumerate(served, 1)
        ]
        state.write_text(json.dumps(told))

    return Stage(hook, folder, lambda: str(json.loads(state.read_text())[-1]["app_version"]), deploy)


@pytest.fixture(params=[systemd, compose, helm], ids=lambda made: made.__name__)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    yield (made := request.param(tmp_path))
    if (pid := made.folder / "pid").exists():
        os.kill(int(pid.read_text()), 9)


def test_the_candidate_becomes_the_target_once(stage: Stage) -> None:
    """The probe sees it before and after; a second run does no harm, and what is right already stays."""
    stage.deploy("v2")
    assert stage.hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    done = stage.hook.run(rollback())
    assert (done.outcome, stage.live()) == (HookOutcome.OK, "v1"), done.output
    assert stage.hook.probe(rollback()) is ProbeAnswer.APPLIED
    again = stage.hook.run(replace(rollback(fence=2), attempt=2))
    assert (again.outcome, stage.live()) == (HookOutcome.OK, "v1"), again.output
    assert stage.hook.probe(rollback()) is ProbeAnswer.APPLIED


def test_a_third_version_is_left_alone(stage: Stage) -> None:
    """Somebody has rolled forward."""
    stage.deploy("v3")
    assert stage.hook.probe(rollback()) is ProbeAnswer.MOVED_ON
    done = stage.hook.run(rollback())
    assert (done.outcome, stage.live(), stage.done) == (HookOutcome.FAILED, "v3", 0)
    assert "hands off" in done.output


@pytest.mark.parametrize("version", ["../v1", "v1;id", "$(id)", "", "v1 v2"])
def test_a_version_from_outside_is_data(stage: Stage, version: str) -> None:
    """It is refused, or not found; nothing is done by it."""
    stage.deploy("v2")
    done = stage.hook.run(rollback(target=version))
    assert (done.outcome, stage.live(), stage.done) == (HookOutcome.FAILED, "v2", 0)


def test_a_target_that_is_gone_is_said(tmp_path: Path) -> None:
    """A release folder that was cleaned away, a revision beyond what Helm keeps."""
    for number, made in enumerate((systemd, helm)):
        (folder := tmp_path / str(number)).mkdir()
        stage = made(folder)
        stage.deploy("v2")
        done = stage.hook.run(rollback(target="v0"))
        assert (done.outcome, stage.live()) == (HookOutcome.FAILED, "v2")
        assert "any more" in done.output
        if (folder / "pid").exists():
            os.kill(int((folder / "pid").read_text()), 9)


def test_an_attempt_that_broke_off_is_brought_to_its_end(tmp_path: Path) -> None:
    """The link or the file says the target, and the candidate still runs: in part, until the next attempt."""
    (tmp_path / "unit").mkdir()
    unit = systemd(tmp_path / "unit")
    unit.deploy("v2")
    (tmp_path / "unit/srv/current").unlink()
    (tmp_path / "unit/srv/current").symlink_to("releases/v1")
    (tmp_path / "project").mkdir()
    project = compose(tmp_path / "project")
    project.deploy("v2")
    (tmp_path / "project/broken").touch()
    assert project.hook.run(rollback()).outcome is HookOutcome.FAILED
    (tmp_path / "project/broken").unlink()
    for stage in (unit, project):
        assert (stage.live(), stage.hook.probe(rollback())) == ("v2", ProbeAnswer.PARTIAL)
        assert stage.hook.run(rollback()).outcome is HookOutcome.OK
        assert (stage.live(), stage.hook.probe(rollback())) == ("v1", ProbeAnswer.APPLIED)
    os.kill(int((tmp_path / "unit/pid").read_text()), 9)
    assert (tmp_path / "project/srv/.env").read_text() == "TAX=19\nSHOP_VERSION=v1\nOTHER=x&y\n"


def test_a_release_that_is_being_upgraded_is_waited_for(tmp_path: Path) -> None:
    """Helm refuses two operations at once; the daemon tries again."""
    stage = helm(tmp_path)
    stage.deploy("v2")
    history = json.loads((tmp_path / "history.json").read_text())
    history[-1]["status"] = "pending-upgrade"
    (tmp_path / "history.json").write_text(json.dumps(history))
    assert (stage.hook.run(rollback()).outcome, stage.hook.probe(rollback())) == (
        HookOutcome.RETRY,
        ProbeAnswer.PARTIAL,
    )


def test_a_release_goes_back_to_the_newest_good_revision_of_the_target(tmp_path: Path) -> None:
    """Neither to the one before, nor to one that failed."""
    stage = helm(tmp_path)
    told = [("v1", "superseded"), ("v1", "superseded"), ("v1", "failed"), ("v0", "superseded"), ("v2", "failed")]
    history = [{"revision": n, "app_version": v, "status": s, "number": n} for n, (v, s) in enumerate(told, 1)]
    (tmp_path / "history.json").write_text(json.dumps(history))
    assert stage.hook.run(rollback()).outcome is HookOutcome.OK
    assert json.loads((tmp_path / "history.json").read_text())[-1]["number"] == 2


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """As it stands in the document."""
    if shutil.which("systemd-analyze") is None:
        servers.without("systemd-analyze", "it is not on PATH")
    unit = tmp_path / "shop.service"
    unit.write_text(recipes.text("/etc/systemd/system/shop.service"))
    argv = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
