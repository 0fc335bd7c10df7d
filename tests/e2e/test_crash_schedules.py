"""The real daemon killed again and again: no rollback lost, none done twice, nothing acknowledged and forgotten."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.crash_plan import deaths, named_points, schedules

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.timeout(600)
def test_forty_schedules_of_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """Two kills each, at every named point of the code, inside the hook and at random times; then under load."""
    argv = [sys.executable, "-m", "tests.crash.crash_run", "--schedules", "40", "--load-kills", "10"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["schedules"], found["load_kills"]) == (40, 10)
    assert found["kills"] >= 40
    assert found["points_missed"] == []  # a point that no run reaches is a place where nothing can be tried
    assert found["acknowledged"] > 10


def test_the_long_form_goes_through_every_place_with_every_kind_of_hook() -> None:
    """Among two thousand schedules no place is left out, as first or as second death."""
    planned = list(schedules(2000, seed=1))
    assert {death.partition(":")[0] for death in deaths()} >= {*named_points(), "hook"}
    for place in deaths():
        assert {one.mode for one in planned if place in one.deaths} == {"probe", "idempotent", "bare"}
        assert any(one.deaths[0] == place for one in planned)
        assert any(one.deaths[1] == place for one in planned)
