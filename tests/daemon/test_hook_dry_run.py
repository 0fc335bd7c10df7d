"""The hook `dry_run`."""

from pathlib import Path

from tests.fakes import FakeClock
from watchdog.hooks.dry_run import DryRunHook, DryRunOptions
from watchdog.model import ActionKind
from watchdog.ports import HookCall, HookOutcome, ProbeAnswer


def test_it_says_what_it_would_have_done_and_does_nothing(tmp_path: Path) -> None:
    """The sentence names the action; nothing is written and nothing is claimed of production."""
    hook = DryRunHook("dry", DryRunOptions(), FakeClock(), {}, tmp_path)
    call = HookCall(
        action_id="abc",
        kind=ActionKind.ROLLBACK,
        attempt=1,
        fence=3,
        service="shop",
        environment="production",
        from_version="v2",
        to_version="v1",
        deploy_id="d1",
    )
    result = hook.run(call)
    assert result.outcome is HookOutcome.OK
    assert "nothing was changed" in result.output
    assert "rollback of shop in production from v2 to v1" in result.output
    assert list(tmp_path.iterdir()) == []
    assert not hook.has_probe
    assert hook.probe(call) is ProbeAnswer.UNKNOWN
