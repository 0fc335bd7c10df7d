"""Stands in for a hook that the configuration no longer has, so that its action fails aloud instead of being lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from watchdog.ports import Clock, HookCall, HookOutcome, HookResult, ProbeAnswer


class MissingHook:
    """Surely not started, and able to tell nothing."""

    kind: ClassVar[str] = "missing"
    Options: ClassVar[type[BaseModel]] = BaseModel
    has_probe = False
    idempotent = False
    acts_elsewhere = False
    timeout_s = 0.0

    def __init__(self, name: str, options: Any, clock: Clock, env: Mapping[str, str], state_dir: Path) -> None:
        raise NotImplementedError("a missing hook is not configured; use NO_HOOK")

    def run(self, call: HookCall) -> HookResult:  # noqa: ARG002
        return HookResult(outcome=HookOutcome.NOT_STARTED, output="the hook is no longer in the configuration")

    def probe(self, call: HookCall) -> ProbeAnswer:  # noqa: ARG002
        return ProbeAnswer.UNKNOWN

    def still_running(self, action_id: str) -> bool:  # noqa: ARG002
        return False


NO_HOOK = MissingHook.__new__(MissingHook)
