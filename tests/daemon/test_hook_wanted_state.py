"""What the hooks with a wanted state share, where a kind breaks its promise never to raise."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fakes import FakeClock
from tests.hook_calls import rollback
from watchdog.hooks.wanted_state import Span, WantedStateHook, impossible
from watchdog.ports import HookCall, HookOutcome, ProbeAnswer


class Broken(WantedStateHook):
    """Raises whatever it is asked."""

    def __init__(self, folder: Path, error: BaseException) -> None:
        super().__init__("back", SimpleNamespace(timeout_s=1.0, probe_timeout_s=1.0), FakeClock(), {}, folder)
        self.error = error

    def bring_about(self, call: HookCall, span: Span, lock: int) -> str:
        raise self.error

    def standing(self, call: HookCall, span: Span) -> ProbeAnswer:
        raise self.error

    def current_share(self, call: HookCall, span: Span) -> float | None:
        raise self.error

    def hindrance(self, call: HookCall, span: Span) -> str | None:
        raise self.error


def test_a_hook_that_breaks_has_failed_and_can_tell_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An answer at once, with what broke in printable words; not an action that seems to run until its deadline."""
    hook = Broken(tmp_path, RuntimeError("no such\x1b[31m pool\u202e"))
    ended = hook.run(rollback())
    assert (ended.outcome, ended.output) == (
        HookOutcome.FAILED,
        "the hook broke: RuntimeError: no such\ufffd[31m pool\ufffd",
    )
    assert (hook.probe(rollback()), hook.share(rollback())) == (ProbeAnswer.UNKNOWN, None)
    assert hook.preflight(rollback()) == ended.output
    assert not hook.still_running(rollback().action_id)
    told = [(record.levelno, record.getMessage(), record.exc_info is not None) for record in caplog.records]
    assert told == [(logging.ERROR, "hook back broke", True)] * 4


def test_what_could_not_be_used_is_not_repeated(tmp_path: Path) -> None:
    """A ValueError quotes what it was given, which may be a secret: its kind alone is told."""
    hook = Broken(tmp_path, ValueError("Invalid header value b'Bearer s3cret\\n'"))
    assert hook.run(rollback()).output == "the hook broke: ValueError"


def test_a_hindrance_is_told_in_printable_words(tmp_path: Path) -> None:
    """It is stored and shown: what another team's file says in it cannot break either."""

    class Hindered(Broken):
        def hindrance(self, call: HookCall, span: Span) -> str | None:
            impossible("no variant (\ud83d\x00)")

    assert Hindered(tmp_path, RuntimeError()).preflight(rollback()) == "no variant (?\ufffd)"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_passes_through(tmp_path: Path, error: type[BaseException]) -> None:
    """A daemon that is stopped does not record that its hook failed."""
    with pytest.raises(error):
        Broken(tmp_path, error()).run(rollback())


def test_a_fence_that_cannot_be_read_is_an_answer(tmp_path: Path) -> None:
    """Damage in the state folder ends the attempt as failed."""
    hook = Broken(tmp_path, RuntimeError())
    hook.run(rollback())
    (fence,) = tmp_path.glob("*.fence")
    fence.write_text("one?")
    assert hook.run(rollback()).output == "the hook broke: ValueError"
