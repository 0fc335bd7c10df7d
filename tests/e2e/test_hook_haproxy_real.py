"""The hook `haproxy` on a real HAProxy under load: clients get what was asked for, nobody is refused."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import servers
from tests.hook_calls import promote, rollback, switch
from tests.traffic import Traffic, load, versions
from watchdog.clock import SystemClock
from watchdog.hooks.haproxy import HaproxyHook, HaproxyOptions
from watchdog.ports import HookOutcome, ProbeAnswer

pytestmark = pytest.mark.e2e


@dataclass
class Stage:
    traffic: Traffic
    haproxy: servers.HaproxyServer
    hook: HaproxyHook

    def sees(self, share: float, *, within: float) -> None:
        """The clients' own count of v2, over 400 answers; those under way when the hook returned came before."""
        for _ in range(2):
            self.traffic.forget()
            servers.wait_until(lambda: self.traffic.total >= 400, within_s=20, what="400 answers")
        assert self.traffic.of("v2") / self.traffic.total == pytest.approx(share, abs=within)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """v1 and v2 behind HAProxy, v2 failing every tenth request by itself, 16 clients."""
    port = servers.free_port()
    with ExitStack() as stack:
        traffic = stack.enter_context(versions({"v1": 0, "v2": 10}))
        behind = {"v1-a": (traffic.ports["v1"], 100), "v2-a": (traffic.ports["v2"], 0)}
        config = servers.haproxy_config(f"127.0.0.1:{port}", behind)
        haproxy = stack.enter_context(servers.haproxy(config, port=port))
        options = HaproxyOptions(addresses=(str(haproxy.admin_socket),), backend="shop")
        hook = HaproxyHook("back", options, SystemClock(), {}, tmp_path / "state")
        stack.enter_context(load(traffic, haproxy.url))
        yield Stage(traffic, haproxy, hook)


def test_the_share_is_what_was_asked_and_no_request_is_lost(stage: Stage) -> None:
    """Promote, promote, switch, back: every failure a client saw was v2's own answer."""
    for fence, share in enumerate((0.1, 0.5), 1):
        assert stage.hook.run(promote(share, fence)).outcome is HookOutcome.OK
        assert stage.hook.share(promote(share)) == pytest.approx(share, rel=0.01)
        stage.sees(share, within=0.03)
    assert stage.hook.run(switch(3)).outcome is HookOutcome.OK
    stage.sees(1.0, within=0.0)
    assert stage.hook.probe(rollback(4)) is ProbeAnswer.NOT_APPLIED
    assert stage.hook.run(rollback(4)).outcome is HookOutcome.OK
    servers.wait_until(lambda: stage.traffic.total > 500, within_s=20, what="the last answers on their way")
    stage.sees(0.0, within=0.0)
    assert stage.hook.probe(rollback(4)) is ProbeAnswer.APPLIED
    assert stage.traffic.not_their_own_fault() == []


def test_a_slow_promote_cannot_land_after_the_rollback(stage: Stage) -> None:
    """Its fence is older; v2 keeps a share of 0."""
    assert stage.hook.run(promote(0.5, 1)).outcome is HookOutcome.OK
    assert stage.hook.run(rollback(3)).outcome is HookOutcome.OK
    assert stage.hook.run(promote(1.0, 2)).outcome is HookOutcome.FAILED
    assert stage.hook.share(promote(1.0)) == 0.0


def test_what_would_hurt_is_refused(stage: Stage) -> None:
    """A dead old version gets no traffic, a version without servers is named, and the weights stay."""
    assert stage.hook.run(promote(0.5, 1)).outcome is HookOutcome.OK
    before = stage.haproxy.command("show servers state shop").split("v1-a")[1].split()[3]
    assert "v7" in stage.hook.run(rollback(2, target="v7")).output
    stage.haproxy.command("set server shop/v1-a state maint")
    refused = stage.hook.run(rollback(3))
    assert (refused.outcome, "no server of v1 is up" in refused.output) == (HookOutcome.FAILED, True)
    assert stage.haproxy.command("show servers state shop").split("v1-a")[1].split()[3] == before


def test_a_drained_version_gets_no_rollback(stage: Stage) -> None:
    """HAProxy says of it that it is up and has its weight, and answers 503 where nobody else is left."""
    assert stage.hook.run(switch(1)).outcome is HookOutcome.OK
    stage.haproxy.command("set server shop/v1-a weight 100")
    stage.haproxy.command("set server shop/v1-a state drain")
    assert "every server of v1 is drained" in str(stage.hook.preflight(rollback(2)))
    assert stage.hook.run(rollback(2)).outcome is HookOutcome.FAILED
    assert stage.hook.share(switch(3)) == 1.0
    stage.sees(1.0, within=0.0)
    stage.haproxy.command("set server shop/v1-a state ready")
    assert stage.hook.run(rollback(4)).outcome is HookOutcome.OK
    stage.sees(0.0, within=0.0)
    assert stage.traffic.not_their_own_fault() == []
