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

from tests.fakes import FakeClock
from tests.hook_calls import promote, rollback
from tests.runtime_api import StandIn, runtime_api
from watchdog.clock import SystemClock
from watchdog.hooks.haproxy import HaproxyHook, HaproxyOptions
from watchdog.hooks.haproxy_runtime import RuntimeApi
from watchdog.hooks.wanted_state import Span, again_later
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


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_process_that_hangs_leaves_the_others_their_time(
    two: list[StandIn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """It takes connections and never answers: wherever it stands, the others are set, asked and heard."""
    clock = FakeClock()
    processes = [*two[:place], StandIn({}, address="127.0.0.1:1"), *two[place:]]
    ask = RuntimeApi.ask

    def hang(api: RuntimeApi, command: str, span: Span) -> str:
        if api.address == "127.0.0.1:1":
            clock.sleep(span.left())
            again_later(f"{api.address}: timed out")
        return ask(api, command, span)

    monkeypatch.setattr(RuntimeApi, "ask", hang)
    options = HaproxyOptions(addresses=tuple(process.address for process in processes), backend="shop", timeout_s=3.0)
    hook = HaproxyHook("back", options, clock, {}, tmp_path)
    began = clock.monotonic()
    two[1].drained = {"v1-a"}
    assert "every server of v1 is drained" in str(hook.preflight(rollback()))
    two[1].drained = set()
    assert "timed out" in str(hook.preflight(rollback()))
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.UNKNOWN, None)
    assert [sum("show" in line for line in process.heard) for process in two] == [4, 4]
    assert hook.run(rollback()).outcome is HookOutcome.RETRY
    assert [process.weights["v2-a"] for process in two] == [0, 0]
    assert clock.monotonic() - began <= 4 * options.probe_timeout_s + options.timeout_s


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


def test_a_drained_old_version_is_told_at_once(two: list[StandIn], tmp_path: Path) -> None:
    """It is up and has its weight, and HAProxy gives it nobody: not given the traffic, and the remedy is said."""
    two[0].drained = {"v1-a"}
    hook = a_hook(two[:1], tmp_path)
    told = str(hook.preflight(rollback()))
    assert "every server of v1 is drained" in told
    assert "set server shop/v1-a state ready" in told
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.NOT_APPLIED, 0.0)
    ended = hook.run(rollback())
    assert (ended.outcome, ended.output) == (HookOutcome.FAILED, told)
    assert two[0].weights == {"v1-a": 50, "v2-a": 50}


def test_what_is_drained_after_it_was_set_is_no_success(two: list[StandIn], tmp_path: Path) -> None:
    """The weights are as they were asked for, and nobody is there to take the traffic."""
    hook = a_hook(two[:1], tmp_path)
    assert hook.run(promote(0.5)).outcome is HookOutcome.OK
    two[0].drained = {"v2-a"}
    assert (hook.probe(promote(0.5)), hook.share(promote(0.5))) == (ProbeAnswer.NOT_APPLIED, 0.0)
    two[0].weights, two[0].drained = {"v1-a": 100, "v2-a": 0}, {"v1-a"}
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.NOT_APPLIED, None)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_drained_candidate_is_promoted_to_nothing(two: list[StandIn], tmp_path: Path, share: float) -> None:
    """What would be asked of a version that takes nothing is refused, and so is what the old one would not take."""
    two[0].weights, two[0].drained = {"v1-a": 100, "v2-a": 0}, {"v2-a"}
    hook = a_hook(two[:1], tmp_path)
    assert "every server of v2 is drained" in str(hook.preflight(promote(share)))
    assert hook.run(promote(share)).outcome is HookOutcome.FAILED
    assert two[0].weights == {"v1-a": 100, "v2-a": 0}


def test_a_drained_server_beside_others_carries_nothing(two: list[StandIn], tmp_path: Path) -> None:
    """The share is that of those who take traffic; whoever comes back later finds the weight of its peers."""
    two[0].weights, two[0].drained = {"v1-a": 100, "v1-b": 100, "v1-c": 100, "v2-a": 0}, {"v1-b", "v1-c"}
    hook = a_hook(two[:1], tmp_path)
    assert hook.preflight(promote(0.25, 1)) is None
    assert hook.run(promote(0.25, 1)).outcome is HookOutcome.OK
    assert hook.share(promote(0.25)) == 0.25
    assert two[0].weights["v1-b"] == two[0].weights["v1-c"] == two[0].weights["v1-a"]
    assert hook.run(rollback(2)).outcome is HookOutcome.OK
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.APPLIED, 1.0)
    assert two[0].weights == {"v1-a": 100, "v1-b": 100, "v1-c": 100, "v2-a": 0}


def test_a_new_version_that_was_drained_loses_its_weight_as_well(two: list[StandIn], tmp_path: Path) -> None:
    """It takes no traffic now; it shall not when somebody sets it ready."""
    two[0].drained = {"v2-a"}
    hook = a_hook(two[:1], tmp_path)
    assert hook.probe(rollback()) is ProbeAnswer.PARTIAL
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert two[0].weights["v2-a"] == 0


def test_a_third_version_beside_two_that_are_drained_is_left_alone(two: list[StandIn], tmp_path: Path) -> None:
    """Neither of ours takes traffic, whatever their weights say."""
    two[0].weights, two[0].drained = {"v1-a": 100, "v2-a": 100, "v3-a": 10}, {"v1-a", "v2-a"}
    hook = a_hook(two[:1], tmp_path)
    assert hook.probe(rollback()) is ProbeAnswer.MOVED_ON
    assert hook.run(rollback()).outcome is HookOutcome.FAILED


def test_who_owns_the_states_sets_drained_servers_ready(two: list[StandIn], tmp_path: Path) -> None:
    """A drain is lifted with `maintenance`; one that comes from a tracked server cannot be, nor is a dead server up."""
    two[0].weights, two[0].drained = {"v1-a": 100, "v2-a": 100}, {"v1-a"}
    owner = a_hook(two[:1], tmp_path, maintenance=True)
    assert owner.preflight(rollback()) is None
    two[0].down = {"v1-a"}
    assert "no server of v1 is up" in str(owner.preflight(rollback()))
    two[0].down, two[0].drained_with = set(), {"v1-a"}
    assert "every server of v1 is drained: set ready the server that" in str(owner.preflight(rollback()))
    assert owner.run(rollback(1)).outcome is HookOutcome.FAILED
    assert two[0].weights == {"v1-a": 100, "v2-a": 100}
    two[0].drained_with = set()
    assert owner.run(rollback(2)).outcome is HookOutcome.OK
    assert (two[0].drained, two[0].maintenance, owner.share(rollback())) == (set(), {"v2-a"}, 1.0)


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
