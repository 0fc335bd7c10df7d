"""Where a Rollout of Argo stands: its versions, its step, its weight. No I/O.

Sources: Argo Rollouts' CRD (v1alpha1), and what its own command patches for `abort`, `promote` and `promote --full`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from watchdog.hooks.kubernetes_objects import Revision, VersionIn, at, count

Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """One look at a Rollout. `current` is what it shall become, `stable` what it was last promoted to in full."""

    rollout: Mapping[str, Any]
    revisions: Sequence[Revision]
    current: Revision | None
    stable: Revision | None

    @classmethod
    def of(cls, rollout: Mapping[str, Any], revisions: Sequence[Revision]) -> Self:
        by_hash = {revision.template_hash: revision for revision in revisions}
        return cls(
            rollout=rollout,
            revisions=revisions,
            current=by_hash.get(str(at(rollout, "status", "currentPodHash"))),
            stable=by_hash.get(str(at(rollout, "status", "stableRS"))),
        )

    def versions(self, where: VersionIn) -> tuple[str | None, str | None]:
        """Current and stable; the current one as the template says it, before the controller has seen that."""
        template = at(self.rollout, "spec", "template")
        current = where.of(template) if template else (self.current.version if self.current else None)
        return current, self.stable.version if self.stable else None

    def templates(self) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
        """Those that `versions` reads, None where one is not there."""
        current = at(self.rollout, "spec", "template") or (self.current.template if self.current else None)
        return current, self.stable.template if self.stable else None

    @property
    def is_seen(self) -> bool:
        """Whether the controller has looked at the Rollout as it is now."""
        return str(at(self.rollout, "status", "observedGeneration")) == str(at(self.rollout, "metadata", "generation"))

    @property
    def is_aborted(self) -> bool:
        return at(self.rollout, "status", "abort") is True

    @property
    def is_waiting(self) -> bool:
        """At a pause, for somebody to promote it."""
        return self.is_seen and bool(at(self.rollout, "status", "pauseConditions"))

    @property
    def is_paused_by_hand(self) -> bool:
        return at(self.rollout, "spec", "paused") is True

    @property
    def has_gone_back(self) -> bool:
        """Aborted, and nobody is sent to the current version any more."""
        if not self.is_aborted or not self.is_seen:
            return False
        return self.weight() == 0.0

    def weight(self) -> float | None:
        """The current version's share of the traffic as it is set: by the router, the active Service, or its pods."""
        if self.current is None or self.stable is None:
            return None
        if self.current.template_hash == self.stable.template_hash:
            return 1.0
        active = at(self.rollout, "status", "blueGreen", "activeSelector")
        if active:
            return float(active == self.current.template_hash)
        routed = at(self.rollout, "status", "canary", "weights", "canary")
        if routed is not None:
            return count(routed, "weight") / 100
        everybody = sum(revision.available for revision in self.revisions)
        return self.current.available / everybody if everybody else None

    def step_weights(self) -> tuple[float, float]:
        """The share of the step that it stands at, and the one it would have at its next pause (1: at the end)."""
        if at(self.rollout, "spec", "strategy", "blueGreen") is not None:
            return (1.0 if self.weight() == 1.0 else 0.0), 1.0
        steps: Sequence[Step] = at(self.rollout, "spec", "strategy", "canary", "steps") or []
        index = count(self.rollout, "status", "currentStepIndex")
        here = _weight_after(steps[:index], 0.0) if index < len(steps) else 1.0
        following = steps[index + 1 :]
        pause = next((n for n, step in enumerate(following) if "pause" in step), None)
        return here, 1.0 if pause is None else _weight_after(following[:pause], here)


def _weight_after(steps: Sequence[Step], before: float) -> float:
    weights = [step["setWeight"] / 100 for step in steps if isinstance(step.get("setWeight"), int)]
    return weights[-1] if weights else before
