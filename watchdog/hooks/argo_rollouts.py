"""Hook `argo_rollouts`: a Rollout of Argo is aborted, promoted to its next pause, paused and resumed, by patches.

They are those of Argo's own command, each with the resourceVersion that was read: whoever was faster wins, and the
Rollout is read and judged again. A version that is stable already is replaced by the template of the ReplicaSet to go
back to, promoted in full at once.
"""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from watchdog.hooks.argo_steps import Stand
from watchdog.hooks.kubernetes_api import JSON_PATCH, MERGE_PATCH, NAME, Api, ApiOptions, collection, items, selector
from watchdog.hooks.kubernetes_objects import VersionIn, at, pinned, revisions
from watchdog.hooks.wanted_state import HookEndedError, Span, Wanted, WantedStateHook, again_later, impossible, wanted
from watchdog.model import ActionKind
from watchdog.ports import Clock, HookCall, HookOutcome, ProbeAnswer

GROUP = "argoproj.io/v1alpha1"
LOOK_S = 0.5  # between two looks at what the controller does
WRITES = 20  # conflicts before a promotion gives up: it must not be in the way of a rollback
NEAR = 0.0005  # steps are whole percents
_PACE = frozenset({ActionKind.PAUSE, ActionKind.RESUME})


class ArgoRolloutsOptions(ApiOptions):
    """What config.toml may say about it."""

    rollout: str = Field(pattern=NAME, description="Name of the Rollout.")


class ArgoRolloutsHook(WantedStateHook):
    """One Rollout. Its controller moves the traffic, so OK may come before the last of it has moved."""

    kind: ClassVar[str] = "argo_rollouts"

    Options: ClassVar[type[BaseModel]] = ArgoRolloutsOptions
    acts_elsewhere = True

    def __init__(
        self, name: str, options: ArgoRolloutsOptions, clock: Clock, env: Mapping[str, str], state_dir: Path
    ) -> None:
        super().__init__(name, options, clock, env, state_dir)
        self._options = options
        self._api = Api(options, env)
        self._version_in = VersionIn(options.version_label, options.container)
        self._path = collection(GROUP, options.namespace, "rollouts", options.rollout)

    def bring_about(self, call: HookCall, span: Span, lock: int) -> str:  # noqa: ARG002
        for tries in count(1):
            stand = self._look(span)
            if call.kind in _PACE:
                said = self._pace(stand, call, span)
            elif call.kind is ActionKind.ROLLBACK:
                said = self._back(stand, wanted(call), span)
            else:
                said = self._forward(stand, wanted(call), span)
            if said is not None:
                return said
            if call.kind is not ActionKind.ROLLBACK and tries == WRITES:
                break
            span.wait()
        raise HookEndedError(HookOutcome.RETRY, f"{self._options.rollout} was changed by others all the time")

    def standing(self, call: HookCall, span: Span) -> ProbeAnswer:
        stand = self._look(span)
        if call.kind in _PACE:
            if self._current(stand) != call.to_version:
                return ProbeAnswer.MOVED_ON
            is_right = stand.is_paused_by_hand is (call.kind is ActionKind.PAUSE)
            return ProbeAnswer.APPLIED if is_right else ProbeAnswer.NOT_APPLIED
        want = wanted(call)
        return self._way_back(stand, want) if call.kind is ActionKind.ROLLBACK else self._way_forward(stand, want)

    def current_share(self, call: HookCall, span: Span) -> float | None:
        stand = self._look(span)
        current, stable = self._versions(stand)
        weight = stand.weight()
        if weight is None or call.to_version not in (current, stable):
            return None
        return weight if call.to_version == current else 1 - weight

    def hindrance(self, call: HookCall, span: Span) -> str | None:
        """The abort is tried as a dry run, which permissions and admission answer as the real one."""
        want = wanted(call)
        stand = self._look(span)
        versions = self._both(stand)
        found = pinned(stand.revisions, want.coming)
        if found is None:
            impossible(f"{self._options.rollout} has no ReplicaSet of {want.coming!r}")
        if versions == (want.leaving, want.coming):
            self._set_status(stand, {"abort": True}, span, dry_run=True)
        return None

    # --- back ---------------------------------------------------------------------------------------------

    def _way_back(self, stand: Stand, want: Wanted) -> ProbeAnswer:
        match self._both(stand):
            case (want.leaving, want.coming):
                if not stand.is_aborted:
                    return ProbeAnswer.NOT_APPLIED
                return ProbeAnswer.APPLIED if stand.has_gone_back else ProbeAnswer.PARTIAL
            case (want.leaving, want.leaving):
                return ProbeAnswer.NOT_APPLIED
            case (want.coming, want.coming):
                return ProbeAnswer.APPLIED if stand.is_seen else ProbeAnswer.PARTIAL
            case (want.coming, want.leaving):
                return ProbeAnswer.PARTIAL
        return ProbeAnswer.MOVED_ON

    def _back(self, stand: Stand, want: Wanted, span: Span) -> str | None:
        """One step of the way back; None: look again."""
        name, versions = self._options.rollout, self._both(stand)
        if self._way_back(stand, want) is ProbeAnswer.APPLIED:
            return f"{name} is back on {want.coming}"
        if versions == (want.leaving, want.coming):
            if not stand.is_aborted:
                self._set_status(stand, {"abort": True}, span)
                return None
        elif versions == (want.leaving, want.leaving):
            self._put_back(stand, want, span)
            return None
        elif versions == (want.coming, want.leaving):
            if stand.is_seen and at(stand.rollout, "status", "promoteFull") is not True:
                self._set_status(stand, {"promoteFull": True}, span)
                return None
        elif versions != (want.coming, want.coming):
            impossible(f"{name} is on {versions[0]}, before it {versions[1]}: hands off")
        if span.ends_at - self._clock.monotonic() < 2 * LOOK_S:
            return f"{name} is on its way back to {want.coming}"
        self._clock.sleep(LOOK_S)
        return None

    def _put_back(self, stand: Stand, want: Wanted, span: Span) -> None:
        target = pinned(stand.revisions, want.coming)
        if target is None:
            impossible(f"{self._options.rollout} has no ReplicaSet of {want.coming!r}")
        if at(stand.rollout, "spec", "template") is None:
            impossible(f"{want.leaving} is stable, and its template belongs to another workload (workloadRef)")
        version = at(stand.rollout, "metadata", "resourceVersion")
        change = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/spec/template", "value": target.template},
        ]
        self._api.patch(self._path, JSON_PATCH, change, span)

    # --- forward ------------------------------------------------------------------------------------------

    def _way_forward(self, stand: Stand, want: Wanted) -> ProbeAnswer:
        current, stable = self._both(stand)
        if current != want.coming or stand.is_aborted:
            return ProbeAnswer.MOVED_ON
        here, following = stand.step_weights()
        if stable == current:
            here, following = 1.0, 1.0
        if here > want.share + NEAR:
            return ProbeAnswer.MOVED_ON
        if abs(here - want.share) < NEAR:
            return ProbeAnswer.APPLIED if stand.is_waiting or stable == current else ProbeAnswer.PARTIAL
        return (
            ProbeAnswer.NOT_APPLIED if stand.is_waiting and abs(following - want.share) < NEAR else ProbeAnswer.PARTIAL
        )

    def _forward(self, stand: Stand, want: Wanted, span: Span) -> str | None:
        """Let it go on to its next pause, where that has the share asked for. It goes there without us: a rollback
        that is decided meanwhile must not have to wait for us."""
        name = self._options.rollout
        standing = self._way_forward(stand, want)
        if standing is ProbeAnswer.APPLIED:
            return f"{name} gives {want.coming} {want.share:.0%}"
        if standing is ProbeAnswer.MOVED_ON:
            impossible(f"{name} does not stand before {want.share:.0%} of {want.coming}: hands off")
        if not stand.is_waiting:
            again_later(f"{name} is on its way to a step, and takes no promotion before it has come there")
        if standing is ProbeAnswer.PARTIAL:
            impossible(f"the next pause of {name} is at {stand.step_weights()[1]:.0%}, not at {want.share:.0%}")
        if stand.is_paused_by_hand:
            impossible(f"{name} was paused by somebody")
        taken = self._set_status(stand, {"pauseConditions": None}, span)
        return f"{name} goes on to {want.share:.0%} of {want.coming}" if taken else None

    def _pace(self, stand: Stand, call: HookCall, span: Span) -> str | None:
        current, is_to_pause = self._current(stand), call.kind is ActionKind.PAUSE
        said = f"{self._options.rollout} is {'paused' if is_to_pause else 'not paused'}"
        if current != call.to_version:
            impossible(f"{self._options.rollout} is on {current}: hands off")
        if stand.is_paused_by_hand is is_to_pause:
            return said
        change = {**_unchanged_since(stand), "spec": {"paused": is_to_pause}}
        return said if self._api.patch(self._path, MERGE_PATCH, change, span) is not None else None

    # --- the API ------------------------------------------------------------------------------------------

    def _look(self, span: Span) -> Stand:
        """The ReplicaSets first: what is decided by, the Rollout, is then as fresh as can be."""
        rollout = self._api.get(self._path, span)
        labels = at(rollout, "spec", "selector", "matchLabels") or {}
        sets = collection("apps/v1", self._options.namespace, "replicasets")
        found = items(self._api.get(sets, span, selector(labels)))
        owned = revisions(found, str(at(rollout, "metadata", "uid")), self._version_in)
        return Stand.of(rollout, owned)

    def _versions(self, stand: Stand) -> tuple[str | None, str | None]:
        return stand.versions(self._version_in)

    def _current(self, stand: Stand) -> str:
        return self._read(self._versions(stand)[0], stand.templates()[0])

    def _both(self, stand: Stand) -> tuple[str, str]:
        """Current and stable; one that cannot be read is no third version, and nobody may go on as if it were."""
        current, stable = zip(self._versions(stand), stand.templates(), strict=True)
        return self._read(*current), self._read(*stable, which="stable")

    def _read(self, version: str | None, template: Mapping[str, Any] | None, *, which: str = "current") -> str:
        if version is None:
            lacking = self._version_in.lacking(template)
            impossible(f"the {which} version of {self._options.rollout} cannot be read: {lacking}")
        return version

    def _set_status(self, stand: Stand, status: dict[str, Any], span: Span, *, dry_run: bool = False) -> bool:
        change = {**_unchanged_since(stand), "status": status}
        return self._api.patch(f"{self._path}/status", MERGE_PATCH, change, span, dry_run=dry_run) is not None


def _unchanged_since(stand: Stand) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": at(stand.rollout, "metadata", "resourceVersion")}}
