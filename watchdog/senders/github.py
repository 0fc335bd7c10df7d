"""Sender `github`: a deployment that GitHub calls successful is a version that is live.

Follows GitHub's "Webhook events and payloads: deployment_status" (schema deployment_status$created of octokit/webhooks)
and "Validating webhook deliveries" (X-Hub-Signature-256).
"""

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from watchdog.config import read_secret
from watchdog.deploy_request import DeployRequest
from watchdog.senders.naming import SenderOptions, Told, UnixTime, extra, identity
from watchdog.sending import Arrived, DeployTold, Heard, Unrelated

EVENT = "x-github-event"
SIGNATURE = "x-hub-signature-256"
SHORT = 7  # as `git rev-parse --short` and GitHub's pages abbreviate


class GithubSenderOptions(SenderOptions):
    """What config.toml may say about it."""

    secret_env: str = Field("", description="Variable with the webhook's secret.")
    secret_file: str = Field("", description="File with that secret.")
    version: Literal["sha", "short_sha", "ref"] = Field(
        "sha", description="What the series call a version: sha, short_sha (7 characters) or ref (branch or tag)."
    )

    @model_validator(mode="after")
    def _needs_a_secret(self) -> Self:
        if not (self.secret_env or self.secret_file):
            raise ValueError("expected secret_env or secret_file; GitHub signs with nothing else")
        return self


class _Status(Told):
    state: str
    created_at: UnixTime


class _Deployment(Told):
    id: int = Field(ge=0)
    sha: str
    ref: str
    environment: str
    payload: dict[str, Any] | str | None = None


class _Repository(Told):
    id: int = Field(ge=0)
    name: str
    full_name: str


class _DeploymentStatus(Told):
    deployment_status: _Status
    deployment: _Deployment
    repository: _Repository


class GithubSender:
    """The id of GitHub's deployment is ours, so a redelivery, or a second "success", is the same deploy."""

    kind: ClassVar[str] = "github"
    hooks: ClassVar[frozenset[str]] = frozenset()
    content_types: ClassVar[frozenset[str]] = frozenset({"application/json"})

    Options: ClassVar[type[BaseModel]] = GithubSenderOptions

    def __init__(self, name: str, options: GithubSenderOptions, env: Mapping[str, str]) -> None:
        self.name = name
        self._options = options
        secret = read_secret(options.secret_env, options.secret_file, env, Path())
        self._key = secret.get_secret_value().encode() if secret is not None else b""

    def is_genuine(self, headers: Mapping[str, str], body: bytes, *, now: float) -> bool | None:  # noqa: ARG002
        """GitHub signs no time; a replay is a known deploy and changes nothing."""
        expected = "sha256=" + hmac.digest(self._key, body, "sha256").hex()
        given = headers.get(SIGNATURE, "")
        return bool(self._key) and hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape"))

    def read(self, arrived: Arrived) -> Heard:
        event = arrived.headers.get(EVENT, "")
        if event != "deployment_status":
            return Unrelated(why=f"the event {event[:40]!r} is no deployment_status")
        told = arrived.typed(_DeploymentStatus)
        if told.deployment_status.state != "success":
            return Unrelated(why=f"the deployment is {told.deployment_status.state[:40]!r}, not a success")
        return DeployTold(request=self._request(told))

    def _request(self, told: _DeploymentStatus) -> DeployRequest:
        deployment, repository = told.deployment, told.repository
        versions = {"sha": deployment.sha, "short_sha": deployment.sha[:SHORT], "ref": deployment.ref}
        return DeployRequest.model_validate(
            {
                "id": identity("github", repository.id, deployment.id),
                "service": self._options.service(repository.full_name, repository.name),
                "environment": self._options.environment(deployment.environment),
                "version": versions[self._options.version],
                "deployed_at": told.deployment_status.created_at,
                **extra(deployment.payload),
            }
        )
