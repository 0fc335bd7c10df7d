"""Hook `git_revert`: one commit on the deploy branch that takes the candidate's changes back; the pipeline redeploys.

Nothing is forced and nothing of others is taken away: the new commit holds what the branch holds, without what changed
from the target to the candidate. Somebody who pushes at the same time wins, and the revert is made anew on top.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from watchdog.config import read_secret
from watchdog.hooks.git_repository import Access, Conflict, Repository, Session, check_remote
from watchdog.hooks.process import printable
from watchdog.hooks.wanted_state import HookEndedError, Span, WantedStateHook, impossible
from watchdog.model import ActionKind
from watchdog.ports import Clock, HookCall, HookOutcome, ProbeAnswer

PUSHES = 5  # lost races before the attempt gives up; each is somebody else's push within the blink of ours
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,127}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_BRANCH = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)|/$))[A-Za-z0-9][A-Za-z0-9._/+-]*")
_PATH = re.compile(r"(?!/)(?!.*(?:^|/)\.\.?(?:/|$))[^\0\n]+(?<!/)")


class GitRevertOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    remote: str = Field(description="The repository: https://…, ssh://…, user@host:path or /path; no password in it.")
    branch: str = Field("main", description="The branch that the pipeline deploys from.")
    tag: str = Field(
        "{version}", description="How the tag of a version is called. A version that is a commit id needs no tag."
    )
    paths: tuple[str, ...] = Field(
        (), description="Folders and files of the service, where the repository holds others too. Empty: all of it."
    )
    newer_commits: Literal["keep", "hands_off"] = Field(
        "keep",
        description="What commits after the candidate (in `paths`) mean: keep them and take back only what the "
        "candidate changed, or hands off.",
    )
    username: str = Field("git", description="User for https.")
    token_env: str = Field("", description="Variable with the token or password for https.")
    token_file: str = Field("", description="File with that token.")
    ssh_key_file: str = Field("", description="Private key for ssh. Empty: ssh finds its own.")
    author: str = Field("deploy-watchdog", pattern=r"^[^<>\x00-\x1f]+$", description="Name on the revert commit.")
    email: str = Field("deploy-watchdog@localhost", pattern=r"^[^<>\s\x00]+$", description="Address on it.")
    timeout_s: float = Field(120.0, gt=0, le=3600, description="Longest time for fetch, revert and push.")
    probe_timeout_s: float = Field(30.0, gt=0, le=600, description="The same for the probe, which fetches.")

    @field_validator("remote")
    @classmethod
    def _an_address(cls, value: str) -> str:
        return check_remote(value)

    @field_validator("branch")
    @classmethod
    def _a_branch(cls, value: str) -> str:
        if not _BRANCH.fullmatch(value):
            raise ValueError(f"{value!r} is no name of a branch")
        return value

    @field_validator("paths")
    @classmethod
    def _inside(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            if not _PATH.fullmatch(path):
                raise ValueError(f"{path!r} is no path inside the repository, such as services/shop")
        return value


class GitRevertHook(WantedStateHook):
    """OK means that the revert is on the branch; that it is live is for the metrics to say."""

    kind: ClassVar[str] = "git_revert"

    Options: ClassVar[type[BaseModel]] = GitRevertOptions
    acts_elsewhere = True

    def __init__(
        self, name: str, options: GitRevertOptions, clock: Clock, env: Mapping[str, str], state_dir: Path
    ) -> None:
        super().__init__(name, options, clock, env, state_dir)
        self._options = options
        access = Access(
            username=options.username,
            token=read_secret(options.token_env, options.token_file, env, Path()),
            ssh_key_file=options.ssh_key_file,
            author=options.author,
            email=options.email,
        )
        place = hashlib.sha256(f"{options.remote}\0{options.branch}".encode()).hexdigest()[:16]
        folder = state_dir.absolute() / f"git-{place}"
        self._repository = Repository(folder, options.remote, options.branch, access, env.get("PATH", ""))

    def bring_about(self, call: HookCall, span: Span, lock: int) -> str:
        _only_rollbacks(call)
        with self._repository.session(span, lock) as git:
            for _ in range(PUSHES):
                said = self._push_once(git, call)
                if said is not None:
                    return said
        raise HookEndedError(HookOutcome.RETRY, f"{PUSHES} pushes were overtaken by somebody else's")

    def _push_once(self, git: Session, call: HookCall) -> str | None:
        """What was done; None: somebody else's push came in between."""
        branch = self._options.branch
        tip = git.fetch()
        tree = self._wanted_tree(git, call, tip)
        if tree is None:
            impossible(f"{branch} has moved on from {call.from_version}: hands off")
        if isinstance(tree, Conflict):
            impossible(_conflict(call, tree))
        if tree == git.tree_of(tip):
            return f"{branch} is without {call.from_version} already"
        commit = git.commit(tree, tip, _message(call), at=self._clock.now())
        refused = git.push(commit)
        if refused is not None:
            now = git.fetch()
            if now == tip:
                impossible(f"the push was refused: {refused}")
            if not git.is_ancestor(commit, now):  # else it arrived, and only the answer was lost
                return None
        return f"{commit} on {branch} takes {call.from_version} back to {call.to_version}"

    def standing(self, call: HookCall, span: Span) -> ProbeAnswer:
        _only_rollbacks(call)
        with self._repository.session(span) as git:
            tip = git.fetch()
            tree = self._wanted_tree(git, call, tip)
            if tree is None:
                return ProbeAnswer.MOVED_ON
            return ProbeAnswer.APPLIED if tree == git.tree_of(tip) else ProbeAnswer.NOT_APPLIED

    def current_share(self, call: HookCall, span: Span) -> float | None:  # noqa: ARG002
        """None: a branch does not say who has the traffic."""
        return None

    def hindrance(self, call: HookCall, span: Span) -> str | None:
        _only_rollbacks(call)
        with self._repository.session(span) as git:
            tree = self._wanted_tree(git, call, git.fetch())
        if tree is None:
            return f"{call.from_version} is not what {self._options.branch} is on"
        return _conflict(call, tree) if isinstance(tree, Conflict) else None

    def _wanted_tree(self, git: Session, call: HookCall, tip: str) -> str | Conflict | None:
        """What the branch shall hold; None where it has moved on."""
        candidate, target = (self._commit_of(git, version) for version in (call.from_version, call.to_version))
        if not git.is_ancestor(candidate, tip):
            return None
        paths = self._options.paths
        tree = git.taken_back(tip, candidate, target, paths)
        is_done = tree == git.tree_of(tip)
        if (
            self._options.newer_commits == "hands_off"
            and not is_done
            and git.are_commits_between(candidate, tip, paths)
        ):
            return None
        return tree

    def _commit_of(self, git: Session, version: str) -> str:
        if not _VERSION.fullmatch(version) or ".." in version:
            impossible(f"{version!r} is no version that may name a tag or a commit")
        found = git.commit_of(f"refs/tags/{self._options.tag.replace('{version}', version)}")
        if found is None and _COMMIT.fullmatch(version):
            found = git.commit_of(version)
        if found is None:
            impossible(f"there is no tag and no commit for {version!r} in {self._options.remote}")
        return found


def _only_rollbacks(call: HookCall) -> None:
    if call.kind is not ActionKind.ROLLBACK:
        impossible(f"a revert cannot do a {call.kind.value}")


def _conflict(call: HookCall, conflict: Conflict) -> str:
    files = ", ".join(printable(name.encode("utf-8", "replace")) for name in conflict.files[:10])
    return f"{call.from_version} cannot be taken back to {call.to_version} without a human: conflict in {files}"


def _message(call: HookCall) -> str:
    where = " ".join(printable(f"{call.service} in {call.environment}".encode("utf-8", "replace")).split())[:200]
    action = re.sub(r"[^A-Za-z0-9_-]", "", call.action_id)[:128]
    return (
        f"Revert {call.from_version} to {call.to_version}\n\n"
        f"{where} got worse with {call.from_version}; its changes are taken back.\n\n"
        f"Deploy-Watchdog-Action: {action}\n"
    )
