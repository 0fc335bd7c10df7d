"""A small Kubernetes API server over real HTTP, with the controllers of Deployments and Argo Rollouts.

What it enforces, as the real one does:

- every write gives the object a new `resourceVersion`; a patch that names another one is refused (409);
- a change of `spec` raises `metadata.generation`; one that changes nothing writes nothing;
- what a pod template does not say is filled in (policies, grace period, ports' protocol …), before it is compared;
- patches are JSON patches (a path that is not there, or a `test` that fails: 422) or merge patches; others are 415;
- `metadata.name`, `uid` and the selector cannot be changed (422), and a template must bear the selector's labels (422);
- `status` is changed by its subresource alone, and everything else is not changed by it;
- `dryRun=All` answers as if, and stores nothing;
- a wrong token is 401, a verb that is not granted 403, an unknown object 404, each with a `Status` that says why;
- lists obey `labelSelector`.

The controllers take one step after every third request, so that a roll-out is seen on its way, and gets in our way:
each step writes `status`, and with it a new `resourceVersion`:

- a new template gets a ReplicaSet named after its hash, with `pod-template-hash` added to its labels, an owner and the
  next revision number; a known one gets its old ReplicaSet back, under the next revision number;
- each step replaces one pod; `status` counts what is updated, available and left; `observedGeneration` follows one step
  late; a paused Deployment takes no step, and gets no new ReplicaSet;
- ReplicaSets without pods beyond `revisionHistoryLimit` are deleted, the oldest first;
- pods with the label `never-ready` never become available: their roll-out is given up on (ProgressDeadlineExceeded).
"""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.kube_patches import RefusedError, patched_by
from tests.kube_rollouts import step_rollout
from tests.receivers import Answer, Received, receiver

Object = dict[str, Any]
NAMESPACE = "production"
POD_DEFAULTS = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
CONTAINER_DEFAULTS = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "IfNotPresent",
}
HASH = {"deployments": "pod-template-hash", "rollouts": "rollouts-pod-template-hash"}
REVISION = {"deployments": "deployment.kubernetes.io/revision", "rollouts": "rollout.argoproj.io/revision"}


@dataclass
class KubeServer:
    """`objects` is what is stored, by resource and name. Tests play the other people through `edit`."""

    url: str = ""
    token: str = ""
    forbidden: set[str] = field(default_factory=set)  # HTTP methods that are not granted
    before_patch: list[Callable[[], None]] = field(default_factory=list)  # what others do just before ours arrives
    patches: list[Received] = field(default_factory=list)
    objects: dict[str, dict[str, Object]] = field(
        default_factory=lambda: {"deployments": {}, "rollouts": {}, "replicasets": {}}
    )
    clock: int = 0
    requests: int = 0
    seen: dict[str, int] = field(default_factory=dict)  # what the controllers reported last, by workload

    # --- what people do -----------------------------------------------------------------------------------

    def create(self, resource: str, name: str, version: str, **spec: Any) -> Object:
        """A workload with one version of its pods, rolled out."""
        labels = {"app": name}
        made: Object = {
            "metadata": {"name": name, "uid": f"uid-of-{name}", "generation": 1, "annotations": {}},
            "spec": {
                "replicas": 4,
                "revisionHistoryLimit": 10,
                "selector": {"matchLabels": labels},
                "template": defaulted(template(name, version)),
                **spec,
            },
            "status": {},
        }
        self.store(resource, name, made)
        self.settle()
        return self.objects[resource][name]

    def edit(self, resource: str, name: str, change: Callable[[Object], None]) -> None:
        """Somebody else's write."""
        edited = copy.deepcopy(self.objects[resource][name])
        change(edited)
        self._write(resource, name, edited)

    def deploy(self, resource: str, name: str, version: str, *, steps: int | None = None, **pod: Any) -> None:
        """A new version, and `steps` of the controllers (None: until the roll-out has ended)."""
        self.edit(resource, name, lambda o: o["spec"].update(template=template(name, version, **pod)))
        if steps is None:
            self.settle()
        for _ in range(steps or 0):
            self.step()

    def settle(self) -> None:
        for _ in range(40):
            self.step()

    def replica_sets(self, version: str) -> list[Object]:
        return [r for r in self.objects["replicasets"].values() if version_of(r["spec"]["template"]) == version]

    def live(self, resource: str, name: str) -> str:
        return version_of(self.objects[resource][name]["spec"]["template"])

    # --- requests -----------------------------------------------------------------------------------------

    def answer(self, request: Received) -> Answer:
        try:
            found = self._answer(request)
            status = 200
        except RefusedError as refused:
            status = refused.status
            found = {"kind": "Status", "status": "Failure", "message": str(refused), "code": status}
        said = json.dumps(found).encode()
        self.requests += 1
        if self.requests % 3 == 0:
            self.step()
        return Answer(status, said, {"Content-Type": "application/json"})

    def _answer(self, request: Received) -> Object:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            raise RefusedError(401, "Unauthorized")
        if request.method in self.forbidden:
            raise RefusedError(403, f"the service account may not {request.method.lower()} this")
        parts = request.path.strip("/").split("/")
        if len(parts) < 6 or parts[:1] != ["apis"] or parts[3:5] != ["namespaces", NAMESPACE]:
            raise RefusedError(404, "the server could not find the requested resource")
        resource, names = parts[5], parts[6:]
        if not names:
            return self._list(resource, request.query.get("labelSelector", ""))
        stored = self.objects.get(resource, {}).get(names[0])
        if stored is None:
            raise RefusedError(404, f'{resource} "{names[0]}" not found')
        if request.method == "GET":
            return stored
        return self._patch(resource, names, request)

    def _list(self, resource: str, selector: str) -> Object:
        wanted = dict(part.split("=") for part in selector.split(",") if part)
        found = [o for o in self.objects[resource].values() if wanted.items() <= o["metadata"]["labels"].items()]
        return {"kind": "List", "items": found}

    def _patch(self, resource: str, names: list[str], request: Received) -> Object:
        self.patches.append(request)
        if self.before_patch and "dryRun" not in request.query:
            self.before_patch.pop(0)()
        stored = self.objects[resource][names[0]]
        kind = request.headers.get("content-type", "")
        patched = patched_by(kind, copy.deepcopy(stored), request.json())
        if patched["metadata"].get("resourceVersion") != stored["metadata"]["resourceVersion"]:
            raise RefusedError(409, "the object has been modified; please apply your changes to the latest version")
        self._refuse_what_cannot_change(stored, patched)
        if names[1:] == ["status"]:
            kept, patched = patched["status"], copy.deepcopy(stored)
            patched["status"] = kept
        else:
            patched["status"] = stored["status"]
        if request.query.get("dryRun") == "All":
            return patched
        self._write(resource, names[0], patched)
        return self.objects[resource][names[0]]

    def _refuse_what_cannot_change(self, stored: Object, patched: Object) -> None:
        fixed = [(o["metadata"]["name"], o["metadata"]["uid"], o["spec"]["selector"]) for o in (stored, patched)]
        if fixed[0] != fixed[1]:
            raise RefusedError(422, "field is immutable")
        labels = patched["spec"]["template"]["metadata"].get("labels", {})
        if not patched["spec"]["selector"]["matchLabels"].items() <= labels.items():
            raise RefusedError(422, "spec.template.metadata.labels: `selector` does not match template `labels`")

    # --- storage ------------------------------------------------------------------------------------------

    def _write(self, resource: str, name: str, fresh: Object) -> None:
        stored = self.objects[resource][name]
        fresh["spec"]["template"] = defaulted(fresh["spec"]["template"])
        if fresh == stored:
            return
        if fresh["spec"] != stored["spec"]:
            fresh["metadata"]["generation"] = stored["metadata"].get("generation", 1) + 1
        self.store(resource, name, fresh)

    def store(self, resource: str, name: str, fresh: Object) -> None:
        self.clock += 1
        fresh["metadata"]["resourceVersion"] = str(self.clock)
        self.objects[resource][name] = fresh

    # --- controllers --------------------------------------------------------------------------------------

    def step(self) -> None:
        for name, deployment in list(self.objects["deployments"].items()):
            self._step_deployment(name, deployment)
        for name, rollout in list(self.objects["rollouts"].items()):
            step_rollout(self, name, rollout)

    def _step_deployment(self, name: str, deployment: Object) -> None:
        before = copy.deepcopy(deployment)
        if not deployment["spec"].get("paused"):
            new = self.replica_set_of("deployments", name, deployment)
            self._replace_one_pod(deployment, new)
            self._forget_the_oldest(deployment)
        self._count(deployment)
        if deployment != before:
            self.store("deployments", name, deployment)

    def replica_set_of(self, resource: str, name: str, owner: Object) -> Object:
        """The ReplicaSet of the owner's template, made or brought back under the next revision number."""
        text = json.dumps(owner["spec"]["template"], sort_keys=True)
        found_hash = hashlib.sha256(text.encode()).hexdigest()[:10]
        known = self.objects["replicasets"].get(f"{name}-{found_hash}")
        revision = owner["metadata"]["annotations"].get(REVISION[resource], "0")
        if known is not None and known["metadata"]["annotations"][REVISION[resource]] == revision:
            return known
        following = str(int(revision) + 1)
        owner["metadata"]["annotations"][REVISION[resource]] = following
        if known is None:
            body = copy.deepcopy(owner["spec"]["template"])
            body["metadata"]["labels"][HASH[resource]] = found_hash
            uid = owner["metadata"]["uid"]
            known = {
                "metadata": {
                    "name": f"{name}-{found_hash}",
                    "labels": dict(body["metadata"]["labels"]),
                    "annotations": {},
                    "ownerReferences": [{"uid": uid, "controller": True, "name": name}],
                },
                "spec": {"replicas": 0, "template": body},
                "status": {"replicas": 0, "availableReplicas": 0},
            }
        known["metadata"]["annotations"][REVISION[resource]] = following
        self.store("replicasets", known["metadata"]["name"], known)
        return known

    def owned(self, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        return [r for r in self.objects["replicasets"].values() if r["metadata"]["ownerReferences"][0]["uid"] == uid]

    def scale(self, replica_set: Object, replicas: int, *, available: int | None = None) -> None:
        replica_set["spec"]["replicas"] = replicas
        replica_set["status"] = {
            "replicas": replicas,
            "availableReplicas": replicas if available is None else available,
        }

    def _replace_one_pod(self, deployment: Object, new: Object) -> None:
        wanted = deployment["spec"]["replicas"]
        others = [r for r in self.owned(deployment) if r is not new and r["status"]["replicas"]]
        is_stuck = never_ready(new["spec"]["template"])
        if new["status"]["replicas"] < (1 if is_stuck else wanted):
            self.scale(new, new["status"]["replicas"] + 1, available=0 if is_stuck else None)
        if others and not is_stuck:
            self.scale(others[0], others[0]["status"]["replicas"] - 1)

    def _forget_the_oldest(self, deployment: Object) -> None:
        number = REVISION["deployments"]
        current = deployment["metadata"]["annotations"].get(number)
        old = [
            r
            for r in self.owned(deployment)
            if not r["status"]["replicas"] and r["metadata"]["annotations"][number] != current
        ]
        old.sort(key=lambda r: int(r["metadata"]["annotations"][number]))
        for replica_set in old[: max(0, len(old) - deployment["spec"]["revisionHistoryLimit"])]:
            del self.objects["replicasets"][replica_set["metadata"]["name"]]

    def _count(self, deployment: Object) -> None:
        now = json.dumps(deployment["spec"]["template"], sort_keys=True)
        sets = self.owned(deployment)
        new = [r for r in sets if json.dumps(without_hash(r["spec"]["template"]), sort_keys=True) == now]
        name = deployment["metadata"]["name"]
        late, self.seen[name] = self.seen.get(name, 0), deployment["metadata"]["generation"]
        is_stuck = never_ready(deployment["spec"]["template"])
        reason = "ProgressDeadlineExceeded" if is_stuck else "NewReplicaSetAvailable"
        deployment["status"] = {
            "observedGeneration": late,
            "replicas": sum(r["status"]["replicas"] for r in sets),
            "updatedReplicas": sum(r["status"]["replicas"] for r in new),
            "availableReplicas": sum(r["status"]["availableReplicas"] for r in sets),
            "conditions": [{"type": "Progressing", "status": str(not is_stuck), "reason": reason}],
        }


def template(name: str, version: str, *, ready: bool = True, **pod: Any) -> Object:
    """As somebody writes it: little, the rest is the server's."""
    labels = {"app": name, "app.kubernetes.io/version": version, **({} if ready else {"never-ready": "true"})}
    container = {"name": "app", "image": f"registry.example/{name}:{version}", **pod}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container]}}


def never_ready(given: Object) -> bool:
    return "never-ready" in given["metadata"]["labels"]


def defaulted(given: Object) -> Object:
    filled = copy.deepcopy(given)
    filled["metadata"].setdefault("creationTimestamp", None)
    filled["spec"] = {**POD_DEFAULTS, **filled["spec"]}
    filled["spec"]["containers"] = [{**CONTAINER_DEFAULTS, **c} for c in filled["spec"]["containers"]]
    return filled


def version_of(given: Object) -> str:
    return str(given["metadata"]["labels"]["app.kubernetes.io/version"])


def without_hash(given: Object) -> Object:
    plain = copy.deepcopy(given)
    for label in HASH.values():
        plain["metadata"]["labels"].pop(label, None)
    return plain


@contextmanager
def kube_server() -> Iterator[KubeServer]:
    """An empty cluster on a free port of this machine."""
    with receiver() as web:
        server = KubeServer(url=web.url)
        web.otherwise = server.answer
        yield server
