"""Argo's controller, as far as its commands steer it; part of the test API server (tests/kube_server.py).

- `status.currentPodHash` is what the template says, `status.stableRS` what was promoted in full last; a new template
  resets step, pause, abort and full promotion;
- each step of the controllers does one step of the Rollout: `setWeight` sets the router's weights and as many pods,
  `pause` adds a pause condition and waits until somebody has removed it; after the last one the version is stable;
- `abort` gives the stable version everything and ends the others' pods, until the template changes;
- `promoteFull` skips the steps; it is forgotten when done;
- `spec.paused` stops all of this;
- with `blueGreen` the active Service changes over after the pause, and back on an abort.
"""

import copy
from typing import Any, Protocol

Object = dict[str, Any]
HASH = "rollouts-pod-template-hash"


class Cluster(Protocol):
    """What the controller needs of the server around it."""

    def replica_set_of(self, resource: str, name: str, owner: Object) -> Object: ...
    def owned(self, owner: Object) -> list[Object]: ...
    def store(self, resource: str, name: str, fresh: Object) -> None: ...
    def scale(self, replica_set: Object, replicas: int, *, available: int | None = None) -> None: ...


def step_rollout(server: Cluster, name: str, rollout: Object) -> None:
    before = copy.deepcopy(rollout)
    new = server.replica_set_of("rollouts", name, rollout)
    status = rollout["status"]
    current = new["metadata"]["labels"][HASH]
    if status.get("currentPodHash") != current:
        for key in ("abort", "promoteFull", "pauseConditions", "controllerPause"):
            status.pop(key, None)
        status.update(currentPodHash=current, currentStepIndex=0)
    status.setdefault("stableRS", current)
    if not rollout["spec"].get("paused") or status.get("abort"):
        _go_on(rollout, status)
    _share_out(server, rollout)
    status["observedGeneration"] = str(rollout["metadata"]["generation"])
    if rollout != before:
        server.store("rollouts", name, rollout)


def _steps(rollout: Object) -> list[Object]:
    strategy = rollout["spec"]["strategy"]
    return [{"pause": {}}] if "blueGreen" in strategy else list(strategy["canary"].get("steps", []))


def _go_on(rollout: Object, status: Object) -> None:
    steps = _steps(rollout)
    if status.get("abort"):
        status.update(currentStepIndex=0)
        status.pop("pauseConditions", None)
        return
    if status["currentPodHash"] == status["stableRS"] or status.get("promoteFull"):
        status.update(currentStepIndex=len(steps), stableRS=status["currentPodHash"])
        status.pop("promoteFull", None)
        return
    index = status["currentStepIndex"]
    if index == len(steps):
        status["stableRS"] = status["currentPodHash"]
    elif "pause" in steps[index] and not status.get("controllerPause"):
        status.update(controllerPause=True, pauseConditions=[{"reason": "CanaryPauseStep"}])
    elif "pause" not in steps[index] or not status.get("pauseConditions"):
        status["currentStepIndex"] = index + 1
        status.pop("controllerPause", None)


def _share_out(server: Cluster, rollout: Object) -> None:
    status, wanted = rollout["status"], rollout["spec"]["replicas"]
    weight = _weight(rollout)
    strategy = rollout["spec"]["strategy"]
    if "blueGreen" in strategy:
        status["blueGreen"] = {"activeSelector": status["currentPodHash" if weight else "stableRS"]}
    elif "trafficRouting" in strategy["canary"]:
        status["canary"] = {"weights": {"canary": {"weight": weight}, "stable": {"weight": 100 - weight}}}
    for replica_set in server.owned(rollout):
        own = replica_set["metadata"]["labels"][HASH]
        part = weight if own == status["currentPodHash"] else 100 - weight if own == status["stableRS"] else 0
        if own == status["stableRS"] == status["currentPodHash"]:
            part = 100
        server.scale(replica_set, round(wanted * part / 100))


def _weight(rollout: Object) -> int:
    status, steps = rollout["status"], _steps(rollout)
    if status.get("abort"):
        return 0
    if status["currentPodHash"] == status["stableRS"] or status["currentStepIndex"] == len(steps):
        return 100
    weights = [step["setWeight"] for step in steps[: status["currentStepIndex"]] if "setWeight" in step]
    return int(weights[-1]) if weights else 0
