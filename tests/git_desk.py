"""A real bare repository whose post-receive hook deploys, and somebody who works on it."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DEPLOYS = """#!/bin/sh
git show main:app.txt > ../live.new && mv ../live.new ../live && echo x >> ../live.deploys
"""


@dataclass
class GitDesk:
    """`remote.git` deploys `app.txt` of main to the file `live` at every push; `work` is somebody's clone of it.

    The folder may be copied: nothing in it names its place.
    """

    folder: Path

    def __post_init__(self) -> None:
        if self.remote.exists():
            return
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.remote), where=self.folder)
        self.on_receive("post-receive", _DEPLOYS)
        self.git("init", "--quiet", "--initial-branch=main", str(self.work), where=self.folder)

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def live(self) -> str:
        return (self.folder / "live").read_text()

    @property
    def deploys(self) -> int:
        return len((self.folder / "live.deploys").read_text().splitlines())

    def on_receive(self, hook: str, script: str) -> None:
        path = self.remote / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def deploy(self, tag: str | None, files: Mapping[str, str], *, push: bool = True) -> str:
        """Commit the files on main, tag them, push: the pipeline deploys. The commit's id."""
        for name, content in files.items():
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", tag or "more")
        if tag:
            self.git("tag", tag)
        if push:
            self.push()
        return self.git("rev-parse", "HEAD").strip()

    def push(self, *how: str) -> None:
        self.git("push", "--quiet", "--tags", *how, str(self.remote), "main")

    def pull(self) -> None:
        self.git("pull", "--quiet", "--ff-only", str(self.remote), "main")

    def at(self, what: str) -> str:
        """Something of the remote, such as `main:app.txt`."""
        return self.git("show", what, where=self.remote)

    def git(self, *words: str, where: Path | None = None) -> str:
        told = {"NAME": "Ann", "EMAIL": "ann@example.com"}
        people = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in told.items()}
        env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", **people}
        argv = ["git", *words]
        return subprocess.run(
            argv, cwd=where or self.work, env=env, capture_output=True, text=True, check=True, timeout=30
        ).stdout
