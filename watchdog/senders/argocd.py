"""Sender `argocd`: a sync that succeeded is a version that is live.

Follows Argo CD's "Notifications: Webhook" and the Application of argoproj.io/v1alpha1 (metadata, status.operationState,
status.history, status.summary): the template sends the Application, or these parts of it, as `app`.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from watchdog.deploy_request import DeployRequest
from watchdog.errors import RefusedError
from watchdog.senders.naming import SenderOptions, Told, UnixTime, identity
from watchdog.sending import Arrived, DeployTold, Heard, Unrelated


class ArgoCdSenderOptions(SenderOptions):
    """What config.toml may say about it. Argo CD signs nothing: it sends a token of [auth] as a header."""

    version: Literal["revision", "image_tag"] = Field(
        "revision", description="What the series call a version: the revision synced, or the tag of the image."
    )
    environment_label: str = Field("", description="Label of the Application that names the environment.")


class _Metadata(Told):
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None


class _SyncResult(Told):
    revision: str = ""


class _Operation(Told):
    phase: str
    finishedAt: UnixTime | None = None  # noqa: N815 (its name there)
    syncResult: _SyncResult | None = None  # noqa: N815


class _Past(Told):
    id: int = Field(ge=0)
    revision: str = ""


class _Summary(Told):
    images: tuple[str, ...] | None = None


class _Status(Told):
    operationState: _Operation | None = None  # noqa: N815
    history: tuple[_Past, ...] | None = None
    summary: _Summary | None = None


class _Application(Told):
    metadata: _Metadata
    status: _Status


class _Notification(Told):
    app: _Application


class ArgoCdSender:
    """The entry of the Application's history is the deploy, so a notification sent twice is watched once."""

    kind: ClassVar[str] = "argocd"
    hooks: ClassVar[frozenset[str]] = frozenset()
    content_types: ClassVar[frozenset[str]] = frozenset({"application/json"})

    Options: ClassVar[type[BaseModel]] = ArgoCdSenderOptions

    def __init__(self, name: str, options: ArgoCdSenderOptions, env: Mapping[str, str]) -> None:  # noqa: ARG002
        self.name = name
        self._options = options

    def is_genuine(self, headers: Mapping[str, str], body: bytes, *, now: float) -> bool | None:  # noqa: ARG002
        return None

    def read(self, arrived: Arrived) -> Heard:
        app = arrived.typed(_Notification).app
        operation = app.status.operationState
        if operation is None or operation.phase != "Succeeded":
            phase = "none" if operation is None else operation.phase
            return Unrelated(why=f"the sync is {phase[:40]!r}, not Succeeded")
        history = sorted(app.status.history or (), key=lambda past: past.id)
        synced = history[-1].revision if history else ""
        if operation.syncResult is not None and operation.syncResult.revision:
            synced = operation.syncResult.revision
        if self._options.version == "revision" and not synced:
            raise RefusedError(
                "the Application names no single revision, as one of several sources does; the version can be the tag "
                'of its image: version = "image_tag"',
                permanent=True,
            )
        before = history[-2].revision if len(history) > 1 else ""
        if self._options.version == "revision" and synced and synced == before:
            return Unrelated(why="the same revision was synced again; nothing was deployed")
        return DeployTold(request=self._request(app, operation, synced, before, history))

    def _request(
        self, app: _Application, operation: _Operation, synced: str, before: str, history: list[_Past]
    ) -> DeployRequest:
        name, namespace = app.metadata.name, app.metadata.namespace
        service = self._options.service(f"{namespace}/{name}", name)
        mark = str(history[-1].id) if history else f"{operation.finishedAt or 0:.0f}"
        asked = {
            "id": identity("argocd", namespace, name, mark),
            "service": service,
            "environment": self._environment(app.metadata),
            "version": synced or None,
            "previous_version": before or None,
            "deployed_at": operation.finishedAt,
        }
        if self._options.version == "image_tag":
            images = app.status.summary.images if app.status.summary is not None else None
            asked |= {"version": _tag(images or (), service), "previous_version": None}
        return DeployRequest.model_validate(asked)

    def _environment(self, metadata: _Metadata) -> str | None:
        label = self._options.environment_label
        if not label:
            return None
        if label not in (metadata.labels or {}):
            raise RefusedError(f"the Application has no label {label!r}", permanent=True)
        return self._options.environment((metadata.labels or {})[label])


def _tag(images: tuple[str, ...], service: str) -> str:
    """The tag of the only image, or of that whose name is the service's.

    >>> _tag(("ghcr.io/acme/shop:v42", "docker.io/library/redis:7"), "shop")
    'v42'
    """
    named = [image for image in images if image.partition("@")[0].rpartition("/")[2].partition(":")[0] == service]
    found = named if len(images) > 1 else list(images)
    tag = found[0].partition("@")[0].rpartition("/")[2].partition(":")[2] if len(found) == 1 else ""
    if not tag:
        raise RefusedError(
            f"status.summary.images names no single image with a tag for {service!r}; the template must send "
            '.app.status.summary, or take version = "revision"',
            permanent=True,
        )
    return tag
