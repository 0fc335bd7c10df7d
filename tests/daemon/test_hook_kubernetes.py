"""The hook `kubernetes`: options, tokens, and an API server that misbehaves. What it does: tests/e2e."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.hook_calls import promote, rollback, switch
from tests.kube_server import NAMESPACE, KubeServer, kube_server, template
from tests.receivers import receiver
from watchdog.clock import SystemClock
from watchdog.hooks import kubernetes
from watchdog.hooks.kubernetes import KubernetesHook, KubernetesOptions
from watchdog.model import ActionKind
from watchdog.ports import HookCall, HookOutcome, ProbeAnswer


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "LOOK_S", 0.001)


@pytest.fixture
def cluster() -> Iterator[KubeServer]:
    """A Deployment that has run v0, v1 and runs v2, beside another one with a v1 of its own."""
    with kube_server() as server:
        server.create("deployments", "checkout", "v1")
        server.create("deployments", "shop", "v0")
        server.deploy("deployments", "shop", "v1", ports=[{"containerPort": 8080}])
        server.deploy("deployments", "shop", "v2")
        yield server


def a_hook(cluster: KubeServer, folder: Path, **options: Any) -> KubernetesHook:
    options = {"url": cluster.url, "namespace": NAMESPACE, "deployment": "shop", "timeout_s": 2.0, **options}
    return KubernetesHook("back", KubernetesOptions(**options), SystemClock(), {"TOKEN": "secret"}, folder)


def shop(cluster: KubeServer) -> dict[str, Any]:
    return cluster.objects["deployments"]["shop"]


def pace(kind: ActionKind, fence: int = 1) -> HookCall:
    return replace(switch(fence), kind=kind)


def test_the_version_may_stand_in_the_images_tag(cluster: KubeServer, tmp_path: Path) -> None:
    """Of one container by its name; a registry's port is no tag, and a digest is one."""
    hook = a_hook(cluster, tmp_path, container="app")
    assert hook.run(rollback()).outcome is HookOutcome.OK
    images = {"registry:5000/shop": None, "shop:v7@sha256:ab": "v7", "shop@sha256:ab": "sha256:ab"}
    for image, version in images.items():
        assert hook._version_in.of(template("shop", "v9", image=image)) == version


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"container": "none"}, "no container 'none'"),
        ({"container": "app"}, "the image of container 'app' has no tag"),
        ({"version_label": "release"}, "no label 'release'"),
    ],
)
def test_a_version_that_cannot_be_read_is_not_taken_for_another_one(
    cluster: KubeServer, tmp_path: Path, options: dict[str, str], said: str
) -> None:
    """The probe cannot tell, the rollback fails aloud with the remedy, and the look ahead tells it beforehand."""
    cluster.deploy("deployments", "shop", "v2", image="registry:5000/shop")
    hook, before = a_hook(cluster, tmp_path, **options), len(cluster.patches)
    for fence, call in enumerate((rollback(), pace(ActionKind.PAUSE), pace(ActionKind.RESUME)), 1):
        assert hook.probe(call) is ProbeAnswer.UNKNOWN
        ended = hook.run(replace(call, fence=fence))
        assert (ended.outcome, said in ended.output) == (HookOutcome.FAILED, True), ended.output
        assert "set version_label or container" in ended.output
    assert said in str(hook.preflight(rollback()))
    assert len(cluster.patches) == before


@pytest.mark.parametrize("call", [promote(0.5), replace(rollback(), kind=ActionKind.RESTORE_POINT)])
def test_what_a_deployment_cannot_do_is_refused(cluster: KubeServer, tmp_path: Path, call: HookCall) -> None:
    """It has one version at a time."""
    hook = a_hook(cluster, tmp_path)
    assert (hook.run(call).outcome, hook.probe(call)) == (HookOutcome.FAILED, ProbeAnswer.UNKNOWN)
    assert cluster.patches == []


def test_the_token_is_read_anew_for_each_request(cluster: KubeServer, tmp_path: Path) -> None:
    """The kubelet replaces it; a wrong one is an answer, and is not repeated."""
    file = tmp_path / "token"
    file.write_text("first")
    file.chmod(0o600)
    cluster.token = "first"
    hook = a_hook(cluster, tmp_path, token_file=str(file))
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    cluster.token = "second"
    refused = str(hook.preflight(rollback()))
    assert ("401" in refused, "first" in refused) == (True, False)
    file.write_text("second")
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    cluster.token = "secret"
    assert a_hook(cluster, tmp_path, token_env="TOKEN").probe(rollback()) is ProbeAnswer.NOT_APPLIED


def test_in_a_pod_the_service_account_is_enough(cluster: KubeServer, tmp_path: Path) -> None:
    """Without an address and outside of a cluster, that is said; in a pod its authority is the one that counts."""
    assert "not a pod" in str(a_hook(cluster, tmp_path, url="").preflight(rollback()))
    options = KubernetesOptions(namespace=NAMESPACE, deployment="shop")
    inside = KubernetesHook("back", options, SystemClock(), {"KUBERNETES_SERVICE_HOST": "::1"}, tmp_path)
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in str(inside.preflight(rollback()))


def test_an_api_server_that_is_away_or_mad_is_an_answer(cluster: KubeServer, tmp_path: Path) -> None:
    """Nothing sent is tried again; what cannot be read is not guessed at."""
    away = a_hook(cluster, tmp_path, url="http://127.0.0.1:1")
    assert (away.run(rollback()).outcome, away.probe(rollback())) == (HookOutcome.RETRY, ProbeAnswer.UNKNOWN)
    with receiver() as web:
        mad = a_hook(cluster, tmp_path, url=web.url)
        assert (mad.run(rollback(2)).outcome, mad.share(rollback())) == (HookOutcome.FAILED, None)


def test_a_patch_without_an_answer_is_unclear(cluster: KubeServer, tmp_path: Path) -> None:
    """It may have been taken: only the probe can tell."""

    def hang() -> None:
        time.sleep(0.6)

    cluster.before_patch = [hang]
    hook = a_hook(cluster, tmp_path, timeout_s=0.4)
    assert hook.run(rollback()).outcome is HookOutcome.TIMED_OUT
    cluster_settles = threading.Event()
    cluster_settles.wait(0.4)
    assert hook.probe(rollback()) in (ProbeAnswer.APPLIED, ProbeAnswer.PARTIAL)


WRONG: list[Callable[[], dict[str, Any]]] = [
    lambda: {"namespace": "../kube-system"},
    lambda: {"deployment": "shop/status"},
    lambda: {"url": "kubernetes.default"},
    lambda: {"url": "http://kubernetes.default", "token_env": "TOKEN"},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_mistakes_are_found_by_check(wrong: Callable[[], dict[str, Any]]) -> None:
    """Names are names, an address is whole, and no token goes over the network in the clear."""
    with pytest.raises(ValidationError):
        KubernetesOptions(**{"namespace": NAMESPACE, "deployment": "shop", **wrong()})
