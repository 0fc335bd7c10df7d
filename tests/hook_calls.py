"""Calls as the action edge makes them, for the tests of hooks that bring a wanted state about."""

from typing import Any

from watchdog.model import ActionKind
from watchdog.ports import HookCall


def rollback(fence: int = 1, *, candidate: str = "v2", target: str = "v1", action_id: str = "a" * 64) -> HookCall:
    """Away from the candidate."""
    return _call(ActionKind.ROLLBACK, candidate, target, fence, action_id, {})


def promote(share: Any, fence: int = 1, *, candidate: str = "v2", target: str = "v1") -> HookCall:
    """The candidate's share, set to exactly this."""
    return _call(ActionKind.PROMOTE, target, candidate, fence, "b" * 64, {"share": share})


def switch(fence: int = 1) -> HookCall:
    """Everything to the candidate, as in blue-green."""
    return _call(ActionKind.SWITCH, "v1", "v2", fence, "c" * 64, {})


def _call(kind: ActionKind, leaving: str, coming: str, fence: int, action_id: str, params: dict[str, Any]) -> HookCall:
    return HookCall(
        action_id=action_id,
        kind=kind,
        attempt=1,
        fence=fence,
        service="shop",
        environment="production",
        from_version=leaving,
        to_version=coming,
        deploy_id="d1",
        params=params,
    )
