"""The hook `haproxy` where a real HAProxy cannot show it: faults of the runtime API, several processes, weights."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.hook_calls import promote, rollback
from tests.runtime_api import StandIn, runtime_api
from watchdog.clock import SystemClock
from watchdog.hooks.haproxy import HaproxyHook, HaproxyOptions
from watchdog.hooks.weights import NEAR_ENOUGH, split
from watchdog.model import ActionKind
from watchdog.ports import HookOutcome, ProbeAnswer


@pytest.fixture
def two() -> Iterator[list[StandIn]]:
    """Two processes that share the traffic, each with half of it on v2."""
    with ExitStack() as stack:
        yield [stack.enter_context(runtime_api({"v1-a": 50, "v2-a": 50})) for _ in range(2)]


def a_hook(processes: list[StandIn], folder: Path, **options: Any) -> HaproxyHook:
    addresses = tuple(process.address for process in processes)
    options = {"addresses": addresses, "backend": "shop", "timeout_s": 1.0, **options}
    return HaproxyHook("back", HaproxyOptions(**options), SystemClock(), {}, folder)


def test_every_process_is_set(two: list[StandIn], tmp_path: Path) -> None:
    """Processes that do not agree are PARTIAL, before and after; the hook sets them all."""
    hook = a_hook(two, tmp_path)
    two[0].weights = {"v1-a": 100, "v2-a": 0}
    assert hook.probe(rollback()) is ProbeAnswer.PARTIAL
    assert hook.share(rollback()) == 0.5
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert hook.probe(rollback()) is ProbeAnswer.APPLIED
    assert [process.weights["v2-a"] for process in two] == [0, 0]
    assert hook.share(rollback()) == 1.0


def test_a_process_that_is_away_does_not_keep_the_others_waiting(two: list[StandIn], tmp_path: Path) -> None:
    """The others are set, the attempt asks for another one, and the probe does not guess."""
    lost = StandIn({}, address="127.0.0.1:1")
    hook = a_hook([lost, *two], tmp_path)
    assert hook.run(rollback()).outcome is HookOutcome.RETRY
    assert [process.weights["v2-a"] for process in two] == [0, 0]
    assert hook.probe(rollback()) is ProbeAnswer.UNKNOWN


def test_the_old_version_is_let_in_before_the_new_one_is_let_out(two: list[StandIn], tmp_path: Path) -> None:
    """At no moment has everybody weight 0."""
    two[0].weights = {"v1-a": 0, "v2-a": 100}
    assert a_hook(two[:1], tmp_path).run(rollback()).outcome is HookOutcome.OK
    (change,) = [line for line in two[0].heard if line.startswith("set ")]
    assert change == "set server shop/v1-a weight 100; set server shop/v2-a weight 0"


def test_weights_of_the_configuration_come_back(two: list[StandIn], tmp_path: Path) -> None:
    """A bigger machine gets its bigger weight again."""
    two[0].weights = {"v1-a": 0, "v1-b": 0, "v2-a": 100}
    two[0].configured = {"v1-a": 30, "v1-b": 90}
    assert a_hook(two[:1], tmp_path).run(rollback()).outcome is HookOutcome.OK
    assert two[0].weights == {"v1-a": 30, "v1-b": 90, "v2-a": 0}


def test_a_promote_that_lies_is_found(two: list[StandIn], tmp_path: Path) -> None:
    """Changes that are taken and not carried out: no OK, and the share says what is."""
    two[0].deaf = True
    hook = a_hook(two[:1], tmp_path)
    assert hook.run(promote(0.25)).outcome is HookOutcome.RETRY
    assert hook.probe(promote(0.25)) is ProbeAnswer.NOT_APPLIED
    assert hook.share(promote(0.25)) == 0.5


@pytest.mark.parametrize("share", [None, "0.5", True, -0.1, 1.1, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(two: list[StandIn], tmp_path: Path, share: object) -> None:
    """Nothing is set, and what was expected is said."""
    ended = a_hook(two[:1], tmp_path).run(promote(share))
    assert (ended.outcome, "between 0 and 1" in ended.output) == (HookOutcome.FAILED, True)
    assert two[0].heard == []


def test_other_kinds_of_action_are_refused(two: list[StandIn], tmp_path: Path) -> None:
    """It cannot pause a roll-out, and says so."""
    ended = a_hook(two[:1], tmp_path).run(replace(rollback(), kind=ActionKind.PAUSE))
    assert (ended.outcome, "pause" in ended.output) == (HookOutcome.FAILED, True)


def test_a_third_version_is_left_alone(two: list[StandIn], tmp_path: Path) -> None:
    """Neither of ours takes traffic, another one does: hands off."""
    two[0].weights = {"v1-a": 0, "v2-a": 0, "v3-a": 10}
    hook = a_hook(two[:1], tmp_path)
    assert hook.probe(rollback()) is ProbeAnswer.MOVED_ON
    assert hook.run(rollback()).outcome is HookOutcome.FAILED
    assert two[0].weights == {"v1-a": 0, "v2-a": 0, "v3-a": 10}


def test_a_longer_version_that_begins_alike_gets_no_traffic(two: list[StandIn], tmp_path: Path) -> None:
    """v1-rc1 runs beside v1: going back to v1 does not let it in."""
    two[0].weights = {"v1-a": 0, "v1-rc1-a": 0, "v2-a": 100}
    two[0].configured = {"v1-a": 100, "v1-rc1-a": 100, "v2-a": 100}
    assert a_hook(two[:1], tmp_path).run(rollback()).outcome is HookOutcome.OK
    assert two[0].weights == {"v1-a": 100, "v1-rc1-a": 0, "v2-a": 0}


def test_a_dead_old_version_is_told_at_once(two: list[StandIn], tmp_path: Path) -> None:
    """At the start of the watch, and not given the traffic later."""
    two[0].down = {"v1-a"}
    hook = a_hook(two[:1], tmp_path)
    assert "no server of v1 is up" in str(hook.preflight(rollback()))
    assert hook.run(rollback()).outcome is HookOutcome.FAILED
    assert two[0].weights == {"v1-a": 50, "v2-a": 50}


def test_maintenance_is_ours_only_where_the_options_say_so(two: list[StandIn], tmp_path: Path) -> None:
    """Then the standing colour is made ready and the other one taken out, sticky clients too."""
    two[0].maintenance = {"v1-a"}
    assert a_hook(two[:1], tmp_path).run(rollback()).outcome is HookOutcome.FAILED
    owner = a_hook(two[:1], tmp_path, maintenance=True)
    assert owner.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    assert owner.run(rollback()).outcome is HookOutcome.OK
    assert two[0].maintenance == {"v2-a"}
    assert owner.probe(rollback()) is ProbeAnswer.APPLIED


@pytest.mark.parametrize("broken", [b"", b"Permission denied\n", b"\xff\xfe", b"# be_name srv_name\nshop v1-a\n"])
def test_nonsense_from_the_runtime_api_is_an_answer(two: list[StandIn], tmp_path: Path, broken: bytes) -> None:
    """FAILED and UNKNOWN, never an exception."""
    two[0].broken = broken
    hook = a_hook(two[:1], tmp_path)
    assert hook.run(rollback()).outcome is HookOutcome.FAILED
    assert hook.probe(rollback()) is ProbeAnswer.UNKNOWN


def test_an_api_that_hangs_does_not_hold_us(tmp_path: Path) -> None:
    """The deadline is for all of it; nobody can tell what came of the attempt."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        hook = a_hook([StandIn({}, address=f"127.0.0.1:{silent.getsockname()[1]}")], tmp_path, timeout_s=0.2)
        began = time.monotonic()
        assert hook.run(rollback()).outcome in (HookOutcome.RETRY, HookOutcome.TIMED_OUT)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("address", ["", "haproxy.sock", "host:", "host:x"])
def test_an_address_is_a_path_or_a_port(address: str) -> None:
    """Anything else is a mistake that `check` finds."""
    with pytest.raises(ValidationError, match="neither a path"):
        HaproxyOptions(addresses=(address,), backend="shop")


@pytest.mark.parametrize("backend", ["", "shop; shutdown sessions", "shop\nshow info", "a/b"])
def test_a_backend_is_a_name(backend: str) -> None:
    """Nothing enters a command of the runtime API that could end it."""
    with pytest.raises(ValidationError, match="no name of a backend"):
        HaproxyOptions(addresses=("127.0.0.1:1",), backend=backend)


@given(
    share=st.floats(0.01, 0.99),
    coming=st.lists(st.integers(1, 256), min_size=1, max_size=4),
    leaving=st.lists(st.integers(1, 256), min_size=1, max_size=4),
)
def test_weights_are_near_the_share_or_refused(share: float, coming: list[int], leaving: list[int]) -> None:
    """Whole numbers 1..256 whose share is within a twentieth of the smaller side."""
    try:
        ours, theirs = split(share, coming, leaving, most=256)
    except ValueError:
        return
    assert all(1 <= weight <= 256 for weight in (*ours, *theirs))
    got = sum(ours) / (sum(ours) + sum(theirs))
    assert abs(got - share) <= NEAR_ENOUGH * min(share, 1 - share) + 1e-9


@pytest.mark.parametrize("percent", [1, 2, 5, 10, 25, 50, 75, 90])
def test_the_usual_steps_can_be_had(percent: int) -> None:
    """One canary beside one to five old servers of equal weight."""
    for old in range(1, 6):
        ours, theirs = split(percent / 100, [100], [100] * old, most=256)
        assert sum(ours) / (sum(ours) + sum(theirs)) == pytest.approx(percent / 100, rel=0.05)
