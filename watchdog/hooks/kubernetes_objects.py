"""What a Deployment, a Rollout and their ReplicaSets say, as the API server hands them out. No I/O.

Sources: kubectl's `rollout status` and `rollout undo`, and the Deployment controller's revision annotation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HASH_LABELS = ("pod-template-hash", "rollouts-pod-template-hash")  # the controllers' own, on ReplicaSets alone
REVISIONS = ("deployment.kubernetes.io/revision", "rollout.argoproj.io/revision")


@dataclass(frozen=True, slots=True)
class VersionIn:
    """Where a pod template says its version: a label, or the tag of a container's image where one is named."""

    label: str
    container: str

    def of(self, template: Mapping[str, Any]) -> str | None:
        if not self.container:
            return str(at(template, "metadata", "labels", self.label) or "") or None
        name, _, digest = str(self._image(template) or "").partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        return tag or digest or None

    def lacking(self, template: Mapping[str, Any] | None) -> str:
        """Why `of` found nothing in a template (None: it is not there), and what to do about it."""
        if template is None:
            return "no ReplicaSet of it was found"
        if not self.container:
            lack = f"the pod template has no label {self.label!r}"
        elif self._image(template) is None:
            lack = f"the pod template has no container {self.container!r}"
        else:
            lack = f"the image of container {self.container!r} has no tag"
        return f"{lack}; set version_label or container to what says it"

    def _image(self, template: Mapping[str, Any]) -> Any:
        containers = at(template, "spec", "containers") or []
        return next((c.get("image", "") for c in containers if c.get("name") == self.container), None)


@dataclass(frozen=True, slots=True)
class Revision:
    """A ReplicaSet: one version of the pods that its owner has run."""

    name: str
    number: int
    version: str | None
    template_hash: str
    template: Mapping[str, Any]  # without what the controller added
    replicas: int
    available: int


def at(value: Any, *path: str) -> Any:
    """What stands at a path of an object, None where it does not go that far."""
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def count(value: Any, *path: str) -> int:
    found = at(value, *path)
    return found if isinstance(found, int) else 0


def revisions(replica_sets: Iterable[Mapping[str, Any]], owner_uid: str, where: VersionIn) -> list[Revision]:
    """Those that the owner controls, the newest first."""
    found = [_revision(item, where) for item in replica_sets if _is_owned(item, owner_uid)]
    return sorted(found, key=lambda revision: revision.number, reverse=True)


def pinned(found: Sequence[Revision], version: str) -> Revision | None:
    """The newest revision of a version: what ran when that version ran last."""
    return next((revision for revision in found if revision.version == version), None)


def is_paused(workload: Mapping[str, Any]) -> bool:
    return at(workload, "spec", "paused") is True


def roll_out(deployment: Mapping[str, Any]) -> str | None:
    """What the roll-out still waits for, in the order in which kubectl asks; None: it has ended."""
    status = at(deployment, "status") or {}
    wanted = at(deployment, "spec", "replicas")
    wanted = wanted if isinstance(wanted, int) else 1
    updated = count(status, "updatedReplicas")
    if count(deployment, "metadata", "generation") > count(status, "observedGeneration"):
        return "the controller has not seen the change yet"
    if updated < wanted:
        return f"{updated} of {wanted} pods are new"
    if count(status, "replicas") > updated:
        return f"{count(status, 'replicas') - updated} old pods are still to end"
    if count(status, "availableReplicas") < updated:
        return f"{count(status, 'availableReplicas')} of {updated} pods are available"
    return None


def is_stuck(deployment: Mapping[str, Any]) -> bool:
    """Whether the controller has given up on the roll-out within its progressDeadlineSeconds."""
    seen = count(deployment, "metadata", "generation") <= count(deployment, "status", "observedGeneration")
    conditions = at(deployment, "status", "conditions") or []
    return seen and any(
        at(c, "type") == "Progressing" and at(c, "reason") == "ProgressDeadlineExceeded" for c in conditions
    )


def _is_owned(replica_set: Mapping[str, Any], uid: str) -> bool:
    owners = at(replica_set, "metadata", "ownerReferences") or []
    return any(at(owner, "uid") == uid and at(owner, "controller") is True for owner in owners)


def _revision(replica_set: Mapping[str, Any], where: VersionIn) -> Revision:
    template = at(replica_set, "spec", "template") or {}
    labels = at(template, "metadata", "labels") or {}
    plain = {key: value for key, value in labels.items() if key not in HASH_LABELS}
    annotations = at(replica_set, "metadata", "annotations") or {}
    numbers = (annotations.get(name, "") for name in REVISIONS)
    return Revision(
        name=str(at(replica_set, "metadata", "name")),
        number=next((int(number) for number in numbers if str(number).isdecimal()), 0),
        version=where.of(template),
        template_hash=next((str(labels[name]) for name in HASH_LABELS if name in labels), ""),
        template={**template, "metadata": {**(at(template, "metadata") or {}), "labels": plain}},
        replicas=count(replica_set, "status", "replicas"),
        available=count(replica_set, "status", "availableReplicas"),
    )
