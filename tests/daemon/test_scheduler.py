"""The tick job, the workers, the failpoints."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from watchdog.failpoints import failpoint_from
from watchdog.scheduler import Workers

REPO = Path(__file__).resolve().parents[2]


def test_a_job_that_is_running_is_not_started_twice() -> None:
    """The next tick finds the same action due; the worker that has it is enough."""
    workers, gate, runs = Workers(), threading.Event(), []

    def job() -> None:
        runs.append(1)
        gate.wait(10)

    workers.submit(job, "a")
    workers.submit(job, "a")
    gate.set()
    workers.stop()
    assert runs == [1]


def test_a_job_that_breaks_off_can_be_started_again() -> None:
    """One bad round does not block an action for ever."""
    workers, done = Workers(size=1), threading.Event()

    def broken() -> None:
        raise RuntimeError("broken")

    workers.submit(broken, "a")
    workers.submit(done.set, "b")  # one worker: when b has run, a has ended
    assert done.wait(10)
    again = threading.Event()
    workers.submit(again.set, "a")
    assert again.wait(10)
    workers.stop()


def test_without_the_variable_failpoints_do_nothing() -> None:
    """Production pays one call."""
    failpoint_from({})("anything")


def test_a_failpoint_kills_at_the_nth_passing() -> None:
    """SIGKILL, not an exception: nothing is cleaned up."""
    code = (
        "from watchdog.failpoints import failpoint_from\n"
        "hit = failpoint_from({'FAILPOINTS': 'x:2:kill'})\n"
        "hit('x'); print('once', flush=True); hit('x'); print('twice', flush=True)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (-9, "once\n")


def test_what_is_passed_can_be_written_down(tmp_path: Path) -> None:
    """The crash tests learn from it that no named point was left out."""
    hit = failpoint_from({"FAILPOINTS_LOG": str(tmp_path / "passed")})
    for name in ("x", "y", "x"):
        hit(name)
    assert (tmp_path / "passed").read_text() == "x\ny\nx\n"


@pytest.mark.parametrize("text", ["x", "x:1", "x:one:kill", ":1:kill", "x:1:maim"])
def test_a_misspelt_failpoint_is_an_error(text: str) -> None:
    """A crash test that crashes nothing would prove nothing."""
    with pytest.raises(ValueError, match="FAILPOINTS"):
        failpoint_from({"FAILPOINTS": text})
