"""Three real daemons on one real PostgreSQL: whoever is frozen, killed or cut off, a rollback happens once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.timeout(900)
def test_three_daemons_roll_back_once_whatever_happens_to_them() -> None:
    """The kill switch, claim races under pauses, failovers at named points, and a hook that starts far too late."""
    servers.program("postgres")  # skips where there is none
    argv = [sys.executable, "-m", "tests.crash.replicas_run", "--races", "100", "--failovers", "10"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["races"], found["failovers"]) == (100, 10)
    assert found["pauses"] > 10
