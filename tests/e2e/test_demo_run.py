"""The demo from the first visitor to the report, with everything real."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from watchdog.demo.processes import environment
from watchdog.demo.scenarios import SCENARIOS
from watchdog.demo.talk import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def demo(scenario: str, keep: Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, the last line of stdout, and stderr of one demo, which leaves its ledger behind."""
    argv = [sys.executable, "-m", "watchdog", "demo", "--scenario", scenario, "--json", "--keep", str(keep)]
    env = {k: v for k, v in environment(None).items() if not k.startswith("SLACK_")}
    ended = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=170, check=False)
    lines = ended.stdout.splitlines()
    assert lines, ended.stderr
    return ended.returncode, json.loads(lines[-1]), ended.stderr


def looked_at(keep: Path) -> tuple[int, dict[str, Any], str]:
    """A bad canary whose pages stay up: one of them is opened, then Ctrl-C. As `demo`, with the page."""
    argv = [sys.executable, "-m", "watchdog", "demo", "--json", "--stay", "--keep", str(keep)]
    env = {k: v for k, v in environment(None).items() if not k.startswith("SLACK_")}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, we inherit "ignored"
    try:
        running = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with running:
        assert running.stderr is not None
        told = "".join(iter(running.stderr.readline, "Ctrl-C ends it.\n"))
        where, token = re.findall(r"(?:stay up:|Sign in with) (\S+)", told)
        visitor = requests.Session()
        visitor.post(f"{where.partition('/deploys')[0]}/sign-in", data={"token": token}, timeout=10)
        page = visitor.get(where, timeout=10)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=30)
    return running.returncode, json.loads(out.splitlines()[-1]), page.text


def within(counted: float, truth: float, *, share: float = 0.05, least: float = 2.0) -> bool:
    return abs(counted - truth) <= max(share * truth, least)


def test_bad_canary_is_seen_rolled_back_and_counted(tmp_path: Path) -> None:
    """Seen, undone, no request afterwards, the daemon's counts are the front's to 5 %, and its page can be opened."""
    code, told, page = looked_at(tmp_path / "kept")
    assert (code, told["outcome"], told["verdict"], told["reason"]) == (0, "rolled_back", "DEGRADED", "METRICS")
    assert "seen by the metrics; noticed" in page
    assert told["metric"] == "errors"
    assert told["time_to_detect_s"] <= 60  # how fast is a benchmark's question; here it must only be seen
    front = told["front"]
    assert front["requests_after_end"] == 0
    assert within(told["exposed_requests"], front["exposed_requests"]), told
    assert within(told["affected_requests"], front["failed_requests"]), told
    assert (tmp_path / "kept" / "watchdog.db").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.skipif(os.environ.get("DEMO") != "all", reason="takes minutes; DEMO=all runs every scenario")
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "bad-canary"])
def test_scenario_ends_as_the_table_says(scenario: str, tmp_path: Path) -> None:
    """Every other scenario has the outcome and the reason of the table."""
    code, told, progress = demo(scenario, keep=tmp_path / "kept")
    assert (code, told["outcome"]) == (0, SCENARIOS[scenario].outcome), progress
    assert SCENARIOS[scenario].reason in (None, told["reason"]), progress


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, and even kill -9, with everything running: no process and no folder is left."""
    # A shell has what it starts in the background ignore Ctrl-C, and so does all that is started from there.
    argv = ["env", "--default-signal=INT", sys.executable, "-m", "watchdog", "demo", "--json"]
    env = environment({"TMPDIR": str(tmp_path)})
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        assert any("visitors come" in line for line in demo.stderr)
        assert len(mentioning(str(tmp_path))) >= 4  # two shops, the front, the daemon
        demo.send_signal(number)
        demo.stderr.read()
    assert demo.returncode == (1 if number is signal.SIGINT else -number)
    wait_for(lambda: not mentioning(str(tmp_path)) and not list(tmp_path.iterdir()), what="cleanup", within_s=20)


def mentioning(text: str) -> list[str]:
    """The command lines of running processes that name `text`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [line] if text in line else []
    return found
