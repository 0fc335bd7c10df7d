"""The moments of a watch on a time axis, and the names of its arms: the same on the page and in a picture. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.result import Design
from watchdog.model import Action, ActionKind, ActionState, Watch

_NAME_CHARS = 14
_IN_EFFECT: Mapping[ActionKind, tuple[ActionState, ...]] = {
    ActionKind.PROMOTE: (ActionState.APPLIED, ActionState.NOT_NEEDED),  # the share was there already
    ActionKind.ROLLBACK: (ActionState.APPLIED,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A moment worth a vertical line. `look` is its kind: deploy, step, verdict, back, onset."""

    at_s: float  # from the deploy
    name: str
    look: str


def moments(watch: Watch, actions: Iterable[Action]) -> list[Moment]:
    """Deploy, promotions, verdict and the way back."""
    found = [Moment(at_s=0.0, name="deploy", look="deploy")]
    for at_s, share in _turns(watch, actions):
        found.append(_step(at_s, share) if share > 0 else Moment(at_s=at_s, name="back", look="back"))
    if watch.degraded_at is not None:
        found.append(Moment(at_s=watch.degraded_at - watch.live_at, name="verdict", look="verdict"))
    return found


def asked_shares(watch: Watch, actions: Iterable[Action], until_s: float) -> list[tuple[float, float]]:
    """The new version's share of the traffic as it was asked for: a staircase of (seconds from the deploy, 0..1) up to
    `until_s`; empty where no share was asked for."""
    share = watch.plan.steps.shares[0] if watch.plan.steps is not None else watch.deploy.share
    if share is None:
        return []
    stairs = [(0.0, share)]
    for at_s, to in sorted(_turns(watch, actions)):
        stairs += [(at_s, stairs[-1][1]), (at_s, to)]
    return [*stairs, (max(until_s, stairs[-1][0]), stairs[-1][1])]


def onset(watch: Watch, said: Mapping[str, Any] | None) -> list[Moment]:
    """When the metric most likely began to be worse; only where there is a sign that it did.

    said: the evidence of one metric as the ledger stores it
    """
    since, now = (said.get("since_look"), said.get("log_evidence")) if said is not None else (None, None)
    if not isinstance(since, int) or not isinstance(now, int | float | str) or not float(now) > 0:
        return []
    return [Moment(at_s=since * watch.plan.step_s, name="onset", look="onset")]


def arm_names(watch: Watch) -> tuple[str, str]:
    """What the old and the new arm are called."""
    if watch.plan.design is Design.BEFORE_AFTER:
        return "before", f"after ({_short(watch.deploy.version)})"
    old = watch.deploy.previous_version
    return f"old ({_short(old)})" if old else "old", f"new ({_short(watch.deploy.version)})"


def _turns(watch: Watch, actions: Iterable[Action]) -> Iterator[tuple[float, float]]:
    """What changed the traffic: seconds from the deploy, and the new version's share from then on."""
    for action in actions:
        is_in_effect = action.state in _IN_EFFECT.get(action.kind, ())
        if is_in_effect and action.finished_at is not None:
            yield action.finished_at - watch.live_at, float(action.params.get("share", 0.0))


def _step(at_s: float, share: float) -> Moment:
    return Moment(at_s=at_s, name=f"{100 * share:.3g} %", look="step")


def _short(version: str) -> str:
    return version if len(version) <= _NAME_CHARS else version[: _NAME_CHARS - 1] + "…"
