"""A small storm of deploy events over the real daemon, from a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.timeout(300)
def test_a_storm_loses_nothing_and_lets_nothing_forged_in() -> None:
    """Some hundred events beside ten watches, a fifth sent twice, some forged; how fast is not asked here."""
    argv = [sys.executable, "-m", "benchmarks.load.webhooks", "--json"]
    argv += ["--watches", "10", "--rate", "40", "--seconds", "5", "--settle-s", "1"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["sent"] == 200
    assert found["acked"] > 100
    assert found["statuses"]["401"] > 0, "some were forged"
    assert found["statuses"]["200"] > 0, "some were sent twice"
    assert (found["lost"], found["forged_accepted"]) == ([], [])
    assert done.returncode == (0 if found["holds"] else 1), done.stderr
