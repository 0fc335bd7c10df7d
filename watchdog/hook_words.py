"""What a hook said, in words for people. Pure."""

from watchdog.ports import HookOutcome, HookResult

_WORDS = 300


def last_words(result: HookResult) -> str:
    """What a hook printed last: the name and place of a restore point, for the one who needs it."""
    lines = [line.strip() for line in result.output.splitlines() if line.strip()]
    return lines[-1][:_WORDS] if lines else "the hook finished"


def finding(result: HookResult) -> str:
    """What a test that did not pass said last, or how it ended."""
    lines = [line.strip() for line in result.output.splitlines() if line.strip()]
    return lines[-1][:200] if lines and result.outcome is HookOutcome.FAILED else say(result)


def say(result: HookResult) -> str:
    """The hook's end in words."""
    words = {
        HookOutcome.OK: "the hook finished",
        HookOutcome.RETRY: f"the hook asked for another try{_why(result)}",
        HookOutcome.FAILED: f"the hook failed{_why(result) or _exit(result)}",
        HookOutcome.TIMED_OUT: f"the hook gave no clear answer within {result.duration_s:.0f} s",
        HookOutcome.NOT_STARTED: f"the hook could not be started ({result.output.strip()[:200]})",
    }
    return words[result.outcome]


def _why(result: HookResult) -> str:
    """What a hook of ours gives as its reason; what a program or a receiver of somebody's prints is not that."""
    said = " ".join(result.output.split())[:_WORDS]
    return f" ({said})" if said and result.exit_code is None else ""


def _exit(result: HookResult) -> str:
    return f" (exit {result.exit_code})" if result.exit_code is not None else ""
