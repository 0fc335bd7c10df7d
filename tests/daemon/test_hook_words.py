"""What people read of a hook's end."""

import pytest

from watchdog.hook_words import say
from watchdog.ports import HookOutcome, HookResult


@pytest.mark.parametrize(
    ("outcome", "begins"),
    [(HookOutcome.FAILED, "the hook failed"), (HookOutcome.RETRY, "the hook asked for another try")],
)
def test_a_hook_without_an_exit_code_says_why(outcome: HookOutcome, begins: str) -> None:
    """The remedy in a refusal reaches whoever reads that the rollback failed, on one line and not without end."""
    words = say(HookResult(outcome=outcome, output="every server of v1 is drained:\n  set it ready\n"))
    assert words == f"{begins} (every server of v1 is drained: set it ready)"
    assert say(HookResult(outcome=outcome)) == begins
    assert len(say(HookResult(outcome=outcome, output="long " * 1000))) < 350


def test_a_program_is_told_by_its_exit_code() -> None:
    """What it prints is its owner's, and stays where it was asked for."""
    failed = HookResult(outcome=HookOutcome.FAILED, exit_code=3, output="secret")
    assert say(failed) == "the hook failed (exit 3)"
    asked = HookResult(outcome=HookOutcome.RETRY, exit_code=75, output="secret")
    assert say(asked) == "the hook asked for another try"
