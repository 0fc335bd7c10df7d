"""A bare repository of our own, by git's plumbing: nothing is checked out, nothing of the branch's content is run.

No configuration of the machine or the user is read, hooks are off, one transport is allowed, and nobody is prompted.
Needs git 2.38 or newer (`merge-tree --write-tree`).
"""

import logging
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from watchdog.hooks.process import Finished, Program, run
from watchdog.hooks.wanted_state import Span, again_later, impossible, locked, unclear

_log = logging.getLogger(__name__)

MAX_PRINTED_BYTES = 256 * 1024 * 1024
LOCK, ASKPASS, ASIDE = "clone.lock", "askpass", "broken"  # in the clone's folder, beside what is git's own
# What git says of the clone itself: a lock that a killed git left, refs in each other's way, files that are no good.
# The network, the rights and a full disk are not mended by a new clone.
_LOCAL = re.compile(
    r"cannot lock ref|\.lock': File exists|local refs could not be updated|not a git repository|bad config|corrupt"
    r"|bad object|loose object|object file|unable to (?:read|resolve reference|find)|did not send all necessary objects"
    r"|missing (?:blob|tree|commit|object)|invalid sha1 pointer|unresolved deltas|packfile|inflate|broken ref"
)
_NOT_OF_THE_CLONE = re.compile(r"askpass|No space left|Permission denied|Read-only file system|[Qq]uota")
_SCP_LIKE = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^\s-]\S*")
_SCHEMES = ("https", "http", "ssh", "file")
_SETTINGS = ("core.hooksPath=/dev/null", "credential.helper=", "gc.auto=0", "maintenance.auto=false", "core.fsmonitor=")
_ASKPASS = '#!/bin/sh\ncase "$1" in\nUsername*) printf "%s\\n" "$WATCHDOG_GIT_USER" ;;\n'
_ASKPASS += '*) printf "%s\\n" "$WATCHDOG_GIT_TOKEN" ;;\nesac\n'


def check_remote(remote: str) -> str:
    """Return `remote` where it is an address git may be given; ValueError says what was expected."""
    parts = urlsplit(remote)
    is_web = parts.scheme in ("http", "https")
    if parts.password or (is_web and parts.username):
        raise ValueError("a user or password in the address would end up in logs; use username and token_env")
    is_url = parts.scheme in _SCHEMES and "://" in remote and not any(c.isspace() for c in remote)
    if not (is_url or remote.startswith("/") or _SCP_LIKE.fullmatch(remote)):
        raise ValueError(f"{remote!r} is none of https://…, ssh://…, user@host:path and /path")
    return remote


def scheme_of(remote: str) -> str:
    """The only transport that git may use for it."""
    scheme = urlsplit(remote).scheme
    return scheme if scheme in _SCHEMES else ("file" if remote.startswith("/") else "ssh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who we are to the remote. The token goes by the environment to git's own question for a password, only there."""

    username: str
    token: SecretStr | None
    ssh_key_file: str
    author: str
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """The files that a revert cannot be done in without a human."""

    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repository:
    """Where the clone is and what it is a clone of; `session` gives one user at a time what works on it."""

    folder: Path
    remote: str
    branch: str
    access: Access
    path: str  # the variable PATH, to find git and ssh

    @contextmanager
    def session(self, span: Span, lock: int | None = None) -> Iterator["Session"]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.folder / LOCK, span):
            session = Session(self, span, self._environment(), (lock,) if lock is not None else ())
            if not all((self.folder / name).exists() for name in ("objects", "HEAD")):
                session.init()
            self._write_askpass()
            yield session

    def move_aside(self) -> None:
        """Empty the folder but for the lock that we hold; what was there stays in it until the next time, to be looked
        at. A kill half-way leaves what is no repository, which comes here again."""
        aside = self.folder / ASIDE
        try:
            if aside.exists():
                shutil.rmtree(aside)
            aside.mkdir(mode=0o700)
            for entry in [*self.folder.iterdir()]:
                if entry.name not in (LOCK, ASKPASS, ASIDE):
                    entry.rename(aside / entry.name)
        except OSError as error:
            again_later(f"the clone is no good, and cannot be moved aside: {error}")

    def _environment(self) -> dict[str, str]:
        access = self.access
        env = {
            "PATH": self.path, "HOME": str(self.folder), "LANG": "C", "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1", "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_ALLOW_PROTOCOL": scheme_of(self.remote), "GIT_ASKPASS": str(self.folder / ASKPASS),
            "GIT_AUTHOR_NAME": access.author, "GIT_AUTHOR_EMAIL": access.email,
            "GIT_COMMITTER_NAME": access.author, "GIT_COMMITTER_EMAIL": access.email,
            "WATCHDOG_GIT_USER": access.username,
            "WATCHDOG_GIT_TOKEN": access.token.get_secret_value() if access.token else "",
        }  # fmt: skip
        key = f"-i {shlex.quote(access.ssh_key_file)} -o IdentitiesOnly=yes " if access.ssh_key_file else ""
        env["GIT_SSH_COMMAND"] = f"ssh {key}-o BatchMode=yes -o StrictHostKeyChecking=yes"
        return env

    def _write_askpass(self) -> None:
        """Whole and executable, or not at all: a kill in between must not leave one that nobody can run."""
        askpass, fresh = self.folder / ASKPASS, self.folder / f"{ASKPASS}.new"
        if askpass.exists() and os.access(askpass, os.X_OK) and askpass.read_text() == _ASKPASS:
            return
        fresh.write_text(_ASKPASS)
        fresh.chmod(0o700)
        fresh.replace(askpass)


@dataclass(frozen=True, slots=True)
class Session:
    """Git on the clone, while nobody else uses it."""

    repository: Repository
    span: Span
    env: Mapping[str, str]
    fds: tuple[int, ...]

    def init(self) -> None:
        self.git("init", "--quiet", "--bare", "--template=", str(self.repository.folder), bare=False)

    def fetch(self) -> str:
        """Bring the branch and all tags up to date; the commit that the branch is on.

        Where it is the clone that is no good, once more into a new one: nobody else would ever mend it.
        """
        tip, said = self._fetched()
        if tip is None and _is_local(said):
            _log.warning("the clone in %s is made anew: %s", self.repository.folder, " ".join(said.split()))
            self.repository.move_aside()
            self.init()
            tip, said = self._fetched()
        if tip is None:
            again_later(f"git fetch failed: {said}")
        return tip

    def _fetched(self) -> tuple[str | None, str]:
        """The commit that the branch is on now, or None and what git said."""
        ours = "refs/remotes/deploy/tip"
        refs = (f"+refs/heads/{self.repository.branch}:{ours}", "+refs/tags/*:refs/tags/*")
        # pruned: a tag that is gone may be in the way of a new one, as `rel` is of `rel/1`
        quiet = ("--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        ended, _ = self._run(("fetch", *quiet, "--", self.repository.remote, *refs))
        if ended.exit_code != 0:
            return None, self.told(ended)
        ended, printed = self._run(("rev-parse", "--verify", f"{ours}^{{commit}}"))
        return (printed.decode().strip(), "") if ended.exit_code == 0 else (None, self.told(ended))

    def commit_of(self, name: str) -> str | None:
        """The commit that a tag or an id names, None where there is none."""
        ended, printed = self._run(("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"))
        return printed.decode().strip() if ended.exit_code == 0 else None

    def is_ancestor(self, older: str, newer: str) -> bool:
        ended, _ = self._run(("merge-base", "--is-ancestor", older, newer))
        return ended.exit_code == 0

    def tree_of(self, commit: str) -> str:
        return self.git("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()

    def are_commits_between(self, older: str, newer: str, paths: Sequence[str]) -> bool:
        return bool(self.git("rev-list", "--max-count=1", f"{older}..{newer}", "--", *paths).strip())

    def taken_back(self, tip: str, candidate: str, target: str, paths: Sequence[str]) -> str | Conflict:
        """The tree of `tip` without what changed from `target` to `candidate` (in `paths`, where given).

        A three-way merge of the tip with the target's content set on top of the candidate: what came after the
        candidate stays, and merge commits in between need no choice of a parent.
        """
        tree = self._tree_with(candidate, target, paths) if paths else self.tree_of(target)
        undo = self.commit(tree, candidate, "undo", at=0)
        ended, printed = self._run(("merge-tree", "--write-tree", "--no-messages", "--name-only", "-z", tip, undo))
        words = printed.decode("utf-8", "replace").split("\0")
        if ended.exit_code == 1:
            return Conflict(files=tuple(dict.fromkeys(filter(None, words[1:]))))
        if ended.exit_code != 0:
            impossible(f"git merge-tree failed (git 2.38 or newer is needed): {self.told(ended)}")
        return words[0].strip()

    def commit(self, tree: str, parent: str, message: str, *, at: float) -> str:
        when = {"GIT_AUTHOR_DATE": f"@{int(at)} +0000", "GIT_COMMITTER_DATE": f"@{int(at)} +0000"}
        dated = replace(self, env={**self.env, **when})
        return dated.git("commit-tree", "-p", parent, tree, stdin=message.encode()).decode().strip()

    def push(self, commit: str) -> str | None:
        """Offer the commit to the branch, never by force. None: taken; else what was said."""
        target = f"{commit}:refs/heads/{self.repository.branch}"
        ended, _ = self._run(("push", "--quiet", "--no-verify", "--no-signed", "--", self.repository.remote, target))
        return None if ended.exit_code == 0 else self.told(ended)

    def git(self, *words: str, stdin: bytes = b"", bare: bool = True) -> bytes:
        """What git prints; ends the attempt where it fails."""
        ended, printed = self._run(words, stdin=stdin, bare=bare)
        if ended.exit_code != 0:
            impossible(f"git {words[0]} failed: {self.told(ended)}")
        return printed

    def told(self, ended: Finished) -> str:
        """The last of git's words, without the token should a server repeat it."""
        token = self.env["WATCHDOG_GIT_TOKEN"]
        text = ended.output.replace(token, "***") if token else ended.output
        return text.strip()[-1000:] or f"exit {ended.exit_code}"

    def _tree_with(self, candidate: str, target: str, paths: Sequence[str]) -> str:
        """The candidate's tree with `paths` as the target has them."""
        wanted = [entry for entry in self._entries(target) if _is_below(entry, paths)]
        kept = [entry for entry in self._entries(candidate) if not _is_below(entry, paths)]
        with tempfile.TemporaryDirectory(dir=self.repository.folder) as folder:
            indexed = replace(self, env={**self.env, "GIT_INDEX_FILE": f"{folder}/index"})
            indexed.git("update-index", "-z", "--index-info", stdin=b"".join(e + b"\0" for e in (*kept, *wanted)))
            return indexed.git("write-tree").decode().strip()

    def _entries(self, commit: str) -> list[bytes]:
        return [entry for entry in self.git("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0") if entry]

    def _run(self, words: Sequence[str], *, stdin: bytes = b"", bare: bool = True) -> tuple[Finished, bytes]:
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        where = [f"--git-dir={self.repository.folder}"] if bare else []
        with tempfile.TemporaryFile() as printed:
            program = Program(
                argv=("git", *where, *settings, *words),
                env=self.env,
                stdin=stdin,
                fds=self.fds,
                stdout=printed.fileno(),
            )
            try:
                ended = run(program, clock=self.span.clock, timeout_s=self.span.left(), grace_s=1.0)
            except (OSError, ValueError) as error:
                impossible(f"git could not be started: {error}")
            if ended.timed_out:
                unclear(f"git {words[0]} did not end in time")
            printed.seek(0)
            return ended, printed.read(MAX_PRINTED_BYTES)


def _is_local(said: str) -> bool:
    """Whether git speaks of our clone; what the other side says of its own comes after `remote:`."""
    ours = [line for line in said.splitlines() if not line.startswith("remote:")]
    return any(map(_LOCAL.search, ours)) and not any(map(_NOT_OF_THE_CLONE.search, ours))


def _is_below(entry: bytes, paths: Sequence[str]) -> bool:
    name = entry.partition(b"\t")[2].decode("utf-8", "surrogateescape")
    return any(name == path or name.startswith(f"{path}/") for path in paths)
