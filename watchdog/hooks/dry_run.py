"""Hook `dry_run`: changes nothing and says what it would have done."""

# ruff: noqa: ARG002 (it needs little of what hooks are given)

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from watchdog.ports import Clock, HookCall, HookOutcome, HookResult, ProbeAnswer


class DryRunOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DryRunHook:
    """Ends OK without an effect, so a watch goes on to verify recovery and honestly finds none (NOT_RECOVERED).

    It has no probe: asked whether production changed, the only true answer would be no, for ever.
    """

    kind: ClassVar[str] = "dry_run"
    has_probe = False
    idempotent = True
    acts_elsewhere = False
    timeout_s = 1.0

    Options: ClassVar[type[BaseModel]] = DryRunOptions

    def __init__(
        self,
        name: str,
        options: DryRunOptions,
        clock: Clock,
        env: Mapping[str, str],
        state_dir: Path,
    ) -> None:
        self.name = name

    def run(self, call: HookCall) -> HookResult:
        said = (
            f"dry run, nothing was changed: would have done {call.kind.value} of {call.service} in {call.environment} "
            f"from {call.from_version} to {call.to_version} (action {call.action_id}, attempt {call.attempt}, "
            f"fence {call.fence})"
        )
        return HookResult(outcome=HookOutcome.OK, output=said)

    def probe(self, call: HookCall) -> ProbeAnswer:
        return ProbeAnswer.UNKNOWN

    def still_running(self, action_id: str) -> bool:
        return False
