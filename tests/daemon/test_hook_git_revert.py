"""The hook `git_revert` with real git and a real bare repository that redeploys on every push."""

import base64
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from tests.git_desk import GitDesk
from tests.hook_calls import promote, rollback
from watchdog.clock import SystemClock
from watchdog.hooks.git_repository import _is_local
from watchdog.hooks.git_revert import GitRevertHook, GitRevertOptions
from watchdog.ports import HookOutcome, ProbeAnswer

TOKEN = "canary-token-1234567890"
NEVER = '#!/bin/sh\necho "refused here" >&2\nexit 1\n'


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    desk = GitDesk(tmp_path_factory.mktemp("desk"))
    desk.deploy("v1", {"app.txt": "v1\n", "docs/a.md": "a\n"})
    desk.deploy("v2", {"app.txt": "v2\n", "new.txt": "new\n"})
    return desk.folder


@pytest.fixture
def desk(deployed: Path, tmp_path: Path) -> GitDesk:
    """v1 and v2 were deployed; v2 is live."""
    desk = GitDesk(shutil.copytree(deployed, tmp_path / "desk", symlinks=True))
    assert desk.live == "v2\n"
    return desk


def a_hook(desk: GitDesk, **options: Any) -> GitRevertHook:
    told = {"remote": str(desk.remote), **options}
    env = {"PATH": os.environ["PATH"], "GIT_TOKEN": TOKEN}
    return GitRevertHook("back", GitRevertOptions(**told), SystemClock(), env, desk.folder / "state")


def test_the_revert_is_pushed_and_the_pipeline_redeploys(desk: GitDesk) -> None:
    """One commit on top, nothing forced, the old version live, and the probe knows."""
    hook, tip = a_hook(desk), desk.at("main^{commit}").split()[1]
    assert hook.preflight(rollback()) is None
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert desk.live == "v1\n"
    assert desk.git("rev-parse", "main~1", where=desk.remote).strip() == tip
    assert desk.git("ls-tree", "--name-only", "main", where=desk.remote).split() == ["app.txt", "docs"]
    assert f"Deploy-Watchdog-Action: {'a' * 64}" in desk.at("main")
    assert hook.probe(rollback()) is ProbeAnswer.APPLIED
    assert hook.acts_elsewhere
    assert hook.share(rollback()) is None


def clone_of(desk: GitDesk) -> Path:
    (found,) = (desk.folder / "state").glob("git-*")
    return found


def a_stale_lock(clone: Path) -> None:
    (clone / "refs/remotes/deploy/tip.lock").touch()


def empty_objects(clone: Path) -> None:
    for file in [*(clone / "objects").rglob("*")]:
        if file.is_file() and file.suffix != ".idx":
            file.chmod(0o600)
            file.write_bytes(b"")


def half_a_clone(clone: Path) -> None:
    shutil.rmtree(clone / "refs")
    (clone / "HEAD").write_text("")


@pytest.mark.parametrize("spoil", [a_stale_lock, empty_objects, half_a_clone])
def test_a_clone_that_a_kill_left_behind_is_made_anew(desk: GitDesk, spoil: Callable[[Path], None]) -> None:
    """A killed git leaves locks and half-written files; what was there is kept aside, once."""
    hook = a_hook(desk)
    for fence in (1, 2):
        assert hook.probe(rollback()) is not ProbeAnswer.UNKNOWN
        spoil(clone_of(desk))
        desk.pull()
        desk.deploy(None, {"other.txt": f"{fence}\n"})
        ended = hook.run(rollback(fence))
        assert ended.outcome is HookOutcome.OK, ended.output
        assert [found.name for found in clone_of(desk).rglob("broken")] == ["broken"]
    assert desk.live == "v1\n"


def test_a_tag_that_became_a_folder_of_tags_is_in_nobodys_way(desk: GitDesk) -> None:
    """`rel` was deleted upstream, and `rel/1` made: the old one is pruned, and the clone stays."""
    desk.git("tag", "rel")
    desk.push()
    hook = a_hook(desk)
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    desk.git("push", "-q", str(desk.remote), ":refs/tags/rel")
    desk.git("tag", "-d", "rel")
    desk.git("tag", "rel/1")
    desk.push()
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert not (clone_of(desk) / "broken").exists()


def test_a_remote_that_is_away_costs_no_clone(desk: GitDesk) -> None:
    """The network and the rights are not mended by fetching everything anew."""
    hook = a_hook(desk)
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    away = desk.remote.rename(desk.remote.with_name("away"))
    assert hook.run(rollback()).outcome is HookOutcome.RETRY
    assert not (clone_of(desk) / "broken").exists()
    away.rename(desk.remote)
    assert hook.run(rollback(2)).outcome is HookOutcome.OK


def test_a_helper_for_passwords_that_cannot_be_run_is_written_anew(desk: GitDesk) -> None:
    """A kill between writing it and its mode left it so for ever."""
    hook = a_hook(desk)
    hook.probe(rollback())
    helper = clone_of(desk) / "askpass"
    whole = helper.read_text()
    for text, mode in ((whole, 0o600), ("", 0o700)):
        helper.write_text(text)
        helper.chmod(mode)
        hook.probe(rollback())
        assert (helper.read_text(), helper.stat().st_mode & 0o777) == (whole, 0o700)


def test_a_second_run_adds_no_second_commit(desk: GitDesk) -> None:
    """A branch that is without the candidate already is what was wanted, whoever did it."""
    hook = a_hook(desk)
    assert [hook.run(rollback()).outcome for _ in range(2)] == [HookOutcome.OK] * 2
    assert desk.deploys == 3
    desk.pull()
    desk.git("revert", "--no-edit", "HEAD")
    desk.git("revert", "--no-edit", "HEAD")
    desk.push()
    assert hook.probe(rollback()) is ProbeAnswer.APPLIED


def test_what_came_after_the_candidate_stays(desk: GitDesk) -> None:
    """Somebody else's commit on top is not thrown away, unless the options say hands off."""
    desk.deploy(None, {"docs/a.md": "b\n"})
    careful = a_hook(desk, newer_commits="hands_off")
    assert careful.probe(rollback()) is ProbeAnswer.MOVED_ON
    assert careful.run(rollback()).outcome is HookOutcome.FAILED
    assert a_hook(desk).run(rollback()).outcome is HookOutcome.OK
    assert (desk.live, desk.at("main:docs/a.md")) == ("v1\n", "b\n")


def test_several_commits_and_a_merge_are_taken_back_at_once(desk: GitDesk) -> None:
    """Everything between target and candidate, whichever way it came in."""
    desk.git("checkout", "--quiet", "-b", "side", "v1")
    desk.deploy(None, {"side.txt": "side\n"}, push=False)
    desk.git("checkout", "--quiet", "main")
    desk.git("merge", "--quiet", "--no-edit", "side")
    desk.deploy("v3", {"app.txt": "v3\n"})
    assert a_hook(desk).run(rollback(candidate="v3")).outcome is HookOutcome.OK
    assert desk.live == "v1\n"
    assert desk.git("ls-tree", "--name-only", "main", where=desk.remote).split() == ["app.txt", "docs"]


def test_a_conflict_is_told_before_and_changes_nothing(desk: GitDesk) -> None:
    """At the start of the watch, with the file; the hook then fails instead of guessing."""
    tip = desk.deploy(None, {"app.txt": "v2 and more\n"})
    hook = a_hook(desk)
    assert "conflict in app.txt" in str(hook.preflight(rollback()))
    ended = hook.run(rollback())
    assert (ended.outcome, "conflict in app.txt" in ended.output) == (HookOutcome.FAILED, True)
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    assert desk.git("rev-parse", "main", where=desk.remote).strip() == tip


def test_a_lost_race_is_run_again(desk: GitDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody pushes between our fetch and our push: the revert is made anew on top of theirs."""
    hook, commit = a_hook(desk), "watchdog.hooks.git_repository.Session.push"
    from watchdog.hooks.git_repository import Session

    push, others = Session.push, iter(["docs/a.md", "docs/b.md"])

    def overtaken(session: Session, made: str) -> str | None:
        if (name := next(others, None)) is not None:
            desk.deploy(None, {name: "theirs\n"})
        return push(session, made)

    monkeypatch.setattr(commit, overtaken)
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert (desk.live, desk.at("main:docs/b.md")) == ("v1\n", "theirs\n")
    assert desk.git("rev-list", "--count", "main", where=desk.remote).strip() == "5"


def test_a_push_whose_answer_was_lost_is_found(desk: GitDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The branch is asked, not the exit code."""
    from watchdog.hooks.git_repository import Session

    push = Session.push
    monkeypatch.setattr(Session, "push", lambda session, commit: push(session, commit) or "connection reset")
    assert a_hook(desk).run(rollback()).outcome is HookOutcome.OK
    assert (desk.live, desk.deploys) == ("v1\n", 3)


def test_a_refused_push_fails_with_the_servers_words(desk: GitDesk) -> None:
    """A protected branch stays as it is."""
    desk.on_receive("pre-receive", NEVER)
    ended = a_hook(desk).run(rollback())
    assert (ended.outcome, "refused here" in ended.output) == (HookOutcome.FAILED, True)
    assert desk.live == "v2\n"


def test_a_branch_that_went_elsewhere_is_left_alone(desk: GitDesk) -> None:
    """The candidate is not on it any more: hands off."""
    desk.git("reset", "--quiet", "--hard", "v1")
    desk.deploy("v3", {"app.txt": "v3\n"}, push=False)
    desk.push("--force")
    hook = a_hook(desk)
    assert hook.probe(rollback()) is ProbeAnswer.MOVED_ON
    assert hook.run(rollback()).outcome is HookOutcome.FAILED
    assert "not what main is on" in str(hook.preflight(rollback()))
    assert desk.live == "v3\n"


def test_only_the_services_folder_goes_back(desk: GitDesk) -> None:
    """In a repository of many services the others keep what they have, and their commits are no moving on."""
    files = {"shop/a.txt": "v3\n", "shop.txt": "v3\n", "cart/b.txt": "v3\n"}
    desk.deploy("v3", files)
    desk.deploy(None, {"cart/b.txt": "newer\n"})
    hook = a_hook(desk, paths=("shop",), newer_commits="hands_off")
    assert hook.run(rollback(candidate="v3", target="v2")).outcome is HookOutcome.OK
    listed = desk.git("ls-tree", "-r", "--name-only", "main", where=desk.remote).split()
    assert listed == ["app.txt", "cart/b.txt", "docs/a.md", "new.txt", "shop.txt"]
    assert desk.at("main:cart/b.txt") == "newer\n"


def test_versions_may_be_commit_ids(desk: GitDesk) -> None:
    """Whole or short, without tags."""
    old, new = (desk.git("rev-parse", "--short", tag).strip() for tag in ("v1", "v2"))
    assert a_hook(desk).run(rollback(candidate=new, target=old)).outcome is HookOutcome.OK
    assert desk.live == "v1\n"


@pytest.mark.parametrize(
    "version", ["", "-x", "--upload-pack=touch owned", "v1..v2", "main", "HEAD", "v1^", "@{-1}", "v9"]
)
def test_a_version_is_a_tag_or_a_commit_id(desk: GitDesk, version: str) -> None:
    """Nothing else that git would understand, least of all an option."""
    ended = a_hook(desk).run(rollback(candidate=version))
    assert ended.outcome is HookOutcome.FAILED
    assert desk.live == "v2\n"


def test_hooks_and_settings_around_us_are_not_used(
    desk: GitDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither hooks in the clone, nor the user's settings, nor what the branch's attributes ask for."""
    (desk.work / ".gitattributes").write_text("*.txt merge=evil filter=evil\n")
    desk.deploy(None, {})
    hook, owned = a_hook(desk), tmp_path / "owned"
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED
    (clone,) = (desk.folder / "state").glob("git-*")
    (clone / "hooks").mkdir()
    for name in ("pre-push", "reference-transaction", "post-index-change"):
        (clone / "hooks" / name).write_text(f"#!/bin/sh\ntouch {owned}\n")
        (clone / "hooks" / name).chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[core]\n hooksPath = {clone}/hooks\n[url "/none"]\n insteadOf = {desk.remote}\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {owned}")
    assert hook.run(rollback()).outcome is HookOutcome.OK
    assert not owned.exists()


def test_a_remote_that_is_away_is_another_try(desk: GitDesk) -> None:
    """RETRY and UNKNOWN; nothing was guessed."""
    desk.remote.rename(desk.folder / "gone.git")
    hook = a_hook(desk)
    assert hook.run(rollback()).outcome is HookOutcome.RETRY
    assert hook.probe(rollback()) is ProbeAnswer.UNKNOWN


def test_a_push_that_hangs_is_ended_in_time(desk: GitDesk) -> None:
    """Nobody can tell what came of it; the probe can."""
    desk.on_receive("pre-receive", "#!/bin/sh\nexec sleep 60\n")
    hook = a_hook(desk, timeout_s=1.0)
    ended = hook.run(rollback())
    assert (ended.outcome, ended.duration_s < 5) == (HookOutcome.TIMED_OUT, True)
    assert hook.probe(rollback()) is ProbeAnswer.NOT_APPLIED


def test_other_kinds_of_action_are_refused(desk: GitDesk) -> None:
    """A revert is a way back and nothing else."""
    assert a_hook(desk).run(promote(0.5)).outcome is HookOutcome.FAILED


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"remote": "ext::sh -c 'touch owned'"}, "is none of"),
        ({"remote": "--upload-pack=touch owned"}, "is none of"),
        ({"remote": "https://ann:secret@example.com/shop.git"}, "would end up in logs"),
        ({"branch": "-f"}, "no name of a branch"),
        ({"branch": "a..b"}, "no name of a branch"),
        ({"paths": ("../other",)}, "no path inside"),
        ({"paths": ("/etc",)}, "no path inside"),
        ({"email": "a>b"}, "should match pattern"),
    ],
)
def test_mistakes_are_found_by_check(desk: GitDesk, wrong: dict[str, Any], told: str) -> None:
    """An address that runs something, a password in it, a branch that is an option."""
    with pytest.raises(ValidationError, match=told):
        a_hook(desk, **wrong)


# --- over HTTP, with a token -------------------------------------------------------------------------------


@contextmanager
def git_over_http(folder: Path, seen: list[str]) -> Iterator[str]:
    """git's own http-backend behind basic authentication."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            wanted = "Basic " + base64.b64encode(f"bot:{TOKEN}".encode()).decode()
            if self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.end_headers()
                return
            self._backend()

        do_POST = do_GET

        def _backend(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            env = {
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(folder), "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command, "PATH_INFO": parts.path, "QUERY_STRING": parts.query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(length),
                "REMOTE_USER": "bot", "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            }  # fmt: skip
            told = subprocess.run(
                ["git", "http-backend"], env=env, input=self.rfile.read(length), capture_output=True, check=True
            ).stdout
            head, _, body = told.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/remote.git"
        server.shutdown()


def test_the_token_goes_to_the_server_and_nowhere_else(desk: GitDesk, tmp_path: Path) -> None:
    """Not into argv, messages or files; the server that asks for it gets it."""
    seen: list[str] = []
    argvs = tmp_path / "argvs"
    spy = tmp_path / "bin" / "git"
    spy.parent.mkdir()
    real = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {argvs}\nexec {real} "$@"\n')
    spy.chmod(0o755)
    with git_over_http(desk.folder, seen) as url:
        options = GitRevertOptions(remote=url, username="bot", token_env="GIT_TOKEN")
        env = {"PATH": f"{spy.parent}:{os.environ['PATH']}", "GIT_TOKEN": TOKEN}
        hook = GitRevertHook("back", options, SystemClock(), env, desk.folder / "state")
        done = hook.run(rollback())
        env["GIT_TOKEN"] = "wrong-token-987654321"
        refused = GitRevertHook("back", options, SystemClock(), env, desk.folder / "other").run(rollback(fence=2))
    assert (done.outcome, desk.live) == (HookOutcome.OK, "v1\n")
    assert any(seen)
    assert refused.outcome is HookOutcome.RETRY
    files = [path for folder in ("state", "other") for path in (desk.folder / folder).rglob("*") if path.is_file()]
    said = [done.output, refused.output, argvs.read_text(), *(path.read_bytes().decode("latin-1") for path in files)]
    assert [text for text in said if TOKEN in text or "wrong-token" in text] == []


@pytest.mark.parametrize(
    ("said", "heals"),
    [
        ("error: cannot lock ref 'refs/remotes/deploy/tip': Unable to create 'tip.lock': File exists.", True),
        ("error: cannot lock ref 'refs/x': Unable to create 'x.lock': No space left on device", False),
        ("error: cannot lock ref 'refs/x': Unable to create 'x.lock': Permission denied", False),
        ("error: unable to read askpass response from 'askpass'", False),
        ("remote: fatal: bad object HEAD", False),
    ],
)
def test_only_what_is_wrong_with_the_clone_itself_costs_the_clone(said: str, heals: bool) -> None:
    """Rights and a full disk are mended elsewhere, and the clone is good then."""
    assert _is_local(said) is heals
