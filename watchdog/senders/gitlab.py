"""Sender `gitlab`: a deployment that succeeded is a version that is live.

Follows GitLab's "Webhook events: Deployment events", and "Webhooks" for both ways to know the sender: the secret token
(X-Gitlab-Token), and the signing token (whsec_…, Standard Webhooks) where that is what the secret is.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, Field, SecretStr, model_validator

from watchdog.config import read_secret
from watchdog.deploy_request import DeployRequest
from watchdog.errors import ConfigError, Problem, RefusedError
from watchdog.senders.naming import SenderOptions, Told, UnixTime, identity
from watchdog.sending import Arrived, DeployTold, Heard, Unrelated
from watchdog.standard_webhooks import PREFIX, Check, check, read_key, signed_headers

EVENT = "x-gitlab-event"
TOKEN = "x-gitlab-token"  # noqa: S105 (the name of a header)


class GitlabSenderOptions(SenderOptions):
    """What config.toml may say about it."""

    secret_env: str = Field("", description="Variable with the webhook's secret token, or its signing token whsec_….")
    secret_file: str = Field("", description="File with that token.")
    version: Literal["short_sha", "sha", "ref"] = Field(
        "short_sha", description="What the series call a version: short_sha (8 characters), sha or ref."
    )

    @model_validator(mode="after")
    def _needs_a_secret(self) -> Self:
        if not (self.secret_env or self.secret_file):
            raise ValueError("expected secret_env or secret_file; GitLab shows nothing else")
        return self


class _Project(Told):
    id: int = Field(ge=0)
    path_with_namespace: str


class _DeploymentEvent(Told):
    object_kind: Literal["deployment"]
    status: str
    status_changed_at: UnixTime
    deployment_id: int = Field(ge=0)
    environment: str
    project: _Project
    short_sha: str
    commit_url: str
    ref: str = ""


class GitlabSender:
    """The id of GitLab's deployment is ours, so a retry is the same deploy."""

    kind: ClassVar[str] = "gitlab"
    hooks: ClassVar[frozenset[str]] = frozenset()
    content_types: ClassVar[frozenset[str]] = frozenset({"application/json"})

    Options: ClassVar[type[BaseModel]] = GitlabSenderOptions

    def __init__(self, name: str, options: GitlabSenderOptions, env: Mapping[str, str]) -> None:
        self.name = name
        self._options = options
        secret = read_secret(options.secret_env, options.secret_file, env, Path()) or SecretStr("")
        self._token = secret.get_secret_value().encode()
        self._key = _signing_key(name, secret)

    def is_genuine(self, headers: Mapping[str, str], body: bytes, *, now: float) -> bool | None:
        if self._key is not None:
            pairs = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()]
            sent = signed_headers(pairs)
            return sent is not None and check(sent, body, [self._key], now=now) is Check.GENUINE
        given = headers.get(TOKEN, "").encode("utf-8", "surrogateescape")
        return bool(self._token) and hmac.compare_digest(self._token, given)

    def read(self, arrived: Arrived) -> Heard:
        event = arrived.headers.get(EVENT, "")
        if event != "Deployment Hook":
            return Unrelated(why=f"the event {event[:40]!r} is no Deployment Hook")
        told = arrived.typed(_DeploymentEvent)
        if told.status != "success":
            return Unrelated(why=f"the deployment is {told.status[:40]!r}, not a success")
        return DeployTold(request=self._request(told))

    def _request(self, told: _DeploymentEvent) -> DeployRequest:
        path = told.project.path_with_namespace
        return DeployRequest.model_validate(
            {
                "id": identity("gitlab", told.project.id, told.deployment_id),
                "service": self._options.service(path, path.rpartition("/")[2]),
                "environment": self._options.environment(told.environment),
                "version": self._version(told),
                "deployed_at": told.status_changed_at,
            }
        )

    def _version(self, told: _DeploymentEvent) -> str:
        if self._options.version == "ref":
            if not told.ref:
                raise RefusedError("the event names no ref; older GitLabs send none: use short_sha", permanent=True)
            return told.ref
        return told.short_sha if self._options.version == "short_sha" else told.commit_url.rpartition("/")[2]


def _signing_key(name: str, secret: SecretStr) -> bytes | None:
    if not secret.get_secret_value().startswith(PREFIX):
        return None
    try:
        return read_key(secret)
    except ValueError as error:
        raise ConfigError([Problem("", None, f"senders.{name}.secret", str(error))]) from None
