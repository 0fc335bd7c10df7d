"""One Deployment called shop, in the test API server or in a real cluster, for tests that must hold in both."""

import itertools
import urllib.error
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.kube_cluster import APPS, NODE, ControlPlane
from tests.kube_server import NAMESPACE, KubeServer, template
from tests.servers import wait_until
from watchdog.clock import SystemClock
from watchdog.hooks.kubernetes import KubernetesHook, KubernetesOptions
from watchdog.hooks.kubernetes_api import Api, ApiOptions
from watchdog.hooks.kubernetes_objects import roll_out
from watchdog.hooks.wanted_state import Span

Object = dict[str, Any]
Change = Callable[[Object], None]
_SETTLES_S = 60.0
_numbers = itertools.count(1)


class Cluster(Protocol):
    """What people and controllers do around the hook."""

    def hook(self, folder: Path, **options: Any) -> KubernetesHook: ...
    def deploy(self, version: str, *, wait: bool = True, **pod: Any) -> None: ...
    def edit(self, change: Change) -> None: ...  # of the whole Deployment, as somebody else
    def settle(self) -> None: ...  # until the roll-out has ended, or stands
    def shop(self) -> Object: ...
    def replica_sets(self) -> list[Object]: ...
    def stranger(self) -> Mapping[str, Any]: ...  # options of a hook that may read and nothing else


@dataclass(frozen=True)
class Interrupted(Api):
    """Somebody else is faster by a moment: `others` act between our reading and our writing, one before each patch."""

    others: list[Callable[[], None]] = field(default_factory=list)

    def patch(self, path: str, kind: str, patch: Any, span: Span, *, dry_run: bool = False) -> Object | None:
        if self.others and not dry_run:
            self.others.pop(0)()
        return super().patch(path, kind, patch, span, dry_run=dry_run)


def interrupted(hook: KubernetesHook, *others: Callable[[], None]) -> list[Callable[[], None]]:
    """Those who have not acted yet."""
    waiting = list(others)
    options: ApiOptions = hook._options
    hook._api = Interrupted(options, hook._env, waiting)
    return waiting


@dataclass
class SmallCluster:
    server: KubeServer

    def begin(self) -> None:
        self.server.create("deployments", "checkout", "v1")
        self.server.create("deployments", "shop", "v0")

    def hook(self, folder: Path, **options: Any) -> KubernetesHook:
        options = {"url": self.server.url, "namespace": NAMESPACE, "deployment": "shop", "timeout_s": 2.0, **options}
        return KubernetesHook("back", KubernetesOptions(**options), SystemClock(), {}, folder)

    def deploy(self, version: str, *, wait: bool = True, **pod: Any) -> None:
        self.server.deploy("deployments", "shop", version, steps=None if wait else 2, **pod)

    def edit(self, change: Change) -> None:
        self.server.edit("deployments", "shop", change)

    def settle(self) -> None:
        self.server.settle()

    def shop(self) -> Object:
        return self.server.objects["deployments"]["shop"]

    def replica_sets(self) -> list[Object]:
        return self.server.owned(self.shop())

    def stranger(self) -> Mapping[str, Any]:
        self.server.forbidden = {"PATCH"}
        return {}


@dataclass
class RealCluster:
    plane: ControlPlane
    namespace: str = field(default_factory=lambda: f"shop-{next(_numbers)}")
    token: str = ""

    @property
    def _path(self) -> str:
        return f"{APPS}/{self.namespace}/deployments/shop"

    def begin(self) -> None:
        self.plane.new_namespace(self.namespace)
        self.token = self.plane.service_account(self.namespace)
        spec = {"replicas": 4, "selector": {"matchLabels": {"app": "shop"}}, "template": self._template("v0")}
        self.plane.call("POST", f"{APPS}/{self.namespace}/deployments", {"metadata": {"name": "shop"}, "spec": spec})
        self.settle()

    def hook(self, folder: Path, **options: Any) -> KubernetesHook:
        place = {"url": self.plane.url, "ca_file": str(self.plane.ca_file), "token_env": "TOKEN"}
        options = {**place, "namespace": self.namespace, "deployment": "shop", "timeout_s": 30.0, **options}
        env = {"TOKEN": self.token, "STRANGER": "nobody-we-know"}
        return KubernetesHook("back", KubernetesOptions(**options), SystemClock(), env, folder)

    def deploy(self, version: str, *, wait: bool = True, **pod: Any) -> None:
        self.edit(lambda o: o["spec"].update(template=self._template(version, **pod)))
        if wait:
            self.settle()

    def edit(self, change: Change) -> None:
        while True:
            with suppress(_ConflictError):
                changed = self.shop()
                change(changed)
                self._put(changed)
                return

    def settle(self) -> None:
        wait_until(self._is_settled, within_s=_SETTLES_S, what="the roll-out has ended, or stands")

    def shop(self) -> Object:
        found: Object = self.plane.call("GET", self._path)
        return found

    def replica_sets(self) -> list[Object]:
        uid = self.shop()["metadata"]["uid"]
        found = self.plane.call("GET", f"{APPS}/{self.namespace}/replicasets")["items"]
        return [r for r in found if r["metadata"]["ownerReferences"][0]["uid"] == uid]

    def stranger(self) -> Mapping[str, Any]:
        """An account of its own, with the rights that docs/hooks.md names but for the patches."""
        role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}/roles/watchdog"
        known = self.plane.call("GET", role)
        for rule in known["rules"]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != "patch"]
        self.plane.call("PUT", role, known)
        return {}

    def _template(self, version: str, **pod: Any) -> Object:
        made = template("shop", version, **pod)
        made["spec"]["nodeName"] = NODE
        return made

    def _put(self, changed: Object) -> None:
        try:
            self.plane.call("PUT", self._path, changed)
        except urllib.error.HTTPError as error:
            if error.code == 409:
                raise _ConflictError from error
            raise

    def _is_settled(self) -> bool:
        deployment = self.shop()
        seen = deployment["status"].get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        stands = (
            deployment["spec"].get("paused") or "never-ready" in deployment["spec"]["template"]["metadata"]["labels"]
        )
        return seen and (bool(stands) or roll_out(deployment) is None)


class _ConflictError(Exception):
    pass
