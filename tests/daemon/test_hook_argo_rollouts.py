"""The hook `argo_rollouts` on a small API server with Argo's controller (tests/kube_rollouts.py says what it does)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.hook_calls import promote, rollback, switch
from tests.kube_server import NAMESPACE, KubeServer, kube_server
from watchdog.clock import SystemClock
from watchdog.hooks import argo_rollouts
from watchdog.hooks.argo_rollouts import ArgoRolloutsHook, ArgoRolloutsOptions
from watchdog.hooks.argo_steps import Stand
from watchdog.hooks.wanted_state import HookEndedError, wanted
from watchdog.model import ActionKind
from watchdog.ports import HookCall, HookOutcome, ProbeAnswer

PAUSE: dict[str, Any] = {"pause": {}}
STEPS = [{"setWeight": 10}, PAUSE, {"setWeight": 20}, {"setWeight": 50}, PAUSE]
CANARY = {"canary": {"steps": STEPS, "trafficRouting": {"nginx": {}}}}


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argo_rollouts, "LOOK_S", 0.001)


@pytest.fixture
def cluster() -> Iterator[KubeServer]:
    """A Rollout that is stable on v1 and stands at 10 % of v2."""
    with kube_server() as server:
        server.create("rollouts", "shop", "v1", replicas=10, strategy=CANARY)
        server.deploy("rollouts", "shop", "v2")
        yield server


def a_hook(cluster: KubeServer, folder: Path, **options: Any) -> ArgoRolloutsHook:
    options = {"url": cluster.url, "namespace": NAMESPACE, "rollout": "shop", "timeout_s": 2.0, **options}
    return ArgoRolloutsHook("back", ArgoRolloutsOptions(**options), SystemClock(), {}, folder)


def status(cluster: KubeServer) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects["rollouts"]["shop"]["status"]
    return found


def pace(kind: ActionKind, fence: int = 1) -> HookCall:
    return replace(switch(fence), kind=kind)


def test_it_is_promoted_from_pause_to_pause(cluster: KubeServer, tmp_path: Path) -> None:
    """The weight of the next pause, then everything; a step that is there already is not taken twice."""
    hook = a_hook(cluster, tmp_path)
    assert (hook.share(promote(0.1)), hook.probe(promote(0.1))) == (0.1, ProbeAnswer.APPLIED)
    for fence, (share, seen) in enumerate(((0.1, 0.1), (0.5, 0.5), (1.0, 1.0), (1.0, 1.0)), 1):
        assert hook.run(promote(share, fence)).outcome is HookOutcome.OK
        cluster.settle()
        assert (hook.probe(promote(share)), hook.share(promote(share))) == (ProbeAnswer.APPLIED, seen)
    assert status(cluster)["stableRS"] == status(cluster)["currentPodHash"]


@pytest.mark.parametrize("share", [0.2, 0.25, 1.0])
def test_a_share_that_is_not_the_next_pauses_is_refused(cluster: KubeServer, tmp_path: Path, share: float) -> None:
    """The Rollout's own steps count; what they give next is said."""
    hook = a_hook(cluster, tmp_path)
    ended = hook.run(promote(share))
    assert (ended.outcome, "is at 50%" in ended.output) == (HookOutcome.FAILED, True), ended.output
    assert (hook.probe(promote(share)), hook.share(promote(share))) == (ProbeAnswer.PARTIAL, 0.1)


def test_a_share_that_was_passed_is_not_gone_back_to(cluster: KubeServer, tmp_path: Path) -> None:
    """Somebody promoted it by hand meanwhile."""
    hook = a_hook(cluster, tmp_path)
    assert hook.run(promote(0.5, 1)).outcome is HookOutcome.OK
    cluster.settle()
    assert hook.probe(promote(0.1)) is ProbeAnswer.MOVED_ON
    assert "hands off" in hook.run(promote(0.1, 2)).output


def test_between_two_pauses_it_takes_no_promotion(cluster: KubeServer, tmp_path: Path) -> None:
    """Clearing a pause it does not stand at would be lost."""
    cluster.deploy("rollouts", "shop", "v3", steps=0)
    hook = a_hook(cluster, tmp_path)
    assert hook.run(promote(0.1, candidate="v3")).outcome is HookOutcome.RETRY


def test_a_rollback_aborts_it_and_v1_has_everything(cluster: KubeServer, tmp_path: Path) -> None:
    """In effect once nobody is sent to v2, and a promotion finds it gone."""
    hook = a_hook(cluster, tmp_path)
    assert hook.run(promote(0.5, 1)).outcome is HookOutcome.OK
    cluster.settle()
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    assert hook.run(rollback(2)).outcome is HookOutcome.OK
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.APPLIED, 1.0)
    assert status(cluster)["canary"]["weights"]["canary"] == {"weight": 0}
    assert status(cluster)["abort"] is True
    assert (hook.probe(promote(0.5)), hook.run(promote(0.5, 3)).outcome) == (ProbeAnswer.MOVED_ON, HookOutcome.FAILED)


def test_without_a_router_the_pods_are_the_share(tmp_path: Path) -> None:
    """An abort is in effect once v2 has none."""
    with kube_server() as cluster:
        cluster.create("rollouts", "shop", "v1", replicas=10, strategy={"canary": {"steps": STEPS}})
        cluster.deploy("rollouts", "shop", "v2")
        hook = a_hook(cluster, tmp_path)
        assert hook.share(promote(0.1)) == pytest.approx(0.1)
        assert hook.run(rollback()).outcome is HookOutcome.OK
        assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.APPLIED, 1.0)
        assert not cluster.replica_sets("v2")[0]["status"]["replicas"]


def test_a_version_that_is_stable_already_is_replaced_in_full(cluster: KubeServer, tmp_path: Path) -> None:
    """An abort has nothing to go back to: v1's own template comes back, without its steps."""
    hook = a_hook(cluster, tmp_path)
    for fence, share in enumerate((0.5, 1.0), 1):
        hook.run(promote(share, fence))
        cluster.settle()
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    ended = hook.run(rollback(3))
    assert ended.outcome is HookOutcome.OK, ended.output
    assert (hook.probe(rollback()), cluster.live("rollouts", "shop")) == (ProbeAnswer.APPLIED, "v1")
    assert len(cluster.objects["replicasets"]) == 2


def test_blue_green_is_switched_and_switched_back(tmp_path: Path) -> None:
    """The active Service says who has the traffic."""
    with kube_server() as cluster:
        cluster.create("rollouts", "shop", "v1", replicas=2, strategy={"blueGreen": {"autoPromotionEnabled": False}})
        cluster.deploy("rollouts", "shop", "v2")
        hook = a_hook(cluster, tmp_path)
        assert (hook.share(switch()), hook.probe(switch())) == (0.0, ProbeAnswer.NOT_APPLIED)
        assert hook.run(switch(1)).outcome is HookOutcome.OK
        cluster.settle()
        assert (hook.share(switch()), hook.probe(switch())) == (1.0, ProbeAnswer.APPLIED)
        assert hook.run(rollback(2)).outcome is HookOutcome.OK
        assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.APPLIED, 1.0)


def test_a_change_in_between_is_read_again(cluster: KubeServer, tmp_path: Path) -> None:
    """Somebody scales up while we abort: both are there. Somebody deploys v3: hands off."""
    cluster.before_patch = [lambda: cluster.edit("rollouts", "shop", lambda o: o["spec"].update(replicas=20))]
    hook = a_hook(cluster, tmp_path)
    assert hook.run(rollback(1)).outcome is HookOutcome.OK
    assert (cluster.objects["rollouts"]["shop"]["spec"]["replicas"], status(cluster)["abort"]) == (20, True)
    cluster.deploy("rollouts", "shop", "v2", env=[{"name": "A", "value": "1"}])
    cluster.before_patch = [lambda: cluster.deploy("rollouts", "shop", "v3", steps=1)]
    ended = hook.run(rollback(2))
    assert (ended.outcome, "on v3" in ended.output) == (HookOutcome.FAILED, True), ended.output
    assert "abort" not in status(cluster)


def test_a_promotion_overtaken_by_an_abort_is_lost(cluster: KubeServer, tmp_path: Path) -> None:
    """The patch of a slow promotion arrives after somebody aborted: refused (409), read again, hands off."""
    cluster.before_patch = [lambda: cluster.edit("rollouts", "shop", lambda o: o["status"].update(abort=True))]
    assert a_hook(cluster, tmp_path).run(promote(0.5)).outcome is HookOutcome.FAILED
    cluster.settle()
    assert status(cluster)["canary"]["weights"]["canary"] == {"weight": 0}


def test_it_is_paused_and_resumed_by_hand(cluster: KubeServer, tmp_path: Path) -> None:
    """Twice without harm; a promotion does not undo somebody's pause, and a rollback does not wait for it."""
    hook = a_hook(cluster, tmp_path)
    for fence, kind in enumerate((ActionKind.PAUSE, ActionKind.PAUSE), 1):
        assert hook.run(pace(kind, fence)).outcome is HookOutcome.OK
    assert hook.probe(pace(ActionKind.PAUSE)) is ProbeAnswer.APPLIED
    assert "paused by somebody" in hook.run(promote(0.5, 3)).output
    assert hook.run(pace(ActionKind.RESUME, 4)).outcome is HookOutcome.OK
    assert hook.probe(pace(ActionKind.RESUME)) is ProbeAnswer.APPLIED
    assert hook.run(pace(ActionKind.PAUSE, 5)).outcome is HookOutcome.OK
    assert hook.run(rollback(6)).outcome is HookOutcome.OK
    late = replace(pace(ActionKind.PAUSE, 7), to_version="v9")
    assert (hook.probe(late), hook.run(late).outcome) == (ProbeAnswer.MOVED_ON, HookOutcome.FAILED)


def test_a_version_that_cannot_be_read_is_not_taken_for_another_one(cluster: KubeServer, tmp_path: Path) -> None:
    """Neither back nor forward is it said that production has moved on; the hook fails aloud, with the remedy."""
    hook = a_hook(cluster, tmp_path, container="typo")
    calls = (rollback(), promote(0.5), pace(ActionKind.PAUSE), pace(ActionKind.RESUME))
    for fence, call in enumerate(calls, 1):
        assert hook.probe(call) is ProbeAnswer.UNKNOWN
        ended = hook.run(replace(call, fence=fence))
        assert (ended.outcome, "no container 'typo'" in ended.output) == (HookOutcome.FAILED, True), ended.output
    assert "set version_label or container" in str(hook.preflight(rollback()))
    assert cluster.patches == []


@pytest.mark.parametrize("lost", ["currentPodHash", "stableRS"])
def test_one_side_that_cannot_be_read_is_enough_to_be_unsure(cluster: KubeServer, tmp_path: Path, lost: str) -> None:
    """Its ReplicaSet is gone: with workloadRef nothing else says which version it is."""
    hook = a_hook(cluster, tmp_path)
    found = hook._look(hook._question())
    del found.rollout["spec"]["template"]
    del found.rollout["status"][lost]
    without = Stand.of(found.rollout, found.revisions)
    for way in (hook._way_back, hook._way_forward):
        with pytest.raises(HookEndedError, match="no ReplicaSet of it"):
            way(without, wanted(promote(0.5)))


def test_what_would_be_in_the_way_is_told_when_the_watch_begins(cluster: KubeServer, tmp_path: Path) -> None:
    """No ReplicaSet to go back to, no right to abort; and the look changes nothing."""
    hook = a_hook(cluster, tmp_path)
    assert hook.preflight(rollback()) is None
    assert "abort" not in status(cluster)
    assert "no ReplicaSet of 'v0'" in str(hook.preflight(rollback(target="v0")))
    cluster.forbidden = {"PATCH"}
    assert "403" in str(hook.preflight(rollback()))


def test_a_template_kept_elsewhere_is_told_by_the_replica_sets(cluster: KubeServer, tmp_path: Path) -> None:
    """With workloadRef the Rollout itself has none."""
    hook = a_hook(cluster, tmp_path)
    found = hook._look(hook._question())
    assert found.rollout["spec"].pop("template")
    assert hook._versions(found) == ("v2", "v1")
