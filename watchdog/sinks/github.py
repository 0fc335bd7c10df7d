"""Sink `github`: where a deploy stands, as a commit status and on GitHub's own deployment.

Follows GitHub's REST API 2022-11-28: "Create a commit status", "List deployments", "Get a deployment",
"Create a deployment status", "Get a commit" (media type sha).
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, model_validator

from watchdog.errors import SinkError
from watchdog.model import State
from watchdog.ports import Clock, Delivery
from watchdog.signed_http import Reply, RootAddress
from watchdog.sinks.json_http import as_json, ask, bearer, page_of, read_json

DESCRIPTION_CHARS, CONTEXT_CHARS = 140, 255  # GitHub's limits
NO_DEPLOYMENT = frozenset({404, 410})
_TOLD_BY_GITHUB = re.compile(r"github:[0-9]+:([0-9]+)")  # the id that the sender `github` gives: repository, deployment
NO_COMMIT = frozenset({404, 409, 422})  # no such ref, an empty repository, a name that can be none
_SHA_CHARS = frozenset("0123456789abcdef")

# state → commit status, deployment status. What nobody can tell is no success.
STATES: Mapping[State, tuple[str, str]] = {
    State.SMOKE: ("pending", "in_progress"),
    State.SMOKE_FAILED: ("failure", "failure"),
    State.WATCHING: ("pending", "in_progress"),
    State.PASSED: ("success", "success"),
    State.INCONCLUSIVE: ("error", "error"),
    State.SUPERSEDED: ("error", "inactive"),
    State.CANCELLED: ("error", "error"),
    State.INTENT: ("pending", "in_progress"),
    State.HELD: ("pending", "in_progress"),
    State.NOT_NEEDED: ("error", "inactive"),
    State.RUNNING: ("pending", "in_progress"),
    State.RETRY_WAIT: ("pending", "in_progress"),
    State.FAILED: ("error", "error"),
    State.UNKNOWN: ("error", "error"),
    State.VERIFYING: ("pending", "in_progress"),
    State.ROLLED_BACK: ("failure", "failure"),
    State.NOT_RECOVERED: ("failure", "failure"),
}


class GithubOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: str = Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$", description="owner/name.")
    token_env: str = Field("", description="Variable with a token (Commit statuses and Deployments: write).")
    token_file: str = Field("", description="File with that token.")
    ref: str = Field("{version}", description="How a version is called in git: a commit, tag or branch.")
    commit_status: bool = Field(True, description="Whether the commit gets a status.")
    deployment_status: bool = Field(True, description="Whether GitHub's deployment of that commit gets one.")
    url: RootAddress = Field(
        "https://api.github.com", description="GitHub's API; another one for an Enterprise Server."
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="Deadline for each request.")

    @model_validator(mode="after")
    def _needs_a_token(self) -> Self:
        if not (self.token_env or self.token_file):
            raise ValueError("expected token_env or token_file")
        return self


class GithubSink:
    """The commit and GitHub's deployment are looked for once and remembered; a status sent twice does no harm."""

    kind: ClassVar[str] = "github"

    Options: ClassVar[type[BaseModel]] = GithubOptions

    def __init__(self, name: str, options: GithubOptions, clock: Clock, env: Mapping[str, str]) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        self._headers = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "Content-Type": "application/json",
            **bearer(options.token_env, options.token_file, env),
        }

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        known = dict(delivery.thread)
        known["sha"] = known.get("sha") or self._commit(delivery.deploy.version)
        if self._options.commit_status:
            self._tell_commit(delivery, known["sha"])
        if self._options.deployment_status:
            known["deployment"] = known.get("deployment") or self._deployment(delivery, known["sha"])
            if known["deployment"]:
                self._tell_deployment(delivery, known["deployment"])
        return {name: value for name, value in known.items() if value}

    def _commit(self, version: str) -> str:
        ref = self._options.ref.replace("{version}", version)
        headers = {"Accept": "application/vnd.github.sha"}
        reply = self._ask("GET", f"/commits/{_part(ref)}", headers=headers, accept=NO_COMMIT)
        sha = reply.text.strip()
        if reply.status in NO_COMMIT or len(sha) not in (40, 64) or not _SHA_CHARS.issuperset(sha):
            raise SinkError(
                f"github {self.name}: {self._options.repository} has no commit {ref[:80]!r}", permanent=True
            )
        return sha

    def _deployment(self, delivery: Delivery, sha: str) -> str:
        """The number of GitHub's deployment; empty where CI made none, or where nobody can tell which one it is."""
        return self._named(delivery.deploy.id, sha) or self._only_one(delivery.deploy.environment, sha)

    def _named(self, deploy_id: str, sha: str) -> str:
        """The one that the deploy has its id from. Ids can be chosen, so it counts only if it is of this commit."""
        told = _TOLD_BY_GITHUB.fullmatch(deploy_id)
        if told is None:
            return ""
        reply = self._ask("GET", f"/deployments/{told[1]}", accept=NO_DEPLOYMENT)
        found = read_json(f"github {self.name}", reply) if reply.status not in NO_DEPLOYMENT else None
        return told[1] if isinstance(found, dict) and found.get("sha") == sha else ""

    def _only_one(self, environment: str, sha: str) -> str:
        """The only one of this commit there: of several services of a repository each may have made one."""
        asked = urlencode({"sha": sha, "environment": _known(environment), "per_page": 2})
        found = read_json(f"github {self.name}", self._ask("GET", f"/deployments?{asked}"))
        only = found[0] if isinstance(found, list) and len(found) == 1 else {}
        return str(only["id"]) if isinstance(only, dict) and isinstance(only.get("id"), int) else ""

    def _tell_commit(self, delivery: Delivery, sha: str) -> None:
        told = {
            "state": STATES[delivery.state][0],
            "context": f"deploy-watchdog/{delivery.deploy.service}/{delivery.deploy.environment}"[:CONTEXT_CHARS],
            **self._words(delivery, "target_url"),
        }
        self._ask("POST", f"/statuses/{sha}", told)

    def _tell_deployment(self, delivery: Delivery, number: str) -> None:
        """Without `auto_inactive`: which other deployments are over is not ours to say."""
        told = {
            "state": STATES[delivery.state][1],
            "auto_inactive": False,
            **self._words(delivery, "log_url"),
        }
        self._ask("POST", f"/deployments/{number}/statuses", told)

    def _words(self, delivery: Delivery, link: str) -> dict[str, Any]:
        sentence, page = delivery.message.sentence, page_of(delivery.message)
        short = sentence if len(sentence) <= DESCRIPTION_CHARS else sentence[: DESCRIPTION_CHARS - 1] + "…"
        return {"description": short, **({link: page} if page else {})}

    def _ask(
        self,
        method: str,
        path: str,
        told: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Reply:
        url = f"{self._options.url}/repos/{self._options.repository}{path}"
        body = b"" if told is None else as_json(told)
        return ask(f"github {self.name}", self._clock, method, url, headers={**self._headers, **(headers or {})},
                   body=body, deadline_s=self._options.timeout_s, accept=accept)  # fmt: skip


def _known(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _part(text: str) -> str:
    return quote(text.encode("utf-8", "replace"), safe="/")
