"""The hook `kubernetes`: in every run on a small API server that keeps the real one's rules (tests/kube_server.py lists
them), and by `make e2e-kubernetes` the same tests on a real control plane."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.hook_calls import rollback, switch
from tests.kube_cluster import ControlPlane, control_plane
from tests.kube_clusters import Cluster, RealCluster, SmallCluster, interrupted
from tests.kube_server import kube_server, version_of, without_hash
from watchdog.hooks import kubernetes
from watchdog.model import ActionKind
from watchdog.ports import HookCall, HookOutcome, ProbeAnswer

IS_REAL = os.environ.get("E2E") == "kubernetes"
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with control_plane() as running:
        yield running


@pytest.fixture(params=["small", "real"] if IS_REAL else ["small"])
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A Deployment that has run v0, v1 and runs v2."""
    made: RealCluster | SmallCluster
    with kube_server() as server:
        if request.param == "small":
            monkeypatch.setattr(kubernetes, "LOOK_S", 0.001)
            made = SmallCluster(server)
        else:
            monkeypatch.setattr(kubernetes, "LOOK_S", 0.05)
            made = RealCluster(request.getfixturevalue("plane"))
        made.begin()
        made.deploy("v1", ports=[{"containerPort": 8080}])
        made.deploy("v2")
        yield made


def live(cluster: Cluster) -> str:
    return version_of(cluster.shop()["spec"]["template"])


def of_version(cluster: Cluster, version: str) -> list[dict[str, Any]]:
    return [r for r in cluster.replica_sets() if version_of(r["spec"]["template"]) == version]


def pace(kind: ActionKind, fence: int = 1, *, candidate: str = "v3") -> HookCall:
    return replace(switch(fence), kind=kind, to_version=candidate)


def replicas(number: int) -> Any:
    return lambda o: o["spec"].update(replicas=number)


def test_it_is_put_back_to_what_ran_before_with_all_its_pods(cluster: Cluster, tmp_path: Path) -> None:
    """The pinned ReplicaSet's own template, defaults and all; no new one is made, and the revision is a new number."""
    hook = cluster.hook(tmp_path)
    (target,) = of_version(cluster, "v1")
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.NOT_APPLIED, 0.0)
    ended = hook.run(rollback())
    assert (ended.outcome, target["metadata"]["name"] in ended.output) == (HookOutcome.OK, True), ended.output
    assert cluster.shop()["spec"]["template"] == without_hash(target["spec"]["template"])
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.APPLIED, 1.0)
    assert len(cluster.replica_sets()) == 3
    (again,) = of_version(cluster, "v1")
    assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "4"
    assert "put it back to v1" in cluster.shop()["metadata"]["annotations"]["kubernetes.io/change-cause"]


def test_a_second_run_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """It finds the version there."""
    hook = cluster.hook(tmp_path)
    assert hook.run(rollback(1)).outcome is HookOutcome.OK
    before = cluster.shop()["metadata"]["generation"]
    assert "already" in hook.run(rollback(2)).output
    assert cluster.shop()["metadata"]["generation"] == before


def test_an_edit_in_between_is_kept(cluster: Cluster, tmp_path: Path) -> None:
    """Somebody scales up between our reading and our writing: refused (409), read again, both are there."""
    hook = cluster.hook(tmp_path)
    waiting = interrupted(hook, lambda: cluster.edit(replicas(7)))
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert (cluster.shop()["spec"]["replicas"], live(cluster), waiting) == (7, "v1", [])


def test_a_newer_version_in_between_is_left_alone(cluster: Cluster, tmp_path: Path) -> None:
    """v3 is deployed between our reading and our writing: hands off."""
    hook = cluster.hook(tmp_path)
    interrupted(hook, lambda: cluster.deploy("v3", wait=False))
    ended = hook.run(rollback())
    assert (ended.outcome, "on v3: hands off" in ended.output) == (HookOutcome.FAILED, True)
    assert (live(cluster), hook.probe(rollback())) == ("v3", ProbeAnswer.MOVED_ON)


def test_others_who_never_stop_writing_end_the_attempt(cluster: Cluster, tmp_path: Path) -> None:
    """Another one may succeed."""
    hook = cluster.hook(tmp_path)
    interrupted(hook, *[lambda: cluster.edit(replicas(cluster.shop()["spec"]["replicas"] + 1))] * 100)
    ended = hook.run(rollback())
    assert (ended.outcome, "somebody else" in ended.output) == (HookOutcome.RETRY, True)
    assert live(cluster) == "v2"


def test_a_roll_out_under_way_is_paused_and_put_back(cluster: Cluster, tmp_path: Path) -> None:
    """Paused at the first suspicion nothing goes on; the rollback lets it go on, backwards."""
    cluster.edit(replicas(12))
    cluster.settle()
    cluster.deploy("v3", wait=False)
    hook = cluster.hook(tmp_path)
    stop, go_on = pace(ActionKind.PAUSE), pace(ActionKind.RESUME)
    assert hook.probe(stop) is ProbeAnswer.NOT_APPLIED
    assert hook.run(stop).outcome is HookOutcome.OK
    assert (hook.probe(stop), hook.probe(go_on)) == (ProbeAnswer.APPLIED, ProbeAnswer.NOT_APPLIED)
    cluster.settle()
    share = hook.share(replace(switch(), to_version="v3"))
    assert share is not None
    assert share < 1
    back = rollback(2, candidate="v3", target="v2")
    assert hook.probe(back) is ProbeAnswer.NOT_APPLIED
    assert hook.run(back).outcome is HookOutcome.OK
    assert (hook.probe(back), hook.share(back)) == (ProbeAnswer.APPLIED, 1.0)
    assert not cluster.shop()["spec"].get("paused")


def test_a_paused_roll_out_goes_on_when_it_was_healthy(cluster: Cluster, tmp_path: Path) -> None:
    """Resume undoes pause, twice without harm, and only for the version that was paused."""
    cluster.deploy("v3", wait=False)
    hook = cluster.hook(tmp_path)
    for fence, kind in enumerate((ActionKind.PAUSE, ActionKind.PAUSE, ActionKind.RESUME, ActionKind.RESUME), 1):
        assert hook.run(pace(kind, fence)).outcome is HookOutcome.OK
    cluster.settle()
    assert hook.share(replace(switch(), to_version="v3")) == 1.0
    late = pace(ActionKind.PAUSE, 5, candidate="v2")
    assert (hook.run(late).outcome, hook.probe(late)) == (HookOutcome.FAILED, ProbeAnswer.MOVED_ON)


def test_edits_to_the_old_version_stay_where_it_is_live_again(cluster: Cluster, tmp_path: Path) -> None:
    """Somebody was faster, paused it, and gave v1 another image: it goes on as they left it."""
    cluster.edit(lambda o: o["spec"].update(paused=True))
    cluster.deploy("v1", wait=False, image="registry.example/shop:v1-fixed")
    assert cluster.hook(tmp_path).run(rollback()).outcome is HookOutcome.OK
    assert cluster.shop()["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/shop:v1-fixed"
    assert not cluster.shop()["spec"].get("paused")


def test_a_version_that_ran_twice_comes_back_as_it_ran_last(cluster: Cluster, tmp_path: Path) -> None:
    """v1 with other settings was live before v2: that one, not the older."""
    cluster.deploy("v1", env=[{"name": "POOL", "value": "20"}])
    cluster.deploy("v2")
    assert cluster.hook(tmp_path).run(rollback()).outcome is HookOutcome.OK
    assert cluster.shop()["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] == "20"


def test_a_target_that_history_forgot_is_told_when_the_watch_begins(cluster: Cluster, tmp_path: Path) -> None:
    """With the limit that took it; and nothing is changed at the rollback."""
    cluster.edit(lambda o: o["spec"].update(revisionHistoryLimit=0))
    cluster.deploy("v2", env=[{"name": "POOL", "value": "20"}])
    hook = cluster.hook(tmp_path)
    assert "revisionHistoryLimit 0" in str(hook.preflight(rollback()))
    ended = hook.run(rollback())
    assert (ended.outcome, "no ReplicaSet of 'v1'" in ended.output) == (HookOutcome.FAILED, True)
    assert live(cluster) == "v2"


def test_the_look_ahead_tries_the_rollback_and_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """A service account that may not patch is told at the start."""
    hook = cluster.hook(tmp_path)
    before = cluster.shop()["metadata"]["resourceVersion"]
    assert hook.preflight(rollback()) is None
    assert cluster.shop()["metadata"]["resourceVersion"] == before
    reader = cluster.hook(tmp_path, **cluster.stranger())
    assert "answer 403" in str(reader.preflight(rollback()))


def test_new_pods_that_never_come_up_are_told(cluster: Cluster, tmp_path: Path) -> None:
    """The controller has given up: not OK, and in part."""
    cluster.edit(lambda o: o["spec"].update(progressDeadlineSeconds=1))
    cluster.deploy("v1", ready=False)
    cluster.deploy("v2")
    hook = cluster.hook(tmp_path)
    ended = hook.run(rollback())
    assert (ended.outcome, "does not get on" in ended.output) == (HookOutcome.FAILED, True), ended.output
    assert hook.probe(rollback()) is ProbeAnswer.PARTIAL


def test_a_long_roll_out_goes_on_without_us(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is made when our time is over; the probe says in part until the last pod is new."""
    monkeypatch.setattr(kubernetes, "LOOK_S", 0.1)
    cluster.edit(lambda o: o["spec"].update(replicas=200, strategy={"rollingUpdate": {"maxSurge": 1}}))
    cluster.settle()
    hook = cluster.hook(tmp_path, timeout_s=0.5)
    ended = hook.run(rollback())
    assert (ended.outcome, "goes on" in ended.output) == (HookOutcome.OK, True), ended.output
    assert hook.probe(rollback()) is ProbeAnswer.PARTIAL
    assert hook.acts_elsewhere


def test_it_comes_back_to_the_pinned_revision_while_others_never_stop_editing(cluster: Cluster, tmp_path: Path) -> None:
    """Two revisions back, ten times, while somebody labels and scales it all the time: their last word is kept."""
    hook, stop, edits = cluster.hook(tmp_path), threading.Event(), [0]

    def edit() -> None:
        while not stop.wait(0.02):
            edits[0] += 1
            cluster.edit(lambda o: o["metadata"].update(labels={"edits": str(edits[0])}))
            cluster.edit(replicas(2 + edits[0] % 3))

    other = threading.Thread(target=edit)
    other.start()
    try:
        for fence in range(1, 11):
            candidate, target = ("v2", "v0") if fence % 2 else ("v0", "v2")
            while hook.run(rollback(fence, candidate=candidate, target=target)).outcome is not HookOutcome.OK:
                assert live(cluster) == candidate
            assert live(cluster) == target
    finally:
        stop.set()
        other.join()
    assert cluster.shop()["metadata"]["labels"]["edits"] == str(edits[0])
    assert cluster.shop()["spec"]["replicas"] == 2 + edits[0] % 3
    assert len(cluster.replica_sets()) == 3


@pytest.mark.skipif(not IS_REAL, reason="kubectl asks a real API server: make e2e-kubernetes")
def test_kubectl_agrees(plane: ControlPlane, tmp_path: Path) -> None:
    """`rollout status` ends where the probe says in effect, and `rollout history` shows why."""
    cluster = RealCluster(plane)
    cluster.begin()
    cluster.deploy("v1")
    cluster.deploy("v2")
    hook = cluster.hook(tmp_path)
    assert hook.run(rollback()).outcome is HookOutcome.OK
    asked = ("-n", cluster.namespace, "deployment/shop")
    assert "successfully rolled out" in plane.kubectl("rollout", "status", "--watch=false", *asked)
    assert hook.probe(rollback()) is ProbeAnswer.APPLIED
    assert "deploy-watchdog put it back to v1" in plane.kubectl("rollout", "history", *asked)
    cluster.deploy("v3", wait=False, ready=False)
    assert "Waiting for" in plane.kubectl("rollout", "status", "--watch=false", *asked)
    assert hook.probe(rollback(candidate="v2", target="v3")) is ProbeAnswer.PARTIAL
