"""Sender `cdevents`: `service.deployed` and `service.upgraded`, as CloudEvents over HTTP, structured or binary.

Follows CDEvents 0.4 and 0.5 (cdevents.dev: service.deployed, service.upgraded, the CloudEvents binding), CloudEvents
1.0 with its HTTP protocol binding, and the package URLs of package-url/purl-spec.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qs, unquote

from pydantic import BaseModel, Field

from watchdog.deploy_request import DeployRequest
from watchdog.errors import RefusedError
from watchdog.senders.naming import SenderOptions, Told, UnixTime, extra, identity
from watchdog.sending import Arrived, DeployTold, Heard, Unrelated

STRUCTURED = "application/cloudevents+json"
TYPE = re.compile(r"dev\.cdevents\.service\.(?:deployed|upgraded)\.\d+\.\d+\.\d+(?:-draft)?")


class CdEventsSenderOptions(SenderOptions):
    """What config.toml may say about it. There is no signature in CDEvents: it comes with a token of [auth]."""


class _Context(Told):
    id: str = Field(min_length=1, max_length=200)
    source: str = Field(min_length=1, max_length=500)
    type: str
    timestamp: UnixTime


class _Environment(Told):
    id: str


class _Content(Told):
    environment: _Environment
    artifactId: str  # noqa: N815 (its name there)


class _Subject(Told):
    id: str
    content: _Content


class _CdEvent(Told):
    context: _Context
    subject: _Subject
    customData: Any = None  # noqa: N815


class _CloudEvent(Told):
    specversion: Literal["1.0"]
    type: str
    data: Any = None


class _Structured(_CloudEvent):
    data: _CdEvent


class CdEventsSender:
    """The same event, however often and by whichever way it comes, is the same deploy."""

    kind: ClassVar[str] = "cdevents"
    hooks: ClassVar[frozenset[str]] = frozenset()
    content_types: ClassVar[frozenset[str]] = frozenset({"application/json", STRUCTURED})

    Options: ClassVar[type[BaseModel]] = CdEventsSenderOptions

    def __init__(self, name: str, options: CdEventsSenderOptions, env: Mapping[str, str]) -> None:  # noqa: ARG002
        self.name = name
        self._options = options

    def is_genuine(self, headers: Mapping[str, str], body: bytes, *, now: float) -> bool | None:  # noqa: ARG002
        return None

    def read(self, arrived: Arrived) -> Heard:
        is_structured = arrived.headers.get("content-type", "").lower().startswith(STRUCTURED)
        said = arrived.typed(_CloudEvent).type if is_structured else _binary(arrived.headers)
        if not TYPE.fullmatch(said):
            return Unrelated(why=f"the event {said[:80]!r} is no service.deployed or service.upgraded")
        event = arrived.typed(_Structured).data if is_structured else arrived.typed(_CdEvent)
        if event.context.type != said:
            raise RefusedError("the CloudEvent and its CDEvent are of different types", permanent=True)
        return DeployTold(request=self._request(event))

    def _request(self, event: _CdEvent) -> DeployRequest:
        content = event.subject.content
        return DeployRequest.model_validate(
            {
                "id": identity("cdevents", event.context.source, event.context.id),
                "service": self._options.service(event.subject.id, event.subject.id.rpartition("/")[2]),
                "environment": self._options.environment(content.environment.id),
                "version": version_of(content.artifactId),
                "deployed_at": event.context.timestamp,
                **extra(event.customData),
            }
        )


def version_of(purl: str) -> str:
    """The version that a package URL names: its tag where it has one, as images do, else its version.

    >>> version_of("pkg:oci/shop@sha256%3A0b31b1c0?repository_url=ghcr.io/acme/shop&tag=v42")
    'v42'
    >>> version_of("pkg:oci/shop@sha256%3A0b31b1c0")
    'sha256:0b31b1c0'
    """
    plain, _, qualifiers = purl.partition("#")[0].partition("?")
    if not plain.startswith("pkg:"):
        raise RefusedError("subject.content.artifactId is no package URL (pkg:…)", permanent=True)
    try:
        tags = parse_qs(qualifiers, max_num_fields=50).get("tag", [])
    except ValueError:
        raise RefusedError("subject.content.artifactId has too many qualifiers", permanent=True) from None
    found = tags[0] if tags else unquote(plain.rpartition("@")[2]) if "@" in plain else ""
    if not found:
        raise RefusedError("subject.content.artifactId names neither a version nor a tag", permanent=True)
    return found


def _binary(headers: Mapping[str, str]) -> str:
    """The type of an event in binary mode, whose attributes are headers."""
    if "ce-type" not in headers:
        raise RefusedError(
            f"this is no CloudEvent: it has no header ce-type, and its Content-Type is not {STRUCTURED}", permanent=True
        )
    if headers.get("ce-specversion") != "1.0":
        raise RefusedError("the header ce-specversion is not 1.0", permanent=True)
    return headers["ce-type"]
