"""The hook `nginx` where a real nginx cannot show it: refusals, crashes, hangs, and what a file may look like."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes import FakeClock
from tests.hook_calls import promote, rollback
from watchdog.clock import SystemClock
from watchdog.hooks.nginx import NginxHook, NginxOptions
from watchdog.ports import HookOutcome, ProbeAnswer

HALF = "upstream shop {\n    server 127.0.0.1:1 weight=1;\n    server 127.0.0.1:2;\n}\n"
SERVERS = {"v1": ("127.0.0.1:1",), "v2": ("127.0.0.1:2",)}
SPLIT = 'split_clients "$remote_addr" $pool {\n{split}}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "upstream.conf"
    path.write_text(HALF)
    return path


def a_hook(file: Path, script: str = "exit 0", **options: Any) -> NginxHook:
    """`script` stands for nginx and sees -t, or -s and reload, as $0 and $1."""
    told = {"file": str(file), "upstream": "shop", "servers": SERVERS, "nginx": ("sh", "-c", script), **options}
    return NginxHook("back", NginxOptions(**told), SystemClock(), {"PATH": "/usr/bin:/bin"}, file.parent / "state")


def test_a_file_that_nginx_refuses_is_taken_back(file: Path) -> None:
    """Its words are kept, the file is as it was, and nothing was reloaded."""
    hook = a_hook(file, f'[ "$0" = -t ] && {{ echo "bad directive"; exit 1; }}; touch {file.parent}/reloaded')
    ended = hook.run(rollback())
    assert (ended.outcome, "bad directive" in ended.output) == (HookOutcome.FAILED, True)
    assert file.read_text() == HALF
    assert not (file.parent / "reloaded").exists()
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED


def test_a_failed_reload_is_taken_back_too(file: Path) -> None:
    """Nobody runs on a file that nobody was told of."""
    assert a_hook(file, '[ "$0" = -t ]').run(rollback()).outcome is HookOutcome.FAILED
    assert file.read_text() == HALF


def test_a_reload_that_hangs_is_not_known_to_have_failed(file: Path) -> None:
    """TIMED_OUT within the deadline, the probe says PARTIAL, and the next attempt finishes it."""
    slow = a_hook(file, '[ "$0" = -t ] || sleep 60', timeout_s=1.0)
    assert slow.run(rollback()).outcome is HookOutcome.TIMED_OUT
    hook = a_hook(file)
    assert hook.probe(rollback()) is ProbeAnswer.PARTIAL
    assert hook.share(rollback()) is None
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert hook.probe(rollback()) is ProbeAnswer.APPLIED


def test_old_workers_that_still_answer_are_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload leaves both generations of workers answering for a moment: done is when no old one has answered."""
    clock = FakeClock()
    until_old_stop = clock.monotonic() + 0.2
    told = {"file": str(file), "upstream": "shop", "servers": SERVERS, "nginx": ("sh", "-c", "exit 0")}
    hook = NginxHook(
        "back",
        NginxOptions(**told, state_url="http://127.0.0.1:1/"),
        clock,
        {"PATH": "/usr/bin:/bin"},
        file.parent / "state",
    )
    answers = itertools.cycle([True, False])
    monkeypatch.setattr(hook, "_is_loaded", lambda *_: clock.monotonic() > until_old_stop or next(answers))
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert clock.monotonic() > until_old_stop + 0.4


def test_a_crash_between_file_and_reload_is_noticed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file alone says APPLIED; what was begun and not finished makes it PARTIAL. A later refusal goes back all
    the way to the file before the crash."""
    hook = a_hook(file)
    monkeypatch.setattr(hook, "_load", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        hook.run(rollback())
    assert "127.0.0.1:2" not in file.read_text()
    assert a_hook(file).probe(rollback()) is ProbeAnswer.PARTIAL
    assert a_hook(file, "exit 1").run(rollback()).outcome is HookOutcome.FAILED
    assert file.read_text() == HALF


THEIRS = "upstream shop {\n    server 127.0.0.1:1 weight=3;\n    server 127.0.0.1:2;\n}\n"
HANGS = '[ "$0" = -t ] || sleep 60'


def test_what_somebody_wrote_since_is_what_comes_back(file: Path) -> None:
    """An attempt ended unclear; long after it another one is refused: the file is as it was before that one."""
    assert a_hook(file, HANGS, timeout_s=0.3).run(rollback(1)).outcome is HookOutcome.TIMED_OUT
    assert a_hook(file).share(rollback()) is None
    file.write_text(THEIRS)
    assert a_hook(file).share(rollback()) == 0.75
    assert a_hook(file).probe(promote(0.25)) is ProbeAnswer.APPLIED
    assert a_hook(file, "exit 1").run(rollback(2, action_id="e" * 64)).outcome is HookOutcome.FAILED
    assert file.read_text() == THEIRS
    assert a_hook(file).share(rollback()) == 0.75


def test_refusals_one_after_the_other_go_back_to_the_same_file(file: Path) -> None:
    """Nobody wrote since, so the file before the unclear attempt is the last one that was surely in force."""
    assert a_hook(file, HANGS, timeout_s=0.3).run(promote(0.25, 1)).outcome is HookOutcome.TIMED_OUT
    assert a_hook(file, HANGS, timeout_s=0.3).run(rollback(2)).outcome is HookOutcome.TIMED_OUT
    for fence in (3, 4):
        assert a_hook(file, "exit 1").run(promote(0.1, fence)).outcome is HookOutcome.FAILED
        assert file.read_text() == HALF
        assert a_hook(file).share(rollback()) is None


def test_a_file_that_was_reloaded_is_the_one_to_go_back_to(file: Path) -> None:
    """nginx took it and was told of it, only the proof is missing: the bad version before it does not come back."""
    unproven = a_hook(file, state_url="http://127.0.0.1:1/", timeout_s=0.3, probe_timeout_s=0.3)
    assert unproven.run(rollback(1)).outcome is HookOutcome.TIMED_OUT
    taken = file.read_text()
    assert unproven.probe(rollback()) is ProbeAnswer.PARTIAL
    assert a_hook(file, "exit 1").run(promote(0.5, 2)).outcome is HookOutcome.FAILED
    assert file.read_text() == taken


def test_what_an_older_version_kept_is_not_put_back(file: Path) -> None:
    """It did not say what it had written: nobody can tell how old it is. That a reload was begun stays known."""
    assert a_hook(file, HANGS, timeout_s=0.3).run(rollback(1)).outcome is HookOutcome.TIMED_OUT
    (kept,) = (file.parent / "state").glob("*.nginx")
    kept.write_text(THEIRS)
    taken = file.read_text()
    assert a_hook(file).probe(rollback()) is ProbeAnswer.PARTIAL
    assert a_hook(file, "exit 1").run(promote(0.5, 2)).outcome is HookOutcome.FAILED
    assert file.read_text() == taken
    assert a_hook(file).run(rollback(3)).outcome is HookOutcome.OK
    assert not kept.exists()


def test_the_file_keeps_its_mode_and_its_link(file: Path, tmp_path: Path) -> None:
    """What is replaced is the file behind a link, with its mode."""
    file.chmod(0o640)
    link = tmp_path / "link.conf"
    link.symlink_to(file)
    assert a_hook(link).run(rollback()).outcome is HookOutcome.OK
    assert link.is_symlink()
    assert (file.stat().st_mode & 0o777, "127.0.0.1:2" in file.read_text()) == (0o640, False)


@pytest.mark.parametrize("template", [SPLIT, "upstream {name} {\n    zone shop 64k;\n{servers}}\n"])
def test_shares_are_written_exactly(file: Path, template: str) -> None:
    """What is read back is what was asked, in either form."""
    hook = a_hook(file, template=template)
    if "{split}" in template:
        file.write_text(template.replace("{split}", "    50% v2;\n    * v1;\n"))
    assert hook.share(promote(0.1)) == 0.5
    for fence, share in enumerate((0.05, 0.1, 0.25, 1 / 3, 1.0, 0.0), 1):
        assert hook.run(promote(share, fence)).outcome is HookOutcome.OK
        assert hook.share(promote(share)) == pytest.approx(share, abs=1e-4)
        assert hook.probe(promote(share)) is ProbeAnswer.APPLIED
    assert hook.probe(promote(0.5)) is ProbeAnswer.NOT_APPLIED


def test_a_third_version_is_left_alone(file: Path) -> None:
    """Neither of ours stands in the file: hands off."""
    file.write_text("upstream shop {\n    server 127.0.0.1:3;\n    server 127.0.0.1:2 down;\n}\n")
    hook = a_hook(file)
    assert hook.probe(rollback()) is ProbeAnswer.MOVED_ON
    assert hook.run(rollback()).outcome is HookOutcome.FAILED
    assert "127.0.0.1:3" in file.read_text()


@pytest.mark.parametrize("version", ["", "-p", "v1; include /etc/passwd", "v1\n}", "v1 v2", "ⅴ1"])
def test_a_version_enters_the_file_only_as_a_plain_word(file: Path, version: str) -> None:
    """Anything else is refused, with a pattern too."""
    hook = a_hook(file, servers={"*": ("{version}.shop.internal:80",)})
    call = replace(rollback(), to_version=version)
    assert hook.run(call).outcome is HookOutcome.FAILED
    assert "no version" in str(hook.preflight(call))
    assert file.read_text() == HALF


def test_a_target_without_servers_is_told_before(file: Path) -> None:
    """At the start of the watch already."""
    assert "no servers are configured for 'v7'" in str(a_hook(file).preflight(rollback(target="v7")))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"servers": {"v1": ("a:1; evil",)}}, "no server of an upstream"),
        ({"servers": {"v 1": ("a:1",)}}, "no version"),
        ({"template": "upstream {name} {}"}, "either {servers} or {split}"),
        ({"template": "{servers}", "state_url": "http://127.0.0.1:1/"}, "needs a template with {digest}"),
        ({"upstream": "shop {"}, "should match pattern"),
    ],
)
def test_mistakes_are_found_by_check(file: Path, wrong: dict[str, Any], told: str) -> None:
    """What would break the file is refused when the configuration is read."""
    with pytest.raises(ValidationError, match=told):
        a_hook(file, **wrong)
