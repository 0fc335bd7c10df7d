"""Sender `flagger`: Flagger begins, asks before every step, and tells how it ended.

Follows Flagger's "Webhooks" (docs/gitbook/usage/webhooks.md) and its CanaryWebhookPayload (pkg/apis/flagger/v1beta1):
200-202 means go on, anything else halts; but for `rollback` 200-202 means **roll back**. The payload does not say which
hook it is, so the address does. `checksum` is what the canary's spec and tracked configuration hash to.

The arms are Flagger's own two workloads: NAME is the candidate and NAME-primary the baseline, unless the hook's
metadata names `version` and `previous_version`.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, Field

from watchdog.deploy_request import DeployRequest
from watchdog.errors import RefusedError
from watchdog.senders.naming import SenderOptions, Told, identity
from watchdog.sending import Arrived, Asked, DeployTold, EndTold, Heard, Question, Unrelated

BEGINS = "pre-rollout"  # once per roll-out, before the canary gets traffic
ENDS = frozenset({"post-rollout", "event"})
QUESTIONS: Mapping[str, Question] = {
    "confirm-rollout": Question.START,
    "rollout": Question.GO_ON,
    "confirm-traffic-increase": Question.GROW,
    "confirm-promotion": Question.PROMOTE,
    "rollback": Question.GO_BACK,
}
ENDED = {"Failed": "Flagger went back by itself", "Succeeded": "Flagger promoted it, its canary is gone"}


class FlaggerSenderOptions(SenderOptions):
    """What config.toml may say about it. Flagger can send no header: the token of [auth] is the password in its URL."""

    suffix: str = Field(
        "-primary", description="What Flagger appends to the name of the workload with the old version."
    )


class _Payload(Told):
    name: str
    namespace: str
    phase: str = ""
    checksum: str = ""
    metadata: dict[str, str] | None = None


class FlaggerSender:
    """A canary and its checksum are a deploy; the same checksum later, after another one, is a new deploy."""

    kind: ClassVar[str] = "flagger"
    hooks: ClassVar[frozenset[str]] = frozenset({BEGINS}) | ENDS | frozenset(QUESTIONS)
    content_types: ClassVar[frozenset[str]] = frozenset({"application/json"})

    Options: ClassVar[type[BaseModel]] = FlaggerSenderOptions

    def __init__(self, name: str, options: FlaggerSenderOptions, env: Mapping[str, str]) -> None:  # noqa: ARG002
        self.name = name
        self._options = options

    def is_genuine(self, headers: Mapping[str, str], body: bytes, *, now: float) -> bool | None:  # noqa: ARG002
        return None

    def read(self, arrived: Arrived) -> Heard:
        told = arrived.typed(_Payload)
        request = self._request(told)
        if arrived.hook == BEGINS:
            return DeployTold(request=request, again=True)
        if arrived.hook in QUESTIONS:
            return Asked(
                question=QUESTIONS[arrived.hook],
                service=request.service,
                environment=request.environment,
                deploy_id=request.id or "",
                version=(told.metadata or {}).get("version", ""),
            )
        if told.phase not in ENDED:
            return Unrelated(why=f"the phase {told.phase[:40]!r} changes nothing here")
        return EndTold(
            service=request.service,
            environment=request.environment,
            deploy_id=request.id or "",
            why=ENDED[told.phase],
        )

    def _request(self, told: _Payload) -> DeployRequest:
        said = told.metadata or {}
        version = said.get("version") or told.name
        mark = told.checksum or said.get("version")
        if not mark:
            raise RefusedError(
                "neither a checksum (newer Flaggers send one) nor metadata.version tells which deploy this is",
                permanent=True,
            )
        return DeployRequest.model_validate(
            {
                "id": identity("flagger", told.namespace, told.name, mark),
                "service": self._options.service(f"{told.namespace}/{told.name}", told.name),
                "environment": self._environment(told.namespace),
                "version": version,
                "previous_version": said.get("previous_version") or f"{told.name}{self._options.suffix}",
                **({"migration": said["migration"]} if "migration" in said else {}),
            }
        )

    def _environment(self, namespace: str) -> str | None:
        """A namespace is an environment only where the table says so."""
        return self._options.environments.get(namespace)
