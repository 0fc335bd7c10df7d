"""The real pipeline, policy, action, outbox and ledger code under seeded faults: nothing lost, nothing doubled."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.simulator import run
from tests.simulator.database import CalmDatabase
from tests.simulator.run import tally
from tests.simulator.simulation import Report, simulate

ROOT = Path(__file__).parents[2]
QUARTER = 250
REGRESSIONS = (
    97,  # three deploys that turned bad in one tick were all rolled back, whatever the breaker allowed
    2672,  # a rollback whose hook had run was cancelled and counted no more: cool-down and breaker let the next through
    8703,  # two answers without a candidate that was up were called its recovery, though the hook had had no effect
    94429,  # a clock that was set right between two steps of a claim left the claim in the future
    102425,  # a rollback that waited for its next try when the kill switch was pulled waited on in silence
    22359,  # a newer deploy came while a rollback waited for its next try, which was then held beside it
    95175,  # of two requests for one deploy the second was answered while an older watch went on: the first had failed
    1020,  # the simulator itself waited for ever where one deploy event waited for another's commit
)

POINTS = re.compile(r'failpoint\("([a-z-]+)"\)')


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 4 * QUARTER, QUARTER))
def test_a_thousand_seeds_hold_every_invariant(first: int) -> None:
    """Crashes, freezes, replicas, operators, and faults of every port; `make simulate` runs many more."""
    found = tally(range(first, first + QUARTER))
    assert found.violations == {}
    assert found.crashes > 50
    assert {"PASSED", "ROLLED_BACK", "INCONCLUSIVE", "SUPERSEDED", "CANCELLED"} <= set(found.outcomes)


def test_a_seed_that_does_not_end_is_told_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as a violation, by its number; the seeds after it are run, even where it had begun to write."""

    def simulated(seed: int) -> Report:
        if seed == 2:
            with CalmDatabase().write():
                threading.Event().wait(60.0)
        return simulate(seed)

    monkeypatch.setattr(run, "STUCK_S", 1)
    monkeypatch.setattr(run, "simulate", simulated)
    found = tally([1, 2, 3])
    assert found.violations == {"2": ["it did not end within 1 s"]}
    assert found.seeds == 3


def test_a_seed_is_one_run() -> None:
    """The same events at the same times, in this process and in one that hashes differently."""
    seeds = (2, 3, 10)
    here = [simulate(seed).digest for seed in seeds]
    assert [simulate(seed).digest for seed in seeds] == here
    code = f"from tests.simulator.simulation import simulate; print(*[simulate(s).digest for s in {seeds}])"
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert there.stdout.split() == here
    assert len(set(here)) == len(seeds)


def test_a_run_is_the_same_on_sqlalchemys_own_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs its statements faster here changes nothing of what happens, to the last event."""
    seeds = (2, 3, 10, 97)
    quick = [simulate(seed).digest for seed in seeds]
    monkeypatch.setattr(CalmDatabase, "slowly", True)
    assert [simulate(seed).digest for seed in seeds] == quick


def test_every_named_point_is_passed() -> None:
    """A point that no run reaches is a place where nothing can be tried."""
    named = {name for path in (ROOT / "watchdog").rglob("*.py") for name in POINTS.findall(path.read_text())}
    passed: set[str] = set()
    for seed in range(1, 40):
        passed |= {line.rpartition(" at ")[2] for line in simulate(seed, verbose=True).trace if " at " in line}
    assert len(named) > 10
    assert named <= passed


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_broke_something_once_never_does_again(seed: int) -> None:
    """What it was stands with it."""
    assert simulate(seed).violations == []
