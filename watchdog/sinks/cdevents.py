"""Sink `cdevents`: a rollback as a CDEvent `service.rolledback`, in a CloudEvent (structured JSON over HTTP).

Follows CDEvents 0.5.1 (cdevents.dev: context, `service.rolledback`, the CloudEvents binding) and CloudEvents 1.0.
"""

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, field_validator

from watchdog.model import MessageKind, State
from watchdog.ports import Clock, Delivery
from watchdog.signed_http import Address
from watchdog.sinks.json_http import as_json, ask, bearer, rfc3339
from watchdog.sinks.payload import message_id, payload

TYPE = "dev.cdevents.service.rolledback.0.3.0"
SPEC_VERSION = "0.5.1"
_BACK = frozenset({State.ROLLED_BACK.value, State.NOT_RECOVERED.value})  # the old version serves again


class CdEventsOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Address = Field(description="Where to POST events, such as an event broker's address.")
    token_env: str = Field("", description="Variable with a bearer token for it.")
    token_file: str = Field("", description="File with that token.")
    source: str = Field("/deploy-watchdog", min_length=1, description="Who speaks: a URI reference, yours to choose.")
    artifact: str = Field(
        "pkg:generic/{service}@{version}", description="Package URL of what serves again; {service} and {version}."
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="Deadline from name lookup to the whole answer.")

    @field_validator("artifact")
    @classmethod
    def _a_purl(cls, value: str) -> str:
        if not value.startswith("pkg:") or "{version}" not in value:
            raise ValueError('expected a package URL with {version}, such as "pkg:oci/{service}@{version}"')
        return value


class CdEventsSink:
    """Speaks only when traffic is back on the old version. The id is the same in every copy of an event."""

    kind: ClassVar[str] = "cdevents"

    Options: ClassVar[type[BaseModel]] = CdEventsOptions

    def __init__(self, name: str, options: CdEventsOptions, clock: Clock, env: Mapping[str, str]) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        self._headers = {
            "Content-Type": "application/cloudevents+json",
            **bearer(options.token_env, options.token_file, env),
        }

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        message = delivery.message
        if message.kind is MessageKind.ENDED and message.facts.get("state") in _BACK:
            body = as_json(event(delivery, self._options, now=self._clock.now()))
            ask(f"cdevents {self.name}", self._clock, "POST", self._options.url, headers=self._headers, body=body,
                deadline_s=self._options.timeout_s)  # fmt: skip
        return {}


def event(delivery: Delivery, options: CdEventsOptions, *, now: float) -> dict[str, Any]:
    """The CloudEvent, with the CDEvent as its data."""
    deploy, told_id, at = delivery.deploy, message_id(delivery.message), rfc3339(now)
    artifact = options.artifact.replace("{service}", _part(deploy.service))
    context = {"specversion": SPEC_VERSION, "id": told_id, "source": options.source, "type": TYPE, "timestamp": at}
    content = {
        "environment": {"id": deploy.environment},
        "artifactId": artifact.replace("{version}", _part(deploy.previous_version or "unknown")),
    }
    return {
        "specversion": "1.0",
        "id": told_id,
        "source": options.source,
        "type": TYPE,
        "subject": deploy.service,
        "time": at,
        "datacontenttype": "application/json",
        "data": {
            "context": context,
            "subject": {"id": deploy.service, "source": options.source, "content": content},
            "customData": payload(delivery),
            "customDataContentType": "application/json",
        },
    }


def _part(text: str) -> str:
    """One part of a package URL."""
    return quote(text.encode("utf-8", "replace"), safe="")
