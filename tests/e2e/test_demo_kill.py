"""kill -9 of the daemon in the middle of a bad canary: it is restarted, and there is exactly one rollback effect.

The world (shop, front, visitors, hook) is the demo's; only the daemon dies. What is counted is what the front saw:
one change of the weights made by the daemon's action, whatever number of hooks ran.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from watchdog.demo.scenarios import SCENARIOS
from watchdog.demo.street import EndedEarlyError
from watchdog.demo.talk import wait_for
from watchdog.demo.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# Every place where a daemon may die once between deploy and end; `CRASH=all` goes through them one by one.
MOMENTS = (
    "ledger-record-before-commit",
    "tick-claimed:3",
    "tick-before-commit",
    "tick-committed",
    "ledger-change-before-commit:2",
    "action-before-claim",
    "ledger-claim-before-commit",
    "action-claimed",
    "hook-before-start",
    "hook-returned",
    "outcome-before-commit",
    "outcome-committed",
    "verify-before-commit",
)
ROW = ("tick-committed", "action-claimed", "outcome-before-commit")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A bad canary's world with the shop open; the daemon is the test's to start."""
    scenario = replace(SCENARIOS["bad-canary"], warm_s=4.0)
    with World(scenario, tmp_path, keep=True) as world:
        world.open_shop()
        yield world


def start(world: World, moment: str | None) -> None:
    """Start the daemon, armed to die at a moment; one that takes up a watch may be there before it answers."""
    if moment is None:
        world.start_daemon()
        return
    name, _, nth = moment.partition(":")
    with suppress(EndedEarlyError):
        world.start_daemon({"FAILPOINTS": f"{name}:{nth or 1}:kill"})


def deploy(world: World) -> None:
    """What CI does, retries included: the daemon may die while it takes the event."""
    time.sleep(world.scenario.warm_s)
    try:
        world.deploy()
    except OSError:
        wait_for(lambda: not world.processes.alive("daemon"), what="the death", within_s=10)


def ended(world: World, within_s: float = 90.0) -> dict[str, Any]:
    """The watch once it has an outcome."""
    wait_for(lambda: (world.watch() or {}).get("outcome") is not None, what="an outcome", within_s=within_s, step_s=0.3)
    watch = world.watch()
    assert watch is not None
    return watch


def assert_one_effect(world: World, watch: dict[str, Any]) -> None:
    """The front saw one change by one action; v2 gets nothing any more."""
    changes = [c for c in world.front_weights()["changes"] if c["action_id"]]
    assert len(changes) == 1, changes
    lines = [json.loads(line) for line in world.effects.read_text().splitlines()]
    assert [line["effect"] for line in lines].count("set") == 1, lines
    assert len({line["action_id"] for line in lines}) == 1
    assert world.front_weights()["weights"] == {"v1": 100, "v2": 0}
    before = world.front_counts()["v2"]["requests"]
    time.sleep(1.0)
    assert world.front_counts()["v2"]["requests"] == before
    assert watch["outcome"] == "rolled_back", watch


@pytest.mark.skipif(os.environ.get("CRASH") != "all", reason="tests/crash does this in small worlds: make crash-demo")
@pytest.mark.timeout(400)  # three more starts of a daemon, and two leases to run out
def test_killed_again_and_again_it_rolls_back_once(world: World) -> None:
    """One deploy, three deaths, each at another moment of the road; every restart takes up where the last one fell."""
    start(world, ROW[0])
    deploy(world)
    for following in (*ROW[1:], None):
        wait_for(lambda: not world.processes.alive("daemon"), what="the death", within_s=60)
        start(world, following)
    assert_one_effect(world, ended(world))


def test_killed_while_the_hook_runs_it_rolls_back_once(world: World) -> None:
    """The hook outlives its daemon; the next daemon waits for it and does not start a second effect."""
    start(world, None)
    deploy(world)
    wait_for(lambda: (world.watch() or {}).get("state") in ("INTENT", "RUNNING", "VERIFYING"), what="a rollback",
             within_s=60, step_s=0.02)  # fmt: skip
    world.processes.kill("daemon")
    start(world, None)
    assert_one_effect(world, ended(world))


@pytest.mark.skipif(os.environ.get("CRASH") != "all", reason="one world per moment takes minutes: make crash-demo")
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_this_moment_it_rolls_back_once(world: World, moment: str) -> None:
    """Each moment by itself."""
    start(world, moment)
    deploy(world)
    wait_for(lambda: not world.processes.alive("daemon"), what="the death", within_s=60)
    start(world, None)
    if world.watch() is None:  # it died before the event was on disk: CI sends it again
        assert world.announce() == 201
    assert_one_effect(world, ended(world))
