"""Hook `kubernetes`: a Deployment is put back to the pod template of a ReplicaSet that it has run, paused, resumed.

Only what we read is changed: every patch carries the resourceVersion, and where somebody else was faster (409) the
Deployment is read and judged again. The rest of it, replicas and labels included, stays as others set it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from watchdog.hooks.kubernetes_api import JSON_PATCH, NAME, Api, ApiOptions, collection, items, selector
from watchdog.hooks.kubernetes_objects import (
    Revision,
    VersionIn,
    at,
    is_paused,
    is_stuck,
    pinned,
    revisions,
    roll_out,
)
from watchdog.hooks.wanted_state import HookEndedError, Span, Wanted, WantedStateHook, impossible, wanted
from watchdog.model import ActionKind
from watchdog.ports import Clock, HookCall, HookOutcome, ProbeAnswer

GROUP = "apps/v1"
LOOK_S = 0.5  # between two looks at a roll-out that is on its way
# Conflicts before the attempt gives up: while pods come and go, the controller writes several times a second.
WRITES = 20
_PACE = frozenset({ActionKind.PAUSE, ActionKind.RESUME})


class KubernetesOptions(ApiOptions):
    """What config.toml may say about it."""

    deployment: str = Field(pattern=NAME, description="Name of the Deployment.")


class KubernetesHook(WantedStateHook):
    """One Deployment. The controller carries the change out, so OK may come before the last pod is new."""

    kind: ClassVar[str] = "kubernetes"

    Options: ClassVar[type[BaseModel]] = KubernetesOptions
    acts_elsewhere = True

    def __init__(
        self, name: str, options: KubernetesOptions, clock: Clock, env: Mapping[str, str], state_dir: Path
    ) -> None:
        super().__init__(name, options, clock, env, state_dir)
        self._options = options
        self._api = Api(options, env)
        self._version_in = VersionIn(options.version_label, options.container)
        self._path = collection(GROUP, options.namespace, "deployments", options.deployment)

    def bring_about(self, call: HookCall, span: Span, lock: int) -> str:  # noqa: ARG002
        if call.kind in _PACE:
            return self._pace(call, span)
        want = _all_or_nothing(call)
        said = self._put(want, span)
        return f"{said}; {self._outlast(want, span)}"

    def standing(self, call: HookCall, span: Span) -> ProbeAnswer:
        deployment = self._api.get(self._path, span)
        live = self._live(deployment)
        if call.kind in _PACE:
            if live != call.to_version:
                return ProbeAnswer.MOVED_ON
            is_right = is_paused(deployment) is (call.kind is ActionKind.PAUSE)
            return ProbeAnswer.APPLIED if is_right else ProbeAnswer.NOT_APPLIED
        want = _all_or_nothing(call)
        if live == want.coming:
            return ProbeAnswer.PARTIAL if roll_out(deployment) else ProbeAnswer.APPLIED
        return ProbeAnswer.NOT_APPLIED if live == want.leaving else ProbeAnswer.MOVED_ON

    def current_share(self, call: HookCall, span: Span) -> float | None:
        """The coming version's part of the available pods: a Service gives each the same."""
        found = self._revisions(self._api.get(self._path, span), span)
        available = sum(revision.available for revision in found)
        coming = sum(revision.available for revision in found if revision.version == call.to_version)
        return coming / available if available else None

    def hindrance(self, call: HookCall, span: Span) -> str | None:
        """The rollback is tried as a dry run, which permissions, admission and validation answer as the real one."""
        want = _all_or_nothing(call)
        deployment = self._api.get(self._path, span)
        live = self._live(deployment)
        target = self._pinned(deployment, want.coming, span)
        if live == want.leaving:
            self._api.patch(self._path, JSON_PATCH, _put_to(deployment, target), span, dry_run=True)
        return None

    # --- the Deployment -----------------------------------------------------------------------------------

    def _put(self, want: Wanted, span: Span) -> str:
        found = self._api.get(self._path, span)
        self._live(found)  # that it cannot be read is told before what follows from it
        target = self._pinned(found, want.coming, span)
        for _ in range(WRITES):
            deployment = self._api.get(self._path, span)
            live = self._live(deployment)
            if live == want.coming and not is_paused(deployment):
                return f"{self._options.deployment} is on {want.coming} already"
            if live not in (want.coming, want.leaving):
                impossible(f"{self._options.deployment} is on {live}: hands off")
            change = _put_to(deployment, target if live == want.leaving else None)
            if self._api.patch(self._path, JSON_PATCH, change, span) is not None:
                return f"{self._options.deployment} was put to {want.coming}, the template of {target.name}"
        raise _overtaken(self._options.deployment)

    def _pace(self, call: HookCall, span: Span) -> str:
        is_to_pause = call.kind is ActionKind.PAUSE
        said = f"{self._options.deployment} is {'paused' if is_to_pause else 'not paused'}"
        for _ in range(WRITES):
            deployment = self._api.get(self._path, span)
            live = self._live(deployment)
            if live != call.to_version:
                impossible(f"{self._options.deployment} is on {live}: hands off")
            if is_paused(deployment) is is_to_pause:
                return f"{said} already"
            change = [_unchanged_since(deployment), {"op": "add", "path": "/spec/paused", "value": is_to_pause}]
            if self._api.patch(self._path, JSON_PATCH, change, span) is not None:
                return said
        raise _overtaken(self._options.deployment)

    def _outlast(self, want: Wanted, span: Span) -> str:
        """Look until the roll-out has ended, or until our time has; it goes on without us then."""
        while True:
            deployment = self._api.get(self._path, span)
            live, waits_for = self._live(deployment), roll_out(deployment)
            if live != want.coming:
                impossible(f"{self._options.deployment} was put to {live} meanwhile: hands off")
            if waits_for is None:
                return "all pods are new"
            if is_stuck(deployment):
                impossible(f"the roll-out of {want.coming} does not get on: {waits_for}")
            if span.ends_at - self._clock.monotonic() < 2 * LOOK_S:
                return f"the roll-out goes on, {waits_for}"
            self._clock.sleep(LOOK_S)

    def _live(self, deployment: Mapping[str, Any]) -> str:
        """The version it is on; one that cannot be read is not another version, and nobody may go on as if it were."""
        template = at(deployment, "spec", "template") or {}
        live = self._version_in.of(template)
        if live is None:
            lacking = self._version_in.lacking(template)
            impossible(f"the version of {self._options.deployment} cannot be read: {lacking}")
        return live

    def _revisions(self, deployment: Mapping[str, Any], span: Span) -> list[Revision]:
        labels = at(deployment, "spec", "selector", "matchLabels") or {}
        path = collection(GROUP, self._options.namespace, "replicasets")
        found = items(self._api.get(path, span, selector(labels)))
        return revisions(found, str(at(deployment, "metadata", "uid")), self._version_in)

    def _pinned(self, deployment: Mapping[str, Any], version: str, span: Span) -> Revision:
        found = self._revisions(deployment, span)
        target = pinned(found, version)
        if target is None:
            known = ", ".join(str(revision.version) for revision in found)
            limit = at(deployment, "spec", "revisionHistoryLimit")
            impossible(
                f"{self._options.deployment} has no ReplicaSet of {version!r} (it has {known or 'none'}; "
                f"revisionHistoryLimit {limit})"
            )
        return target


def _all_or_nothing(call: HookCall) -> Wanted:
    want = wanted(call)
    if want.share != 1.0:
        impossible("a Deployment has one version; shares are for a load balancer, a Rollout or a flag")
    return want


def _overtaken(name: str) -> HookEndedError:
    return HookEndedError(HookOutcome.RETRY, f"{name} was changed by somebody else {WRITES} times while we wrote")


def _unchanged_since(workload: Mapping[str, Any]) -> dict[str, Any]:
    """The operation that makes the API server refuse (409) a patch of anything but what we read."""
    return {
        "op": "replace",
        "path": "/metadata/resourceVersion",
        "value": at(workload, "metadata", "resourceVersion"),
    }


def _put_to(deployment: Mapping[str, Any], target: Revision | None) -> list[dict[str, Any]]:
    """The patch that brings a revision back and lets the roll-out go on; None: what is there already goes on."""
    change = [_unchanged_since(deployment)]
    if target is not None:
        change.append({"op": "replace", "path": "/spec/template", "value": target.template})
        if at(deployment, "metadata", "annotations"):  # what `kubectl rollout history` shows
            cause = {"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause"}
            change.append({**cause, "value": f"deploy-watchdog put it back to {target.version}"})
    if is_paused(deployment):
        change.append({"op": "replace", "path": "/spec/paused", "value": False})
    return change
