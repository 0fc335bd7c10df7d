"""The hook `argo_rollouts` on Argo's own controller, over the control plane of `make e2e-kubernetes`.

tests/daemon/test_hook_argo_rollouts.py asks the same of a small server in every run.
"""

import itertools
import os
import tempfile
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.go_programs import argo_controller, argo_definitions
from tests.hook_calls import promote, rollback, switch
from tests.kube_cluster import NODE, ControlPlane, control_plane
from tests.kube_server import template, version_of
from tests.servers import wait_until
from watchdog.clock import SystemClock
from watchdog.hooks.argo_rollouts import ArgoRolloutsHook, ArgoRolloutsOptions
from watchdog.model import ActionKind
from watchdog.ports import HookOutcome, ProbeAnswer

IS_REAL = os.environ.get("E2E") == "kubernetes"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not IS_REAL, reason="Argo's controller is built from its Go module: make e2e-kubernetes"),
]

SETTLES_S = 60.0
PAUSE: dict[str, Any] = {"pause": {}}
STEPS = [{"setWeight": 10}, PAUSE, {"setWeight": 20}, {"setWeight": 50}, PAUSE]
CANARY = {"canary": {"steps": STEPS, "maxSurge": 1, "maxUnavailable": 0}}
BLUE_GREEN = {"blueGreen": {"activeService": "shop", "autoPromotionEnabled": False}}
MERGE = "application/merge-patch+json"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane that knows Rollouts, with their controller."""
    program = argo_controller()
    with control_plane() as running, tempfile.TemporaryDirectory() as folder:
        for definition in argo_definitions():
            running.kubectl("apply", "--server-side", "-f", str(definition))
        wait_until(lambda: _knows_rollouts(running), within_s=SETTLES_S, what="the API server knows Rollouts")
        ports = {name: servers.free_port() for name in ("metricsport", "healthzPort")}
        argv = [program, "--kubeconfig", str(running.kubeconfig), "--leader-elect=false"]
        argv += [f"--{name}={port}" for name, port in ports.items()]
        health = f"http://127.0.0.1:{ports['healthzPort']}/healthz"
        with servers.running(argv, folder, lambda: servers.answers(health), ready_s=SETTLES_S):
            yield running


def _knows_rollouts(plane: ControlPlane) -> bool:
    with suppress(urllib.error.HTTPError):
        found = plane.call("GET", "/apis/argoproj.io/v1alpha1")["resources"]
        return "rollouts/status" in {one["name"] for one in found}
    return False


@dataclass(frozen=True)
class Shop:
    """One Rollout called shop in a namespace of its own."""

    plane: ControlPlane
    namespace: str
    token: str

    @property
    def path(self) -> str:
        return f"/apis/argoproj.io/v1alpha1/namespaces/{self.namespace}/rollouts/shop"

    def rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.call("GET", self.path)
        return found

    def edit(self, change: dict[str, Any]) -> None:
        self.plane.call("PATCH", self.path, change, MERGE)

    def deploy(self, version: str) -> None:
        self.edit({"spec": {"template": _pod(version)}})
        self.settle()

    def settle(self) -> None:
        """Until the controller has seen it and waits, or is done."""
        wait_until(self._is_settled, within_s=SETTLES_S, what="the roll-out stands")

    def pods(self) -> dict[str, int]:
        found = self.plane.call("GET", f"/apis/apps/v1/namespaces/{self.namespace}/replicasets")["items"]
        return {version_of(one["spec"]["template"]): one["status"].get("replicas", 0) for one in found}

    def hook(self, folder: Path) -> ArgoRolloutsHook:
        options: dict[str, Any] = {"url": self.plane.url, "ca_file": str(self.plane.ca_file), "token_env": "TOKEN"}
        options |= {"namespace": self.namespace, "rollout": "shop", "timeout_s": 60.0}
        return ArgoRolloutsHook("back", ArgoRolloutsOptions(**options), SystemClock(), {"TOKEN": self.token}, folder)

    def _is_settled(self) -> bool:
        found = self.rollout()
        status = found.get("status", {})
        seen = str(status.get("observedGeneration", "")) == str(found["metadata"]["generation"])
        return seen and status.get("phase") in {"Healthy", "Paused", "Degraded"}


def _pod(version: str) -> dict[str, Any]:
    made = template("shop", version)
    made["spec"]["nodeName"] = NODE
    return made


@pytest.fixture
def shop(plane: ControlPlane, request: pytest.FixtureRequest) -> Shop:
    """Stable on v1, and v2 at its first pause."""
    strategy = getattr(request, "param", CANARY)
    namespace = f"argo-{next(_numbers)}"
    plane.new_namespace(namespace)
    made = Shop(plane, namespace, plane.service_account(namespace))
    ports = {"ports": [{"port": 80}], "selector": {"app": "shop"}}
    plane.call("POST", f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": "shop"}, "spec": ports})
    spec = {"replicas": 10, "selector": {"matchLabels": {"app": "shop"}}, "template": _pod("v1"), "strategy": strategy}
    kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
    plane.call("POST", made.path.rpartition("/")[0], {**kind, "metadata": {"name": "shop"}, "spec": spec})
    made.settle()
    made.deploy("v2")
    return made


def run(hook: ArgoRolloutsHook, shares: Sequence[float], shop: Shop) -> list[ProbeAnswer]:
    """Promote to one share after the other; what the probe says of each."""
    found = []
    for fence, share in enumerate(shares, 1):
        ended = hook.run(promote(share, fence))
        assert ended.outcome is HookOutcome.OK, ended.output
        wait_until(
            lambda share=share: hook.probe(promote(share)) is ProbeAnswer.APPLIED,  # type: ignore[misc]
            within_s=SETTLES_S,
            what=f"{share:.0%}",
        )
        shop.settle()
        found.append(hook.probe(promote(share)))
    return found


def test_it_is_promoted_from_pause_to_pause(shop: Shop, tmp_path: Path) -> None:
    """The pods are the share; at the end v2 is stable."""
    hook = shop.hook(tmp_path)
    assert hook.probe(promote(0.1)) is ProbeAnswer.APPLIED
    assert hook.share(promote(0.1)) == pytest.approx(0.1, abs=0.02)
    refused = hook.run(promote(0.2))
    assert (refused.outcome, "is at 50%" in refused.output) == (HookOutcome.FAILED, True), refused.output
    assert run(hook, (0.5, 1.0), shop) == [ProbeAnswer.APPLIED] * 2
    status = shop.rollout()["status"]
    assert (status["stableRS"] == status["currentPodHash"], status["phase"]) == (True, "Healthy")


def test_a_rollback_aborts_it_and_v1_has_every_pod(shop: Shop, tmp_path: Path) -> None:
    """In effect once v2 has none; a second one changes nothing."""
    hook = shop.hook(tmp_path)
    assert hook.preflight(rollback()) is None
    run(hook, (0.5,), shop)
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    ended = hook.run(rollback(3))
    assert ended.outcome is HookOutcome.OK, ended.output
    wait_until(lambda: hook.probe(rollback()) is ProbeAnswer.APPLIED, within_s=SETTLES_S, what="back")
    assert shop.rollout()["status"]["abort"] is True
    assert (shop.pods()["v2"], shop.pods()["v1"]) == (0, 10)
    assert hook.run(rollback(4)).outcome is HookOutcome.OK
    assert hook.run(promote(0.5, 5)).outcome is HookOutcome.FAILED


def test_a_version_that_is_stable_already_is_replaced_in_full(shop: Shop, tmp_path: Path) -> None:
    """v1's own template comes back without its steps."""
    hook = shop.hook(tmp_path)
    run(hook, (0.5, 1.0), shop)
    ended = hook.run(rollback(4))
    assert ended.outcome is HookOutcome.OK, ended.output
    wait_until(lambda: hook.probe(rollback()) is ProbeAnswer.APPLIED, within_s=SETTLES_S, what="back")
    assert version_of(shop.rollout()["spec"]["template"]) == "v1"
    assert shop.pods() == {"v1": 10, "v2": 0}


def test_a_newer_version_is_left_alone(shop: Shop, tmp_path: Path) -> None:
    """Somebody has deployed v3."""
    hook = shop.hook(tmp_path)
    shop.deploy("v3")
    ended = hook.run(rollback())
    assert (ended.outcome, "hands off" in ended.output) == (HookOutcome.FAILED, True), ended.output
    assert (hook.probe(rollback()), version_of(shop.rollout()["spec"]["template"])) == (ProbeAnswer.MOVED_ON, "v3")


def test_it_is_paused_by_hand_and_a_rollback_does_not_wait_for_that(shop: Shop, tmp_path: Path) -> None:
    """Somebody else's change of the size is kept."""
    hook = shop.hook(tmp_path)
    assert hook.run(replace(switch(1), kind=ActionKind.PAUSE)).outcome is HookOutcome.OK
    shop.settle()
    assert "paused by somebody" in hook.run(promote(0.5, 2)).output
    shop.edit({"spec": {"replicas": 12}})
    ended = hook.run(rollback(3))
    assert ended.outcome is HookOutcome.OK, ended.output
    assert shop.rollout()["spec"]["replicas"] == 12


@pytest.mark.parametrize("shop", [BLUE_GREEN], indirect=True)
def test_blue_green_is_switched_and_switched_back(shop: Shop, tmp_path: Path) -> None:
    """The active Service says who has the traffic."""
    hook = shop.hook(tmp_path)
    assert (hook.share(switch()), hook.probe(switch())) == (0.0, ProbeAnswer.NOT_APPLIED)
    assert hook.run(switch(1)).outcome is HookOutcome.OK
    wait_until(lambda: hook.probe(switch()) is ProbeAnswer.APPLIED, within_s=SETTLES_S, what="switched")
    assert hook.share(switch()) == 1.0
    ended = hook.run(rollback(2))
    assert ended.outcome is HookOutcome.OK, ended.output
    wait_until(lambda: hook.probe(rollback()) is ProbeAnswer.APPLIED, within_s=SETTLES_S, what="switched back")
    assert hook.share(rollback()) == 1.0
