"""The hook `command` against real programs that behave badly."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from watchdog.clock import SystemClock
from watchdog.hooks.command import CommandHook, CommandOptions
from watchdog.hooks.process import KEEP_BYTES
from watchdog.model import ActionKind
from watchdog.ports import HookCall, HookOutcome, ProbeAnswer

ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "SECRET_TOKEN": "canary-secret", "KUBECONFIG": "/kube"}

Make = Callable[..., CommandHook]


def a_call(**changes: Any) -> HookCall:
    told: dict[str, Any] = {
        "action_id": "a" * 64,
        "kind": ActionKind.ROLLBACK,
        "attempt": 2,
        "fence": 7,
        "service": "shop",
        "environment": "production",
        "from_version": "v2",
        "to_version": "v1",
        "deploy_id": "d1",
        "params": {},
    }
    return HookCall(**(told | changes))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A hook that runs a shell script of the test, in its own folder."""

    def hook(script: str = "", **options: Any) -> CommandHook:
        options.setdefault("argv", ("sh", "-c", script))
        options.setdefault("cwd", str(tmp_path))
        options.setdefault("grace_s", 0.3)
        return CommandHook("back", CommandOptions(**options), SystemClock(), ENV, tmp_path / "state")

    return hook


def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize(
    ("script", "outcome", "code"),
    [
        ("exit 0", HookOutcome.OK, 0),
        ("exit 75", HookOutcome.RETRY, 75),
        ("exit 1", HookOutcome.FAILED, 1),
        ("exit 126", HookOutcome.FAILED, 126),
        ("kill -9 $$", HookOutcome.FAILED, -9),
    ],
)
def test_exit_codes_are_outcomes(make: Make, script: str, outcome: HookOutcome, code: int) -> None:
    """0 is done, 75 asks for another try, anything else failed."""
    result = make(script).run(a_call())
    assert (result.outcome, result.exit_code) == (outcome, code)


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (0, ProbeAnswer.APPLIED),
        (3, ProbeAnswer.NOT_APPLIED),
        (4, ProbeAnswer.PARTIAL),
        (5, ProbeAnswer.MOVED_ON),
        (1, ProbeAnswer.UNKNOWN),
        (2, ProbeAnswer.UNKNOWN),
        (75, ProbeAnswer.UNKNOWN),
    ],
)
def test_probe_exit_codes_are_answers(make: Make, code: int, answer: ProbeAnswer) -> None:
    """Only the four agreed codes say something; a probe that fails says nothing."""
    hook = make(probe_argv=("sh", "-c", f"exit {code}"))
    assert hook.has_probe
    assert hook.probe(a_call()) is answer


def test_a_probe_that_cannot_speak_says_unknown(make: Make) -> None:
    """No probe, a missing one and a hanging one are all UNKNOWN, the last within its own deadline."""
    assert make().probe(a_call()) is ProbeAnswer.UNKNOWN
    assert not make().has_probe
    assert make(probe_argv=("/no/such/probe",)).probe(a_call()) is ProbeAnswer.UNKNOWN
    began = time.monotonic()
    slow = make(probe_argv=("sh", "-c", "sleep 60"), probe_timeout_s=0.2)
    assert slow.probe(a_call()) is ProbeAnswer.UNKNOWN
    assert time.monotonic() - began < 3


def test_the_action_is_told_by_environment_and_stdin(make: Make, tmp_path: Path) -> None:
    """Everything about the action is in variables and in one JSON object, in the same words."""
    script = "cat > stdin.json; env > env.txt"
    make(script).run(a_call(params={"share": 0.25, "Bad-Name": 1, "deep": {"x": 1}}))
    env = dict(line.split("=", 1) for line in (tmp_path / "env.txt").read_text().splitlines())
    told = {
        "ACTION_ID": "a" * 64, "KIND": "rollback", "ATTEMPT": "2", "FENCE": "7", "SERVICE": "shop",
        "ENVIRONMENT": "production", "DEPLOY_ID": "d1", "FROM": "v2", "TO": "v1", "PARAM_SHARE": "0.25",
    }  # fmt: skip
    assert {name: env.get(name) for name in told} == told
    assert not {"PARAM_BAD-NAME", "PARAM_DEEP"} & set(env)
    document = json.loads((tmp_path / "stdin.json").read_text())
    assert document == {
        "action_id": "a" * 64, "kind": "rollback", "attempt": 2, "fence": 7, "service": "shop",
        "environment": "production", "deploy_id": "d1", "from": "v2", "to": "v1",
        "params": {"share": 0.25, "Bad-Name": 1, "deep": {"x": 1}},
    }  # fmt: skip


def test_only_allowed_variables_reach_the_program(make: Make) -> None:
    """The daemon's own secrets stay with the daemon; pass_env opens single names."""
    assert "canary-secret" not in make("env").run(a_call()).output
    opened = make("env", pass_env=("KUBECONFIG",)).run(a_call()).output
    assert "KUBECONFIG=/kube" in opened
    assert "canary-secret" not in opened


@pytest.mark.parametrize(
    "version", ["$(touch x)", "`touch x`", "; touch x", "v1\ntouch x", "-rf", "--help", "'; touch x; '", "é$IFS"]
)
def test_a_version_is_never_run(make: Make, tmp_path: Path, version: str) -> None:
    """Whatever a version says, it arrives as text and nothing of it is executed."""
    result = make('printf "%s" "$TO"; cat >/dev/null').run(a_call(to_version=version))
    assert result.outcome is HookOutcome.OK
    assert result.output == version
    assert not (tmp_path / "x").exists()


def test_operands_never_enter_argv(make: Make) -> None:
    """Placeholders and variables in argv stay as they are written: there is no substitution and no shell."""
    literal = ("$TO", "{to}", "%TO%", "$(id)")
    result = make(argv=(sys.executable, "-c", "import sys; print(sys.argv[1:])", *literal)).run(a_call())
    assert result.output.strip() == str(list(literal))


@pytest.mark.parametrize("argv", ["kubectl rollout undo", [], [""], ["a\0b"]])
def test_argv_must_be_a_list_that_names_a_program(argv: Any) -> None:
    """A shell line is refused with the remedy; so is a list without a program."""
    with pytest.raises(ValidationError) as refused:
        CommandOptions(argv=argv)
    if isinstance(argv, str):
        assert "no shell" in str(refused.value)


def test_what_cannot_start_was_not_started(make: Make, tmp_path: Path) -> None:
    """A missing program, one that may not run, one that is none, a missing folder, a NUL: surely without effect."""
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    noise = tmp_path / "noise"
    noise.write_bytes(b"\0\1\2")
    noise.chmod(0o755)
    hooks = [make(argv=("/no/such/program",)), make(argv=(str(plain),)), make(argv=(str(noise),))]
    hooks.append(make("exit 0", cwd=str(tmp_path / "nowhere")))
    for hook in hooks:
        result = hook.run(a_call())
        assert result.outcome is HookOutcome.NOT_STARTED
        assert result.output
    assert make("exit 0").run(a_call(to_version="v\0")).outcome is HookOutcome.NOT_STARTED


def test_a_hook_that_hangs_is_stopped_with_its_children(make: Make, tmp_path: Path) -> None:
    """At the deadline the whole group is ended, not only the first process."""
    hook = make("sleep 300 & echo $! > child; sleep 300", timeout_s=0.3)
    began = time.monotonic()
    result = hook.run(a_call())
    assert result.outcome is HookOutcome.TIMED_OUT
    assert time.monotonic() - began < 3
    assert result.duration_s == pytest.approx(time.monotonic() - began, abs=0.5)
    child = int((tmp_path / "child").read_text())
    assert eventually(lambda: not alive(child))


def test_term_comes_first_and_gives_time_to_tidy_up(make: Make) -> None:
    """A hook that answers TERM may finish; it still counts as timed out, since nobody knows how far it got."""
    tidy = "trap 'echo tidy; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    result = make(tidy, timeout_s=0.4, grace_s=5).run(a_call())
    assert result.outcome is HookOutcome.TIMED_OUT
    assert result.output.startswith("up\n")
    assert result.output.endswith("tidy\n")
    assert result.exit_code == 0
    assert result.duration_s < 4


def test_a_hook_that_ignores_term_is_killed(make: Make) -> None:
    """TERM, grace, then KILL, which nobody ignores."""
    result = make("trap '' TERM; while :; do sleep 0.05; done", timeout_s=0.2, grace_s=0.2).run(a_call())
    assert (result.outcome, result.exit_code) == (HookOutcome.TIMED_OUT, -signal.SIGKILL)
    assert 0.4 <= result.duration_s < 3


def test_an_escaped_grandchild_that_holds_the_pipes_does_not_hold_us(make: Make, tmp_path: Path) -> None:
    """A double fork into its own session keeps stdout open; the run still ends with the hook."""
    script = "setsid sh -c 'echo $$ > escaped; sleep 20' & while [ ! -s escaped ]; do sleep 0.01; done; echo done"
    hook = make(script)
    began = time.monotonic()
    result = hook.run(a_call())
    took = time.monotonic() - began
    escaped = int((tmp_path / "escaped").read_text())
    try:
        assert result.outcome is HookOutcome.OK
        assert result.output == "done\n"
        assert took < 3
        assert alive(escaped)
        assert hook.still_running("a" * 64)  # and we know that it is there
    finally:
        os.killpg(escaped, signal.SIGKILL)
    assert eventually(lambda: not hook.still_running("a" * 64))


def test_what_a_hook_leaves_in_its_group_is_ended(make: Make, tmp_path: Path) -> None:
    """Nothing of an attempt goes on changing production after its outcome is known."""
    hook = make("sleep 300 & echo $! > child; exit 0")
    assert hook.run(a_call()).outcome is HookOutcome.OK
    child = int((tmp_path / "child").read_text())
    assert not alive(child)
    assert not hook.still_running("a" * 64)


def test_a_killed_child_that_is_slow_to_go_is_waited_for(make: Make, tmp_path: Path) -> None:
    """It holds the lock of the attempt until the kernel has freed its memory; the next attempt must not meet it."""
    holder = "import time; held = b'x' * (400 << 20); open('big', 'w'); time.sleep(300)"
    big = f'{sys.executable} -c "{holder}"'
    hook = make(f"{big} & while [ ! -e big ]; do sleep 0.01; done; exit 0")
    for _ in range(3):
        (tmp_path / "big").unlink(missing_ok=True)
        assert hook.run(a_call()).outcome is HookOutcome.OK
        assert not hook.still_running("a" * 64)


def test_endless_output_is_bounded_and_keeps_both_ends(make: Make) -> None:
    """`yes` for its whole deadline: the first and the last part are kept, the deadline too."""
    result = make("echo first; yes", timeout_s=0.5, grace_s=0).run(a_call())
    assert result.outcome is HookOutcome.TIMED_OUT
    assert result.output.startswith("first\ny\n")
    assert "bytes left out" in result.output
    assert len(result.output) < 2 * KEEP_BYTES + 100
    assert result.duration_s < 3


def test_long_output_keeps_its_first_and_last_line(make: Make) -> None:
    """What is dropped is the middle, and it says how much."""
    result = make("echo begin; yes x | head -c 300000; echo the end").run(a_call())
    assert result.output.startswith("begin\n")
    assert result.output.endswith("the end\n")
    dropped = int(result.output.split("… ")[1].split(" bytes")[0])
    assert dropped == len("begin\n") + 300_000 + len("the end\n") - 2 * KEEP_BYTES


def test_binary_output_becomes_printable_text(make: Make) -> None:
    """No byte of a hook can move a cursor, end a line of a log, or break the ledger."""
    result = make(r"printf 'a\000b\033[2Jc\377d\342\200\256e\n'").run(a_call())
    assert result.output == "a\ufffdb\ufffd[2Jc\ufffdd\ufffde\n"


def test_stdin_that_nobody_reads_is_no_trouble(make: Make) -> None:
    """A document larger than a pipe holds neither blocks nor breaks a hook that does not read it."""
    assert make("exit 0").run(a_call(params={"text": "x" * 500_000})).outcome is HookOutcome.OK


def test_a_second_attempt_does_not_start_beside_a_running_one(make: Make, tmp_path: Path) -> None:
    """While an attempt is alive, another one of the same action is refused, and still_running says why."""
    first = threading.Thread(target=make("touch up; sleep 0.5").run, args=(a_call(),))
    hook = make("touch second")
    assert not hook.still_running("a" * 64)
    first.start()
    assert eventually((tmp_path / "up").exists)
    assert hook.still_running("a" * 64)
    assert not hook.still_running("b" * 64)
    refused = hook.run(a_call(attempt=3))
    assert refused.outcome is HookOutcome.TIMED_OUT  # what the first one will do, nobody can tell
    assert "still running" in refused.output
    assert not (tmp_path / "second").exists()
    first.join()
    assert not hook.still_running("a" * 64)


def test_a_hook_that_outlives_its_daemon_is_seen(make: Make, tmp_path: Path) -> None:
    """SIGKILL to the daemon while its hook runs: the next daemon sees the attempt until it ends."""
    script = "echo $$ > hook.pid; sleep 20"
    daemon = (
        "import sys; from pathlib import Path; from watchdog.clock import SystemClock;"
        "from watchdog.hooks.command import CommandHook, CommandOptions;"
        "from watchdog.model import ActionKind; from watchdog.ports import HookCall;"
        "options = CommandOptions(argv=('sh', '-c', sys.argv[1]), cwd=sys.argv[2]);"
        "hook = CommandHook('back', options, SystemClock(), {'PATH': '/usr/bin:/bin'}, Path(sys.argv[2], 'state'));"
        "hook.run(HookCall(action_id='a' * 64, kind=ActionKind.ROLLBACK, attempt=1, fence=1, service='s',"
        " environment='e', from_version='v2', to_version='v1', deploy_id='d'))"
    )
    root = Path(__file__).parents[2]
    former = subprocess.Popen([sys.executable, "-c", daemon, script, str(tmp_path)], cwd=root)
    pid_file = tmp_path / "hook.pid"
    assert eventually(lambda: pid_file.exists() and pid_file.read_text().strip() != "", within_s=20)
    former.kill()
    former.wait()
    orphan = int(pid_file.read_text())
    hook = make("exit 0")
    try:
        assert alive(orphan)
        assert hook.still_running("a" * 64)
        assert hook.run(a_call()).outcome is HookOutcome.TIMED_OUT
    finally:
        os.killpg(orphan, signal.SIGKILL)
    assert eventually(lambda: not hook.still_running("a" * 64))
    assert hook.run(a_call()).outcome is HookOutcome.OK


def test_an_action_id_is_never_a_path(make: Make, tmp_path: Path) -> None:
    """An id that looks like a path stays inside the state folder."""
    assert make("exit 0").run(a_call(action_id="../../escape")).outcome is HookOutcome.OK
    assert not (tmp_path.parent / "escape.lock").exists()
    assert len(list((tmp_path / "state").iterdir())) == 1


def test_without_a_lock_file_nothing_starts(make: Make, tmp_path: Path) -> None:
    """A state folder that cannot be written means no attempt: nobody could tell later whether it still runs."""
    (tmp_path / "state").write_text("a file in the way")
    result = make("touch effect").run(a_call())
    assert result.outcome is HookOutcome.NOT_STARTED
    assert not (tmp_path / "effect").exists()


def test_the_time_allowed_includes_the_grace(make: Make) -> None:
    """Whoever waits out a claim must wait until the group is surely killed."""
    assert make(timeout_s=10, grace_s=3).timeout_s == 13
