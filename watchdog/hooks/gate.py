"""Hook `gate`: opens the way back for a system that rolls back by itself and asks us whether it shall.

Flagger (hook type `rollback`) and Argo Rollouts (metric provider `web`) ask every few seconds. While the action of this
hook is on its way the answer is "go back"; whether they did, the metrics must show.
"""

# ruff: noqa: ARG002 (it needs little of what hooks are given)

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from watchdog.ports import Clock, HookCall, HookOutcome, HookResult, ProbeAnswer


class GateOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GateHook:
    """Nothing is called: to have recorded and claimed the action is what opens the gate (see watchdog/gate.py)."""

    kind: ClassVar[str] = "gate"
    has_probe = False
    idempotent = True
    acts_elsewhere = True
    timeout_s = 1.0

    Options: ClassVar[type[BaseModel]] = GateOptions

    def __init__(
        self,
        name: str,
        options: GateOptions,
        clock: Clock,
        env: Mapping[str, str],
        state_dir: Path,
    ) -> None:
        self.name = name

    def run(self, call: HookCall) -> HookResult:
        said = f"the gate is open: who asks is told to go back from {call.from_version} to {call.to_version}"
        return HookResult(outcome=HookOutcome.OK, output=said)

    def probe(self, call: HookCall) -> ProbeAnswer:
        return ProbeAnswer.UNKNOWN

    def still_running(self, action_id: str) -> bool:
        return False
